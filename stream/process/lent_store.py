"""A store that is lent to a process behind the wall: it asks its parent, who looks what it may do.

The process that loads models has neither files nor a network (:mod:`stream.process.wall`). What it reads and writes in
the store goes over a socket to the parent that started it, which does no more than ``READABLE`` and ``may_create``
allow.
"""

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from typing import Literal, TypeAlias

import msgspec

from snapshots.errors import DamagedError, SnapshotsError, StoreError
from snapshots.store.store import Store
from stream.process import interpreter

log = logging.getLogger("holdfast.store")
_Answer: TypeAlias = bytes | bool | list[str] | None
#: what a process with models may read: nothing that tells a key
READABLE = re.compile(r"(snapshots|baselines|holdout|trusted|ledger|epochs|verdicts)/(?!.*\.\.)[^\0]*")
_NOTHING = re.compile(r"(?!)")


class _Wish(msgspec.Struct, array_like=True):
    kind: Literal["get", "create", "names"]
    name: str
    data: bytes = b""
    most: int | None = None


class _Reply(msgspec.Struct, array_like=True):
    found: bytes | bool | list[str] | None
    error: str = ""
    damaged: bool = False


_wishes: msgspec.msgpack.Decoder[_Wish] = msgspec.msgpack.Decoder(_Wish)
_replies: msgspec.msgpack.Decoder[_Reply] = msgspec.msgpack.Decoder(_Reply)
_encode = msgspec.msgpack.Encoder().encode


class LentStore:
    """Keeps the contract of :class:`snapshots.store.store.Store` over a connection; deletes nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def _ask(self, wish: _Wish) -> _Answer:
        try:
            with self._lock:
                self._connection.send_bytes(_encode(wish))
                reply = _replies.decode(self._connection.recv_bytes())
        except (EOFError, OSError) as cause:
            raise StoreError(f"the process that lends the store is gone: {cause}") from cause
        if reply.error:
            raise DamagedError(reply.error) if reply.damaged else StoreError(reply.error)
        return reply.found

    def get(self, name: str, most: int | None = None) -> bytes | None:
        """Return the blob, or None."""
        return self._ask(_Wish("get", name, most=most))  # type: ignore[return-value]

    def create(self, name: str, data: bytes) -> bool:
        """Create the blob unless the name exists; tell whether it was created."""
        return bool(self._ask(_Wish("create", name, data)))

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Names below ``prefix``, sorted."""
        return self._ask(_Wish("names", prefix, after.encode()))  # type: ignore[return-value]

    def delete(self, name: str) -> None:
        """Refuse: nobody behind the wall deletes."""
        raise StoreError(f"{name} cannot be deleted by a process that loads models")


class Lending:
    """Answers one process in a thread of its own until that is gone."""

    def __init__(self, store: Store, connection: Connection, may_create: re.Pattern[str] = _NOTHING) -> None:
        self._store, self._connection, self._may_create = store, connection, may_create
        threading.Thread(target=self._run, name="lending", daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                try:
                    reply = self._follow(_wishes.decode(self._connection.recv_bytes()))
                except msgspec.DecodeError:
                    reply = _Reply(None, "what was asked of the store is not understood")
                except SnapshotsError as cause:
                    reply = _Reply(None, str(cause), isinstance(cause, DamagedError))
                self._connection.send_bytes(_encode(reply))

    def _follow(self, wish: _Wish) -> _Reply:
        allowed = self._may_create if wish.kind == "create" else READABLE
        if not allowed.fullmatch(wish.name):
            log.error("a process that loads models asked to %s %.200r, which it may not", wish.kind, wish.name)
            return _Reply(None, f"{wish.name!r:.200} may not be {'written' if wish.kind == 'create' else 'read'} here")
        if wish.kind == "get":
            return _Reply(self._store.get(wish.name, wish.most))
        if wish.kind == "names":
            return _Reply(self._store.names(wish.name, wish.data.decode()))
        return _Reply(self._store.create(wish.name, wish.data))

    def close(self) -> None:
        """Stop answering."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as shared, contextlib.suppress(OSError):
            shared.shutdown(socket.SHUT_RDWR)  # a close would wait for the thread that listens


def started(
    module: str, store: Store, may_create: re.Pattern[str] = _NOTHING, **environment: str
) -> tuple["subprocess.Popen[bytes]", Connection, Lending]:
    """Start a module of ours in a process of its own: with a connection to it, and the store lent over another.

    The process gets the descriptors of both as its arguments, in this order.
    """
    ours, theirs = Pipe()
    lent, lender = Pipe()
    process = subprocess.Popen(  # noqa: S603  our own interpreter and module
        interpreter.command(module, theirs.fileno(), lender.fileno()),
        pass_fds=[theirs.fileno(), lender.fileno()],
        stdin=subprocess.DEVNULL,
        env=interpreter.environment(os.environ, **environment),
    )
    theirs.close()
    lender.close()
    return process, ours, Lending(store, lent, may_create)


def borrowed() -> tuple[Connection, LentStore]:
    """The other side, in the process that was started: its connection, and the store that is lent to it.

    It ends when its parent is gone, and leaves Ctrl-C, which reaches the whole group, to that.
    """
    interpreter.end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, store = (Connection(int(one)) for one in sys.argv[1:3])
    return connection, LentStore(store)
