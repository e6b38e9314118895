"""Prometheus metrics, collected when they are asked for, so that nothing is counted per event in Python.

What an alert is made of always has a sample, whatever is gone: a comparison with nothing is nothing, and never fires.
"""

import math
import mmap
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from snapshots.decisions.decided import Decided
from snapshots.decisions.rollout import State
from snapshots.errors import SnapshotsError
from snapshots.records.manifest import WRITE_BUCKETS, LearnerPart, Manifest
from stream.process.presence import present
from stream.refusal import Reason
from stream.rollout.steps import loss_of
from stream.rollout.told import told_by
from stream.serve.http.metrics import METRICS
from stream.settings import Config
from stream.status.disk import free_bytes
from stream.status.status import LABELS

if TYPE_CHECKING:
    from stream.serve.current import Server

_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)


#: what is exported of each slice; the rest is in status --json
_OF_SLICES = ("n", "log_loss", "accuracy", "mae")
_CODES = (200, 202, 400, 401, 403, 413, 422, 500, 503)
_COLUMN = {code: column for column, code in enumerate(_CODES)}
_SECONDS = len(_CODES)
_FIRST_BUCKET = _SECONDS + 1
_COLUMNS = _FIRST_BUCKET + len(_BUCKETS) + 1
ROW_BYTES = 8 * _COLUMNS


class RequestCounts:
    """Requests by status, and how long they took, of every process that shares the port.

    ``shared`` is memory that the processes share, a row of float64 for each; a process writes only its own, number
    ``index``, so that nobody waits for anybody.
    """

    def __init__(self, shared: mmap.mmap | bytearray | None = None, index: int = 0) -> None:
        self._all = memoryview(shared if shared is not None else bytearray(ROW_BYTES)).cast("d")
        self._mine = self._all[index * _COLUMNS : (index + 1) * _COLUMNS]

    def add(self, code: int, seconds: float) -> None:
        """Count one request."""
        mine = self._mine
        mine[_COLUMN[code]] += 1
        mine[_SECONDS] += seconds
        mine[_FIRST_BUCKET + bisect_left(_BUCKETS, seconds)] += 1

    def _sum(self, column: int) -> float:
        return float(sum(self._all[column::_COLUMNS]))

    def by_code(self) -> dict[int, int]:
        """How many requests got each status that is counted, 0 where none did."""
        return {code: int(self._sum(column)) for code, column in _COLUMN.items()}

    def durations(self) -> tuple[list[int], float]:
        """How many requests took how long, and the seconds of all."""
        return [int(self._sum(_FIRST_BUCKET + i)) for i in range(len(_BUCKETS) + 1)], self._sum(_SECONDS)


class HoldfastCollector(Collector):
    """Collects from what the serving process holds in memory; works with everything else away."""

    def __init__(self, server: "Server", counts: RequestCounts) -> None:
        self._server = server
        self._counts = counts

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without collecting them."""
        yield from (_family(name) for name in METRICS)

    def collect(self) -> Iterator[Metric]:
        """Every metric as it stands."""
        found: dict[str, Any] = {name: _family(name) for name in METRICS}
        newest = self._server.newest
        self._place(found, newest)
        for name in self._learners():
            part = newest.learners.get(name) if newest is not None else None
            if newest is not None and part is not None:
                _learner(found, name, part, newest)
            else:
                found["holdfast_accounting_difference"].add_metric([name], 0)
                found["holdfast_quarantined_events"].add_metric([name], 0)
        self._answers(found)
        self._guard(found, newest)
        self._rollout(found)
        for code, count in self._counts.by_code().items():
            found["holdfast_requests_total"].add_metric([str(code)], count)
        _histogram(found["holdfast_request_duration_seconds"], _BUCKETS, *self._counts.durations())
        self._processes(found)
        yield from found.values()

    def _learners(self) -> list[str]:
        """Those of the newest snapshot, and those that are configured and in none yet."""
        newest = self._server.newest
        return list(dict.fromkeys([*(newest.learners if newest is not None else ()), *self._server.config.learners]))

    def _answers(self, found: dict[str, Any]) -> None:
        """What answers here, and how old it is."""
        current, now = self._server.current, self._server.now()
        age = math.inf
        if current is not None:
            found["holdfast_serving_snapshot"].add_metric([current.name], current.snapshot)
            found["holdfast_serving_age_seconds"].add_metric([current.name], now - current.created)
            age = now - current.newest_event
        found["holdfast_event_age_seconds"].add_metric([], age)
        found["holdfast_ready"].add_metric([], float(current is not None))

    def _guard(self, found: dict[str, Any], newest: Manifest | None) -> None:
        """What guard and operators decided, as the watcher last read it."""
        lineage = self._server.lineage
        found["holdfast_unjudged_snapshots"].add_metric([], self._server.unjudged[0])
        number = lineage.decided.baseline
        found["holdfast_baseline_number"].add_metric([], number or 0)
        _retrains(found, lineage.decided, self._server.now())
        judged = self._server.standing
        if judged is not None and judged.loss is not None:
            found["holdfast_baseline_holdout_loss"].add_metric([], judged.loss)
        current = self._server.current
        found["holdfast_fallen_back"].add_metric([], float(current is not None and current.epoch is None))
        reverts = Counter((entry.learner or "", entry.by.split(":")[0]) for entry in lineage.decided.reverts)
        for learner, by in dict.fromkeys([*product(self._learners(), ("guard", "operator")), *reverts]):
            found["holdfast_reverts_total"].add_metric([learner, by], reverts[learner, by])
        for learner in self._learners():
            state = (
                {"open": 1.0, "half_open": 0.5}.get(lineage.decided.breaker(learner), 0.0)
                if newest is not None
                else 0.0
            )
            found["holdfast_breaker_open"].add_metric([learner], state)
            verdict = lineage.newest_verdict(learner)
            doubted = verdict is not None and verdict.verdict in ("suspect", "fail")
            found["holdfast_suspect"].add_metric([learner], float(doubted))
        for learner in newest.learners if newest is not None else ():
            _compared(found, learner, newest.learners[learner].figures if newest is not None else {})
            for number in reversed(list(lineage.numbers)):
                verdict = lineage.verdict(number, learner)
                if verdict is not None and "loss" in verdict.figures:
                    found["holdfast_holdout_loss"].add_metric([learner], verdict.figures["loss"])
                    break

    def _rollout(self, found: dict[str, Any]) -> None:
        """The newest roll-out, as ledger and newest snapshot have it."""
        lineage = self._server.lineage
        rollout = lineage.decided.rollout
        found["holdfast_rollout_share"].add_metric([], rollout.share if rollout is not None and rollout.active else 0)
        for state in get_args(State):
            now = rollout is not None and rollout.state == state
            found["holdfast_rollout_state"].add_metric([state], float(now))
        loss = loss_of(lineage, rollout) if rollout is not None and rollout.active else None
        for end, name in (("mean", "difference"), ("low", "low"), ("high", "high")) if loss else ():
            found["holdfast_rollout_loss_difference"].add_metric([end], loss[name] if loss else 0.0)

    def _processes(self, found: dict[str, Any]) -> None:
        """What each process last said of itself; nothing when the store is away."""
        words, reachable = [], not self._server.store_trouble
        try:
            words = present(self._server.lineage.store, self._server.now())
        except SnapshotsError:
            reachable = False
        found["holdfast_store_reachable"].add_metric([], float(reachable))
        free = free_bytes(self._server.lineage.store) if reachable else None
        found["holdfast_store_free_bytes"].add_metric([], math.inf if free is None else free)
        found["holdfast_predictions_lost"].add_metric([], float(sum(map(_lost, words))))
        for word in words:
            if (kept := word.get("predictions")) is not None:
                pid = str(word["pid"])
                found["holdfast_predictions_logged_total"].add_metric([pid], kept.logged)
                found["holdfast_predictions_spooled"].add_metric([pid], kept.spooled)
                for reason in ("queue_full", "spool_full", "refused", "ended"):
                    count = kept.left_out.get(reason, 0)
                    found["holdfast_predictions_left_out_total"].add_metric([pid, reason], count)
            _routes(found, word)
            found["holdfast_process_resident_bytes"].add_metric([word["role"], str(word["pid"])], word.get("rss", 0))
        trainers = [word for word in words if word["role"] == "trainer"]
        found["holdfast_source_reading"].add_metric([], float(any(word["state"] == "reading" for word in trainers)))
        lag = trainers[-1]["lag"] if trainers else None
        found["holdfast_lag"].add_metric([], math.inf if lag is None else lag)
        spoke = {word["role"] for word in words}
        for role, name in roles_of(self._server.config).items():
            found["holdfast_alive"].add_metric([role], float(name in spoke))

    def _place(self, found: dict[str, Any], newest: Manifest | None) -> None:
        refused = newest.counts.refused if newest is not None else {}
        for reason in dict.fromkeys([*Reason, *refused]):
            found["holdfast_dead_lettered_total"].add_metric([reason], refused.get(reason, 0))
        age = math.inf if newest is None else self._server.now() - newest.created
        found["holdfast_snapshot_age_seconds"].add_metric([], age)
        evicted = newest.counts.labels.get("evicted", 0) if newest is not None else 0
        found["holdfast_evicted_events"].add_metric([], evicted)
        late = newest.delays.get("late_share", 0.0) if newest is not None else 0.0
        found["holdfast_labels_late_ratio"].add_metric([], late)
        if newest is None:
            return
        counts = newest.counts
        _labels(found, newest)
        for name in ("consumed", "unlabelled", "duplicate", "held_out"):
            found[f"holdfast_{name}_total"].add_metric([], getattr(counts, name))
        found["holdfast_snapshot_number"].add_metric([], newest.snapshot)
        written = newest.written
        _histogram(found["holdfast_snapshot_write_duration_seconds"], WRITE_BUCKETS, written.counts, written.seconds)


def _retrains(found: dict[str, Any], decided: Decided, now: float) -> None:
    """How old the baseline is, and how many retrains failed in a row."""
    accepted = [one for one in decided.accepted if one.baseline == decided.baseline]
    age = max(0.0, now - accepted[-1].time) if decided.baseline is not None and accepted else 0.0
    found["holdfast_baseline_age_seconds"].add_metric([], age)
    found["holdfast_retrain_failures"].add_metric([], decided.failures)


def _labels(found: dict[str, Any], newest: Manifest) -> None:
    """What became of labels that came later, and how long they took."""
    counts, delays = newest.counts, newest.delays
    found["holdfast_pending_events"].add_metric([], counts.pending)
    found["holdfast_timed_out_events"].add_metric([], counts.timed_out)
    for name in LABELS[1:]:
        found["holdfast_labels"].add_metric([name], counts.labels.get(name, 0))
    for quantile, name in (("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99")):
        if name in delays:
            found["holdfast_label_delay_seconds"].add_metric([quantile], delays[name])


def _lost(word: dict[str, Any]) -> int:
    kept = word.get("predictions")
    return sum(kept.left_out.values()) if kept is not None else 0


def _routes(found: dict[str, Any], word: dict[str, Any]) -> None:
    """What a serving process says of both sides of a roll-out."""
    for told in told_by([word]):
        for route, seen in (("candidate", told.candidate), ("champion", told.champion)):
            where = [str(word["pid"]), route]
            found["holdfast_route_answered_total"].add_metric(where, seen.answered)
            found["holdfast_route_errors_total"].add_metric(where, seen.errors)
            if (p99 := seen.quantile(0.99)) is not None:
                found["holdfast_route_p99_seconds"].add_metric(where, p99 / 1000)


def _compared(found: dict[str, Any], learner: str, figures: dict[str, Any]) -> None:
    """How a learner compares with the baseline and with the champion on fresh events."""
    for against, metric in (("baseline", "baseline"), ("against_champion", "champion")):
        versus: dict[str, Any] = figures.get(against) or {}
        for end, name in (("mean", "difference"), ("low", "low"), ("high", "high")) if versus else ():
            found[f"holdfast_{metric}_difference"].add_metric([learner, end], versus[name])
        if versus and against == "baseline":
            found["holdfast_baseline_events"].add_metric([learner], versus["events"])


def roles_of(config: Config) -> dict[str, str]:
    """The roles that should run, as ``holdfast alive`` names them, each with the name that its processes give."""
    found = {"train": "trainer", "guard": "guard", "serve": "serving"}
    found |= {"archive": "archiver"} if config.archive.enabled else {}
    return found | ({"retrain": "scheduler"} if config.retrain.enabled else {})


def _histogram(family: Any, bounds: Sequence[float], counts: Sequence[int], seconds: float) -> None:
    total, buckets = 0, []
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric([], buckets, seconds)


def _learner(found: dict[str, Any], name: str, part: LearnerPart, manifest: Manifest) -> None:
    difference = manifest.counts.remaining() - part.learnt - part.quarantined
    found["holdfast_learnt_events"].add_metric([name], part.learnt)
    found["holdfast_quarantined_events"].add_metric([name], part.quarantined)
    found["holdfast_accounting_difference"].add_metric([name], difference)
    spans = {"life": "metrics", "recent": "recent", "served": "served", "delayed": "delayed"}
    for span, key in spans.items():
        for metric, value in (part.figures.get(key) or {}).items():
            if isinstance(value, float | int):
                found["holdfast_metric"].add_metric([name, metric, span], value)
    for span, key in {"life": "slices", "served": "served", "delayed": "delayed"}.items():
        figures = part.figures.get(key) or {}
        for where, of_slice in (figures if key == "slices" else figures.get("slices") or {}).items():
            for metric in _OF_SLICES:
                if isinstance(value := of_slice.get(metric), float | int):
                    found["holdfast_slice_metric"].add_metric([name, metric, span, where], value)


def _family(name: str) -> Metric:
    kind, labels, meaning = METRICS[name]
    if kind == "counter":
        return CounterMetricFamily(name.removesuffix("_total"), meaning, labels=labels)
    if kind == "histogram":
        return HistogramMetricFamily(name, meaning, labels=labels)
    return GaugeMetricFamily(name, meaning, labels=labels)
