"""Logs: one line a fact, for a console or as JSON (``HOLDFAST_LOG=json``)."""

import logging
import sys
import time

import orjson


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def configure(form: str = "console", level: int = logging.INFO) -> None:
    """Send everything to standard error, so that standard output is for answers."""
    stream = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    plain.converter = time.gmtime
    stream.setFormatter(_Json() if form == "json" else plain)
    logging.basicConfig(level=logging.WARNING, handlers=[stream], force=True)
    logging.getLogger("holdfast").setLevel(level)
