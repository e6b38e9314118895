"""One contract for every store (snapshots/store.py)."""

import multiprocessing
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshots import LocalStore, Store
from snapshots.errors import StoreError
from snapshots.store import claim


@pytest.fixture(params=["local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of store, empty."""
    makers: dict[str, Callable[[], Store]] = {"local": lambda: LocalStore(tmp_path / "deep" / "store")}
    return makers[request.param]()


def test_a_blob_is_created_once_and_never_changed(store: Store) -> None:
    """The second to create a name is told so, and changes nothing."""
    assert store.get("a/b") is None
    assert store.create("a/b", b"one")
    assert not store.create("a/b", b"two")
    assert store.get("a/b") == b"one"


def test_names_are_sorted_below_a_prefix(store: Store) -> None:
    """And can be continued after a name."""
    for name in ("x/2", "x/10/deep", "x/1", "y/1"):
        store.create(name, b"")
    assert store.names("x/") == ["x/1", "x/10/deep", "x/2"]
    assert store.names("x/", after="x/10/deep") == ["x/2"]
    assert store.names("nothing/") == []


def test_deleting_is_not_an_error_twice(store: Store) -> None:
    """What is gone is gone."""
    store.create("a/b", b"one")
    store.delete("a/b")
    store.delete("a/b")
    assert store.get("a/b") is None
    assert store.create("a/b", b"two")


def test_ones_own_blob_found_again_has_won(store: Store) -> None:
    """Promise 7: an answer lost on its way must not make the winner think that it lost."""
    assert claim(store, "a", b"mine")
    assert claim(store, "a", b"mine")
    assert not claim(store, "a", b"other")


def _race(root: Path, number: int, results: "multiprocessing.Queue[tuple[int, bool]]") -> None:
    store = LocalStore(root)
    for i in range(50):
        if store.create(f"race/{i}", str(number).encode() * 1000):
            results.put((i, True))
    results.put((-1, False))


def test_racing_writers_have_one_winner(tmp_path: Path) -> None:
    """Promise 7: of eight processes that create the same fifty names, one wins each, and nothing is torn."""
    results: multiprocessing.Queue[tuple[int, bool]] = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=_race, args=(tmp_path, n, results)) for n in range(8)]
    for process in processes:
        process.start()
    wins: list[int] = []
    ended = 0
    while ended < len(processes):
        i, won = results.get(timeout=60)
        wins += [i] if won else []
        ended += not won
    for process in processes:
        process.join()
    assert sorted(wins) == list(range(50))
    store = LocalStore(tmp_path)
    for i in range(50):
        data = store.get(f"race/{i}")
        assert data is not None
        assert len(data) == 1000
        assert len(set(data)) == 1


def test_every_write_is_flushed_before_and_after_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 1 through a loss of power: file flushed, then linked, then the directory flushed; new ones as well."""
    story: list[str] = []
    fsync, link = os.fsync, os.link

    def told_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        story.append(f"fsync {'directory' if path.is_dir() else 'file'} {path.name if path.is_dir() else ''}".strip())
        fsync(descriptor)

    def told_link(source: Path, target: Path) -> None:
        story.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(os, "link", told_link)
    LocalStore(tmp_path / "s").create("d/name", b"data")
    root = tmp_path.name
    assert story == [f"fsync directory {root}", "fsync directory s", "fsync file", "link", "fsync directory d"]


def test_a_store_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    """A file where the directory should be: an error of its own, naming the path."""
    (tmp_path / "s").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*store\.url"):
        LocalStore(tmp_path / "s").create("a", b"")


def test_hidden_leftovers_of_dead_processes_are_swept(tmp_path: Path) -> None:
    """Only theirs: a living process's write under way stays."""
    store = LocalStore(tmp_path)
    store.create("d/kept", b"")
    here, folder = platform.node(), tmp_path / "d"
    dead, alive = folder / f".{here}~999999999~1~x", folder / f".{here}~{os.getpid()}~1~x"
    elsewhere, old = folder / ".elsewhere~1~1~x", folder / ".elsewhere~1~1~y"
    for path in (dead, alive, elsewhere, old):
        path.touch()
    os.utime(old, (0, 0))
    store.sweep()
    assert [path.exists() for path in (dead, alive, elsewhere, old)] == [False, True, True, False]
    assert store.names("d/") == ["d/kept"]
