"""Bytes to event. Decoded once; the same checks for what is learnt and for what is asked (promise 10).

The fast way lets msgspec do the checking in C: the envelope into a struct made for the configured fields, the features
into a dict. Whether a name came twice is decided by counting colons: as many as names means that none did. Whatever is
unusual (a field that is not configured, a dotted path, a colon inside a text) takes the general way, and only what may
be wrong the slow one (``diagnosis``), which looks at every name and finds the reason.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from learners.event import Event, Features
from learners.labels import FLOAT32_MAX, Labels, UnknownLabelError
from stream.record import Record
from stream.refusal import Reason, Refusal, RefusedEventError
from stream.settings import EventPaths
from stream.source import diagnosis
from stream.source.flattening import flattened

_Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
_Scalar = _Number | str | bool | None
_features = msgspec.json.Decoder(dict[str, _Scalar | dict[str, _Scalar]])
_fields = msgspec.json.Decoder(dict[str, Raw])
_scalar = msgspec.json.Decoder(int | float | str | bool | None)
_identifier = msgspec.json.Decoder(str | int)
_number = msgspec.json.Decoder(float)
_NO_FEATURES = Features(b"{}")
_LAST_SECOND = 253_402_300_800.0
_MILLISECONDS_FROM = 1e11
#: how many names, and how long ones, a decoder is made for
_MOST_NAMES, _LONGEST_NAME = 1000, 200
#: how many times a decoder is made for the names that the events have just now; a stream of many shapes soon stops
_LAYOUTS = 32


class GivenLabel(Event, gc=False):
    """A label that comes by itself, with the reward of the answer; without ``labelled`` there is a reward only."""

    reward: float | None = None
    labelled: bool = True


class Rewards(msgspec.Struct, frozen=True):
    """Where labels hold the reward of the answer, and between which values it is."""

    path: str
    low: float
    high: float


class Codec:
    """Decodes records into events by the paths of ``[event]``; ``labels`` may grow with what it sees (multi-class).

    ``usual``: the fields of the envelope lie at its top, and nobody else decodes.

    ``rewards``: labels that come by themselves may have a reward, or be one only.
    """

    def __init__(
        self,
        paths: EventPaths,
        labels: Labels,
        weight: str = "w",
        decoder: Callable[[bytes], Any] | None = None,
        rewards: Rewards | None = None,
    ) -> None:
        self.paths, self._rewards = paths, rewards
        self.labels = labels
        self.weight = weight
        self._decoder = decoder
        self._flat = paths.features == "."
        fields = (paths.id, paths.time, paths.label, weight)
        self._left_out = {*fields, *(path.split(".")[0] for path in fields), *paths.exclude}
        self._types = paths.types
        self._layout: Callable[[bytes], Any] | None = None
        self._layout_names: tuple[str, ...] = ()
        self._seen_names: tuple[str, ...] = ()
        self._layouts_left = 0 if paths.types or paths.slices else _LAYOUTS  # whoever looks at values decodes anyway
        usual = decoder is None and not self._flat and not any("." in path for path in (*fields, paths.features))
        named = [path for path in (*fields, paths.features) if path]
        usual = usual and _are_plain(named) and len(set(named)) == len(named)
        self._envelope: Callable[[bytes], Any] = _envelope_of(paths, weight) if usual else _unusual
        self._when: Callable[[bytes], Any] = _when_of(paths.time)
        self.usual = usual
        self._alone: Callable[[bytes], Any] = _envelope_of(paths, weight, features=False) if usual else _unusual

    @property
    def most_bytes(self) -> int:
        """How long an event may be."""
        return self.paths.max_bytes

    def decode(self, record: Record) -> Event | Refusal:
        """Return the event, or why it is refused. Never raises for what a producer sent.

        What the join made of a record is taken as it is.
        """
        if record.joined is not None and (made := record.joined.refusal or record.joined.event) is not None:
            return made
        try:
            return self._usual(record) or self._decode(record)
        except RefusedEventError as refused:
            return refused.refusal

    def _usual(self, record: Record) -> Event | None:  # noqa: C901, PLR0911  one way out for each thing that is not usual
        """Return the event when it is of the usual shape and nothing can be wrong with it; None otherwise."""
        value = record.value
        if value is None or len(value) > self.paths.max_bytes:
            return None
        try:
            found = self._envelope(value)
            raw = bytes(found.features)
            features, names, nested = self._usual_features(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        label, weight = found.label, found.weight
        names += 2 + (label is not UNSET) + (weight is not UNSET) + (found.time is not UNSET)
        if value.count(b":") != names or b"\\" in raw or (b"_" in raw and b'"_' in raw):
            return None
        if nested and _dotted_twice(features):
            return None
        if weight is UNSET or weight is None:
            weight = 1.0
        elif not 0 <= weight <= FLOAT32_MAX:
            return None
        try:
            time = self.usual_time(found.time, record.time)
            if self._types:
                self._check_types(features, "")
            if label is UNSET:
                label = None
            elif label is not None:
                label = self.labels.label_of(label)
        except (ValueError, OverflowError):  # among them what is refused, with its reason, by the general way
            return None
        identity = found.id
        return Event(identity if type(identity) is str else str(identity), features, label, weight, time)

    def _usual_features(self, raw: bytes) -> tuple[Features, int, bool]:
        """Return the features, how many names they have, and whether some are nested.

        A stream whose events all name the same features gets a decoder made for them, in half the time.
        """
        if self._layout is not None:
            try:
                self._layout(raw)
                return Features(raw), len(self._layout_names), False
            except msgspec.ValidationError:
                pass  # other names or types than usual
        values = _features.decode(raw)
        features = Features(raw, values)
        if raw.find(b"{", 1) > 0:
            return features, _names(features), True
        if self._layouts_left:
            self._learn_layout(tuple(values))
        return features, len(values), False

    def _learn_layout(self, names: tuple[str, ...]) -> None:
        """Make a decoder for these names when the event before had the same."""
        if names == self._seen_names and names != self._layout_names and _are_plain(names):
            self._layouts_left -= 1
            self._layout, self._layout_names = _layout_of(names), names
        self._seen_names = names

    def usual_time(self, time: Any, recorded: float | None) -> float:
        """The time of an event in Unix seconds; ``ValueError`` for one that is not usual."""
        if time is UNSET or time is None:
            return recorded or 0.0
        if type(time) is not float or self.paths.time_format not in ("auto", "s"):
            time = _seconds(time, self.paths.time_format)
        elif time >= _MILLISECONDS_FROM and self.paths.time_format == "auto":
            time /= 1000
        if not 0 <= time < _LAST_SECOND or (recorded is not None and time > recorded + self.paths.max_ahead_seconds):
            raise ValueError
        return time  # type: ignore[no-any-return]

    def question(self, body: bytes) -> tuple[str | int | None, Features] | Refusal:
        """Return id (None when absent) and features of a request ``{"id"?, "x"}``, checked as an event's are."""
        try:
            fields = self._object(body, "")
            raw, raw_id = fields.get("x"), fields.get("id")
            if raw is None or bytes(raw) == b"null":
                raise RefusedEventError(Reason.NO_FEATURES, "x", "there is no x")  # noqa: TRY301  one way out
            identity = None if raw_id is None or bytes(raw_id) in (b"null", b'""') else _asked_id(bytes(raw_id))
            features = self._checked(bytes(raw), "x")
            if len(fields) > 2 or body.count(b'"id"') > 1 or body.count(b'"x"') > 1:
                diagnosis.names(body, EventPaths())
        except RefusedEventError as refused:
            return refused.refusal
        return identity, features

    def encode(self, event: Event) -> bytes:
        """An event as producers would have sent it whole, for this codec to decode again; not for its ``decoder``."""
        paths, whole = self.paths, dict[str, Any]()
        if self._flat:
            whole |= _fields.decode(event.features.raw)
        else:
            _put(whole, paths.features, Raw(event.features.raw))
        _put(whole, paths.id, event.id)
        if event.time and paths.time:
            _put(whole, paths.time, written_time(event.time, paths.time_format))
        if event.label is not None and paths.label:
            _put(whole, paths.label, self.labels.value_of(event.label))
        if event.weight != 1.0 and self.weight:
            _put(whole, self.weight, event.weight)
        return msgspec.json.encode(whole)

    def label_of(self, record: Record) -> Event | Refusal:
        """Return id, label, weight and time of a label that comes by itself; a label of null withdraws the event."""
        try:
            return self._usual_label(record) or self._label_alone(record)
        except RefusedEventError as refused:
            return refused.refusal

    def _usual_label(self, record: Record) -> Event | None:
        """Return the label when it has the configured fields only and nothing can be wrong with it; None otherwise."""
        value = record.value
        if value is None or len(value) > self.paths.max_bytes:
            return None
        try:
            found = self._alone(value)
            label, weight = found.label, found.weight
            if label is UNSET:
                return None
            if weight is UNSET or weight is None:
                weight = 1.0
            elif not 0 <= weight <= FLOAT32_MAX:
                return None
            time = self.usual_time(found.time, record.time)
            if label is not None:
                label = self.labels.label_of(label)
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):  # the general way finds the reason
            return None
        return Event(str(found.id), _NO_FEATURES, label, weight, time)

    def _label_alone(self, record: Record) -> Event:
        paths, fields = self.paths, self._object(self._bounded(record), "")
        label, reward = self._at(fields, paths.label), self._reward_of(fields)
        if label is None and reward is None:
            raise RefusedEventError(Reason.UNKNOWN_LABEL, paths.label, f"there is no {paths.label}")
        return GivenLabel(
            _identity_of(self._at(fields, paths.id), paths.id),
            _NO_FEATURES,
            self._label(label),
            _weight_of(self._at(fields, self.weight), self.weight),
            _time_of(self._at(fields, paths.time), record.time, paths),
            reward,
            label is not None,
        )

    def _reward_of(self, fields: dict[str, Raw]) -> float | None:
        """The reward of a label; None where there is none, or rewards are not asked for."""
        if self._rewards is None or (raw := self._at(fields, self._rewards.path)) in (None, b"null"):
            return None
        low, high = self._rewards.low, self._rewards.high
        try:
            found = _number.decode(raw)
        except msgspec.DecodeError:
            found = math.nan
        if not low <= found <= high:
            raise RefusedEventError(
                Reason.BAD_REWARD, self._rewards.path, f"it is no number from {low:g} to {high:g} (routing.rewards)"
            )
        return float(found)

    def features_of(self, raw: bytes) -> Features | Refusal:
        """Return features by themselves, checked as an event's are."""
        try:
            return self._checked(raw, self.paths.features)
        except RefusedEventError as refused:
            return refused.refusal

    def time_of(self, record: Record) -> float | None:
        """The time that a record says of itself, in Unix seconds, or that it was written at; None without either."""
        if self._decoder is None and record.value is not None and len(record.value) <= self.paths.max_bytes:
            try:
                return self.usual_time(self._when(record.value).time, record.time) or None
            except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
                pass  # the general way knows whether it has one
            try:
                raw = self._at(_fields.decode(record.value), self.paths.time)
                return _time_of(raw, record.time, self.paths) or None
            except (RefusedEventError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
        return record.time

    def _bounded(self, record: Record) -> bytes:
        """The bytes of a record, unless there are none or too many."""
        value = record.value
        if value is None:
            raise RefusedEventError(Reason.TOMBSTONE, "", "the record has no value")
        if len(value) > self.paths.max_bytes:
            raise RefusedEventError(
                Reason.TOO_LARGE, "", f"{len(value)} bytes are more than event.max_bytes = {self.paths.max_bytes}"
            )
        return value

    def _decode(self, record: Record) -> Event:
        value = self._bounded(record)
        if self._decoder is not None:
            value = self._foreign(value)
        paths, fields = self.paths, self._object(value, "")
        raw_id, raw_time = self._at(fields, paths.id), self._at(fields, paths.time)
        identity = _identity_of(raw_id, paths.id)
        features, names = self._features_of(fields)
        colons = (raw_id or b"").count(b":") + (raw_time or b"").count(b":")
        if value.count(b":") != len(fields) + names + colons:
            diagnosis.names(value, paths)
        return Event(
            id=identity,
            features=features,
            label=self._label(self._at(fields, paths.label)),
            weight=_weight_of(self._at(fields, self.weight), self.weight),
            time=_time_of(raw_time, record.time, paths),
        )

    def _foreign(self, value: bytes) -> bytes:
        """Let the configured decoder make an event of the bytes."""
        try:
            made = self._decoder(value) if self._decoder else value
            return made if isinstance(made, bytes) else diagnosis.dumps(made)
        except Exception as cause:
            raise RefusedEventError(
                Reason.UNDECODABLE, "", f"the decoder raised {type(cause).__name__}: {cause}"
            ) from None

    def _object(self, value: bytes, field: str) -> dict[str, Raw]:
        try:
            return _fields.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            diagnosis.syntax(value, field, self.paths, self.weight)
            raise RefusedEventError(Reason.NOT_JSON, field, "the value is not JSON in UTF-8") from None

    def _at(self, fields: dict[str, Raw], path: str) -> bytes | None:
        """Return the bytes at a dotted path, None when absent."""
        if not path:
            return None
        found = fields.get(path)
        if found is None and "." in path:
            head, _, rest = path.partition(".")
            inner = fields.get(head)
            if inner is not None and bytes(inner).lstrip()[:1] == b"{":
                return self._at(self._object(bytes(inner), head), rest)
        return None if found is None else bytes(found)

    def _features_of(self, fields: dict[str, Raw]) -> tuple[Features, int]:
        """Return the features, and how many names they add to those of the envelope."""
        if not self._flat:
            raw = self._at(fields, self.paths.features)
            if raw is None or raw == b"null":
                raise RefusedEventError(Reason.NO_FEATURES, self.paths.features, f"there is no {self.paths.features}")
            features = self._checked(raw, self.paths.features)
            return features, _names(features)
        kept = {name: value for name, value in fields.items() if name not in self._left_out}
        features = self._checked(msgspec.json.encode(kept), "")
        return features, _names(features) - len(kept)

    def _checked(self, raw: bytes, field: str) -> Features:
        try:
            features = Features(raw, _features.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if not self.paths.flatten:
                raise diagnosis.features(raw, field) from None
            features = self._flattened(raw, field)
            raw = features.raw
        # Every name has its colon, so as many names as colons means that none came twice.
        if b'"_' in raw or b"\\" in raw or raw.count(b":") != _names(features) or _dotted_twice(features):
            diagnosis.feature_names(raw, field)
        if self._types:
            self._check_types(features, field)
        return features

    def _flattened(self, raw: bytes, field: str) -> Features:
        """The features without lists and deeper nesting."""
        try:
            flat = flattened(raw, field)
        except RecursionError:
            raise diagnosis.features(raw, field) from None
        try:
            return Features(flat, _features.decode(flat))
        except msgspec.DecodeError:
            raise diagnosis.features(flat, field) from None

    def _check_types(self, features: Features, field: str) -> None:
        wanted = {"number": float, "text": str, "bool": bool}
        for name, value in features.flat().items():
            kind = self._types.get(name)
            if kind is not None and type(value) is not wanted[kind]:
                raise RefusedEventError(
                    Reason.WRONG_TYPE, f"{field}.{name}".lstrip("."), f"event.types wants a {kind}, not {value!r}"
                )

    def _label(self, raw: bytes | None) -> Any:
        if raw is None or raw == b"null":
            return None
        try:
            return self.labels.label_of(_scalar.decode(raw))
        except OverflowError as cause:
            raise RefusedEventError(Reason.BAD_NUMBER, self.paths.label, str(cause)) from None
        except (UnknownLabelError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
            raise RefusedEventError(Reason.UNKNOWN_LABEL, self.paths.label, f"unknown label: {cause}") from None


def _put(whole: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a dotted path."""
    *folders, name = path.split(".")
    for folder in folders:
        whole = whole.setdefault(folder, {})
    whole[name] = value


def written_time(seconds: float, form: str) -> float | str:
    """A time as ``event.time_format`` wants it."""
    return (
        datetime.fromtimestamp(seconds, UTC).isoformat() if form == "iso" else seconds * (1000 if form == "ms" else 1)
    )


def _identity_of(raw: bytes | None, path: str) -> str:
    if raw is None or raw in (b"null", b'""'):
        raise RefusedEventError(Reason.NO_ID, path, "there is no id")
    try:
        return str(_identifier.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedEventError(Reason.WRONG_TYPE, path, "an id is text or a whole number") from None


def _weight_of(raw: bytes | None, path: str) -> float:
    if raw is None or raw == b"null":
        return 1.0
    try:
        weight = _number.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedEventError(Reason.BAD_WEIGHT, path, "a weight is a finite number of at least 0") from None
    if not 0 <= weight <= FLOAT32_MAX:
        raise RefusedEventError(Reason.BAD_WEIGHT, path, f"{weight!r} is below 0 or outside float32")
    return weight


def _time_of(raw: bytes | None, recorded: float | None, paths: EventPaths) -> float:
    if raw is None or raw == b"null":
        return recorded or 0.0
    try:
        seconds = _seconds(_scalar.decode(raw), paths.time_format)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError, RecursionError) as cause:
        raise RefusedEventError(Reason.BAD_TIME, paths.time, f"not a time: {cause}") from None
    if not 0 <= seconds < _LAST_SECOND:
        raise RefusedEventError(Reason.BAD_TIME, paths.time, f"{seconds!r} is outside the years 1970 to 9999")
    if recorded is not None and seconds > recorded + paths.max_ahead_seconds:
        raise RefusedEventError(
            Reason.BAD_TIME, paths.time, f"{seconds - recorded:.0f} s ahead of the record's own timestamp"
        )
    return seconds


def _envelope_of(paths: EventPaths, weight: str, *, features: bool = True) -> Callable[[bytes], Any]:
    """A decoder for events, or labels by themselves, that have no other fields than the configured ones."""
    names = {"id": paths.id, "features": paths.features, "label": paths.label, "weight": weight, "time": paths.time}
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("id", Annotated[str, Meta(min_length=1)] | int),
        ("features", Raw),
        ("label", int | float | str | bool | None | UnsetType, UNSET),
        ("weight", float | None | UnsetType, UNSET),
        ("time", float | str | None | UnsetType, UNSET),
    ]
    kind = msgspec.defstruct(
        "Envelope",
        [field for field in fields if names[field[0]] and (features or field[0] != "features")],
        rename={name: path for name, path in names.items() if path},
        namespace={name: UNSET for name, path in names.items() if not path},
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(kind).decode


def _when_of(path: str) -> Callable[[bytes], Any]:
    """A decoder for nothing but the time of a record, which must not lie deeper."""
    if "." in path or not _are_plain([path]):
        return _unusual
    fields: list[tuple[str, Any, Any]] = [("time", float | str | None | UnsetType, UNSET)]
    return msgspec.json.Decoder(msgspec.defstruct("When", fields, rename={"time": path}, gc=False)).decode


def _layout_of(names: tuple[str, ...]) -> Callable[[bytes], Any]:
    """A decoder for features of exactly these names; it checks what the general one checks, and keeps nothing."""
    fields = [(f"f{number}", _Scalar) for number in range(len(names))]
    rename = {f"f{number}": name for number, name in enumerate(names)}
    kind = msgspec.defstruct("Layout", fields, rename=rename, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(kind).decode


def _are_plain(names: Sequence[str]) -> bool:
    """Tell whether a decoder can be made for these names: msgspec's structs do not take every name that JSON takes."""
    return 0 < len(names) <= _MOST_NAMES and all(
        0 < len(name) <= _LONGEST_NAME and name.isprintable() and '"' not in name and "\\" not in name for name in names
    )


def _unusual(_: bytes) -> Any:
    """Every event takes the general way: its fields lie deeper, or a decoder makes them."""
    raise msgspec.DecodeError


def _asked_id(raw: bytes) -> str | int:
    try:
        found: str | int = _identifier.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedEventError(Reason.WRONG_TYPE, "id", "an id is text or a whole number") from None
    # What no 64 bits hold is answered as text: JSON encoders refuse it as a number.
    return found if isinstance(found, str) or -(2**63) <= found < 2**63 else str(found)


def _names(features: Features) -> int:
    """How many names the features have, nested ones included."""
    if features.raw.count(b"{") == 1:
        return len(features.values)
    return len(features.values) + sum(len(value) for value in features.values.values() if isinstance(value, dict))


def _dotted_twice(features: Features) -> bool:
    """Tell whether a dotted name might be the same as a nested one."""
    return features.raw.count(b"{") > 1 and any("." in name for name in features.values)


def _seconds(value: float | str | bool | None, form: str) -> float:
    """Return Unix seconds of a number (s or ms) or an ISO 8601 text (without a zone: UTC)."""
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{value!r}")
    if isinstance(value, str):
        if form in ("s", "ms"):
            raise ValueError(f"{value!r} is text, and event.time_format is {form}")
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r:.60} is not in ISO 8601, and event.time_format is {form}") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if form == "iso":
        raise ValueError(f"{value!r} is a number, and event.time_format is iso")
    milliseconds = form == "ms" or (form == "auto" and abs(value) >= _MILLISECONDS_FROM)
    return value / 1000 if milliseconds else value
