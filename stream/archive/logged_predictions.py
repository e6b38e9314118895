"""Erasing logged predictions: their lines are overwritten with spaces, so that no offset changes."""

import os
from pathlib import Path

import msgspec
import orjson

from snapshots.decisions.erasure import Erased
from stream.join.records import LoggedPrediction
from stream.refusal import Refusal
from stream.source.codec import Codec

#: a source knows a file again by so many bytes before its place (stream/source/tails.py): they stay
_TAIL = 64
_logged = msgspec.json.Decoder(LoggedPrediction)


def erase(path: Path, codec: Codec, erased: Erased, place: int) -> int:
    """Overwrite the lines of a file that are meant; return how many there were.

    A line in the last bytes before ``place``, or of the file, stays: it goes when more came and this is run again.
    """
    gone = 0
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        for line in file:
            begin, at = at, at + len(line)
            kept = any(begin < end and at > end - _TAIL for end in (place, size) if end)
            if line.strip() and line.endswith(b"\n") and not kept and _means(line, codec, erased):
                os.pwrite(file.fileno(), b" " * (len(line) - 1), begin)
                gone += 1
        if gone:
            os.fsync(file.fileno())
    return gone


def _means(line: bytes, codec: Codec, erased: Erased) -> bool:
    try:
        value = orjson.loads(line)
        found = _logged.decode(orjson.dumps(value[1]) if isinstance(value, list) else line)
    except (orjson.JSONDecodeError, msgspec.DecodeError, UnicodeDecodeError, IndexError, RecursionError):
        return False
    features = codec.features_of(bytes(found.x))
    return not isinstance(features, Refusal) and erased.event(str(found.id), features, found.ts)
