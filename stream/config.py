"""The configuration: one TOML file, every key overridable by ``HOLDFAST_…``; docs/configuration.md lists the keys."""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from learners.labels import canonical, folded
from snapshots.errors import StoreError
from snapshots.records.retention import Keep
from snapshots.store.object_store import where
from stream import choices
from stream.errors import ConfigError

_FORBIDDEN_KAFKA = {
    "group.id": "the group is the lineage's name",
    "enable.auto.commit": "the place is kept in snapshots, and offsets are committed last",
    "enable.auto.offset.store": "the place is kept in snapshots",
    "isolation.level": "it is read_committed, or aborted events would be learnt",
    "auto.offset.reset": "it is error, or lost events would go unnoticed; set source.start instead",
    "enable.partition.eof": "it is true, or the end of a topic could not be told",
}
_NOT_KEYS = (
    "HOLDFAST_TEST_", "HOLDFAST_CONFIG", "HOLDFAST_LOG",
    "HOLDFAST_TOKEN", "HOLDFAST_EVENTS_TOKEN", "HOLDFAST_READ_TOKEN", "HOLDFAST_TRUSTED_TOKEN",
)  # fmt: skip
_OPEN_TABLES = {"source.kafka", "event.types", "store.options"}
# Every number has both ends: no setting may be infinite, or so large that no clock or file could hold it.
_MOST, _LONGEST = 10**12, 1e9
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Share = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=_MOST)]
Amount = Annotated[float, Meta(ge=0, le=_MOST)]
Gain = Annotated[float, Meta(ge=-1, le=1)]
#: as long as a clock can be asked to wait, which is about 30 years
Seconds = Annotated[float, Meta(gt=0, le=_LONGEST)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=_LONGEST)]
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Several = Annotated[int, Meta(ge=1, le=_MOST)]
#: a name or an address without port; ``*.`` before a name stands for all below it
Host = Annotated[str, Meta(pattern=r"^(\*|(\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]*|[0-9A-Fa-f:]+)\Z")]


#: the beginning of an address, or its query, where a directory was to be
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:|.*@.*:|.*\?.*=", re.DOTALL | re.IGNORECASE)


class _Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class Source(_Table):
    """Where events come from."""

    kind: Literal["kafka", "files"] = "kafka"
    topics: list[str] = []
    directory: str = "events"
    start: Literal["earliest", "latest"] = "earliest"
    batch: Several = 1000
    when_lost: Literal["stop", "go_on"] = "stop"
    poll_seconds: Seconds = 0.05
    kafka: dict[str, str | int | float | bool] = {}


class EventPaths(_Table):
    """Where the fields of an event are, and what they may hold."""

    id: str = "id"
    time: str = "ts"
    features: str = "x"
    exclude: list[str] = []
    label: str = "y"
    weight: str | None = None
    positive: str | int | float | bool = 1
    negative: str | int | float | bool | None = None
    labels: list[str | int | float | bool] = []
    max_labels: Annotated[int, Meta(ge=2, le=_MOST)] = 1000
    fold_labels: bool = False
    slices: list[str] = []
    max_slices: Count = 200
    time_format: Literal["auto", "s", "ms", "iso"] = "auto"
    max_ahead_seconds: Seconds = 86400.0
    max_bytes: Annotated[int, Meta(ge=64, le=_MOST)] = 1_048_576
    recent_ids: Count = 20_000
    max_refused_share: Annotated[float, Meta(ge=0, le=1)] = 0.01
    decoder: str | None = None
    types: dict[str, Literal["number", "text", "bool"]] = {}
    flatten: bool = False


class LearnerConfig(_Table):
    """One learner."""

    kind: Literal["river", "vw"]
    role: Literal["champion", "challenger"] = "challenger"
    factory: str = ""
    types: list[str] = []
    args: str = ""
    trial_seconds: Seconds = 20.0
    namespaces: dict[str, list[str]] = {}
    ignore_weights: bool = False


class StoreConfig(_Table):
    """Where snapshots, verdicts and the ledger are kept."""

    url: Annotated[str, Meta(min_length=1)] = "store"
    options: dict[str, str] = {}


class SnapshotsConfig(_Table):
    """When a snapshot is due, and which are kept."""

    every_seconds: Seconds = 1.0
    every_events: Several = 100_000
    keep: Keep = Keep()


class Trusted(_Table):
    """Where labels that somebody checked come from: a directory of ``*.jsonl``, or a topic of ``[source.kafka]``."""

    directory: str = ""
    topic: str = ""
    token_file: str = "trusted-token"  # noqa: S105  a file's name

    @property
    def given(self) -> bool:
        """Whether there is such a place."""
        return bool(self.directory or self.topic)


class Holdout(_Table):
    """Which labelled events are set aside and never learnt."""

    rate: Fraction = 0.02
    rows: Several = 5000
    by: str = "id"
    min_slice_rows: Several = 200
    min_class_rows: Several = 50
    floor_tolerance: Positive = 0.1
    trusted: Trusted = msgspec.field(default_factory=Trusted)


class MetricsConfig(_Table):
    """How long the sliding window of the metrics is, in events."""

    window: Several = 2000


class GuardConfig(_Table):
    """How the guard judges, how sure it has to be, and how often it looks for new snapshots."""

    tolerance: Positive = 0.01
    false_reverts_per_year: Positive = 1.0
    moved: Literal["auto", "hold", "revert", "follow"] = "auto"
    hold_events: Count = 50_000
    hold_seconds: SecondsOrNone = 900.0
    wait_events: Count = 5000
    wait_seconds: SecondsOrNone = 900.0
    look_events: Count = 50
    reference_events: Count = 10_000
    sample: Share | Literal["auto"] = "auto"
    act: bool = True
    poll_seconds: Seconds = 0.1

    @property
    def share(self) -> float | None:
        """The share of the events that are scored for comparisons; None: as many as there is time for."""
        return None if self.sample == "auto" else self.sample


class Breaker(_Table):
    """When learning is stopped for a while by itself, and how it is tried again."""

    reverts: Several = 3
    seconds: Seconds = 3600.0
    dead_letter_share: Share = 0.5
    dead_letter_events: Several = 1000
    jump: Share = 1.0
    jump_ignore: list[str] = []
    when_open: Literal["score", "wait"] = "score"
    half_open_seconds: Seconds = 900.0
    half_open_events: Several = 5000


class Signing(_Table):
    """Ed25519 keys in PEM: who writes signs, and everybody refuses what is not signed by one of these."""

    private_key_file: str = ""
    public_key_files: list[str] = []
    seen_file: Annotated[str, Meta(min_length=1)] = "seen.json"
    head_seconds: Seconds = 86_400.0


class Wall(_Table):
    """Whether processes that load models are shut in: nothing written, executed or connected to."""

    enabled: bool = True


class Notify(_Table):
    """Who is told of reverts, holds and requests: a command (JSON on its standard input), an address of HTTP."""

    command: list[str] = []
    webhook: str = ""


class ArchiveConfig(_Table):
    """Whether every valid labelled event is kept for full retrains, and for how long (0: no limit)."""

    enabled: bool = False
    every_events: Several = 50_000
    every_seconds: Seconds = 60.0
    keep_days: Amount = 0.0
    keep_gigabytes: Amount = 0.0


class RetrainConfig(_Table):
    """How and when a full retrain over the archive is done."""

    enabled: bool = False
    kind: Literal["linear", "fm", "dcn"] = "dcn"
    factory: str = ""
    numbers: Literal["standardised", "binned"] = "standardised"
    bins: Annotated[int, Meta(ge=2, le=1000)] = 32
    max_features: Several = 256
    min_count: Several = 5
    max_values: Several = 1_000_000
    rank: Annotated[int, Meta(ge=1, le=1024)] = 16
    epochs: Several = 50
    patience: Count = 5
    batch: Count = 0
    rate: Amount = 0.0
    decay: Amount = 0.01
    validation: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    half_life_days: Amount = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    seed: Count = 1
    mixed_precision: bool = True
    device: str = "auto"
    processes: Count = 0
    warm: bool = False
    fewest_rows: Annotated[int, Meta(ge=2, le=_MOST)] = 1000
    work: str = "retrain-work"
    keep: Several = 10
    schedule: str = ""
    timezone: str = "UTC"
    after_labels: Count = 0
    drift_psi: Amount = 0.25
    on_request: bool = True
    cooldown_seconds: SecondsOrNone = 3600.0
    budget_seconds: SecondsOrNone = 0.0
    budget: Amount = 0.0
    price_per_hour: Amount = 0.0
    backoff_seconds: Seconds = 60.0
    cost: Amount = 0.0
    gain: Amount = 0.0
    payback_days: Positive = 7.0
    check_seconds: Seconds = 10.0
    lease_seconds: Seconds = 120.0


class GatesConfig(_Table):
    """What a full retrain has to show before it becomes the baseline."""

    min_gain: Gain = 0.0
    tolerance: Amount = 0.01
    retrains_per_year: Positive = 365.0
    max_slice_loss: Amount = 0.02
    floor_tolerance: Amount = 0.05
    p99_ms: Positive = 5.0
    max_megabytes: Positive = 500.0
    max_seconds: Seconds = 86_400.0
    max_calibration_loss: Amount = 0.02
    sign_off: bool = False
    fresh_rows: Annotated[int, Meta(ge=100, le=_MOST)] = 500
    wait_seconds: SecondsOrNone = 3600.0


class Fallback(_Table):
    """When serving falls back to the baseline, and when it returns."""

    margin: Positive = 0.01
    false_switches_per_year: Positive = 1.0
    return_events: Count = 5000
    trips_per_day: Several = 3


class Serve(_Table):
    """Where predictions are answered."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    hosts: list[Host] = []
    token_file: str = "token"  # noqa: S105  a file's name
    events_token_file: str = "events-token"  # noqa: S105  the same
    read_token_file: str = ""
    events_seconds: Seconds = 5.0
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    max_bytes: Annotated[int, Meta(ge=64, le=_MOST)] = 1_048_576
    max_instances: Several = 10_000
    max_connections: Several = 10_000
    quiet_seconds: Seconds = 30.0
    request_seconds: Seconds = 120.0
    poll_seconds: Seconds = 0.1


class Config(_Table):
    """The whole configuration. ``base`` is the folder that relative paths are relative to."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}\Z")]
    task: Literal["binary", "multiclass", "regression"]
    learners: dict[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,60}\Z")], LearnerConfig]
    source: Source = msgspec.field(default_factory=Source)
    event: EventPaths = msgspec.field(default_factory=EventPaths)
    store: StoreConfig = msgspec.field(default_factory=StoreConfig)
    snapshots: SnapshotsConfig = msgspec.field(default_factory=SnapshotsConfig)
    holdout: Holdout = msgspec.field(default_factory=Holdout)
    metrics: MetricsConfig = msgspec.field(default_factory=MetricsConfig)
    guard: GuardConfig = msgspec.field(default_factory=GuardConfig)
    breaker: Breaker = msgspec.field(default_factory=Breaker)
    signing: Signing = msgspec.field(default_factory=Signing)
    wall: Wall = msgspec.field(default_factory=Wall)
    notify: Notify = msgspec.field(default_factory=Notify)
    archive: ArchiveConfig = msgspec.field(default_factory=ArchiveConfig)
    retrain: RetrainConfig = msgspec.field(default_factory=RetrainConfig)
    gates: GatesConfig = msgspec.field(default_factory=GatesConfig)
    fallback: Fallback = msgspec.field(default_factory=Fallback)
    serve: Serve = msgspec.field(default_factory=Serve)
    production: bool = False
    champion: str = ""
    base: Path = Path()

    @property
    def first_champion(self) -> str:
        """The name of the learner that is champion until one is promoted."""
        return next(name for name, learner in self.learners.items() if learner.role == "champion")

    @property
    def weight_path(self) -> str:
        """Where the weight is; ``w`` unless ``event.weight`` says otherwise (empty: nowhere)."""
        return "w" if self.event.weight is None else self.event.weight


def packed(config: Config) -> bytes:
    """The configuration and its folder as bytes, for a process of ours; :func:`unpacked` takes them."""
    return msgspec.msgpack.encode((str(config.base), config), enc_hook=str)


def unpacked(data: bytes) -> Config:
    """The configuration that :func:`packed` made."""
    base, config = msgspec.msgpack.decode(data, type=tuple[str, Config], dec_hook=lambda _, value: Path(value))
    config.base = Path(base)
    return config


def load(path: Path, environment: Mapping[str, str]) -> Config:
    """Read the file, lay the environment over it, and check everything; raise :class:`ConfigError`."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}. Write one with: holdfast init, or name it with --config FILE") from None
    except (OSError, ValueError, RecursionError) as cause:  # ValueError: no UTF-8, no TOML, a number of 5,000 digits
        raise ConfigError(f"{path} cannot be read: {cause}") from cause
    overlay(table, environment)
    return check(table, path.resolve().parent)


def overlay(table: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Put ``HOLDFAST_SERVE__PORT=9000`` over ``serve.port``; values are read as TOML, and as text when they are not.

    In ``source.kafka`` a single underscore stands for the dot: ``HOLDFAST_SOURCE__KAFKA__BOOTSTRAP_SERVERS``.
    """
    for variable, text in sorted(environment.items()):
        if not variable.startswith("HOLDFAST_") or variable.startswith(_NOT_KEYS):
            continue
        keys = variable.removeprefix("HOLDFAST_").lower().split("__")
        if keys[:2] == ["source", "kafka"]:
            keys = ["source", "kafka", *(key.replace("_", ".") for key in keys[2:])]
        place = table
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{variable}: {key} is not a table")
        place[keys[-1]] = _value(text)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def check(table: dict[str, Any], base: Path) -> Config:
    """Turn a table into a configuration, or say what is wrong and what to write instead."""
    _refuse_unknown(table, Config, "")
    choices.refuse_others(table, Config)
    try:
        config = msgspec.convert({**table, "base": ""}, Config, strict=True, dec_hook=lambda _, value: Path(value))
    except msgspec.ValidationError as cause:
        raise ConfigError(f"the configuration does not fit: {_in_words(cause)}. See docs/configuration.md") from cause
    config.base = base
    _check_together(config)
    return config


def _in_words(cause: Exception) -> str:
    return str(cause).replace(" - at `$.", " — at `").replace("`$`", "the top level")


def _refuse_unknown(table: dict[str, Any], struct: type[msgspec.Struct], path: str) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct) if field.name != "base"}
    for key, value in table.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {path}{near[0]}?" if near else f"; known here: {', '.join(sorted(fields))}"
            raise ConfigError(f"unknown key {path}{key}{hint}")
        if not isinstance(value, dict) or f"{path}{key}" in _OPEN_TABLES:
            continue
        inner = fields[key].type
        if key == "learners":
            for name, learner in value.items():
                if isinstance(learner, dict):
                    _refuse_unknown(learner, LearnerConfig, f"learners.{name}.")
        elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _refuse_unknown(value, inner, f"{path}{key}.")


def _choose_champion(config: Config) -> None:
    """Let exactly one learner begin as the champion."""
    if config.champion not in ("", "auto"):
        if config.champion not in config.learners:
            known = ", ".join(config.learners)
            raise ConfigError(f'champion = "{config.champion}" is no learner; known: {known}, or "auto"')
        for name, learner in config.learners.items():
            learner.role = "champion" if name == config.champion else "challenger"
    champions = [name for name, learner in config.learners.items() if learner.role == "champion"]
    if not champions and (len(config.learners) == 1 or (config.champion == "auto" and config.learners)):
        next(iter(config.learners.values())).role = "champion"
    elif len(champions) != 1:
        names = ", ".join(config.learners) or "[learners.NAME]"
        raise ConfigError(
            f'exactly one learner is the champion, not {len(champions)}: set role = "champion" for {names}'
        )


def _check_together(config: Config) -> None:
    """Check what no single key tells."""
    _choose_champion(config)
    for name, learner in config.learners.items():
        if learner.kind == "river" and not learner.factory:
            raise ConfigError(f'learners.{name}: kind "river" needs factory = "module:function"')
    _check_paths(config)
    _check_names(config)
    _check_numbers(config)
    _check_store(config)
    if config.retrain.cost and not config.retrain.gain:
        raise ConfigError("retrain.cost is weighed against retrain.gain, what a loss lower by 1 is worth for one event")
    if config.retrain.budget and not config.retrain.price_per_hour:
        raise ConfigError("retrain.budget is in money: set retrain.price_per_hour, what an hour of one process costs")
    if config.source.kind == "kafka":
        if not config.source.topics:
            raise ConfigError('source.topics is empty: name at least one topic, or set source.kind = "files"')
        if "bootstrap.servers" not in config.source.kafka:
            raise ConfigError('[source.kafka] needs "bootstrap.servers" = "host:port"')
    else:
        _check_directory(config, "source.directory", config.source.directory)
    _check_trusted(config)
    for key in config.source.kafka:
        if key in _FORBIDDEN_KAFKA:
            raise ConfigError(f"[source.kafka] {key!r} cannot be set: {_FORBIDDEN_KAFKA[key]}")


def _check_directory(config: Config, setting: str, name: str) -> Path:
    """Refuse a directory of events that holds the configuration, or everything: who sends events writes there."""
    try:
        directory = (config.base / name).resolve()
    except (OSError, ValueError, RuntimeError) as cause:  # too long, a NUL in it, links in a circle
        raise ConfigError(f"{setting} = {name!r} is no directory: {cause}") from cause
    if config.base.resolve().is_relative_to(directory):
        raise ConfigError(
            f"{setting} = {name!r} holds the configuration itself, and every *.jsonl in it "
            'would be read as events: name a directory of their own, such as "events"'
        )
    return directory


def _check_trusted(config: Config) -> None:
    """Refuse a place of checked labels that is also one of events: they are never learnt."""
    trusted, source = config.holdout.trusted, config.source
    if trusted.directory and trusted.topic:
        raise ConfigError("holdout.trusted.directory and holdout.trusted.topic are both set: set one")
    if trusted.topic and "bootstrap.servers" not in source.kafka:
        raise ConfigError('holdout.trusted.topic is read with [source.kafka], which needs "bootstrap.servers"')
    if trusted.topic and trusted.topic in source.topics:
        raise ConfigError(f"holdout.trusted.topic = {trusted.topic!r} is in source.topics, and would be learnt")
    if trusted.directory:
        directory = _check_directory(config, "holdout.trusted.directory", trusted.directory)
        if source.kind == "files" and directory == (config.base / source.directory).resolve():
            raise ConfigError("holdout.trusted.directory is source.directory: its events would be learnt")


def _check_store(config: Config) -> None:
    """Refuse an address that no store has; what it holds beside bucket and prefix may be a secret."""
    if "://" in config.store.url:
        try:
            where(config.store.url)
        except StoreError as cause:
            raise ConfigError(str(cause)) from None
    elif _ADDRESS.match(config.store.url):
        raise ConfigError("store.url looks like an address without ://. Write s3://bucket/prefix, or a directory")


def _check_numbers(config: Config) -> None:
    """Refuse infinite numbers where any number, text or truth value may stand."""
    event = config.event
    open_ones = [("event.positive", event.positive), ("event.negative", event.negative)]
    open_ones += [("event.labels", one) for one in event.labels]
    open_ones += [(f"source.kafka.{key}", value) for key, value in config.source.kafka.items()]
    for key, value in open_ones:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} = {value} is no finite number: write another value")


def _check_names(config: Config) -> None:
    """Refuse names that would mean two things, or that a learner could not be told."""
    seen: dict[str, object] = {}
    key_of = folded if config.event.fold_labels else canonical
    for label in config.event.labels:
        if (key := key_of(label)) in seen:
            raise ConfigError(f"event.labels names one label twice: {seen[key]!r} and {label!r}; write it once")
        seen[key] = label
    for name, learner in config.learners.items():
        placed: dict[str, str] = {}
        for space, features in learner.namespaces.items():
            if not space or space.startswith("_") or not space.isprintable() or not set(" |:").isdisjoint(space):
                raise ConfigError(
                    f"learners.{name}.namespaces: {space!r} is no name of a namespace: it must not be empty, begin "
                    "with _, or hold spaces, | or :"
                )
            for feature in features:
                if feature in placed:
                    raise ConfigError(
                        f"learners.{name}.namespaces: {feature!r} is in {placed[feature]!r} and in {space!r}; "
                        "a feature is in one"
                    )
                placed[feature] = space


def _check_paths(config: Config) -> None:
    """Refuse a label, or another field, that would also be learnt as a feature."""
    event = config.event
    for key, path in (("id", event.id), ("time", event.time), ("label", event.label), ("weight", config.weight_path)):
        if path == event.features or path.startswith(f"{event.features}."):
            raise ConfigError(
                f"event.{key} = {path!r} lies among the features, so it would be learnt as one: move it out"
            )
