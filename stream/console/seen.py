"""What the page shows of one lineage, from store, ledger and the processes' words; right also when nothing runs."""

import csv
import io
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import orjson

from snapshots import Lineage
from snapshots.history.levels import Reader
from snapshots.history.rows import LearnerRow, Row, main_figure
from snapshots.records import cut
from stream.console.data import data, sides
from stream.console.findings import findings
from stream.parts import store_of
from stream.process import interpreter
from stream.settings import Config
from stream.status import status as states

_Found = TypeVar("_Found")
#: so long one look is answered again to others that ask the same
_SAME_SECONDS = 0.5
_MOST_ASKED = 200
_MOST_MARKS = 1000
_EXAMPLES, _ASK_SECONDS, _SELDOM_SECONDS = 20, 30.0, 30.0
#: classes of the accounting equation, as the bar shows them
CLASSES = ("learnt", "held_out", "quarantined", "pending", "timed_out", "unlabelled", "duplicate", "dead_lettered")


class Seen:
    """Looks at one lineage. Safe to be asked by several threads; ``path`` is its configuration's file."""

    def __init__(self, config: Config, path: Path) -> None:
        self.config, self.path, self.name = config, path.resolve(), config.name
        self._lineage = Lineage(store_of(config), looking=True)
        self._reader = Reader(self._lineage.store)
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._asked: dict[str, tuple[float, Any]] = {}
        self._slow: dict[str, tuple[float, dict[str, Any]]] = {}

    def _once(self, key: str, look: Callable[[Lineage], _Found]) -> _Found:
        """Look, or give what somebody was told just now."""
        with self._lock:
            there = self._asked.get(key)
            if there is not None and time.monotonic() - there[0] < _SAME_SECONDS:
                return there[1]  # type: ignore[no-any-return]
            found = look(self._lineage.refresh())
            while len(self._asked) >= _MOST_ASKED:
                del self._asked[next(iter(self._asked))]
            self._asked.pop(key, None)
            self._asked[key] = (time.monotonic(), found)
            return found

    def status(self) -> dict[str, Any]:
        """As ``holdfast status --json``, with what an operator should look at first."""

        def look(lineage: Lineage) -> dict[str, Any]:
            found = states.status(lineage, self.config, time.time())
            found["champion"] = lineage.champion() or self.config.first_champion
            found["findings"] = findings(found)
            found["figure"] = main_figure(self.config.task)
            found["now"] = time.time()
            return found

        return self._once("status", look)

    def summary(self) -> dict[str, Any]:
        """One line for the overview of several lineages."""
        found = self.status()
        champion = found["learners"].get(found["champion"], {})
        return {
            "name": self.name, "task": self.config.task, "champion": found["champion"],
            "level": found["findings"][0]["level"] if found["findings"] else "",
            "finding": found["findings"][0]["what"] if found["findings"] else "",
            "figure": found["figure"], "recent": (champion.get("recent") or {}).get(found["figure"]),
            "learnt": (champion.get("events") or {}).get("learnt"), "rate": found["source"]["rate"],
            "age": next((one["age_seconds"] for one in found["serving"] if one["snapshot"] is not None), None),
            "rollout": found["rollout"].get("state"),
        }  # fmt: skip

    def history(self, since: float, until: float, most: int) -> dict[str, Any]:
        """Each learner's figures over time, column by column; times in Unix seconds."""
        key = f"history {since:.0f} {until:.0f} {most}"
        return self._once(key, lambda lineage: columns(self._reader.rows(lineage, since, until, most)))

    def table(self, since: float, until: float) -> str:
        """The same as CSV, a line a snapshot and learner."""
        rows = self._once(f"csv {since} {until}", lambda lineage: self._reader.rows(lineage, since, until, 100_000))
        out = io.StringIO()
        figures = sorted({name for row in rows for one in row.learners.values() for name in one.recent})
        writer = csv.writer(out)
        writer.writerow(["snapshot", "created", "learner", "learnt", *figures, "served", "delayed"])
        main = main_figure(self.config.task)
        for row in rows:
            for name, one in row.learners.items():
                values = [one.recent.get(figure) for figure in figures]
                later = [one.served.get(main), one.delayed.get(main)]
                writer.writerow([row.snapshot, row.created, name, one.learnt, *values, *later])
        return out.getvalue()

    def marks(self, since: float, until: float) -> list[dict[str, Any]]:
        """What was decided between two times."""

        def look(lineage: Lineage) -> list[dict[str, Any]]:
            return [
                {"time": one.time, "what": one.action, "learner": one.learner, "why": one.why, "entry": one.seq,
                 "snapshot": one.snapshot, "by": one.by}
                for one in lineage.decisions if since <= one.time <= until
            ][-_MOST_MARKS:]  # fmt: skip

        return self._once(f"marks {since:.0f} {until:.0f}", look)

    def snapshots(self) -> list[dict[str, Any]]:
        """As ``holdfast snapshots list --json``."""
        return self._once("snapshots", states.listing)

    def snapshot(self, number: int) -> dict[str, Any] | None:
        """A snapshot: its counts, and for each learner figures and the verdict with its figures against limits."""

        def look(lineage: Lineage) -> dict[str, Any] | None:
            manifest = lineage.manifest(number)
            if manifest is None:
                return None
            learners = {}
            for name, part in manifest.learners.items():
                verdict = lineage.verdict(number, name)
                learners[name] = {
                    "kind": part.kind, "role": part.role, "line": part.line, "learnt": part.learnt,
                    "quarantined": part.quarantined, "reference": part.reference, "bytes": part.model.bytes,
                    "recent": part.figures.get("recent"), "metrics": part.figures.get("metrics"),
                    "verdict": msgspec.to_builtins(verdict) if verdict is not None else None,
                }  # fmt: skip
            return {
                "snapshot": number, "created": manifest.created, "newest_event": manifest.newest_event,
                "epoch": manifest.epoch, "place": manifest.place, "counts": msgspec.to_builtins(manifest.counts),
                "versions": manifest.versions, "learners": learners,
            }  # fmt: skip

        return self._once(f"snapshot {number}", look)

    def look(self, look: Callable[[Lineage], _Found]) -> _Found:
        """Ask the lineage, as it is now."""
        with self._lock:
            return look(self._lineage.refresh())

    def newest_entry(self) -> int:
        """The number of the newest entry of the ledger; 0 when there is none."""
        return self.look(lambda lineage: max((one.seq for one in lineage.ledger.entries()), default=0))

    def entries(self) -> list[dict[str, Any]]:
        """The ledger as it is now."""
        return self.look(lambda lineage: [msgspec.to_builtins(one) for one in lineage.ledger.entries()])

    def ledger(self) -> list[dict[str, Any]]:
        """Every decision, the newest first."""
        return self._once(
            "ledger", lambda lineage: [msgspec.to_builtins(one) for one in reversed(lineage.ledger.entries())][:5000]
        )

    def example(self) -> dict[str, Any]:
        """Features of the newest events that the newest snapshot knows, to begin a question from."""

        def look(lineage: Lineage) -> dict[str, Any]:
            newest = lineage.newest()
            rows = cut.read_shared(lineage.store, newest).rows if newest is not None else []
            return {"examples": [orjson.loads(row) for row in rows[-_EXAMPLES:]]}

        return self._once("example", look)

    def data(self) -> dict[str, Any]:
        """How the data moved, feature by feature; :func:`stream.console.data.data`."""
        return self._seldom("data", lambda: data(self.look(sides)))  # comparing takes long, and holds nobody up

    def weights(self) -> dict[str, Any]:
        """The most telling weights of the linear models, and what moved in them since their reference."""
        return self._seldom("weights", lambda: self.answers(b""))

    def _seldom(self, key: str, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Look, or give what was seen within the last seconds: what takes long, or loads models."""
        there = self._slow.get(key)
        if there is None or time.monotonic() - there[0] > _SELDOM_SECONDS:
            found = look()
            self._slow[key] = there = (time.monotonic(), found)
        return there[1]

    def answers(self, body: bytes) -> dict[str, Any]:
        """What every model says to one question; one question at a time, since each loads them.

        No question at all asks for weights (:mod:`stream.console.asking`).
        """
        command = interpreter.command("stream.console.asking", self.path)
        with self._asking:
            try:
                done = subprocess.run(  # noqa: S603  our own interpreter and module
                    command, input=body, capture_output=True, timeout=_ASK_SECONDS, check=False,
                    env=interpreter.environment(os.environ), cwd=self.path.parent,
                )  # fmt: skip
                return orjson.loads(done.stdout)  # type: ignore[no-any-return]
            except (subprocess.TimeoutExpired, orjson.JSONDecodeError):
                return {"detail": f"the models did not answer within {_ASK_SECONDS:.0f} s, or their process died"}

    def letters(self) -> dict[str, Any]:
        """Dead letters by reason, each with its newest example; empty while their place cannot be read."""
        from stream.dead_letters.reader import examples_of  # noqa: PLC0415  only where somebody looks

        return self._once("letters", lambda lineage: examples_of(self.config, lineage.store))


def columns(rows: list[Row]) -> dict[str, Any]:
    """Rows as columns: what a picture wants. A learner that was not there yet has nulls."""
    names = sorted({name for row in rows for name in row.learners})
    found: dict[str, Any] = {
        "times": [row.created for row in rows],
        "snapshots": [row.snapshot for row in rows],
        "freshness": [max(0.0, row.created - row.newest_event) if row.newest_event else None for row in rows],
        "consumed": [row.counts.get("consumed", 0) for row in rows],
        "pending": [row.counts.get("pending", 0) for row in rows],
        "dead_lettered": [row.counts.get("dead_lettered", 0) for row in rows],
        "delay": [row.delays.get("p50") for row in rows],
        "learners": {},
    }
    for name in names:
        parts = [row.learners.get(name) for row in rows]
        found["learners"][name] = {
            "recent": _table(parts, "recent"), "served": _table(parts, "served"), "delayed": _table(parts, "delayed"),
            "loss": [one.loss if one is not None else None for one in parts],
            "baseline": [one.baseline or None if one is not None else None for one in parts],
            "slices": _table(parts, "slices"), "verdicts": [one.verdict if one is not None else "" for one in parts],
        }  # fmt: skip
    return found


def _table(parts: list[LearnerRow | None], which: str) -> dict[str, list[float | None]]:
    each: list[dict[str, float]] = [getattr(one, which) if one is not None else {} for one in parts]
    return {name: [one.get(name) for one in each] for name in sorted({name for one in each for name in one})}
