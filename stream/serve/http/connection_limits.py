"""All connections of one serving process: how many may be open, how much they may hold, how long they may be quiet.

A peer that does not go on (a head or a body that does not come, an answer that is not read) costs a descriptor and
memory. Where either runs short, whoever has been waited for longest has to go; whoever is being answered stays.
"""

import heapq
from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.serve.http.connection import Connection

_LOOK_SECONDS = 1.0
#: so many connections are looked at in one go, so that a look at ten thousand holds nobody up
_AT_ONCE, _BREATH_SECONDS = 500, 0.005


class Limits(msgspec.Struct, frozen=True):
    """What the connections of one process may take together, and each by itself."""

    connections: int
    #: bytes of bodies that are not answered yet, and, counted apart, of answers that are not read yet
    held_bytes: int
    #: bytes of one body; what is longer is read and dropped
    body_bytes: int
    #: how long nothing may move on a connection that waits for its peer
    quiet_seconds: float
    #: how long one request may take to come whole, however it trickles
    request_seconds: float


class Door:
    """Who is inside. Every connection enters, says how much it holds, and leaves."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        self._inside: set[Connection] = set()
        self._leaving = 0
        self._round: list[Connection] = []
        self._unread = 0
        self._looking = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._written = b""

    def enter(self, one: "Connection") -> None:
        """Let a connection in; when there are too many, those that were waited for longest go."""
        self._inside.add(one)
        most = self.limits.connections
        if len(self._inside) - self._leaving > most:
            others = (other for other in self._inside if other is not one)
            if not self._send_away(others, max(1, most // 16), "there are too many connections"):
                self._dismiss(one, 503, "there are too many connections: try again")
        if not self._looking:
            self._looking = True
            one.loop.call_later(_LOOK_SECONDS, self._look, one.loop)

    def leave(self, one: "Connection") -> None:
        """Forget a connection that is lost."""
        self.let_go(one)
        self._inside.discard(one)
        if one.leaving:
            one.leaving = False
            self._leaving -= 1

    def hold(self, one: "Connection", size: int) -> None:
        """Note that so many more bytes of a body are held; when all hold too many, the longest-waiting bodies go."""
        one.held += size
        self.held += size
        while self.held > self.limits.held_bytes:
            others = [other for other in self._inside if other.held and other is not one]
            if not self._send_away(others, len(others) // 16 + 1, "too many bodies are on the way"):
                self._dismiss(one, 503, "too many bodies are on the way: try again")

    def fixed_headers(self, headers: "list[tuple[bytes, bytes]]") -> bytes:
        """Headers of every answer as they are written; made anew when they are another list."""
        if headers is not self._headers:
            self._headers, self._written = headers, b"".join(b"%b: %b\r\n" % one for one in headers)
        return self._written

    def let_go(self, one: "Connection") -> None:
        """Note that a connection holds nothing any more."""
        self.held -= one.held
        one.held = 0

    def _send_away(self, some: "Iterable[Connection]", count: int, why: str) -> bool:
        """Send away those of some that were waited for longest; False when nobody is waited for."""
        waiting = (one for one in some if not one.leaving and one.waits())
        going = heapq.nsmallest(count, waiting, key=lambda one: one.began)
        for one in going:
            self._dismiss(one, 503, f"{why}, and this one took longest: try again")
        return bool(going)

    def _dismiss(self, one: "Connection", code: int, why: str) -> None:
        self.let_go(one)
        if not one.leaving:
            one.leaving = True
            self._leaving += 1
            one.dismiss(code, why)

    def _look(self, loop: AbstractEventLoop) -> None:
        """Send away who has been quiet for too long, some connections at a time."""
        if not self._round:
            self._round, self._unread = list(self._inside), 0
        now = loop.time()
        for one in self._round[-_AT_ONCE:]:
            if one in self._inside:
                self._look_at(one, now)
        del self._round[-_AT_ONCE:]
        if not self._round and self._unread > self.limits.held_bytes:
            self._send_away((one for one in self._inside if one.unread), len(self._inside) // 2 + 1, "")
        self._looking = bool(self._inside)
        if self._looking:
            loop.call_later(_BREATH_SECONDS if self._round else _LOOK_SECONDS, self._look, loop)

    def _look_at(self, one: "Connection", now: float) -> None:
        why = one.overdue(now)
        self._unread += one.unread
        if why and one.leaving:
            one.transport.abort()
        elif why:
            self._dismiss(one, 408, why)
