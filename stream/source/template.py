"""Events that all look alike, read many at once: what is the same in each is compared, what varies is read.

Only where numba is (extra ``fast``); without it, and for every event that looks otherwise, the codec reads.
"""

import math
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from learners.event import Features
from learners.labels import FLOAT32_MAX

AVAILABLE = find_spec("numba") is not None
_TOKEN = re.compile(rb'[ \t\r\n]*([{}\[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+)')
_IDENTITY, _LABEL, _TIME, _WEIGHT, _TEXT, _TRUTH = range(1, 7)
_MOST_SLOTS = 1000


class Read(NamedTuple):
    """What a template reads of one event; what is ``None`` stands nowhere in the template."""

    identity: str
    features: Features
    label: bytes | None
    time: float | str | None
    weight: float | None


class Template:
    """How the bytes of an event lie: literals, and slots of some kind between them.

    ``fields`` maps the paths of the envelope to what they are: ``id``, ``label``, ``time``, ``weight``, ``features``.
    Raises ``ValueError`` for events that no template describes. :class:`Features` that are all numbers carry them as
    a row of float64, with the dotted names of the row's columns.
    """

    def __init__(self, sample: bytes, fields: Mapping[str, str]) -> None:
        from stream.source import scan  # noqa: PLC0415  only where numba is

        self._scan = scan
        self._literals: list[bytes] = [b""]
        self._kinds: list[int] = []
        self._names: list[str] = []
        self._features = (0, 0, 0, 0)
        self._walk(sample, fields)
        if not self._kinds or len(self._kinds) > _MOST_SLOTS or _IDENTITY not in self._kinds or not self._names:
            raise ValueError("no template describes this event")
        self._bytes = np.frombuffer(bytearray(b"".join(self._literals)), np.uint8)
        self._ends = np.cumsum([len(one) for one in self._literals])
        self._numbers = all(kind not in (_TEXT, _TRUTH) for kind in self._kinds)
        self.names = tuple(self._names)
        self.key = (tuple(self._literals), tuple(self._kinds))

    def _walk(self, sample: bytes, fields: Mapping[str, str]) -> None:
        """Cut the sample into literals and slots."""
        at, depth, path, named = 0, 0, list[bytes](), False
        begun = -1
        while at < len(sample):
            found = _TOKEN.match(sample, at)
            if found is None:
                raise ValueError("not JSON")
            token, literal = found[1], sample[at : found.end()]
            at = found.end()
            what = fields.get(path[0].decode()) if path else None
            if token == b"{" and not (depth and what != "features"):
                self._literals[-1] += literal
                depth += 1
                if what == "features" and begun < 0:
                    begun, self._features = depth, (len(self._kinds), len(self._literals[-1]) - 1, 0, 0)
                path.append(b"")
                named = False
            elif token == b"}":
                self._literals[-1] += literal
                if depth == begun:
                    self._features = (*self._features[:2], len(self._kinds), len(self._literals[-1]))
                depth -= 1
                path.pop()
            elif token in (b",", b":"):
                self._literals[-1] += literal
                named = token == b":"
            elif not named and token[:1] == b'"' and depth:
                self._literals[-1] += literal
                path[depth - 1] = token[1:-1]
            else:
                self._slot(token, literal, fields.get(path[0].decode(), ""), path, depth)

    def _slot(self, token: bytes, literal: bytes, what: str, path: list[bytes], depth: int) -> None:
        """A value of the sample: which kind of slot stands here."""
        said, truth = token[:1] == b'"', token in (b"true", b"false")
        if token in (b"null", b"[", b"]") or (depth > 1) != (what == "features"):
            raise ValueError("no template describes this event")
        if what == "features":
            kind = _TEXT if said else _TRUTH if truth else 0
            self._names.append(b".".join(path[1:depth]).decode())
        else:
            kind = {"id": _IDENTITY, "label": _LABEL, "time": _TIME, "weight": _WEIGHT}.get(what, -1)
            if kind < 0 or kind in self._kinds:
                raise ValueError("no template describes this event")
        self._literals[-1] += literal[: len(literal) - len(token)]
        self._kinds.append(kind)
        self._literals.append(b"")

    def suits(self, types: Mapping[str, str]) -> bool:
        """Tell whether the slots are of the types that ``[event.types]`` wants."""
        kinds = [kind for kind in self._kinds if kind in (0, _TEXT, _TRUTH)]
        wanted = {"number": 0, "text": _TEXT, "bool": _TRUTH}
        return all(
            name not in types or wanted[types[name]] == kind for name, kind in zip(self.names, kinds, strict=True)
        )

    def read(self, values: Sequence[bytes]) -> list[Read | None]:
        """Read each event, None where it looks otherwise."""
        count, slots, scan = len(values), len(self._kinds), self._scan
        data = np.frombuffer(bytearray(b"".join(values)) or bytearray(1), np.uint8)
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(np.fromiter(map(len, values), np.int64, count), out=offsets[1:])
        rows = np.empty((count, self._kinds.count(0)))
        spans, figures = np.full((count, 5, 2), -1), np.full((count, 5), math.nan)
        places, good = np.zeros((count, slots + 1), np.int64), np.zeros(count, np.bool_)
        scan.events(
            data, offsets, self._bytes, self._ends, np.array(self._kinds, np.int8), FLOAT32_MAX, scan.POWERS, scan.TENS,
            rows, spans, figures, places, good,
        )  # fmt: skip
        first, ahead, last, behind = self._features
        begins, ends = (places[:, first] + ahead).tolist(), (places[:, last] + behind).tolist()
        packed, size = rows.tobytes(), rows.shape[1] * 8
        names = self.names if self._numbers else None
        found: list[Read | None] = []
        columns = zip(values, good.tolist(), begins, ends, spans.tolist(), figures.tolist(), strict=True)
        for index, (value, right, begin, end, span, figure) in enumerate(columns):
            if not right:
                found.append(None)
                continue
            row = packed[index * size : (index + 1) * size] if names is not None else None
            features = Features(value[begin:end], None, None, names, row)
            found.append(self._one(value, features, span, figure))
        return found

    def _one(self, value: bytes, features: Features, span: Any, figure: Any) -> Read | None:
        begin, end = span[_IDENTITY]
        identity = value[begin:end]
        if identity[:1] == b'"':
            identity = identity[1:-1]
        elif not identity.isdigit() or (identity[:1] == b"0" and len(identity) > 1):
            return None  # a number that is no plain whole one
        if not identity:
            return None
        begin, end = span[_LABEL]
        label = value[begin:end] if begin >= 0 else None
        begin, end = span[_TIME]
        time: float | str | None = None
        if begin >= 0:
            time = value[begin + 1 : end - 1].decode() if math.isnan(figure[_TIME]) else figure[_TIME]
        begin, end = span[_WEIGHT]
        weight = figure[_WEIGHT] if begin >= 0 else None
        if weight is not None and math.isnan(weight):
            return None
        return Read(identity.decode(), features, label, time, weight)
