"""What a drill is played on: a lineage in a folder of its own, or a deployment that runs."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

from snapshots import Lineage
from stream.compose import source_of
from stream.config import load
from stream.demo.catastrophes import CATASTROPHES, SETTINGS, Changes, Copies, Paced, Payments
from stream.demo.demo import free_port
from stream.demo.starter import write_starter
from stream.drill.candidates import ROLLOUT_DRILLS
from stream.drill.relay import Relay
from stream.errors import CommandError
from stream.parts import intake_of, store_of
from stream.process.presence import present
from stream.process.supervise import ROLES, Supervisor
from stream.settings import Config
from stream.tables.payments import payment

_SAMPLES = 2000
#: what a drill of the retrain wants beside the drills' own settings: a small model, soon
_RETRAIN = {
    "HOLDFAST_ARCHIVE__ENABLED": "true", "HOLDFAST_ARCHIVE__EVERY_SECONDS": "1.0", "HOLDFAST_RETRAIN__ENABLED": "true",
    "HOLDFAST_RETRAIN__KIND": "linear", "HOLDFAST_RETRAIN__EPOCHS": "5", "HOLDFAST_RETRAIN__FEWEST_ROWS": "500",
    "HOLDFAST_RETRAIN__CHECK_SECONDS": "0.5", "HOLDFAST_RETRAIN__COOLDOWN_SECONDS": "0",
    "HOLDFAST_RETRAIN__BACKOFF_SECONDS": "2", "HOLDFAST_RETRAIN__DRIFT_PSI": "0", "HOLDFAST_GATES__TOLERANCE": "0.1",
    "HOLDFAST_GATES__MAX_SLICE_LOSS": "0.2", "HOLDFAST_GATES__MAX_CALIBRATION_LOSS": "0.2",
    "HOLDFAST_GATES__P99_MS": "100",
}  # fmt: skip
RETRAIN_DRILLS = ("retrain-fails", "baseline-worse")


class Stage(msgspec.Struct):
    """What a drill is played on. ``supervisor`` is None where somebody else runs the processes."""

    config: Config
    lineage: Lineage
    events: Paced
    changes: Changes | None
    supervisor: Supervisor | None = None
    environment: dict[str, str] = {}
    relay: Relay | None = None


def stage_of_its_own(
    folder: Path, rate: float, environment: Mapping[str, str], name: str = "", store: str = ""
) -> Stage:
    """Make a lineage in a new folder (``store``: its store elsewhere), with payments at ``rate`` a second."""
    path = folder / "holdfast.toml"
    if path.exists():
        raise CommandError(f"{path} is already there; a drill wants a folder of its own: --dir FOLDER")
    write_starter(folder, "drill", sample=0)
    inherited = {key: value for key, value in environment.items() if not key.startswith("HOLDFAST_")}
    inherited |= {**SETTINGS, "HOLDFAST_SERVE__PORT": str(free_port())}
    inherited |= _RETRAIN if name in RETRAIN_DRILLS else {}
    if name in ROLLOUT_DRILLS:
        settings, model = ROLLOUT_DRILLS[name]
        inherited |= settings
        with (folder / "model.py").open("a") as file:
            file.write(model)
    relay = None
    if name == "s3-down":
        if not store.startswith("s3://") or "AWS_ENDPOINT_URL" not in environment:
            raise CommandError(
                "s3-down wants an object store of its own: --store s3://bucket/prefix, and AWS_ENDPOINT_URL"
            )
        relay = Relay(environment["AWS_ENDPOINT_URL"])
        inherited |= {"AWS_ENDPOINT_URL": relay.address, "HOLDFAST_STORE__URL": store}
        os.environ["AWS_ENDPOINT_URL"] = relay.address
    config = load(path, inherited)
    roles = [*ROLES, *(["archive run", "retrain watch"] if name in RETRAIN_DRILLS else [])]
    supervisor = Supervisor(path, inherited, roles, output=(folder / "drill.log").open("ab"))
    samples = [payment(number, 0.0, drifting=False) for number in range(_SAMPLES)]
    events = Payments(config.base / config.source.directory, rate)
    return Stage(config, Lineage(store_of(config)), events, Changes(config, samples), supervisor, inherited, relay)


def stage_of(config: Config, name: str, rate: float, *, really: bool) -> Stage:
    """Take a deployment that runs; refuse one that is in production, and what cannot be done to it."""
    if config.production and not really:
        raise CommandError(
            f"{config.name} is marked production = true: a drill would harm it. --really does it all the same"
        )
    if name in (*RETRAIN_DRILLS, *ROLLOUT_DRILLS, "s3-down"):
        raise CommandError(f"{name} is played on a stage of its own only; leave out --against")
    if name == "broker-down" and config.source.kind != "files":
        raise CommandError("a broker is not ours to stop: stop yours by hand, and look at holdfast status meanwhile")
    if name == "torn-snapshot" and "://" in config.store.url:
        raise CommandError("torn-snapshot cuts a file of the store's directory, and store.url is none")
    if config.event.decoder is not None and name in CATASTROPHES:
        raise CommandError("event.decoder is set, so that events are not JSON that could be changed")
    lineage = Lineage(store_of(config)).refresh()
    roles = {word["role"] for word in present(lineage.store, time.time())}
    if missing := {"trainer", "guard", "serving"} - roles:
        raise CommandError(f"no {', '.join(sorted(missing))} runs here; start it first: holdfast up")
    samples = newest_events(config, lineage) if name in CATASTROPHES else []
    changes = Changes(config, samples) if samples else None
    if changes is not None:
        changes.change(name)  # says at once what the stream lacks
    intake = intake_of(config, time.time)
    if intake is None:
        raise CommandError("source.topics is empty, so there is nowhere to send events to")
    return Stage(config, lineage, Copies(config, samples, intake, rate), changes)


def newest_events(config: Config, lineage: Lineage) -> list[dict[str, Any]]:
    """The newest labelled events of a source, read again from where an older snapshot was."""
    newest = lineage.newest()
    place = None
    for number in reversed(lineage.numbers):
        older = lineage.manifest(number)
        if newest is not None and older is not None:
            place = older.place
            if newest.counts.consumed - older.counts.consumed >= _SAMPLES:
                break
    source, found = source_of(config, when_lost="stop"), list[dict[str, Any]]()
    try:
        source.open(place or source.resolve(), newest.topics if newest else {})
        deadline = time.monotonic() + 10.0
        while len(found) < _SAMPLES and time.monotonic() < deadline and (records := source.poll(_SAMPLES)):
            for record in records:
                try:
                    event = orjson.loads(record.value or b"")
                except orjson.JSONDecodeError:
                    continue
                found += [event] if isinstance(event, dict) else []
    finally:
        source.close()
    return found[-_SAMPLES:]
