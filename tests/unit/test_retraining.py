"""A retrain beside what else goes on: erasures, other configurations, damage, kills, dry runs, warm starts."""

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.archived import RULES, mixed
from support.lineages import Folder

from snapshots.decisions.decided import decided
from snapshots.errors import RefusedError
from snapshots.records import baselines
from snapshots.store.lease import Lease
from stream.archive import rewriting
from stream.archive.eraser import Erasing
from stream.archive.files import IMPORTED, Archive, Part, Row
from stream.compose import retraining_of
from stream.process.presence import has_ended, this_process
from stream.retrain import triggers
from stream.retrain.retrain import decide_by_hand
from stream.retrain.triggers import Facts, Order

pytest.importorskip("torch")
EASY: dict[str, Any] = RULES | {
    "holdout__rate": 0.2, "gates__tolerance": 0.9, "gates__min_gain": -0.9, "gates__max_slice_loss": 1.0,
    "gates__floor_tolerance": 1.0, "gates__p99_ms": 1000.0,
}  # fmt: skip


def bring_in(here: Folder, events: list[dict[str, Any]], name: str) -> None:
    """Import without a process."""
    archive = Archive(here.lineage.store)
    part = Part(IMPORTED, "-", name)
    rows = [Row(n, n + 1, event["ts"], event["id"], orjson.dumps(event)) for n, event in enumerate(events)]
    assert archive.write(part, 0, len(rows), rows, 1.0)


def forget(here: Folder, *ids: str) -> Any:
    retraining = retraining_of(here.config)
    return Erasing(
        here.config, lineage=retraining.lineage, archive=retraining.archive, codec=retraining.codec,
        membership=retraining.membership, now=lambda: 5.0, sleep=lambda _: None, say=lambda *_: None,
    ).run(ids, "id", "operator:test", "")  # fmt: skip


def facts(here: Folder) -> Facts:
    retraining = retraining_of(here.config)
    return triggers.facts_of(retraining.archive, retraining.lineage, retraining.codec)


def due(here: Folder) -> str | None:
    lineage = here.lineage
    found = triggers.due(lineage.decided, here.config.retrain, facts(here), 0.0, 2e9)
    return found.kind if found is not None else None


def learnt_ids(here: Folder) -> list[str]:
    """An id that may be learnt, and one that is held out."""
    member = retraining_of(here.config).membership
    return [e["id"] for e in mixed(50) if not member.claims(member.digest(e["id"]))]


def test_what_is_erased_while_it_trains_does_not_count(folder: Callable[..., Folder]) -> None:
    """Nor is such a baseline put back or gone on from; a retrain is asked for until one counts that never saw it."""
    here = folder(**EASY)
    bring_in(here, mixed(800), "a")
    retraining = retraining_of(here.config)
    first = retraining.run(Order("by hand"))
    assert first.entry.action == "accept_baseline"
    one, two = learnt_ids(here)[:2]
    again = retraining_of(here.config)
    train = again.train

    def train_and_forget(*arguments: Any) -> Any:
        made = train(*arguments)
        forget(here, one)
        return made

    again.train = train_and_forget  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="erased while baseline 2 learnt them"):
        again.run(Order("by hand", again=True))
    assert due(here) == "forget"
    with pytest.raises(RefusedError, match="erased since"):
        retraining_of(here.config).run(Order("by hand"), warm=True)
    third = retraining_of(here.config).run(Order("forget", "asked"))
    assert third.entry.action == "accept_baseline"
    assert due(here) is None
    with pytest.raises(RefusedError, match="erased since"):
        decide_by_hand(here.lineage, 1, "use", "operator:test", "", 9.0)
    forget(here, two)
    here.config_path.write_text(here.config_path.read_text() + "gates.max_megabytes = 0.0001\n")
    assert retraining_of(here.config).run(Order("forget", "asked")).entry.action == "refuse_baseline"
    assert due(here) == "forget"  # the baseline that learnt it counts still


def test_another_configuration_is_other_data(folder: Callable[..., Folder]) -> None:
    """What was encoded under another is never used, nor after an erasure."""
    here = folder(**EASY)
    bring_in(here, mixed(600), "a")
    first, place = retraining_of(here.config).gather()
    assert retraining_of(here.config).gather()[0].version == first.version
    (place / "checkpoint-x").write_bytes(b"")
    here.config_path.write_text(here.config_path.read_text() + "event.positive = 0\n")
    second, place = retraining_of(here.config).gather()
    assert second.version != first.version
    labels = (place / "y.bin").read_bytes()
    here.config_path.write_text(here.config_path.read_text().replace("event.positive = 0\n", ""))
    _, place = retraining_of(here.config).gather()
    assert (place / "y.bin").read_bytes() != labels


def test_a_killed_run_is_ended_with_what_it_began_with(folder: Callable[..., Folder]) -> None:
    """Also when the archive has grown meanwhile; a dry run beside it touches nothing of it."""
    here = folder(**EASY)
    bring_in(here, mixed(600), "a")
    retraining = retraining_of(here.config)
    dataset, place = retraining.gather()
    killed = []

    class KilledError(BaseException):
        """As good as kill -9."""

    def die(*_: Any) -> None:
        if list(place.glob("checkpoint-*")):
            killed.append(1)
            raise KilledError

    retraining.say = die
    with contextlib.suppress(KilledError):
        retraining.run(Order("by hand"))
    assert killed
    bring_in(here, mixed(300, first=900), "b")
    plan = retraining_of(here.config).plan()
    assert plan.dataset.version != dataset.version
    assert list(place.glob("checkpoint-*"))
    with contextlib.suppress(RefusedError):
        here.run("retrain", "--dry-run")
    done = retraining_of(here.config).run(Order("by hand"))
    assert done.manifest.data_version == dataset.version
    assert retraining_of(here.config).run(Order("by hand")).manifest.data_version != dataset.version


def test_events_since_are_counted_through_retention_and_compaction(folder: Callable[..., Folder]) -> None:
    """By offsets, and not by how many there are in all."""
    here = folder(**EASY, retrain__after_labels=200)
    archive = Archive(here.lineage.store)
    part = Part("t", "-", "0")

    def write(begin: int, count: int) -> None:
        events = mixed(count, first=begin)
        rows = [Row(begin + n, begin + n + 1, e["ts"], e["id"], orjson.dumps(e)) for n, e in enumerate(events)]
        assert archive.write(part, begin, begin + count, rows, 1.0)

    for begin in range(0, 900, 100):
        write(begin, 100)
    retraining_of(here.config).run(Order("by hand"))
    assert (facts(here).events, due(here)) == (0, None)
    write(900, 150)
    rewriting.forget_old(archive, 2e9, seconds=2e9 - 1.7e9 - 450, most_bytes=0)
    assert facts(here).events == 150
    rewriting.compact(archive, 2.0, events=10_000, fewest=2)
    assert facts(here).events == 150
    write(1050, 60)
    assert (facts(here).events, due(here)) == (210, "labels")


def test_events_without_a_time_are_as_old_as_their_archiving(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """So that retention by age leaves them; a second import of the same file is still the same."""
    here = folder(**EASY, archive__keep_days=30.0, archive__every_events=50, source__batch=50)
    events = [{key: value for key, value in event.items() if key != "ts"} for event in mixed(1200)]
    here.write(events)
    here.run("archive", "run", "--until-end")
    assert here.json("archive", "show")[0]["events"] == 1200
    path = tmp_path / "old.jsonl"
    path.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events[:100]))
    for _ in range(2):
        here.run("archive", "import", str(path))
    shown = {row["partition"]: row["events"] for row in here.json("archive", "show")}
    assert shown == {"a.jsonl": 1200, "old.jsonl": 100}


def test_two_files_of_one_name_are_two_histories(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """Rows without ids are named after what the file is kept as; one is left out again by that name."""
    here = folder(**EASY)
    for name, label in (("one", "0"), ("two", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("a,y\n" + f"1.5,{label}\n" * 600)
    assert (
        "labels: no 100.00%" in here.run("archive", "import", "--label", "y", str(tmp_path / "one" / "data.csv")).stdout
    )
    assert here.json("ledger")[0]["action"] == "archive_import"
    stderr = here.run("archive", "import", "--label", "y", str(tmp_path / "two" / "data.csv"), code=2).stderr
    assert "--as NAME" in stderr
    here.run("archive", "import", "--label", "y", "--as", "second", str(tmp_path / "two" / "data.csv"))
    assert retraining_of(here.config).gather()[0].excluded.get("repeated", 0) == 0
    assert "600 events" in here.run("archive", "drop", "second", "--why", "a mistake").stdout
    assert [row["partition"] for row in here.json("archive", "show")] == ["data.csv"]
    assert "no import 'second'" in here.run("archive", "drop", "second", code=3).stderr
    assert "label" in here.run("archive", "import", "--as", "third", str(tmp_path / "two" / "data.csv"), code=2).stderr


def test_a_damaged_file_stops_neither_archiver_nor_erasure(folder: Callable[..., Folder]) -> None:
    """It is said, with the way out, and everything else is done."""
    here = folder(**EASY, archive__every_events=50, source__batch=50)
    here.write(mixed(1000))
    here.run("archive", "run", "--until-end")
    victim = here.path / "store" / Archive(here.lineage.store).files()[0].name
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert forget(here, "m3", "m990").archived >= 1
    here.write(mixed(1000, first=2000))
    done = here.run("archive", "run", "--until-end")
    assert done.returncode == 0
    name = str(victim.relative_to(here.path / "store"))
    stderr = here.run("retrain", "--now", code=4).stderr
    assert f"holdfast archive drop {name}" in stderr
    assert [e["action"] for e in here.json("ledger")][-1] == "retrain_failed"
    here.run("archive", "drop", name)
    here.run("retrain", "--now", code=None)
    assert here.json("retrain", "list")[0]["state"] == "accepted"


def test_a_baseline_that_does_not_load_does_not_stop_the_next(folder: Callable[..., Folder]) -> None:
    """The candidate is then held against the shares of the labels; and none need count at all."""
    here = folder(**EASY)
    bring_in(here, mixed(700), "a")
    manifest = retraining_of(here.config).run(Order("by hand")).manifest
    model = here.path / "store" / manifest.model.name
    model.write_bytes(b"")
    done = retraining_of(here.config).run(Order("by hand", again=True))
    assert done.entry.action == "accept_baseline"
    assert "since baseline 1 cannot be loaded" in done.entry.why
    assert here.lineage.decided.baseline == 2
    here.run("retrain", "retire", "--why", "to see it")
    assert here.lineage.decided.baseline is None
    assert here.status()["baseline"] is None
    here.run("retrain", "retire", code=3)
    here.run("retrain", "use", "2")
    assert here.lineage.decided.baseline == 2


def test_a_warm_start_that_does_not_fit_is_a_full_one(folder: Callable[..., Folder]) -> None:
    """Where the configuration wants warm starts; who asks for one by hand is told."""
    here = folder(**EASY, retrain__warm=True)
    bring_in(here, mixed(700), "a")
    retraining_of(here.config).run(Order("by hand"))
    bring_in(here, mixed(400, first=800), "b")
    assert retraining_of(here.config).run(Order("by hand")).manifest.warm_from == 1
    here.config_path.write_text(here.config_path.read_text().replace('kind = "linear"', 'kind = "fm"'))
    bring_in(here, mixed(400, first=1300), "c")
    with pytest.raises(RefusedError, match="this is another: kind"):
        retraining_of(here.config).run(Order("by hand"), warm=True)
    assert retraining_of(here.config).run(Order("by hand")).manifest.warm_from is None


def test_old_baselines_go(folder: Callable[..., Folder]) -> None:
    """But for the one that counts and the one before it."""
    here = folder(**EASY, retrain__keep=2)
    bring_in(here, mixed(700), "a")
    for _ in range(5):
        retraining_of(here.config).run(Order("by hand", again=True))
    assert baselines.numbers(here.lineage.store) == [4, 5]
    assert [row["baseline"] for row in here.json("retrain", "list")] == [5, 4]
    assert not (here.path / "store" / "baselines" / "000001").exists()


@pytest.mark.parametrize("body", ["numbers", "nan"])
def test_modules_that_use_half_of_it_or_break(folder: Callable[..., Folder], body: str) -> None:
    """One that looks at numbers only is served; one that answers nonsense is turned down by the fast lane."""
    here = folder(**EASY | {"retrain__factory": "mine:make"})
    said = "self.layer(numbers)" if body == "numbers" else "self.layer(numbers) * float('nan')"
    (here.path / "mine.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n def __init__(self, shape):\n  super().__init__()\n"
        "  self.layer = nn.Linear(shape.width, shape.outputs)\n"
        f" def forward(self, numbers, places):\n  return {said}\n"
        "def make(shape): return Net(shape)\n"
    )
    bring_in(here, mixed(700), "a")
    here.run("retrain", "--now", code=0 if body == "numbers" else 1)
    gate = {one["name"]: one for one in here.json("retrain", "list")[0]["gates"]}
    assert gate["fast lane"]["passed"] == (body == "numbers")


def test_the_gates_of_a_list_are_in_it(folder: Callable[..., Folder]) -> None:
    """For scripts; and money is weighed only where a gain is known."""
    here = folder(**EASY)
    bring_in(here, mixed(700), "a")
    done = retraining_of(here.config).run(Order("by hand"))
    assert {one["name"] for one in here.json("retrain", "list")[0]["gates"]} == {one.name for one in done.gates}
    rules = here.config.retrain
    rules.price_per_hour, rules.budget = 1.0, 100.0
    found = facts(here)
    trigger = triggers.Trigger("drift", "", expected=0.0)
    assert triggers.hindrance(decided([]), rules, trigger, found, 0.0, 1e9) == ""


def test_a_lease_of_a_process_that_is_gone_is_taken_at_once(folder: Callable[..., Folder]) -> None:
    """Of this host and namespace only; of another one waits until it has run out. Status says who trains."""
    here = folder(**EASY)
    bring_in(here, mixed(700), "a")
    store = here.lineage.store
    this = this_process()
    number = this.split(" process ")[1].split(" ")[0]
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead = this.replace(f" process {number}", f" process {ended.pid}")
    assert (has_ended(this), has_ended(dead), has_ended(dead.replace("pid:[", "pid:[9"))) == (False, True, False)
    assert not has_ended(f"elsewhere process {ended.pid}")
    Lease(store, "retrain", "elsewhere process 7", 60.0, time.time).take()
    assert here.status()["retrain"]["running"] == "elsewhere process 7"
    with pytest.raises(RefusedError, match="elsewhere process 7 does this just now"):
        retraining_of(here.config).run(Order("by hand"))
    other = folder("other", **EASY)
    bring_in(other, mixed(700), "a")
    Lease(other.lineage.store, "retrain", dead, 60.0, time.time).take()
    assert other.status()["retrain"]["running"] is None
    retraining_of(other.config).run(Order("by hand"))
    assert other.status()["retrain"]["last"]["action"] == "accept_baseline"
    assert "0 of 500" in other.status()["baseline"]["waits"] or "begun" in other.status()["baseline"]["waits"]
