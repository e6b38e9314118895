"""The baseline as it is served: an ONNX graph run by onnxruntime, never by torch; it predicts and does not learn.

A baseline is one blob: what is needed to encode features and to name classes, as JSON, and the graph. Its inputs are
``numbers`` (float32, rows by width) and ``places`` (int64, rows by fields), its output the probabilities of the classes
(binary: of the positive one), calibrated, or the predicted numbers (regression).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from learners.baseline.encoding import Encoder, Encoding
from learners.errors import BaselineMissingError, StateRefusedError
from learners.event import Features, Prediction, Task
from learners.extras import install
from learners.labels import LabelValue

_MAGIC = b"holdfast baseline 1\n"


class About(msgspec.Struct, frozen=True):
    """What stands before the graph."""

    task: Task
    names: list[LabelValue]
    encoding: Encoding


def pack(about: About, graph: bytes) -> bytes:
    """One blob of both."""
    head = msgspec.json.encode(about)
    return _MAGIC + len(head).to_bytes(8, "big") + head + graph


def _unpack(data: bytes) -> tuple[About, bytes]:
    if not data.startswith(_MAGIC):
        raise StateRefusedError("these bytes are no baseline of this version")
    begin = len(_MAGIC) + 8
    end = begin + int.from_bytes(data[len(_MAGIC) : begin], "big")
    try:
        about = msgspec.json.decode(data[begin:end], type=About)
    except (msgspec.DecodeError, RecursionError, msgspec.ValidationError) as cause:
        raise StateRefusedError(f"the baseline does not decode: {cause}") from cause
    Encoding.load(about.encoding.dump())
    return about, data[end:]


class Baseline:
    """Predicts; see :class:`learners.learner.Learner` for what ``predict`` promises."""

    kind = "torch"

    def __init__(self, data: bytes) -> None:
        about, graph = _unpack(data)
        self.task, self.names = about.task, list(about.names)
        self.encoding = about.encoding
        self._encoder = Encoder(about.encoding)
        session = _session(graph)
        self._run, self._inputs = session.run, [one.name for one in session.get_inputs()]
        if not {*self._inputs} <= {"numbers", "places"}:
            raise StateRefusedError(f"the graph of the baseline has other inputs than it may: {self._inputs}")

    def predict(self, features: Features) -> Prediction:
        """Predict one event."""
        return self._prediction(self._scores([features])[0])

    def predict_many(self, rows: Sequence[Features]) -> list[Prediction]:
        """Predict several events at once, which is cheaper for each."""
        return [self._prediction(row) for row in self._scores(rows)] if rows else []

    def _scores(self, rows: Sequence[Features]) -> npt.NDArray[np.float32]:
        numbers, places = self._encoder.many(rows)
        given = {"numbers": numbers, "places": places}
        found: npt.NDArray[np.float32] = self._run(None, {name: given[name] for name in self._inputs})[0]
        return found

    def _prediction(self, scores: npt.NDArray[np.float32]) -> Prediction:
        if self.task == "regression":
            return Prediction(float(scores[0]))
        if self.task == "binary":
            chance = float(scores[0])
            return Prediction(chance > 0.5, chance)
        said = int(scores.argmax())
        return Prediction(said, None, dict(enumerate(map(float, scores))))


def _session(graph: bytes) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415  an optional extra
    except ImportError:
        raise BaselineMissingError(f"a baseline needs onnxruntime: {install('baseline')}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # its errors have no common base but this
        raise StateRefusedError(f"the graph of the baseline does not load: {cause}") from cause
