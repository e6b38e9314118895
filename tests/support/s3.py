"""A real S3 server on loopback, without Docker: versitygw, built by Go from its module.

``python -m support.s3`` builds it, which takes a minute or two. The program is cached in ``~/.cache/holdfast/bin`` (or
``HOLDFAST_TEST_CACHE``).
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from support.broker import free_port

VERSION = "v1.8.0"
MODULE = "github.com/versity/versitygw/cmd/versitygw"
ACCESS, SECRET = "holdfast", "only-for-tests"
_GO = Path("/usr/local/go/bin/go")


def _go() -> str | None:
    return shutil.which("go") or (str(_GO) if _GO.exists() else None)


def _program() -> Path:
    cache = Path(os.environ.get("HOLDFAST_TEST_CACHE", Path.home() / ".cache" / "holdfast"))
    return cache / "bin" / "versitygw"


def missing() -> str | None:
    """What is missing to run a server here; None when nothing is."""
    return None if _program().exists() or _go() else "install Go to build versitygw, a real S3 server"


def program() -> Path:
    """The server's program, built once, by one of the processes that want it."""
    path, go = _program(), _go()
    if path.exists() or go is None:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            environment = {**os.environ, "GOBIN": str(path.parent), "GOFLAGS": "-trimpath"}
            subprocess.run([go, "install", f"{MODULE}@{VERSION}"], check=True, env=environment, capture_output=True)
    return path


class Server:
    """One server over a directory, with one bucket."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bucket").mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }  # fmt: skip

    def start(self) -> None:
        """Start, and wait until it answers."""
        log = (self.root.parent / "s3.log").open("ab")
        environment: dict[str, Any] = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
        self.process = subprocess.Popen(
            [str(program()), "--port", f"127.0.0.1:{self.port}", "posix", str(self.root)],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{self.port}/", timeout=1)
                return
            time.sleep(0.05)
        raise RuntimeError("the S3 server does not answer")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


if __name__ == "__main__":
    print(program())
