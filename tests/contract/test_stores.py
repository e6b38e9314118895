"""One contract for every store (snapshots/store/store.py)."""

import multiprocessing
import os
import platform
import stat
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapshots import LocalStore, Store
from snapshots.errors import DamagedError, SnapshotsError, StoreError
from snapshots.store.local import SEEN
from snapshots.store.object_store import ObjectStore
from snapshots.store.signed import SignedStore
from snapshots.store.size_limits import most_bytes
from snapshots.store.store import claim
from stream.process.lent_store import Lending, LentStore

if TYPE_CHECKING:
    from support.s3 import Server


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


def test_what_is_larger_than_it_may_be_is_not_read(store: Store) -> None:
    """A part of a snapshot is held against the size in its manifest first; also through signatures and a loan."""
    store.create("snapshots/000000000001/part-0", b"0123456789")
    ours, theirs = Pipe()
    lending = Lending(SignedStore(store, None, []), ours)
    for one in (store, SignedStore(store, None, []), LentStore(theirs)):
        assert one.get("snapshots/000000000001/part-0", 10) == b"0123456789"
        with pytest.raises(DamagedError, match="has 10 bytes instead of 9"):
            one.get("snapshots/000000000001/part-0", 9)
        assert one.get("snapshots/000000000001/part-1", 9) is None
    lending.close()


@pytest.mark.parametrize("name", ["ledger/000000000001.json", "epochs/000000000001.json", "presence/a/1.json", "a.sig"])
def test_what_could_not_be_read_again_is_not_written(store: Store, name: str) -> None:
    """The largest that its name allows is; what is larger would be in the way for good."""
    most = most_bytes(name)
    assert most is not None
    with pytest.raises(StoreError, match="nothing of this name may have more"):
        store.create(name, bytes(most + 1))
    assert store.get(name) is None
    assert store.create(name, bytes(most))
    assert len(store.get(name) or b"") == most


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

    def told_link(*arguments: Any, **folders: Any) -> None:
        story.append("link")
        link(*arguments, **folders)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(os, "link", told_link)
    LocalStore(tmp_path / "s").create("d/name", b"data")
    root = tmp_path.name
    assert story == [f"fsync directory {root}", "fsync directory s", "fsync file", "link", "fsync directory d"]


def test_a_store_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    """A file where the directory should be: an error of its own, naming the path."""
    (tmp_path / "s").write_text("in the way")
    with pytest.raises(StoreError, match=r"no directory.*store\.url"):
        LocalStore(tmp_path / "s").create("a", b"")


HOSTILE = [
    "", "/", "/etc/passwd", "../outside", "a/../../outside", "a/..", "..", ".", "./a", "a//b", "a/", "a/./b", ".hidden",
    "a/.hidden", "a\0b", "a/\ud800", "../../../../../../etc/hostname",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_never_leads_out_of_the_store(store: Store, name: str) -> None:
    """Names come from whoever wrote the store: what is none is damage to who reads, and refused to who writes."""
    with pytest.raises(DamagedError, match="no name in a store"):
        store.get(name)
    with pytest.raises(StoreError, match="no name in a store"):
        store.create(name, b"")
    with pytest.raises(StoreError, match="no name in a store"):
        store.delete(name)
    if name:
        with pytest.raises(StoreError, match="no name in a store"):
            store.names(name + "/")


_STEPS = st.one_of(
    st.sampled_from(["..", ".", "", "link", "up", "deep", "blob", "etc", "~", "*", "C:", "\\", "%2e%2e", "..%2f"]),
    st.text(min_size=1, max_size=8),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.lists(_STEPS, min_size=1, max_size=5).map("/".join), absolute=st.booleans())
def test_nothing_outside_is_read_written_listed_or_deleted(tmp_path: Path, name: str, absolute: bool) -> None:
    """Whatever the name, and whatever links somebody laid into the store."""
    outside, root = tmp_path / "outside", tmp_path / "deep" / "store"
    if not root.exists():
        for folder in (root / "deep", outside / "deep"):
            folder.mkdir(parents=True)
        (root / "link").symlink_to(outside)
        (root / "deep" / "link").symlink_to(outside / "deep")
        (root / "up").symlink_to("..")
        (root / "blob").symlink_to(outside / "blob")
    for path in (outside / "blob", outside / "deep" / "blob"):
        path.write_bytes(b"somebody else's")
    before = _everything(tmp_path, root)
    store = LocalStore(root)
    for call in (store.get, store.names, lambda n: store.create(n, b"mine"), store.delete):
        try:
            found = call(f"/{name}" if absolute else name)
        except SnapshotsError:
            continue
        assert found in (None, [], True, False, b"mine") or isinstance(found, list)
        assert b"somebody" not in str(found).encode("utf-8", "replace")
    assert _everything(tmp_path, root) == before
    assert not any(one.startswith("link/") or "/link/" in one for one in store.names(""))


def _everything(folder: Path, but: Path) -> dict[str, bytes | None]:
    """What is in a folder, but for one beneath it."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_relative_to(but)
    }


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    """Retention, sweeping and reading stop there and say so; what the link leads to stays as it is."""
    outside, root = tmp_path / "home", tmp_path / "store"
    outside.mkdir()
    precious, hidden = outside / "precious", outside / ".here~1~1~x"
    for path in (precious, hidden):
        path.write_text("dear")
    store = LocalStore(root)
    store.create("snapshots/1/kept", b"kept")
    (root / "holdout").symlink_to(outside)
    (root / "snapshots" / "2").symlink_to(outside)
    assert store.names("snapshots/") == ["snapshots/1/kept"]
    with pytest.raises(StoreError, match=r"cannot list .*holdout is a symbolic link.*store\.url"):
        store.names("holdout/")
    with pytest.raises(DamagedError, match="holdout is a symbolic link"):
        store.get("holdout/precious")
    for call in (store.delete, lambda name: store.create(name, b"x")):
        with pytest.raises(StoreError, match="is a symbolic link"):
            call("snapshots/2/precious")
    store.sweep()
    assert precious.read_text() == hidden.read_text() == "dear"


def test_what_is_no_file_is_no_blob(tmp_path: Path) -> None:
    """A pipe would be waited on for ever, a link read what it leads to; neither is listed."""
    store = LocalStore(tmp_path)
    store.create("d/kept", b"")
    os.mkfifo(tmp_path / "d" / "pipe")
    (tmp_path / "d" / "link").symlink_to("kept")
    for name in ("d/pipe", "d/link", "d"):
        with pytest.raises(DamagedError):
            store.get(name)
    assert store.names("d/") == ["d/kept"]


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    """Where a store lies is the operator's choice."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to("disk")
    assert LocalStore(tmp_path / "store").create("a/b", b"x")
    assert LocalStore(tmp_path / "disk").get("a/b") == b"x"


@pytest.mark.parametrize(
    ("root", "umask", "folder", "file"),
    [(None, 0o000, 0o700, 0o600), (None, 0o022, 0o700, 0o600), (0o700, 0o077, 0o700, 0o600),
     (0o2770, 0o077, 0o2770, 0o660), (0o750, 0o022, 0o750, 0o640), (0o777, 0o000, 0o770, 0o660)],
)  # fmt: skip
def test_a_store_is_not_for_everybody(
    tmp_path: Path, root: int | None, umask: int, folder: int, file: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the umask: for the owner, and for the group as far as the root is; the root's own mode stays."""
    store = LocalStore(tmp_path / "store")
    if root is not None:
        store.root.mkdir()
        store.root.chmod(root)
    old = os.umask(umask)
    try:
        store.create("a/deep/name", b"")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((store.root / name).stat().st_mode) for name in ("", "a", "a/deep", "a/deep/name")]
    assert modes == [0o700 if root is None else root, folder, folder, file]
    store.sweep()
    assert ("chmod -R o-rwx" in caplog.text) == (root == 0o777)


def test_a_process_that_may_change_no_mode_writes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the wall: what the umask takes away stays away."""

    def refused(*_: object) -> None:
        raise PermissionError

    store = LocalStore(tmp_path / "store")
    store.root.mkdir(mode=0o770)
    store.root.chmod(0o770)
    monkeypatch.setattr(os, "fchmod", refused)
    old = os.umask(0o077)
    try:
        assert store.create("a/b", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((store.root / "a" / "b").stat().st_mode) == 0o600


def test_a_leftover_of_ones_own_name_is_not_written_into(tmp_path: Path) -> None:
    """In a container every start has the same process id; a leftover may be a second name of a blob."""
    store = LocalStore(tmp_path)
    store.create("d/a", b"first")
    hidden = tmp_path / "d" / f".{platform.node()}~{os.getpid()}~{threading.get_ident()}~a"
    os.link(tmp_path / "d" / "a", hidden)
    assert not store.create("d/a", b"other")
    assert store.get("d/a") == b"first"


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


def _made(root: Path, _: pytest.MonkeyPatch) -> LocalStore:
    store = LocalStore(root)
    store.create("a/b", b"one")
    return store


def _found(root: Path, _: pytest.MonkeyPatch) -> LocalStore:
    LocalStore(root).create("a/b", b"one")
    return LocalStore(root)


def _read(root: Path, patch: pytest.MonkeyPatch) -> LocalStore:
    store = LocalStore(root)
    _made(root, patch)
    assert store.get("a/b") == b"one"
    return store


def _told(root: Path, patch: pytest.MonkeyPatch) -> LocalStore:
    _made(root, patch)
    root.rename(root.with_name("before"))
    patch.setenv(SEEN, str(root))
    store = LocalStore(root)
    root.with_name("before").rename(root)
    return store


@pytest.mark.parametrize("seen", [_made, _found, _read, _told])
def test_a_directory_that_was_there_is_never_made_anew(
    seen: Callable[[Path, pytest.MonkeyPatch], LocalStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it came to be known; moved back it is whole, and not inside another of its name."""
    root = tmp_path / "deep" / "store"
    store = seen(root, monkeypatch)
    root.rename(tmp_path / "elsewhere")
    looks = (lambda: store.get("a/b"), lambda: store.create("a/c", b""), lambda: store.names("a/"),
             lambda: store.delete("a/b"))  # fmt: skip
    for look in looks:
        with pytest.raises(StoreError, match="is gone"):
            look()
    assert not root.exists()
    (tmp_path / "elsewhere").rename(root)
    assert store.names("a/") == ["a/b"]
