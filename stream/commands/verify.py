"""``holdfast verify``: everything that says what counts, checked against digests, signatures and the ledger's head."""

import sys
import time
from collections.abc import Iterator

import click
import msgspec

from snapshots import Ledger, Lineage, SnapshotsError
from snapshots.decisions import epochs
from snapshots.decisions.charter import charter_trouble
from snapshots.decisions.head import Heads, Present
from snapshots.records import baselines, verdict
from snapshots.records import cut as cuts
from snapshots.records.held_rows import read_version
from snapshots.store.numbers import number_in
from snapshots.store.signed import FOLDERS, SignedStore
from stream.commands.base import configured, json_option
from stream.parts import store_of
from stream.settings import Config
from stream.terminal import printing

_FOREIGN = "nothing of Holdfast has this name; it counts for nothing, and somebody put it there: remove it"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; ``wrong`` is empty when it holds."""

    what: str
    wrong: str = ""


@click.command()
@click.option("--adopt", is_flag=True, help="First sign what nobody signed: for a store from before its blobs were.")
@json_option
@configured
def verify(config: Config, *, adopt: bool, as_json: bool) -> None:
    """Check ledger, head, epochs, snapshots, verdicts and holdouts: every byte and signature; exit 1 if one is wrong.

    With [signing], what was forged, put back or cut off is found. --adopt trusts what is in the store now, so look at
    it before, stop trainer and guard, and keep a copy of the store.
    """
    store = store_of(config)
    if adopt:
        names = [name for folder in FOLDERS for name in store.names(folder)]
        printing.echo(f"{sum(store.adopt(name) for name in names)} of {len(names)} blobs are signed now", err=True)
        Ledger(store).sign_head(-1, time.time(), Present(anew=True))
        lineage = Lineage(store, looking=True).refresh()
        lineage.ledger.sign_head(lineage.highest, time.time(), lineage.present(anew=True))
    found = []
    with printing.Progress("verifying") as progress:
        for done, check in enumerate(checks(store, time.time()), 1):
            found.append(check)
            progress.sent(done, done)
    wrong = [check for check in found if check.wrong]
    if as_json:
        printing.as_json(msgspec.to_builtins(found))
    else:
        for check in wrong:
            printing.echo(f"{check.what}: {check.wrong}")
        signed = "signatures included" if store.verifies else "there is no [signing], so that forgeries go unnoticed"
        printing.echo(f"{len(found) - len(wrong)} of {len(found)} hold ({signed})")
    sys.exit(1 if wrong else 0)


def checks(store: SignedStore, now: float) -> Iterator[Check]:
    """Look at everything, and go on whatever is wrong; but what all signatures are over comes first, and alone."""
    charter = Check("lineage.json", charter_trouble(store))
    yield charter
    if charter.wrong and store.verifies:
        return
    lineage = Lineage(store, looking=True)
    yield _check("ledger", lineage.ledger.verify)
    yield _check("lineage", lineage.refresh)
    if lineage.broken:
        yield Check("head", lineage.broken)
    yield from _head(store, now)
    yield from (Check("head", missing) for missing in lineage.missing())
    for name in store.names("epochs/"):
        if (epoch := number_in(name, "epochs/", ".json", 12)) is None:
            yield Check(name, _FOREIGN)
        else:
            yield _check(name, lambda epoch=epoch: epochs.read(store, epoch))
    yield from _foreign(store)
    for number in cuts.numbers(store):
        yield _check(f"snapshot {number}", lambda number=number: _whole(store, number))
    yield from _others(store)
    for name in store.names("verdicts/"):
        yield _check(name, lambda name=name: store.get(name))
        if not verdict.is_pack(name) and (key := verdict.key_of(name)) is not None:
            given = verdict.read(store, *key)
            yield Check(name, given.why if given is not None and given.line == -1 and given.judged == 0 else "")


def _others(store: SignedStore) -> Iterator[Check]:
    """Baselines, and whatever else is signed by itself; of the archive the signatures."""
    for number in baselines.numbers(store):
        yield _check(f"baseline {number}", lambda number=number: baselines.model_of(store, number))
    names = [name for name in store.names("snapshots/") if name.endswith(".looks")]
    names += [name for name in store.names("baselines/") if "/verdict-" in name]
    names += [name for name in store.names("archive/") if name.endswith(".parquet")] if store.verifies else []
    for name in names:
        yield _check(name, lambda name=name: store.get(name))


def _foreign(store: SignedStore) -> Iterator[Check]:
    """Names among snapshots and heads that nobody here would write; they count for nothing."""
    for name in store.names("snapshots/"):
        manifest = name.endswith("/manifest.json")
        if manifest and number_in(name, "snapshots/", "/manifest.json", 12) is None:
            yield Check(name, _FOREIGN)
    for name in store.names("ledger/head/"):
        if number_in(name, "ledger/head/", ".json", 12) is None:
            yield Check(name, _FOREIGN)
        elif store.verifies:
            yield _check(name, lambda name=name: store.get(name))


def _head(store: SignedStore, now: float) -> Iterator[Check]:
    """Whether there is a head, and whether somebody signs it."""
    if not store.verifies:
        return
    heads = Heads(store)
    yield _check("head", heads.read)
    if heads.newest is None:
        yield Check("head", "nobody has signed one yet, or it was taken away: start holdfast train")
    elif heads.newest.expires < now:
        hours = (now - heads.newest.time) / 3600
        yield Check(
            "head",
            f"nobody has signed one for {hours:.0f} h: is holdfast train running, or is this a copy of the store from "
            "then?",
        )


def _whole(store: SignedStore, number: int) -> None:
    manifest = cuts.read_manifest(store, number)
    if manifest is not None:
        cuts.verify_all(store, manifest)
        for version in manifest.holdout.versions:
            read_version(store, version)


def _check(what: str, look: object) -> Check:
    try:
        look()  # type: ignore[operator]
    except SnapshotsError as cause:
        return Check(what, str(cause))
    return Check(what)
