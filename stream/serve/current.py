"""What answers requests: the newest snapshot of the champion's line that passed, held in memory.

A watcher follows the store and swaps one pointer; a request reads that pointer once (promise 4). With the store
away, requests are answered from what is in memory, and readiness says how old it is.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from learners import LearnersError
from learners.labels import Labels
from snapshots import Lineage
from snapshots.decisions.epochs import is_void
from snapshots.errors import DamagedError, SnapshotsError, VersionMismatchError
from snapshots.judging import baseline_standing
from snapshots.store.local import LocalStore
from snapshots.store.signed import bare
from stream.parts import codec_of, import_kind, reach_modules, store_of
from stream.process import logs, wall
from stream.process.presence import Presence, present
from stream.serve.candidacy import Candidacy
from stream.serve.loaded import BASELINE, Serving, load_baseline, load_snapshot
from stream.serve.unknown_features import Strangers
from stream.settings import Config
from stream.sink.prediction_log import PredictionLog
from stream.status.status import learning

if TYPE_CHECKING:
    from snapshots.judging.baseline_standing import Standing
    from snapshots.records.manifest import Manifest

log = logging.getLogger("holdfast.serving")
#: a baseline that could not be loaded is tried again after so long: its file may have been put back
_AGAIN_SECONDS = 30.0
#: how often it is looked whether somebody learns
_LEARNING_SECONDS = 2.0


class Server:
    """Holds what serves. ``current`` is None until a snapshot has passed, and ``why_not`` says why."""

    def __init__(self, config: Config, *, now: Callable[[], float]) -> None:
        reach_modules(config)
        self.config, self.now = config, now
        self.lineage = Lineage(store_of(config))
        self.codec = codec_of(config, Labels(config.task))
        self.presence = Presence(self.lineage.store, "serving", now)
        self.current: Serving | None = None
        self.newest: Manifest | None = None
        self.why_not = "serving has just begun, and looks for a snapshot: ask again in a moment"
        self.store_trouble = ""
        self.unjudged: tuple[int, float | None] = (0, None)
        self.standing: Standing | None = None
        self.wall = ""
        self.learning = ("", "")
        self.strangers = Strangers()
        self.predictions = PredictionLog(config) if config.predictions.given else None
        self.candidacy = Candidacy(config, self.predictions, now)
        self._learning_at = 0.0
        self._refused: set[int] = set()
        self._refused_baselines: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def view(self) -> Lineage:
        """A view of the store for a request in a thread of its own, knowing what the watcher has read."""
        return self.lineage.copy()

    def shut_in(self) -> None:
        """Put up the wall, for good: what is written from here on is this process's word, decisions, and events.

        Connections are only allowed where the store, the source or the decoder needs them. Raises
        :class:`snapshots.errors.StoreError` when the store was there and is gone: folders would stand in its place.
        """
        for kind in {one.kind for one in self.config.learners.values()}:
            import_kind(kind)
        if not self.config.wall.enabled:
            self.wall = wall.OFF
            return
        store, source = bare(self.lineage.store), self.config.source
        if isinstance(store, LocalStore):
            store.refuse_gone()
        folders = [store.root / name for name in ("presence", "ledger")] if isinstance(store, LocalStore) else []
        trusted = self.config.holdout.trusted
        predictions, labels = self.config.predictions, self.config.labels
        taken = [source.directory] if source.kind == "files" else []
        taken += [trusted.directory, predictions.directory, labels.directory]
        taken += [predictions.spool] if predictions.topic else []
        folders += [self.config.base / name for name in taken if name]
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        topics = trusted.topic or predictions.topic or labels.topics
        away = source.kind == "kafka" or topics or self.config.event.decoder
        local = isinstance(store, LocalStore) and not away
        self.wall = wall.put_up(folders, may_connect=not local, may_listen=True)

    def start(self) -> None:
        """Begin to follow the store, and to log what is answered."""
        if self.predictions is not None:
            self.predictions.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop following; the process's word is taken back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.candidacy.shadowing.close()
        if self.predictions is not None:
            self.predictions.close()
        self.presence.close()

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.follow()
                self.store_trouble = self.lineage.ledger.expired(self.now())
            except SnapshotsError as cause:
                if not self.store_trouble:
                    log.error("%s; serving goes on from memory", cause)
                self.store_trouble = str(cause)
            except Exception:
                log.exception("the watcher stumbled; serving goes on from memory")
            self._stop.wait(self.config.serve.poll_seconds)

    def follow(self) -> None:
        """Look once whether another snapshot should answer, load it, and swap."""
        self.newest = self.lineage.refresh().newest()
        name = self.lineage.champion()
        number = self.lineage.serving(name, self._refused) if name else None
        if name is not None and self.lineage.decided.fallen(name) and self._fall_back():
            pass
        elif name is None or number is None:
            self.why_not = self._why_not(name)
            if self.current is not None and self._void(self.current):
                self.current = None  # a new lineage has begun; what answered so far belongs to the one before
        elif self.current is None or (self.current.snapshot, self.current.name) != (number, name):
            self._swap(number, name)
        self.candidacy.arms.follow(self.lineage, self.current)
        self.candidacy.follow(self.lineage)
        self._see_baseline()
        self._say()

    def _see_baseline(self) -> None:
        """Note how the baseline stands, for the metrics."""
        wanted = baseline_standing.current(self.lineage)
        seen = (self.standing.baseline, self.standing.holdout) if self.standing is not None else None
        if wanted is not None and wanted != seen:
            self.standing = baseline_standing.newest(self.lineage)

    def _say(self) -> None:
        """Note what waits for a verdict, and say what answers."""
        if self.now() - self._learning_at >= _LEARNING_SECONDS:
            self._learning_at = self.now()
            self.learning = learning(self.lineage, present(self.lineage.store, self.now()))
        waiting = [one for one in self.lineage.numbers if self.lineage.waiting(one)]
        oldest = self.lineage.manifest(waiting[0]) if waiting else None
        self.unjudged = (len(waiting), oldest.created if oldest else None)
        current = self.current
        self.presence.say(
            learner=current.name if current else None,
            snapshot=current.snapshot if current else None,
            created=current.created if current else None,
            since=current.since if current else None,
            port=self.config.serve.port,
            wall=self.wall,
            unknown_features=dict(self.strangers.counts),
            other_types=dict(self.strangers.others),
            predictions=msgspec.to_builtins(self.predictions.counts) if self.predictions is not None else None,
            rollout=msgspec.to_builtins(self.candidacy.told, str_keys=True),
        )

    def _void(self, current: Serving) -> bool:
        return current.epoch is not None and is_void(self.lineage.epochs, current.snapshot, current.epoch)

    def _fall_back(self) -> bool:
        """Let the baseline answer; one that cannot be loaded is said once, and the learner goes on."""
        number = self.lineage.decided.baseline
        if number is None or self.now() - self._refused_baselines.get(number, 0.0) < _AGAIN_SECONDS:
            return False
        if self.current is not None and (self.current.name, self.current.snapshot) == (BASELINE, number):
            return True
        try:
            found = load_baseline(self.lineage, number, self.now())
        except (DamagedError, LearnersError) as cause:
            first = number not in self._refused_baselines
            self._refused_baselines[number] = self.now()
            if first:
                log.error("baseline %d cannot answer, so the learner goes on: %s", number, cause)
            return False
        self.current = found
        log.warning("baseline %d answers", number, extra=logs.facts(baseline=number))
        return True

    def _why_not(self, name: str | None) -> str:
        if name is None:
            return "no snapshot has been written yet: start holdfast train (or holdfast up)"
        newest = self.lineage.numbers[-1]
        verdict = self.lineage.verdict(newest, name)
        said = f"{verdict.verdict}: {verdict.why}" if verdict else "not judged yet: is holdfast guard running?"
        return f"no snapshot of {name} has passed the guard; snapshot {newest} is {said}"

    def _swap(self, number: int, name: str) -> None:
        """Load a snapshot and let it answer. One that cannot be loaded is said once, and the present one stays."""
        try:
            self.current, newest_rows = load_snapshot(self.config, self.lineage, number, name, self.now())
        except (DamagedError, VersionMismatchError, LearnersError) as cause:
            self._refused.add(number)
            log.error("snapshot %d of %s cannot serve: %s", number, name, cause)
            self.why_not = f"snapshot {number} of {name} cannot serve: {cause}"
            return
        self.strangers.learn(newest_rows)
        about = logs.facts(snapshot=number, learner=name, line=self.current.line)
        log.info("snapshot %d of %s answers (line %d)", number, name, self.current.line, extra=about)

    def readiness(self) -> tuple[bool, dict[str, object]]:
        """Tell whether requests can be answered, and how old the answer's snapshot is (seconds)."""
        current = self.current
        if current is None:
            return False, {"ready": False, "why": self.why_not}
        word: dict[str, object] = {
            "ready": True,
            "learner": current.name,
            "snapshot": current.snapshot,
            "snapshot_age_seconds": round(max(0.0, self.now() - current.created), 3),
        }
        waiting, since = self.unjudged
        word["unjudged"] = {"snapshots": waiting, "seconds": round(max(0.0, self.now() - since), 3) if since else 0.0}
        state, why = self.learning if not self.store_trouble else ("unknown", "the store cannot be read")
        if state:
            word["learning"] = state
        if why:
            word["learning_why"] = why
        if self.store_trouble:
            word["store"] = self.store_trouble
        return True, word
