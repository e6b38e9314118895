"""The header of a Vowpal Wabbit model file, read before Vowpal Wabbit reads it (promise 9).

Vowpal Wabbit takes options out of the header as if they stood on the command line, among them those that write files or
open ports. So the header is parsed here first, and what is not expected is refused. All numbers are little-endian::

    uint32 n, n bytes   version, ending in NUL          float32, float32    smallest and largest label
    uint32 n, n bytes   id, ending in NUL               uint32              bits of the weights' index
    byte                "m"                             uint32              topics (lda)
    uint32 k, 3k bytes  n-grams                         uint32 k, 3k bytes  skips
    uint32 n, n bytes   options, ending in NUL          uint32 4, uint32    checksum
"""

import re
import struct
from collections.abc import Sequence

import msgspec

from learners.errors import ArgumentsRefusedError, UnsafeStateError
from learners.vw import options

_LONGEST, _MOST_GRAMS = 100_000, 256
_OLDEST = (8, 2, 0)
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})")
_BITS = 18


class Header(msgspec.Struct, frozen=True):
    """What stands in the header: the version that wrote the file, its id, the bits of its index, its options.

    ``labels``: the smallest and the largest label that the file was trained on, as far as its loss keeps them.
    """

    version: tuple[int, int, int]
    identity: str
    bits: int
    topics: int
    options: str
    labels: tuple[float, float] = (0.0, 0.0)


class _Bytes:
    """Reads from the beginning on; raises when the bytes end too soon."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise UnsafeStateError("the file ends within the header of a Vowpal Wabbit model; it is not loaded")
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def number(self, most: int) -> int:
        found: int = struct.unpack("<I", self.take(4))[0]
        if found > most:
            raise UnsafeStateError(f"the header holds {found:,} where {most:,} is the most; the file is not loaded")
        return found

    def text(self) -> str:
        raw = self.take(self.number(_LONGEST))
        if not raw.endswith(b"\0") or b"\0" in raw[:-1]:
            raise UnsafeStateError("a text in the header does not end where it says; the file is not loaded")
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise UnsafeStateError("a text in the header is not UTF-8; the file is not loaded") from None


def parse(data: bytes) -> Header:
    """Read the header; :class:`UnsafeStateError` when it is not one as versions since 8.2 write it."""
    source = _Bytes(data)
    found = _VERSION.fullmatch(source.text())
    if found is None:
        raise UnsafeStateError("this is no model of Vowpal Wabbit: it does not begin with a version")
    version = (int(found[1]), int(found[2]), int(found[3]))
    if version < _OLDEST:
        raise UnsafeStateError(f"the model is of Vowpal Wabbit {found[0]}; save it again with 8.2 or newer")
    identity = source.text()
    if source.take(1) != b"m":
        raise UnsafeStateError("the header of the model is not as Vowpal Wabbit writes it; the file is not loaded")
    labels: tuple[float, float] = struct.unpack("<ff", source.take(8))
    bits, topics = source.number(63), source.number(1 << 20)
    for _ in range(2):
        source.take(3 * source.number(_MOST_GRAMS))
    return Header(version, identity, bits, topics, source.text(), labels)


def check(data: bytes, tokens: Sequence[str], newest: str) -> Header:
    """Hold a model's header against the arguments that it is to be loaded with; raise :class:`UnsafeStateError`.

    Only options that ``tokens`` name pass, and those that every header has. ``newest`` is the installed version.
    """
    header = parse(data)
    if header.version > tuple(map(int, newest.split(".")[:3])):
        raise UnsafeStateError(f"the model is of Vowpal Wabbit {header.version}, and {newest} is installed")
    if any(not one.isprintable() or one in "\"'\\`$" for one in header.options + header.identity):
        raise UnsafeStateError("the header holds characters that no option needs; the file is not loaded")
    try:
        given, wanted = options.read(header.options.split()), options.read(tokens)
    except ArgumentsRefusedError as cause:
        raise UnsafeStateError(f"the model's header: {cause}; the file is not loaded") from cause
    more = options.beyond(given, wanted)
    if more:
        raise UnsafeStateError(
            f"the model was trained with {' '.join(more)}, which the learner's args does not name; it is not loaded. "
            "If the file is yours, write the options there"
        )
    bits = next((one.values[-1] for one in wanted if one.name == "bit_precision"), str(_BITS))
    if str(header.bits) != bits:
        raise UnsafeStateError(
            f"the model has {header.bits} bits, and the learner's args say -b {bits}; it is not loaded"
        )
    return header
