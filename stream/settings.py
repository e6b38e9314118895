"""The settings of one TOML file, a struct for each section; docs/configuration.md lists the keys."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learners.baseline.recipe import Recipe
from learners.bounded import (
    MOST,
    Amount,
    Count,
    Fraction,
    Positive,
    Seconds,
    SecondsOrNone,
    Several,
    Share,
)
from snapshots.judging.fallback import Switching
from snapshots.judging.gates import Limits
from snapshots.judging.table import JudgingSettings
from snapshots.records.holdout import FEWEST_ROWS
from snapshots.records.retention import Keep
from stream.durations import Duration, DurationOrEmpty, seconds_of

#: a name or an address without port; ``*.`` before a name stands for all below it
Host = Annotated[str, Meta(pattern=r"^(\*|(\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]*|[0-9A-Fa-f:]+)\Z")]


Percent = Annotated[float, Meta(gt=0, le=100)]


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
    max_labels: Annotated[int, Meta(ge=2, le=MOST)] = 1000
    fold_labels: bool = False
    slices: list[str] = []
    max_slices: Count = 200
    time_format: Literal["auto", "s", "ms", "iso"] = "auto"
    max_ahead_seconds: Seconds = 86400.0
    max_bytes: Annotated[int, Meta(ge=64, le=MOST)] = 1_048_576
    recent_ids: Count = 20_000
    max_refused_share: Annotated[float, Meta(ge=0, le=1)] = 0.01
    decoder: str | None = None
    types: dict[str, Literal["number", "text", "bool"]] = {}
    flatten: bool = False


class PredictionLog(_Table):
    """Where answered requests are kept: a directory of ``*.jsonl``, or a topic of ``[source.kafka]``."""

    directory: str = ""
    topic: str = ""
    share: Share = 1.0
    spool: Annotated[str, Meta(min_length=1)] = "spool"
    spool_megabytes: Several = 1000

    @property
    def given(self) -> bool:
        """Whether answers are logged at all."""
        return bool(self.directory or self.topic)


class LabelsConfig(_Table):
    """Where labels that come later are, and their fields: a directory, or topics of ``[source.kafka]``."""

    directory: str = ""
    topics: list[str] = []
    id: str = "id"
    label: str = "y"
    time: str = "ts"
    weight: str = "w"
    reward: str = "r"

    @property
    def given(self) -> bool:
        """Whether labels come later at all."""
        return bool(self.directory or self.topics)


class JoinConfig(_Table):
    """How long an event waits for its label, and what follows when none comes, or a late one."""

    wait: Duration = "30m"
    missing: Literal["drop", "negative"] = "drop"
    late: Literal["correct", "count"] = "correct"
    late_wait: DurationOrEmpty = ""
    correction: Literal["retract", "fnw", "none"] = "retract"
    max_pending: Several = 1_000_000
    idle: Duration = "500ms"
    directory: Annotated[str, Meta(min_length=1)] = "waiting"

    @property
    def wait_seconds(self) -> float:
        """How long an event waits for its label."""
        return seconds_of(self.wait)

    @property
    def late_seconds(self) -> float:
        """For how long after that a label is still known for a late one; as long again unless it is said."""
        return seconds_of(self.late_wait) if self.late_wait != "" else self.wait_seconds

    @property
    def idle_seconds(self) -> float:
        """How long a quiet partition is waited for."""
        return seconds_of(self.idle)

    @property
    def corrects(self) -> bool:
        """Whether what was learnt as no is put right by a late yes."""
        return self.missing == "negative" and self.late == "correct" and self.correction != "none"


class LearnerConfig(_Table):
    """One learner."""

    kind: Literal["river", "vw"]
    role: Literal["champion", "challenger"] = "challenger"
    factory: str = ""
    types: list[str] = []
    args: str = ""
    trial_seconds: Seconds = 20.0
    compiled: bool = True
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
    min_slice_rows: Several = FEWEST_ROWS
    min_class_rows: Several = 50
    floor_tolerance: Positive = 0.1
    trusted: Trusted = msgspec.field(default_factory=Trusted)


class MetricsConfig(_Table):
    """How long the sliding window of the metrics is, in events."""

    window: Several = 2000


class GuardConfig(JudgingSettings, kw_only=True):
    """How the guard judges, how sure it has to be, and how often it looks for new snapshots."""

    sample: Share | Literal["auto"] = "auto"
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


class RetrainConfig(Recipe, kw_only=True):
    """How and when a full retrain over the archive is done."""

    enabled: bool = False
    numbers: Literal["standardised", "binned"] = "standardised"
    bins: Annotated[int, Meta(ge=2, le=1000)] = 32
    max_features: Several = 256
    min_count: Several = 5
    max_values: Several = 1_000_000
    device: str = "auto"
    processes: Count = 0
    warm: bool = False
    fewest_rows: Annotated[int, Meta(ge=2, le=MOST)] = 1000
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
    rule: Literal["triggers", "regret"] = "triggers"
    cost: Amount = 0.0
    attention: Amount = 0.0
    churn: Amount = 0.0
    gain: Amount = 0.0
    payback_days: Positive = 7.0
    check_seconds: Seconds = 10.0
    lease_seconds: Seconds = 120.0


class GatesConfig(Limits, kw_only=True):
    """What a full retrain has to show before it becomes the baseline."""

    sign_off: bool = False
    fresh_rows: Annotated[int, Meta(ge=100, le=MOST)] = 500
    wait_seconds: SecondsOrNone = 3600.0


class Fallback(Switching, kw_only=True):
    """When serving falls back to the baseline, and when it returns."""

    margin: Positive = 0.01


class Shadow(_Table):
    """How many requests the one that does not answer predicts as well, after the answer has left."""

    share: Share = 1.0


class RolloutConfig(_Table):
    """How a candidate comes to answer, in percent of the requests, and what takes it back."""

    steps: tuple[Percent, ...] = (1.0, 5.0, 25.0, 50.0, 100.0)
    by: str = ""
    min_events: Several = 300
    min_seconds: SecondsOrNone = 60.0
    sign_off: bool = False
    max_error_rate: Fraction = 0.01
    max_p99_ms: Positive = 50.0
    max_prediction_shift: Share = 0.3
    max_loss: Fraction = 0.01
    false_aborts_per_year: Positive = 1.0


class DuelConfig(_Table):
    """How long champion and challengers are compared until the best is promoted, in events or seconds (0: not)."""

    events: Count = 0
    seconds: SecondsOrNone = 0.0
    sign_off: bool = False


class RoutingConfig(_Table):
    """How learners share the requests: the champion alone, fixed shares in percent, by their losses, or by rewards."""

    policy: Literal["champion", "split", "hedge", "thompson"] = "champion"
    shares: dict[str, Percent] = {}
    answer: Literal["best", "mean"] = "best"
    by: str = ""
    rewards: tuple[float, float] = (0.0, 1.0)
    memory: Several = 10_000
    floor: Fraction = 0.02


class Serve(_Table):
    """Where predictions are answered."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    hosts: list[Host] = []
    token_file: str = "token"  # noqa: S105  a file's name
    events_token_file: str = "events-token"  # noqa: S105  the same
    labels_token_file: str = "labels-token"  # noqa: S105  the same
    read_token_file: str = ""
    events_seconds: Seconds = 5.0
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    max_bytes: Annotated[int, Meta(ge=64, le=MOST)] = 1_048_576
    max_instances: Several = 10_000
    max_connections: Several = 10_000
    quiet_seconds: Seconds = 30.0
    request_seconds: Seconds = 120.0
    poll_seconds: Seconds = 0.1


class ConsoleConfig(_Table):
    """Where the page is; ``enabled`` tells whether ``up`` begins it."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    hosts: list[Host] = []


class Config(_Table):
    """The whole configuration. ``base`` is the folder that relative paths are relative to."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}\Z")]
    task: Literal["binary", "multiclass", "regression"]
    learners: dict[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,60}\Z")], LearnerConfig]
    source: Source = msgspec.field(default_factory=Source)
    event: EventPaths = msgspec.field(default_factory=EventPaths)
    predictions: PredictionLog = msgspec.field(default_factory=PredictionLog)
    labels: LabelsConfig = msgspec.field(default_factory=LabelsConfig)
    join: JoinConfig = msgspec.field(default_factory=JoinConfig)
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
    console: ConsoleConfig = msgspec.field(default_factory=ConsoleConfig)
    shadow: Shadow = msgspec.field(default_factory=Shadow)
    rollout: RolloutConfig = msgspec.field(default_factory=RolloutConfig)
    duel: DuelConfig = msgspec.field(default_factory=DuelConfig)
    routing: RoutingConfig = msgspec.field(default_factory=RoutingConfig)
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
