"""The ledger: appended, chained, contested, and asked about the past."""

import multiprocessing
from pathlib import Path

import pytest

from snapshots import LocalStore
from snapshots.decisions.decided import line_of
from snapshots.decisions.ledger import Decision, Entry, Ledger
from snapshots.errors import LedgerBrokenError, RefusedError, TooMuchError
from snapshots.judging.history import served_at
from snapshots.records.verdict import Verdict
from snapshots.store.signed import SignedStore, new_key
from snapshots.store.size_limits import SIGNATURE


def pin(number: int) -> Decision:
    return Decision(action="pin", by="operator:me", snapshot=number, why="because")


def test_each_entry_names_the_one_before(tmp_path: Path) -> None:
    """Promise 7: numbered, chained by digest, read back as written."""
    ledger = Ledger(LocalStore(tmp_path))
    for number in range(3):
        ledger.append(float(number), lambda _, n=number: pin(n))
    entries = Ledger(LocalStore(tmp_path)).entries()
    assert [(e.seq, e.snapshot) for e in entries] == [(1, 0), (2, 1), (3, 2)]
    assert len({e.previous for e in entries}) == 3
    assert ledger.verify() == 3


@pytest.mark.parametrize("damage", ["edit", "remove", "swap", "garbage"])
def test_an_edited_ledger_is_noticed(tmp_path: Path, damage: str) -> None:
    """Promise 7: an entry changed, gone from the middle, or exchanged."""
    ledger = Ledger(LocalStore(tmp_path))
    for number in range(4):
        ledger.append(1.0, lambda _, n=number: pin(n))
    second, third = (tmp_path / "ledger" / f"{n:012d}.json" for n in (2, 3))
    data = second.read_bytes()
    if damage == "edit":
        second.write_bytes(data.replace(b'"snapshot":1', b'"snapshot":7'))
    elif damage == "remove":
        second.unlink()
    elif damage == "swap":
        second.write_bytes(third.read_bytes())
        third.write_bytes(data)
    else:
        second.write_bytes(b"\xff")
    with pytest.raises(LedgerBrokenError):
        Ledger(LocalStore(tmp_path)).verify()


def test_the_loser_reads_the_winners_entry_and_decides_again(tmp_path: Path) -> None:
    """Promise 7: two writers cannot both win."""
    mine, theirs = Ledger(LocalStore(tmp_path)), Ledger(LocalStore(tmp_path))
    seen: list[int] = []

    def decide(entries: list[Entry]) -> Decision:
        seen.append(len(entries))
        if not entries:
            theirs.append(1.0, lambda _: pin(5))
        return pin(9)

    assert mine.append(2.0, decide).seq == 2
    assert seen == [0, 1]


def test_a_decision_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """Raising out of the decision appends nothing."""

    def decide(_: list[Entry]) -> Decision:
        raise RefusedError("no")

    ledger = Ledger(LocalStore(tmp_path))
    with pytest.raises(RefusedError):
        ledger.append(1.0, decide)
    assert ledger.entries() == []


def _append(root: Path, count: int) -> None:
    for number in range(count):
        Ledger(LocalStore(root)).append(1.0, lambda _, n=number: pin(n))


def test_processes_that_append_at_once_lose_no_entry(tmp_path: Path) -> None:
    """Promise 7 under contention."""
    processes = [multiprocessing.Process(target=_append, args=(tmp_path, 20)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert Ledger(LocalStore(tmp_path)).verify() == 80


def entry(seq: int, time: float, action: str, snapshot: int | None = None, *, stay: bool = False) -> Entry:
    return Entry(action, "operator:me", "why", "a", snapshot, stay, seq=seq, time=time, previous="0" * 64)


def verdict(number: int, judged: float, line: int = 0, found: str = "pass") -> Verdict:
    return Verdict("a", number, line, found, "fine", {}, judged - 0.5, judged)  # type: ignore[arg-type]


def test_a_line_is_named_by_its_revert_and_a_lift_ends_its_staying() -> None:
    """Entries of other learners do not count."""
    entries = [entry(1, 1, "pin", 3), entry(2, 2, "revert", 3), entry(3, 3, "revert", 5, stay=True)]
    assert (line_of(entries, "a").number, line_of(entries, "a").target, line_of(entries, "a").stay) == (3, 5, True)
    assert line_of([*entries, entry(4, 4, "lift")], "a").stay is False
    assert line_of(entries, "b").number == 0


def test_any_past_moment_can_be_asked() -> None:
    """Promise 7: what served, and why, from entries and verdicts alone."""
    entries = [entry(1, 30.0, "revert", 1)]
    given = [verdict(0, 1, found="skipped"), verdict(1, 10), verdict(2, 20), verdict(3, 40), verdict(4, 50, line=1)]
    served = {moment: served_at(entries, given, "a", moment) for moment in (5, 15, 25, 35, 45, 55)}
    assert {moment: one.snapshot for moment, one in served.items()} == {5: None, 15: 1, 25: 2, 35: 1, 45: 1, 55: 4}
    assert "revert in entry 1" in served[35].why
    assert "no snapshot had passed" in served[5].why


def test_a_decision_that_no_entry_holds_is_refused(tmp_path: Path) -> None:
    """It would break the ledger for good; what still fits is read again, signature and all."""
    private = tmp_path / "key.pem"
    private.write_bytes(new_key())
    store = SignedStore(LocalStore(tmp_path / "store"), private, [], seen=tmp_path / "seen")
    ledger = Ledger(store)

    def named(size: int) -> Decision:
        return Decision(action="forget", by="operator:me", hashes=["x" * size])

    with pytest.raises(TooMuchError, match="nothing was changed"):
        ledger.append(1.0, lambda _: named(1 << 20))
    room = (1 << 20) - SIGNATURE
    for less in range(200, 600):
        try:
            ledger.append(1.0, lambda _, size=room - less: named(size))
        except TooMuchError:
            continue
        break
    assert len(Ledger(store).entries()) == 1
