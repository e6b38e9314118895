"""What answered a request: found again in the log of predictions by its id."""

from typing import Any

import msgspec

from stream.join.records import LoggedPrediction
from stream.source.source import Source

_logged = msgspec.json.Decoder(LoggedPrediction)
_LOT = 1000


def answers_to(source: Source, identity: str, until: float) -> list[dict[str, Any]]:
    """The answers to the requests of an id up to a moment (Unix seconds), oldest first; ``source`` is of the log."""
    found: list[dict[str, Any]] = []
    needle = identity.encode(errors="surrogatepass")
    source.open(source.resolve(), {})
    source.mark_end()
    while not source.ended():
        for record in source.poll(_LOT):
            if record.value is None or (needle not in record.value and needle.isascii()):
                continue  # most lines need not be decoded
            try:
                one = _logged.decode(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if str(one.id) == identity and one.ts <= until:
                found.append(msgspec.to_builtins(one, builtin_types=(msgspec.Raw,)) | {"x": msgspec.json.decode(one.x)})
    return sorted(found, key=lambda one: float(one["ts"]))
