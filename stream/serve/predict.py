"""Answers to ``POST /predict`` and ``POST /predict/batch``: from a body to a status and JSON.

No lock but the turn that long batches take, no disk, no call to anyone (promise 4).
"""

import asyncio
import json
import time
from typing import TYPE_CHECKING

import msgspec
import orjson

from stream.refusal import Reason, Refusal
from stream.serve.current import Server
from stream.serve.loaded import Serving
from stream.serve.prometheus import RequestCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.serve.shadow import Answered

#: how long a batch is worked at before others are answered
_SLICE_SECONDS = 0.002
#: an answer to a batch is refused beyond this: probabilities of a thousand labels for each of many instances
_MOST_ANSWER_BYTES = 64 * 1024 * 1024
_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_instances = msgspec.json.Decoder(list[msgspec.Raw])
Answer = tuple[int, bytes]


class Answers:
    """Makes answers out of bodies."""

    def __init__(self, server: Server, counts: RequestCounts) -> None:
        self._server = server
        self._counts = counts
        self._turn = asyncio.Lock()

    def one(self, body: bytes) -> Answer:
        """Answer ``POST /predict``."""
        serving = self._server.current
        if serving is None:
            return 503, detail(self._server.why_not)
        asked = self._server.codec.question(body)
        if isinstance(asked, Refusal):
            return refused(asked)
        self._server.strangers.see(asked[1])
        candidacy = self._server.candidacy
        try:
            answered = candidacy.predicted(serving, *asked)
            body = orjson.dumps(answered.answer)
        except Exception as cause:
            return _learner_refused(cause, "")
        candidacy.shadowing.keep(answered)
        return 200, body

    async def many(self, body: bytes) -> Answer:
        """Answer ``POST /predict/batch``: all or none, all from the snapshot that answers now.

        Long batches take turns, a slice of time at once, so that other requests wait for one slice only.
        """
        serving = self._server.current
        if serving is None:
            return 503, detail(self._server.why_not)
        try:
            instances = _instances.decode(_envelope.decode(body)["instances"])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
            return refused(Refusal(Reason.WRONG_TYPE, "instances", 'the body is {"instances": [{"x": {…}}, …]}'))
        most = self._server.config.serve.max_instances
        if len(instances) > most:
            why = f"{len(instances)} instances are more than serve.max_instances = {most}: send them in parts"
            return refused(Refusal(Reason.TOO_LARGE, "instances", why))
        batch = _Batch(self._server, serving, instances)
        done = batch.go_on()
        if not done:
            async with self._turn:
                while not done:
                    await asyncio.sleep(0)
                    done = batch.go_on()
        return batch.answer()

    async def counted(self, path: str, body: bytes | None) -> Answer:
        """Answer by path and count it; a body of None was larger than ``serve.max_bytes``."""
        if path == "/predict" or body is None:
            return self.counted_one(body)
        began = time.perf_counter()
        code, answer = await self.many(body)
        self._counts.add(code, time.perf_counter() - began)
        return code, answer

    def counted_one(self, body: bytes | None) -> Answer:
        """Answer ``POST /predict`` and count it; a body of None was larger than ``serve.max_bytes``."""
        began = time.perf_counter()
        code, answer = too_large(self._server.config.serve.max_bytes) if body is None else self.one(body)
        self._counts.add(code, time.perf_counter() - began)
        return code, answer


class _Batch:
    """Instances that are predicted a slice of time after another."""

    def __init__(self, server: Server, serving: Serving, instances: list[msgspec.Raw]) -> None:
        self._codec, self._serving, self._strangers = server.codec, serving, server.strangers
        self._candidacy = server.candidacy
        self._answers: list[Answered] = []
        self._left: Iterator[tuple[int, msgspec.Raw]] = iter(enumerate(instances))
        self._parts: list[bytes] = []
        self._size = 0
        self._refused: Answer | None = None

    def go_on(self) -> bool:
        """Predict for a slice of time; True when all is done, or something was refused."""
        until = time.perf_counter() + _SLICE_SECONDS
        for index, raw in self._left:
            self._refused = self._predict(index, bytes(raw))
            if self._refused is not None:
                return True
            if time.perf_counter() > until:
                return False
        return True

    def answer(self) -> Answer:
        """Return the whole answer, and have it logged."""
        if self._refused is None:
            for answered in self._answers:
                self._candidacy.shadowing.keep(answered)
        return self._refused or (200, b'{"predictions":[' + b",".join(self._parts) + b"]}")

    def _predict(self, index: int, raw: bytes) -> Answer | None:
        asked = self._codec.question(raw)
        if isinstance(asked, Refusal):
            field = f"instances[{index}]" + (f".{asked.field}" if asked.field else "")
            return refused(Refusal(asked.reason, field, asked.message))
        self._strangers.see(asked[1])
        try:
            answered = self._candidacy.predicted(self._serving, *asked)
            part = orjson.dumps(answered.answer)
        except Exception as cause:
            return _learner_refused(cause, f"instances[{index}]")
        self._parts.append(part)
        self._answers.append(answered)
        self._size += len(part)
        if self._size > _MOST_ANSWER_BYTES:
            why = (
                f"the answer is larger than {_MOST_ANSWER_BYTES} bytes after {index + 1} instances: send them in parts"
            )
            return refused(Refusal(Reason.TOO_LARGE, "instances", why))
        return None


def detail(message: str) -> bytes:
    """The body of an answer that says why."""
    return _json(detail=message)


def _json(**fields: str) -> bytes:
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError:  # half a character, which UTF-8 does not take; ASCII with escapes does
        return json.dumps(fields).encode()


def refused(refusal: Refusal) -> Answer:
    """The answer to what cannot be taken as it is."""
    code = _CODES.get(refusal.reason, 422)
    return code, _json(detail=refusal.message, field=refusal.field, reason=refusal.reason.value)


_CODES = {Reason.NOT_JSON: 400, Reason.NOT_AN_OBJECT: 400, Reason.TOO_LARGE: 413}


def too_large(limit: int) -> Answer:
    """The answer to a body that is too large."""
    return refused(Refusal(Reason.TOO_LARGE, "", f"more than serve.max_bytes = {limit}"))


def not_understood(message: str, field: str, reason: str) -> Answer:
    """The answer to a body that is well formed and makes no sense here."""
    return 422, _json(detail=message, field=field, reason=reason)


def _learner_refused(cause: Exception, field: str) -> Answer:
    message = f"the learner cannot predict these features: {type(cause).__name__}: {cause}"
    return not_understood(message, field or "x", "learner_refused")
