"""By which names this service may be called: a page that points its own name here (DNS rebinding) is refused."""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from stream.settings import Serve

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
_SHOWN = 100


class Hosts:
    """Checks the header Host. Loopback is always allowed, and ``serve.host``, and what ``serve.hosts`` names.

    A service that listens on every address may be called by any of them, and, where ``serve.hosts`` names nothing, by
    any name.
    """

    def __init__(self, serve: Serve) -> None:
        self._names = {"localhost", serve.host.lower(), *(name.lower() for name in serve.hosts)}
        self._below = tuple(name[1:].lower() for name in serve.hosts if name.startswith("*."))
        self._everywhere = serve.host in ("", "0.0.0.0", "::")  # noqa: S104  compared, not bound
        self._any = "*" in serve.hosts or (self._everywhere and not serve.hosts)
        self._allows = lru_cache(1024)(self._allowed)

    def refusal(self, headers: Iterable[tuple[bytes, bytes]], version: str) -> str:
        """Say why a request with these headers is refused; empty when it is not."""
        said: bytes | None = None
        for name, value in headers:
            if name == b"host":
                if said is not None:
                    return "there are two headers Host"
                said = value
        if said is None:
            return "" if version == "1.0" else "there is no header Host"
        if self._any or self._allows(said):
            return ""
        shown = said[:_SHOWN].decode("ascii", "replace")
        return f"this service is not called {shown}: if it is, name it in serve.hosts"

    def _allowed(self, said: bytes) -> bool:
        match = _HOST.fullmatch(said)
        if match is None:
            return False
        name = match[1].decode("ascii").lower().strip("[]").removesuffix(".")
        if name in self._names or name.endswith(self._below):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._everywhere or address.is_loopback or str(address) in self._names
