"""What can be done to a stream, for drills and the demo: events changed on their way, and a source of payments."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from stream.errors import CommandError
from stream.refusal import Refusal
from stream.settings import Config
from stream.sink.intake import Intake
from stream.tables.payments import payment

_TICK_SECONDS = 0.05
Event = dict[str, Any]
Change = Callable[[Event], Event | None]
#: a guard that sees within seconds what it would take minutes for at its defaults: few rows, looks close together
SETTINGS = {
    "HOLDFAST_HOLDOUT__RATE": "0.15",
    "HOLDFAST_HOLDOUT__ROWS": "600",
    "HOLDFAST_HOLDOUT__MIN_SLICE_ROWS": "60",
    "HOLDFAST_SNAPSHOTS__EVERY_SECONDS": "0.2",
    "HOLDFAST_GUARD__LOOK_EVENTS": "50",
    "HOLDFAST_GUARD__REFERENCE_EVENTS": "10000",
    "HOLDFAST_GUARD__SAMPLE": "0.5",
    "HOLDFAST_GUARD__WAIT_EVENTS": "1000",
    "HOLDFAST_GUARD__HOLD_EVENTS": "4000",
    "HOLDFAST_GUARD__HOLD_SECONDS": "2.0",
    # the payments come with their labels
    "HOLDFAST_PREDICTIONS__DIRECTORY": '""',
    "HOLDFAST_LABELS__DIRECTORY": '""',
}


class Changes:
    """Changes of events that look like ``samples``: what is flipped, left out or blown up is chosen from those.

    ``name`` of :data:`CATASTROPHES` gives the change; :meth:`words` says what it does.
    """

    def __init__(self, config: Config, samples: Sequence[Event]) -> None:
        self._paths, self._task = config.event, config.task
        labels = Counter(orjson.dumps(label) for one in samples if (label := at(one, self._paths.label)) is not None)
        self._labels = [orjson.loads(label) for label, _ in labels.most_common()]
        if len(self._labels) < 2:
            raise CommandError("the newest events have fewer than two labels, so there is nothing to confuse")
        self._slice = config.event.slices[0] if config.event.slices else ""
        values = Counter(self._value(one) for one in samples)
        self._value_most = values.most_common(1)[0][0]
        #: the slice that some of the changes are about
        self.where = f"{self._slice}={self._value_most}"

    def change(self, name: str) -> Change:
        """The change of a catastrophe; raises :class:`CommandError` where the stream has no slice for it."""
        if name in ("slice", "forget", "shift") and not self._slice:
            raise CommandError(f"drill {name} needs a slice: set event.slices, say to a country or a device")
        changes: dict[str, Change] = {
            "poison": self.flipped,
            "slice": lambda event: self.flipped(event) if self._hit(event) else event,
            "forget": lambda event: self._labelled(event, self._labels[-1]) if self._hit(event) else None,
            "shift": lambda event: None if self._hit(event) else event,
            "diverge": self._diverged,
        }
        return changes[name]

    def words(self, name: str) -> str:
        """What a catastrophe does to these events."""
        return {
            "poison": "every label is another one from now on",
            "slice": f"the labels of {self.where} are others from now on",
            "forget": f"only {self.where} is left, and all of it is labelled {self._labels[-1]}",
            "shift": f"{self.where} comes no more; the rest is as it was",
            "diverge": "every number a million times too large, labels without meaning",
        }[name]

    def flipped(self, event: Event) -> Event | None:
        """Say another label: the next class, or for a number as far from the other end."""
        label = at(event, self._paths.label)
        if self._task == "regression":
            known = [float(one) for one in self._labels]
            return self._labelled(event, min(known) + max(known) - float(label))
        known = self._labels
        return self._labelled(event, known[(known.index(label) + 1) % len(known)] if label in known else known[0])

    def _labelled(self, event: Event, label: Any) -> Event:
        return put(event, self._paths.label, label)

    def _features(self, event: Event) -> Event:
        found = event if self._paths.features == "." else at(event, self._paths.features)
        return found if isinstance(found, dict) else {}

    def _value(self, event: Event) -> Any:
        return at(self._features(event), self._slice) if self._slice else None

    def _hit(self, event: Event) -> bool:
        return bool(self._value(event) == self._value_most)

    def _diverged(self, event: Event) -> Event | None:
        fields = {self._paths.id, self._paths.time, self._paths.label, self._paths.weight}
        left = fields if self._paths.features == "." else set()
        large = {
            name: value * 1e6 if isinstance(value, (int, float)) and not isinstance(value, bool) else value
            for name, value in self._features(event).items()
            if name not in left
        }
        draw = random.Random(str(at(event, self._paths.id)))
        event = self._labelled(event, draw.choice(self._labels))
        return {**event, **large} if self._paths.features == "." else put(event, self._paths.features, large)


def at(event: Event, path: str) -> Any:
    """The value at a dotted path; None when there is none."""
    found: Any = event
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def put(event: Event, path: str, value: Any) -> Event:
    """A copy of an event with another value at a dotted path."""
    name, _, rest = path.partition(".")
    return {**event, name: put(event.get(name) or {}, rest, value) if rest else value}


#: what can be done to events; see :meth:`Changes.words`
CATASTROPHES = ("poison", "forget", "shift", "slice", "diverge")


class Paced(threading.Thread):
    """Sends events at a rate a second until told to end; none while ``paused``. ``written`` counts.

    ``change`` is applied to each, and one that it gives None for is left out. ``failed`` says why the first of those
    that were not taken was not.
    """

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(name=name, daemon=True)
        self.change: Change | None = None
        self.paused = threading.Event()
        self.written = 0
        self.failed = ""
        self._rate = rate
        self._ended = threading.Event()

    def run(self) -> None:
        """Send until told to end; what a tick owes is sent at once."""
        last, owed = time.monotonic(), 0.0
        while not self._ended.wait(_TICK_SECONDS):
            now = time.monotonic()
            owed, last = (0.0 if self.paused.is_set() else owed + (now - last) * self._rate), now
            due, owed = int(owed), owed % 1
            made = self._made(due)
            changed = [self.change(event) if self.change else event for event in made]
            self._send([event for event in changed if event is not None])

    def _made(self, count: int) -> list[Event]:
        raise NotImplementedError

    def _send(self, events: list[Event]) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Stop sending."""
        self._ended.set()
        self.join(2)


class Copies(Paced):
    """Changed copies of a deployment's newest events, sent into its source under ids of their own.

    Nothing is sent while there is no ``change``.
    """

    def __init__(self, config: Config, samples: Sequence[Event], intake: Intake, rate: float) -> None:
        super().__init__("copies", rate)
        self._id, self._samples, self._intake = config.event.id, samples, intake
        self._run = f"drill-{time.time():.0f}"
        self._number = 0

    def _made(self, count: int) -> list[Event]:
        numbers = range(self._number, self._number + count) if self.change else ()
        self._number += len(numbers)
        return [put(self._samples[n % len(self._samples)], self._id, f"{self._run}-{n}") for n in numbers]

    def _send(self, events: list[Event]) -> None:
        for event in events:
            taken = self._intake.take(orjson.dumps(event))
            if isinstance(taken, Refusal):
                self.failed = self.failed or f"{taken.reason}: {taken.message}"
            else:
                self.written += 1

    def end(self) -> None:
        """Stop sending, once what was sent is where the trainer reads."""
        super().end()
        self._intake.close()


class Payments(Paced):
    """Payments appended to a file of their own, beginning after those of earlier runs."""

    def __init__(self, folder: Path, rate: float) -> None:
        super().__init__("payments", rate)
        folder.mkdir(parents=True, exist_ok=True)
        runs = sorted(folder.glob("payments-*.jsonl"))
        self.path = folder / f"payments-{len(runs):05d}.jsonl"
        self._number = _after_last(runs[-1]) if runs else 0

    def _made(self, count: int) -> list[Event]:
        first = self._number
        self._number += count
        return [payment(number, time.time(), drifting=False) for number in range(first, first + count)]

    def _send(self, events: list[Event]) -> None:
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(b"".join(orjson.dumps(event) + b"\n" for event in events))
        except OSError as cause:
            self.failed = str(cause)
            self._ended.set()
        else:
            self.written += len(events)


def _after_last(path: Path) -> int:
    """The number after the last whole payment in a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().rpartition(b"\n")[0].splitlines()
    for line in reversed(lines):
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, ValueError):
            return int(orjson.loads(line)["id"][1:]) + 1
    return int(path.stem.rsplit("-", 1)[1]) * 10_000_000
