"""``holdfast rollout``: bring a candidate to production step by step, or take it back."""

import secrets
import time
from collections.abc import Callable
from typing import Any

import click

from snapshots import Lineage
from snapshots.decisions.decided import baseline_state
from snapshots.decisions.ledger import Decision, Entry
from snapshots.decisions.rollout import Candidate, Rollout, candidate_of
from snapshots.errors import RefusedError
from snapshots.judging.reverts import ancestry
from snapshots.records import baselines
from stream.command_group import Group
from stream.commands.base import configured, json_option, lineage_of, operator, refuse_absent, why_option
from stream.commands.numbers import Figure
from stream.rollout.steps import next_share
from stream.settings import Config
from stream.terminal import printing

_NOTHING = "nothing was changed"


@click.group(cls=Group)
def rollout() -> None:
    """Bring a candidate to production: in shadow, then with a growing share of the requests.

    CANDIDATE is a learner's name, baseline:N, snapshot:N or snapshot:N:LEARNER. The guard gives each step of
    rollout.steps when there is enough evidence, and takes the candidate back when anything is worse for certain.
    """


@rollout.command("start")
@click.argument("candidate")
@why_option
@configured
def rollout_start(config: Config, candidate: str, why: str) -> None:
    """Begin with CANDIDATE in shadow: it predicts what the champion answers, and answers nothing yet."""
    refuse_absent(config)
    lineage = lineage_of(config)
    if config.routing.policy != "champion":
        raise RefusedError(
            f'routing.policy = "{config.routing.policy}" spreads the requests already: a roll-out wants "champion"; '
            f"{_NOTHING}"
        )

    def decide(_: list[Entry]) -> Decision:
        lineage.refresh()
        now = lineage.decided.rollout
        if now is not None and now.active:
            raise RefusedError(
                f"{now.candidate} is rolled out already ({now.state}, {now.share:g} %): holdfast rollout abort ends "
                f"that; {_NOTHING}"
            )
        champion = lineage.champion()
        if champion is None:
            raise RefusedError(f"there is no champion yet: start holdfast up, or holdfast train; {_NOTHING}")
        snapshot, baseline = _checked(lineage, candidate, champion)
        return Decision(
            "rollout_start", operator(), why, snapshot=snapshot, baseline=baseline, candidate=candidate,
            replaces=champion, salt=secrets.token_hex(16),
        )  # fmt: skip

    entry = lineage.ledger.append(time.time(), decide)
    steps = ", ".join(f"{one:g}" for one in config.rollout.steps)
    printing.echo(
        f"ledger entry {entry.seq}: {candidate} is in shadow; steps {steps} % follow. See: holdfast rollout status"
    )


def _checked(lineage: Lineage, text: str, champion: str) -> tuple[int | None, int | None]:
    """Refuse what could not answer; return the numbers of the snapshot and of the baseline that are meant."""
    try:
        meant = candidate_of(text)
    except ValueError as cause:
        raise RefusedError(f"{cause}; {_NOTHING}") from cause
    if meant.kind == "baseline":
        return None, _baseline(lineage, meant.number)
    newest = lineage.newest()
    known = list(newest.learners) if newest is not None else []
    learner = meant.learner or champion
    if learner not in known:
        raise RefusedError(
            f"there is no learner {learner!r} in the newest snapshot, only {', '.join(known)}; {_NOTHING}"
        )
    if meant.kind == "snapshot":
        return _snapshot(lineage, meant, learner), None
    if learner == champion:
        raise RefusedError(f"{learner} is the champion already; {_NOTHING}")
    if (stopped := lineage.decided.stopped(learner)) is not None:
        why = stopped.why or stopped.action
        raise RefusedError(f"{learner} does not learn ({why}): holdfast learning resume {learner}; {_NOTHING}")
    return None, None


def _baseline(lineage: Lineage, number: int) -> int:
    if baselines.read(lineage.store, number) is None:
        raise RefusedError(f"baseline {number} does not exist. See: holdfast retrain list; {_NOTHING}")
    state = baseline_state(number, lineage.decisions)
    if state == "refused":
        raise RefusedError(f"baseline {number} was refused by its gates: holdfast retrain show {number}; {_NOTHING}")
    return number


def _snapshot(lineage: Lineage, meant: Candidate, learner: str) -> int:
    if lineage.manifest(meant.number) is None:
        raise RefusedError(
            f"snapshot {meant.number} does not exist, or is gone. See: holdfast snapshots list; {_NOTHING}"
        )
    if lineage.part(meant.number, learner) is None:
        raise RefusedError(f"snapshot {meant.number} does not hold {learner}. See: holdfast snapshots list; {_NOTHING}")
    if not lineage.passed(meant.number, learner):
        verdict = lineage.verdict(meant.number, learner)
        said = verdict.verdict if verdict is not None else "not judged yet"
        raise RefusedError(f"snapshot {meant.number} of {learner} has not passed the guard: {said}; {_NOTHING}")
    if meant.number not in ancestry(lineage, learner):
        raise RefusedError(
            f"snapshot {meant.number} of {learner} was undone by a revert, so it may not answer. See: holdfast ledger; "
            f"{_NOTHING}"
        )
    return meant.number


@rollout.command("status")
@json_option
@configured
def rollout_status(config: Config, *, as_json: bool) -> None:
    """Show the newest roll-out: its step, each guard's figure against its limit, and what it waits for."""
    from stream.process.presence import present  # noqa: PLC0415  a command imports what it needs
    from stream.rollout.report import report  # noqa: PLC0415  the same

    lineage = lineage_of(config)
    found = report(lineage, config, present(lineage.store, time.time()), time.time())
    printing.as_json(found) if as_json else _show(found)


def _show(found: dict[str, Any]) -> None:
    if found["policy"] != "champion":
        _show_policy(found)
    elif found["state"] is None:
        printing.echo(f"{found['why']}. Begin one: holdfast rollout start CANDIDATE")
    if found["state"] is None:
        return
    rows = [
        ("candidate", found["candidate"]), ("state", f"{found['state']}, answers {found['share']:g} % of the requests"),
        ("why", found["why"]), ("in place of", found["champion"]),
        ("since", f"{printing.moment(found['since'])} (entry {found['step']} by {found['by']})"),
    ]  # fmt: skip
    serving, loss = found["serving"], found["loss"]
    if serving is not None:
        p99, errors, shift = serving["p99_ms"], serving["errors"], serving["prediction_shift"]
        rows += [
            (
                "answered",
                f"{serving['answered']['candidate']:,} by it, {serving['answered']['champion']:,} by the champion",
            ),
            ("errors", f"{errors['candidate']} of {serving['predicted']['candidate']:,}; limit {errors['limit']:.2%}"),
            ("p99", f"{_ms(p99['candidate'])} (champion {_ms(p99['champion'])}); limit {p99['limit']:g} ms"),
            ("shift", f"{shift['seen']:.3f}, at least {shift['at_least']:.3f}; limit {shift['limit']:g}"),
            ("agreement", f"{serving['agreement']:.1%} of {serving['both']:,}" if serving["both"] else "nothing yet"),
        ]
    if loss is not None:
        rows.append(
            (
                "loss",
                f"{_loss(loss['difference'], loss['low'], loss['high'], loss['events'])}; limit {loss['limit']:+g}",
            )
        )
        worst = sorted(loss["slices"].items(), key=lambda one: -one[1][0])[:5]
        rows += [(f"  {name}", _loss(*one)) for name, one in worst]
    elif found["state"] in ("shadow", "canary", "paused"):
        rows.append(("loss", "nothing yet"))
    printing.table("roll-out", ["what", "figure"], rows)


def _show_policy(found: dict[str, Any]) -> None:
    """Who shares the requests; ``thompson``: what each earned, which holds for all requests at any time but for 5 %."""
    arms = (found.get("rewards") or {}).get("arms", {})
    rows = []
    for name, weight in found["weights"].items():
        arm = arms.get(name)
        earned = f"{arm['low']:.4f} to {arm['high']:.4f} ({arm['rewards']:,} rewards)" if arm else ""
        rows.append((name, f"{weight:.1%}", earned))
    if not rows:
        printing.echo(f"routing.policy = {found['policy']}: no snapshot has weights yet")
        return
    columns = ["learner", "share" if found["policy"] != "hedge" else "weight"]
    printing.table(
        f"policy {found['policy']}",
        [*columns, "earns"] if arms else columns,
        [row if arms else row[:2] for row in rows],
    )


def _loss(mean: float, low: float, high: float, events: int) -> str:
    said = "" if low > 0 or high < 0 else ", no difference for certain"
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f}) on {events:,} events{said}"


def _ms(value: float | None) -> str:
    return f"{value:g} ms" if value is not None else "nothing yet"


@rollout.command("step")
@click.argument("share", type=Figure(0, 100), required=False)
@why_option
@configured
def rollout_step(config: Config, share: float | None, why: str) -> None:
    """Give the candidate the next share, or SHARE percent, whatever the evidence says; limits are watched on."""

    def decide(now: Rollout) -> Decision:
        given = next_share(now, config.rollout) if share is None else share
        if given is None:
            raise RefusedError(
                f"{now.candidate} answers everything already; it becomes champion when the evidence is there. See: "
                f"holdfast rollout status; {_NOTHING}"
            )
        return Decision("rollout_step", operator(), why, candidate=now.candidate, share=given)

    entry = _write(config, decide)
    printing.echo(f"ledger entry {entry.seq}: {entry.candidate} answers {entry.share:g} % of the requests")


@rollout.command("pause")
@why_option
@configured
def rollout_pause(config: Config, why: str) -> None:
    """Stay at the present share: no step is given by itself; limits are watched on."""

    def decide(now: Rollout) -> Decision:
        if now.state == "paused":
            raise RefusedError(f"it is paused already; {_NOTHING}")
        return Decision("rollout_pause", operator(), why or "paused", candidate=now.candidate)

    entry = _write(config, decide)
    printing.echo(f"ledger entry {entry.seq}: the roll-out of {entry.candidate} stands still")


@rollout.command("resume")
@why_option
@configured
def rollout_resume(config: Config, why: str) -> None:
    """Go on with a roll-out that was paused."""

    def decide(now: Rollout) -> Decision:
        if now.state != "paused":
            raise RefusedError(f"it is not paused, but {now.state}; {_NOTHING}")
        return Decision("rollout_resume", operator(), why, candidate=now.candidate)

    entry = _write(config, decide)
    printing.echo(f"ledger entry {entry.seq}: the roll-out of {entry.candidate} goes on")


@rollout.command("abort")
@why_option
@configured
def rollout_abort(config: Config, why: str) -> None:
    """Take the candidate back: the champion answers everything."""
    entry = _write(config, lambda now: Decision("rollout_abort", operator(), why or "aborted", candidate=now.candidate))
    printing.echo(f"ledger entry {entry.seq}: {entry.candidate} answers nothing from now on")


@rollout.command("approve")
@why_option
@configured
def rollout_approve(config: Config, why: str) -> None:
    """Approve the next step, where rollout.sign_off wants that; the evidence has to be there all the same."""

    def decide(now: Rollout) -> Decision:
        if not config.rollout.sign_off:
            raise RefusedError(f"steps need no approval here: rollout.sign_off is false; {_NOTHING}")
        if not now.awaits and not now.approved:
            raise RefusedError(
                f"nothing waits for approval yet: the guard proposes a step once its evidence is there; {_NOTHING}"
            )
        if now.approved:
            raise RefusedError(f"the next step is approved already; {_NOTHING}")
        return Decision("rollout_approve", operator(), why, candidate=now.candidate)

    entry = _write(config, decide)
    printing.echo(f"ledger entry {entry.seq}: the next step of {entry.candidate} is approved")


def _write(config: Config, decide: Callable[[Rollout], Decision]) -> Entry:
    """Append what is decided about the roll-out that is under way."""
    lineage = lineage_of(config)

    def decided(_: list[Entry]) -> Decision:
        lineage.refresh_entries()
        now = lineage.decided.rollout
        if now is None or not now.active:
            said = "there is no roll-out" if now is None else f"the roll-out of {now.candidate} is over ({now.state})"
            raise RefusedError(f"{said}: holdfast rollout start CANDIDATE begins one; {_NOTHING}")
        return decide(now)

    return lineage.ledger.append(time.time(), decided)
