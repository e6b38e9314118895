"""Ends a process with SIGKILL at its n-th crash point: before or after a write's flush, link, delete or directory.

Python imports this by itself when its folder is on PYTHONPATH, in the trainer as in its learners, so that the
product needs no hooks. ``HOLDFAST_TEST_CRASH`` is ``role:n``, of ``trainer``, ``learner``, ``guard``, ``command``.
"""

import io
import os
import signal
import sys
import threading

_wanted, _, _left = os.environ.get("HOLDFAST_TEST_CRASH", "").partition(":")
_words = sys.orig_argv
_roles = {"stream.learner.worker": "learner", "train": "trainer", "guard": "guard"}
_role = next((role for word, role in _roles.items() if word in _words), "command")
_lock = threading.Lock()
_count = int(_left or 0)


def _point() -> None:
    global _count  # noqa: PLW0603
    with _lock:
        _count -= 1
        if _count == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _wrap(call):
    def run(*args, **kwargs):
        _point()
        found = call(*args, **kwargs)
        _point()
        return found

    return run


def _open(call):
    def run(file, mode="r", *args, **kwargs):
        if "r" not in mode:  # a point before anything is written; the one after comes with the flush
            _point()
        return call(file, mode, *args, **kwargs)

    return run


if _wanted == _role:
    io.open = _open(io.open)
    for _name in ("fsync", "link", "unlink", "mkdir", "rmdir"):
        setattr(os, _name, _wrap(getattr(os, _name)))
