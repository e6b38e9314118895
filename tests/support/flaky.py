"""A proxy before an HTTP server on its bad days: it answers 503, tears answers apart, or says nothing at all."""

import asyncio
import random
import threading
from typing import Any


class Flaky:
    """Listens on loopback and hands on; ``slow``, ``torn`` and ``lost`` are the shares of what goes wrong.

    ``slow``: 503 and nothing is done. ``torn``: half of the body that is read, then the end. ``lost``: what is put is
    done, and the connection ends without an answer.
    """

    def __init__(self, behind: int, seed: int = 1) -> None:
        self.slow = self.torn = self.lost = 0.0
        self.done = {"slow": 0, "torn": 0, "lost": 0, "well": 0}
        self._behind, self._draw = behind, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0
        self._thread.start()
        self._ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    def close(self) -> None:
        """Stop listening."""

        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        self._loop.call_soon_threadsafe(end)
        self._thread.join(5)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Hand one request on; tell whether the connection goes on."""
        head, body = await _message(reader)
        if self._draw.random() < self.slow:
            self.done["slow"] += 1
            writer.write(b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return True
        back, forth = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            forth.write(head + body)
            await forth.drain()
            answer, content = await _message(back, empty=head.startswith(b"HEAD"))
        finally:
            forth.close()
        if head.startswith(b"PUT") and self._draw.random() < self.lost:
            self.done["lost"] += 1
            return False
        if head.startswith(b"GET") and content and self._draw.random() < self.torn:
            self.done["torn"] += 1
            writer.write(answer + content[: len(content) // 2])
            await writer.drain()
            return False
        self.done["well"] += 1
        writer.write(answer + content)
        await writer.drain()
        return True


async def _message(reader: asyncio.StreamReader, *, empty: bool = False) -> tuple[bytes, bytes]:
    """Head and body of a request or an answer, by its length or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields: dict[str, Any] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    if empty:
        return head, b""
    if fields.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            size = await reader.readuntil(b"\r\n")
            piece = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
            body += size + piece
            if size.strip() == b"0":
                return head, body
    return head, await reader.readexactly(int(fields.get("content-length") or 0))
