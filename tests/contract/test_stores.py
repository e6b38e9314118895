"""One contract for every store (snapshots/store.py)."""

import multiprocessing
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from snapshots import LocalStore, Store
from snapshots.errors import StoreError
from snapshots.object_store import ObjectStore
from snapshots.store import claim

if TYPE_CHECKING:
    from s3 import Server


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of store, empty."""
    if request.param == "local":
        return LocalStore(tmp_path / "deep" / "store")
    request.getfixturevalue("s3")
    return ObjectStore(f"s3://bucket/{tmp_path.name}")


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


def _race(kind: str, where: str, number: int, results: "multiprocessing.Queue[tuple[int, bool]]") -> None:
    store = LocalStore(Path(where)) if kind == "local" else ObjectStore(where)
    for i in range(50):
        if store.create(f"race/{i}", str(number).encode() * 1000):
            results.put((i, True))
    results.put((-1, False))


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_racing_writers_have_one_winner(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """Promise 7: of eight processes that create the same fifty names, one wins each, and nothing is torn."""
    if kind == "s3":
        request.getfixturevalue("s3")
    where = str(tmp_path) if kind == "local" else f"s3://bucket/{tmp_path.name}"
    spawn = multiprocessing.get_context("spawn")  # obstore has threads, which a fork would lose
    results: multiprocessing.Queue[tuple[int, bool]] = spawn.Queue()
    processes = [spawn.Process(target=_race, args=(kind, where, n, results)) for n in range(8)]
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
    store: Store = LocalStore(tmp_path) if kind == "local" else ObjectStore(where)
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


def test_an_object_store_that_is_away_says_what_to_do(
    s3: "Server", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong credentials, a bucket that is not there, a server that is gone, an address that is none."""
    with pytest.raises(StoreError, match=r"cannot write s3://nowhere/a.*credentials"):
        ObjectStore("s3://nowhere").create("a", b"")
    with monkeypatch.context() as other, pytest.raises(StoreError, match="cannot read"):
        other.setenv("AWS_SECRET_ACCESS_KEY", "another")
        ObjectStore("s3://bucket").get("a")
    with pytest.raises(StoreError, match="neither a directory nor s3"):
        ObjectStore("ftp://bucket")
    store = ObjectStore(f"s3://bucket/{tmp_path.name}")
    store.create("a", b"here")
    s3.stop()
    try:
        with pytest.raises(StoreError, match="Is the object store there"):
            store.get("a")
    finally:
        s3.start()
    assert store.get("a") == b"here"
