"""Events that all look alike, read many at once: what is the same in each is compared, what varies is read.

Only where numba is (extra ``fast``); without it, and for every event that looks otherwise, the codec reads.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from learners.event import Features
from learners.labels import FLOAT32_MAX

AVAILABLE = find_spec("numba") is not None
_TOKEN = re.compile(rb'[ \t\r\n]*([{}\[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+)')
_IDENTITY, _LABEL, _TIME, _WEIGHT, _TEXT, _TRUTH = range(1, 7)
_MOST_SLOTS = 1000
#: of a feature in a namespace; what lies deeper is the codec's to flatten, or to refuse
_DEEPEST = 3


class Columns(NamedTuple):
    """What a template reads of many events, a value for each: what stands nowhere in the template is None.

    ``good``: the event looks as the template says. Ids that are none of the usual ones are empty.
    """

    good: Sequence[bool]
    identities: Sequence[str]
    features: Sequence[Features]
    labels: Iterable[bytes | None]
    times: Sequence[float | str] | None
    weights: Sequence[float] | None


class Template:
    """How the bytes of an event lie: literals, and slots of some kind between them.

    ``fields`` maps the paths of the envelope to what they are: ``id``, ``label``, ``time``, ``weight``, ``features``.
    Raises ``ValueError`` for events that no template describes. :class:`Features` that are all numbers carry them as
    a row of float64, with the dotted names of the row's columns.
    """

    def __init__(self, sample: bytes, fields: Mapping[str, str]) -> None:
        from stream.source.alike import scan  # noqa: PLC0415  only where numba is

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
                if b"\\" in token:
                    raise ValueError("a name that is written with escapes is the codec's to read")
                self._literals[-1] += literal
                path[depth - 1] = token[1:-1]
            else:
                self._slot(token, literal, fields.get(path[0].decode(), ""), path, depth)

    def _slot(self, token: bytes, literal: bytes, what: str, path: list[bytes], depth: int) -> None:
        """A value of the sample: which kind of slot stands here."""
        said, truth = token[:1] == b'"', token in (b"true", b"false")
        if token in (b"null", b"[", b"]") or (depth > 1) != (what == "features") or depth > _DEEPEST:
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

    def read(self, values: Sequence[bytes]) -> Columns:
        """Read each event."""
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
        size, packed = rows.shape[1] * 8, rows.tobytes()
        names = self.names if self._numbers else None
        rows_of: Iterable[bytes | None] = (
            repeat(None, count) if names is None else [packed[at : at + size] for at in range(0, count * size, size)]
        )
        features = [
            Features(value[begin:end], None, None, names, row)
            for value, begin, end, row in zip(values, begins, ends, rows_of, strict=True)
        ]
        return Columns(
            good.tolist(),
            [_identity(one) for one in _cut(values, spans, _IDENTITY)],
            features,
            _cut(values, spans, _LABEL) if _LABEL in self._kinds else repeat(None, count),
            self._times(values, spans, figures) if _TIME in self._kinds else None,
            figures[:, _WEIGHT].tolist() if _WEIGHT in self._kinds else None,
        )

    def _times(self, values: Sequence[bytes], spans: Any, figures: Any) -> list[float | str]:
        return [
            written[1:-1].decode("ascii", "replace") if math.isnan(number) else number
            for written, number in zip(_cut(values, spans, _TIME), figures[:, _TIME].tolist(), strict=True)
        ]


def _cut(values: Sequence[bytes], spans: Any, kind: int) -> list[bytes]:
    """What stands in a slot of the envelope, as it is written."""
    begins, ends = spans[:, kind, 0].tolist(), spans[:, kind, 1].tolist()
    return [value[begin:end] for value, begin, end in zip(values, begins, ends, strict=True)]


def _identity(written: bytes) -> str:
    if written[:1] == b'"':
        return written[1:-1].decode("ascii", "replace")
    plain = written.isdigit() and (written[:1] != b"0" or written == b"0")
    return written.decode() if plain else ""  # of other numbers the codec knows what they are
