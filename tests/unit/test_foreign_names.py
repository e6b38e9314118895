"""What somebody else put into the store counts for nothing and stops nothing: names, words and sizes, in tables."""

import json
import time
from pathlib import Path

import pytest
from support.lineages import Folder
from support.samples import numbers

from snapshots import Lineage, LocalStore
from snapshots.errors import DamagedError
from snapshots.records import baselines
from snapshots.store.lease import Lease
from stream.dead_letters import reader
from stream.dead_letters.writer import PREFIX
from stream.process.presence import present, sweep

NAMES = [
    "ledger/head/²", "ledger/head/².json", "ledger/head/999.json", "ledger/head/00000000000².json",
    "ledger/99999999999999999999.json", "snapshots/²/manifest.json", "snapshots/x/manifest.json",
    "snapshots/1/manifest.json", "snapshots/18446744073709551614/manifest.json", "snapshots/999999999998/manifest.json",
    "verdicts/000000000/²-linear.json", "verdicts/²/000000000001-linear.json", "epochs/x.json", "epochs/².json",
    "baselines/²/manifest.json", "baselines/1/manifest.json", "leases/retrain/x", "leases/retrain/².json",
    "presence/x", "presence/trainer-x-1/²", "rubbish", "archive/²",
]  # fmt: skip
WORDS = [
    b"", b"null", b"[]", b"[" * 200_000, b'{"a":' * 100_000, b'{"time":[1],"pid":[2]}', b'{"time":1e400,"pid":1}',
    b'{"time":NOW,"pid":1}', b'{"time":NOW,"pid":1,"role":"trainer"}',
    b'{"time":NOW,"pid":1,"role":"trainer","host":"h"}',
    b'{"time":NOW,"pid":' + b"9" * 400 + b',"role":"up","host":"h","given_up":{"train":"x"}}',
    b'{"time":NOW,"pid":1,"role":"serving","host":"h","created":"then"}', b"\xff\xfe",
]  # fmt: skip


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A lineage of one snapshot that passed."""
    here = Folder(tmp_path_factory.mktemp("learnt") / "lineage")
    here.write(numbers(200))
    here.trained()
    return here


def put(here: Folder, name: str, data: bytes) -> Path:
    path = here.path / "store" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data", [b"", b"x", b"{}"], ids=["empty", "junk", "object"])
def test_names_of_others_are_not_ours(learnt: Folder, tmp_path: Path, data: bytes) -> None:
    """All of them at once: the same snapshots, epochs, verdicts and baselines are found as before."""
    here = learnt.copy(tmp_path / "copy")
    before = here.lineage
    for name in NAMES:
        put(here, name, data)
    after = Lineage(LocalStore(here.path / "store")).refresh()
    assert (after.highest, len(after.epochs)) == (before.highest, len(before.epochs))
    assert set(before.numbers) <= set(after.numbers)
    assert after.serving("linear") == before.serving("linear")
    assert baselines.numbers(after.store) == []
    assert Lease(after.store, "retrain", "me", 1.0, time.time).holder() is None
    assert present(after.store, time.time()) == []
    sweep(after.store, time.time())


def test_commands_go_on_with_all_of_it_there(learnt: Folder, tmp_path: Path) -> None:
    """Without a trace; ``verify`` names what is none of ours."""
    here = learnt.copy(tmp_path / "copy")
    for name in NAMES:
        put(here, name, b"x")
    for number, word in enumerate(WORDS):
        put(here, f"presence/x-{number}/000000000001.json", word.replace(b"NOW", str(time.time()).encode()))
    for command in (("status",), ("snapshots", "list"), ("ledger",), ("guard", "--once"), ("train", "--until-end")):
        done = here.run(*command, code=None)
        assert "Traceback" not in done.stderr, command
        assert done.returncode in (0, 1), (command, done.stderr)
    found = json.loads(here.run("verify", "--json", code=1).stdout)
    wrong = {one["what"] for one in found if one["wrong"]}
    assert {"epochs/x.json", "epochs/².json", "snapshots/x/manifest.json", "ledger/head/999.json"} <= wrong


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_odd_words_of_processes_are_nobodys(tmp_path: Path, word: bytes) -> None:
    """Neither read as a process nor an error; what is whole is read."""
    store = LocalStore(tmp_path)
    assert store.create("presence/x/000000000001.json", word.replace(b"NOW", b"1000.0"))
    assert len(present(store, 1000.0)) == (word.endswith(b'"host":"h"}'))


def test_a_lease_that_nobody_could_hold_is_said() -> None:
    """It would be waited for until the end of time."""

    class One(LocalStore):
        def names(self, prefix: str, after: str = "") -> list[str]:
            return [f"{prefix}000000000001.json"]

        def get(self, name: str) -> bytes | None:
            return b'{"by": "me", "until": 1e300}'

    with pytest.raises(DamagedError, match="Remove it"):
        Lease(One(Path()), "retrain", "me", 1.0, lambda: 1000.0).holder()


@pytest.mark.parametrize(
    "name", ["ledger/000000000002.json", "epochs/000000000009.json", "presence/x/000000000001.json",
             "snapshots/000000000009/manifest.json", "verdicts/000000000/000000000001-linear.json", "lineage.json",
             "archive/t/none/0/00000000000000000000.parquet", "archive/t/none/0/00000000000000000000.parquet-0.sig"],
)  # fmt: skip
def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, name: str) -> None:
    """A sparse file of a terabyte takes no disk, and no memory either."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DamagedError, match="nothing of this name has more"):
        LocalStore(tmp_path).get(name)


@pytest.mark.parametrize("offset", ["²", "٣", "9" * 5000, "-1", "", "x", "1.0"])
def test_a_letter_whose_offset_is_none_is_not_ours(tmp_path: Path, offset: str) -> None:
    """Whoever writes the topic of dead letters may write any header; beside it a whole one is read."""

    class Message:
        def __init__(self, offset: str) -> None:
            self._offset = offset

        def headers(self) -> list[tuple[str, bytes]]:
            return [(f"{PREFIX}topic", b"t"), (f"{PREFIX}offset", self._offset.encode())]

        def timestamp(self) -> tuple[int, int]:
            return 1, 1000

        def value(self) -> bytes:
            return b"{}"

        key = value

    store = LocalStore(tmp_path)
    assert reader._of_message(Message(offset), store) is None
    found = reader._of_message(Message("12"), store)
    assert found is not None
    assert found.offset == 12


@pytest.mark.parametrize("number", ["²", "٣", "9" * 5000])
def test_a_revert_to_what_is_no_number_is_refused(learnt: Folder, number: str) -> None:
    """With a sentence and an exit code; nothing is decided."""
    done = learnt.run("snapshots", "revert", number, code=None)
    assert done.returncode in (2, 3), (done.returncode, done.stderr[-300:])
    assert "Traceback" not in done.stderr
