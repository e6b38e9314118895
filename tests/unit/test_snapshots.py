"""Snapshots: manifest last, every byte verified before anything is deserialised."""

import hashlib
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from support.lineages import Folder
from support.samples import numbers
from support.snapshots_made import write

from learners.errors import UnsafeStateError
from learners.labels import Labels
from snapshots import LocalStore
from snapshots.errors import DamagedError, NumberTakenError, SnapshotsError, StoreError, VersionMismatchError
from snapshots.records import baselines
from snapshots.records import cut as snapshots
from snapshots.records import manifest as manifests
from stream.guard.watch import Guarding


def test_a_snapshot_exists_only_once_its_manifest_does(tmp_path: Path) -> None:
    """Promise 1: every part is there before the manifest is."""
    order: list[str] = []

    class Told(LocalStore):
        def create(self, name: str, data: bytes) -> bool:
            order.append(name)
            return super().create(name, data)

    write(Told(tmp_path), 7)
    assert [name.split("/")[-1].rsplit("-", 1)[0] for name in order] == [
        "a.model",
        "a.metrics",
        "a.evidence",
        "shared",
        "manifest.json",
    ]


def test_a_number_written_by_another_is_never_mixed_with_ones_own(tmp_path: Path) -> None:
    """Writing the same bytes again is fine (a retry); other bytes mean another trainer."""
    store = LocalStore(tmp_path)
    assert write(store, 1) == write(store, 1)
    with pytest.raises(NumberTakenError):
        write(store, 1, created=2.0)


def test_every_single_byte_flip_is_refused(tmp_path: Path) -> None:
    """Promise 9: of manifest, shared part, model and metrics, each byte in turn."""
    store = LocalStore(tmp_path)
    write(store, 1)
    for path in sorted((tmp_path / "snapshots").rglob("*")):
        if path.is_dir():
            continue
        data = path.read_bytes()
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            with pytest.raises(SnapshotsError):
                manifest = snapshots.read_manifest(store, 1)
                assert manifest is not None
                snapshots.verify_all(store, manifest)
        path.write_bytes(data)
    manifest = snapshots.read_manifest(store, 1)
    assert manifest is not None
    snapshots.verify_all(store, manifest)


@pytest.mark.parametrize("damage", ["truncate", "empty", "missing", "foreign"])
def test_a_torn_part_says_what_is_wrong(tmp_path: Path, damage: str) -> None:
    """Before a byte of it is deserialised."""
    store = LocalStore(tmp_path)
    manifest = write(store, 1)
    path = tmp_path / manifest.learners["a"].model.name
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"truncate": data[:-1], "empty": b"", "foreign": bytes(len(data))}[damage])
    with pytest.raises(DamagedError, match=r"a\.model"):
        snapshots.read_learner(store, manifest, "a", Labels("binary"))


def test_a_part_that_grew_is_not_read(tmp_path: Path) -> None:
    """Whoever may write the store puts a terabyte in its place, which takes no disk; it would take all memory."""
    store = LocalStore(tmp_path)
    manifest = write(store, 7)
    one = manifest.learners["a"]
    looks: dict[str, Callable[[], object]] = {
        manifest.shared.name: lambda: snapshots.read_shared(store, manifest),
        one.model.name: lambda: snapshots.read_learner(store, manifest, "a", Labels("binary")),
        one.metrics.name: lambda: snapshots.read_learner(store, manifest, "a", Labels("binary")),
        one.evidence.name: lambda: snapshots.read_evidence(store, manifest, "a"),
    }
    for name, look in looks.items():
        with (tmp_path / name).open("r+b") as file:
            size = file.seek(0, 2)
            file.truncate(2**40)
            for refused in (look, lambda: snapshots.verify_all(store, manifest)):
                with pytest.raises(DamagedError, match=f"bytes instead of {size}"):
                    refused()
            file.truncate(size)
    snapshots.verify_all(store, manifest)


def test_a_part_of_a_baseline_that_grew_is_not_read(tmp_path: Path) -> None:
    """Models and samples of full retrains, too."""
    store = LocalStore(tmp_path)
    part = baselines.put(store, 1, "model", b"onnx")
    with (tmp_path / part.name).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(DamagedError, match="bytes instead of 4"):
        baselines.read_part(store, part)


def test_nothing_is_unpickled_before_its_digest_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 9: a hostile pickle under the digest of another is refused by its digest; under its own, by its names."""

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    store = LocalStore(tmp_path)
    manifest = write(store, 1)
    (tmp_path / manifest.learners["a"].model.name).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DamagedError):
        snapshots.read_learner(store, manifest, "a", Labels("binary"))
    with pytest.raises(UnsafeStateError, match="allow-list"):
        snapshots.read_learner(store, write(store, 2, pickle.dumps(Hostile())), "a", Labels("binary"))
    assert not (tmp_path / "ran").exists()


def test_another_version_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """River's pickles do not load across all versions."""
    store = LocalStore(tmp_path)
    manifest = write(store, 1)
    monkeypatch.setattr(snapshots, "versions", lambda: {"river": "9.9.9"})
    with pytest.raises(VersionMismatchError, match=r"Install river==.*rebuild by replay"):
        snapshots.check_versions(manifest, "river")


def test_the_schema_in_the_repository_is_that_of_the_code(tmp_path: Path) -> None:
    """And a manifest that was written fits it."""
    schema = json.loads(Path(manifests.__file__).with_name("manifest.schema.json").read_text())
    assert schema == json.loads(json.dumps(manifests.schema()))
    write(LocalStore(tmp_path), 1)
    jsonschema.validate(json.loads((tmp_path / snapshots.manifest_name(1)).read_bytes()), schema)


QUARANTINED = {"id": "7", "cause": "poisoned", "ranges": {"t": {"0": [1, 2]}}, "events": 1}


def resealed(data: bytes, change: dict[str, Any], quarantined: dict[str, Any]) -> bytes:
    """A manifest as a version with other fields would have written it."""
    fields = json.loads(data) | change
    fields["learners"]["a"]["quarantine"] = [QUARANTINED | quarantined]
    fields["sha256"] = fields.pop("sha256") and ""
    for _ in range(2):
        data = msgspec.json.format(msgspec.json.encode(fields), indent=1) + b"\n"
        fields["sha256"] = hashlib.sha256(data).hexdigest() if not fields["sha256"] else fields["sha256"]
    return data


@pytest.mark.parametrize(
    ("change", "quarantined"),
    [({}, {"state": "skipped", "error": "", "kind": "revert"}), ({}, {}), ({"to_come": [{"x": 1}]}, {}),
     ({}, {"to_come": 1})],
    ids=["as this version writes it", "before some fields", "a field to come", "a field to come, further in"],
)  # fmt: skip
def test_a_manifest_of_another_version_holds(
    tmp_path: Path, change: dict[str, Any], quarantined: dict[str, Any]
) -> None:
    """Fields may be added with a default, and a reader leaves out those that it does not know (docs/formats.md)."""
    store = LocalStore(tmp_path)
    written = write(store, 1)
    data = resealed(store.get(snapshots.manifest_name(1)) or b"", change, quarantined)
    found = manifests.decode(data, "it")
    assert found.learners["a"].quarantine[0].reverted_by == 7
    assert (found.snapshot, found.learners["a"].model) == (1, written.learners["a"].model)
    for at in range(len(data)):
        with pytest.raises(SnapshotsError):
            manifests.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "it")


@pytest.mark.parametrize("part", ["manifest", "model", "shared"])
def test_the_newest_good_snapshot_is_used_loudly(folder: Any, part: str) -> None:
    """A damaged one is refused with what is wrong; the trainer resumes at the one before and loses nothing."""
    here: Folder = folder()
    here.write(numbers(300))
    here.train()
    here.write(numbers(300, first=300))
    here.train()
    manifest = here.lineage.newest()
    assert manifest is not None
    name = {
        "manifest": snapshots.manifest_name(manifest.snapshot),
        "model": manifest.learners["linear"].model.name,
        "shared": manifest.shared.name,
    }[part]
    path = here.path / "store" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    done = here.run("train", "--until-end")
    assert f"snapshot {manifest.snapshot} is refused" in done.stderr
    assert here.learner()["events"]["learnt"] == 600
    if part == "manifest":
        assert here.run("snapshots", "verify", code=1).stdout.count(f"snapshot {manifest.snapshot}:") == 1
    else:  # what was resumed from makes it void, and what is void is removed
        assert f"snapshot {manifest.snapshot} is void" in done.stderr
        assert manifest.snapshot not in here.lineage.numbers
        here.run("snapshots", "verify")
    other: Folder = folder("never-damaged")
    other.write(numbers(600))
    other.train()
    assert other.state() == here.state()


def test_when_no_snapshot_is_whole_it_does_not_begin_anew(folder: Any) -> None:
    """What was learnt would be forgotten without a word; it says what to do instead."""
    here: Folder = folder()
    here.write(numbers(100))
    here.train()
    for path in (here.path / "store" / "snapshots").glob("*/manifest.json"):
        path.write_bytes(b"{")
    done = here.run("train", "--until-end", code=4)
    assert "none of the 2 snapshots is whole" in done.stderr
    assert here.lineage.numbers == [0, 1]


def test_one_bad_small_file_stops_nothing(folder: Any) -> None:
    """A torn verdict counts as a fail, a foreign folder and a torn word of a process as nothing."""
    here: Folder = folder()
    here.write(numbers(100))
    here.trained()
    here.write(numbers(100, first=100))
    here.trained()
    first, last = here.lineage.numbers[-2:]
    store = here.path / "store"
    verdict = store / "verdicts" / "000000000" / f"{last:012d}-linear.json"
    verdict.write_bytes(verdict.read_bytes()[:20])
    for name in ("snapshots/backup/manifest.json", "verdicts/000000000/notes.json", "presence/x/000000000001.json"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(b"{")
    assert here.learner()["serving"] == first
    assert {row["snapshot"]: row["verdict"] for row in here.json("snapshots", "list")}[last] == "fail"
    here.write(numbers(100, first=200))
    here.trained()
    assert here.learner()["serving"] == here.lineage.numbers[-1]


def test_a_store_that_is_away_for_a_moment_gives_no_verdict(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the snapshot: the guard tries again, and nothing is written."""
    here: Folder = folder()
    here.write(numbers(100))
    here.train()
    guard = Guarding(here.config, now=time.time, sleep=time.sleep, stopping=lambda: False)
    get = guard.lineage.store.get

    def failing(name: str, most: int | None = None) -> bytes | None:
        if ".model-" in name:
            raise StoreError("cannot read: Too many open files")
        return get(name, most)

    monkeypatch.setattr(guard.lineage.store, "get", failing)
    with pytest.raises(StoreError):
        guard.follow()
    monkeypatch.undo()
    guard.follow()
    assert here.learner()["verdict"] == "pass"
