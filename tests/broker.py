"""A real Kafka broker on loopback, without Docker: Apache Kafka 4 from Maven Central's jars, KRaft, one process.

``python tests/broker.py`` (``make kafka``) runs one on 127.0.0.1:9092 until Ctrl-C. The jars are cached in
``~/.cache/holdfast`` (or ``HOLDFAST_TEST_CACHE``).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

VERSION = "4.1.0"
POM = Path(__file__).parent / "kafka" / "pom.xml"
MISSING = "install a Java 17 runtime and Maven (Debian: apt-get install openjdk-17-jre-headless maven)"
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"


def missing() -> str | None:
    """What is missing to run a broker here; None when nothing is."""
    return None if shutil.which("java") and (_jars_are_there() or shutil.which("mvn")) else MISSING


def _cache() -> Path:
    return Path(os.environ.get("HOLDFAST_TEST_CACHE", Path.home() / ".cache" / "holdfast")) / f"kafka-{VERSION}"


def _jars_are_there() -> bool:
    return (_cache() / "complete").exists()


def jars() -> Path:
    """The folder with the broker's jars, fetched once."""
    folder = _cache() / "jars"
    if not _jars_are_there():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        subprocess.run([*command, f"-DoutputDirectory={folder}"], check=True)
        (_cache() / "complete").touch()
    return folder


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """One broker and controller in one process, its data in ``folder``; can be killed and started again."""

    def __init__(self, folder: Path, port: int | None = None, **settings: str) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = folder / "broker.log"
        self._settings = settings
        self._controller = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _write_properties(self) -> Path:
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.num.partitions": "1",
            **self._settings,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        return path

    def _java(self, *arguments: str) -> list[str]:
        return ["java", "-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-cp", f"{jars()}/*", *arguments]

    def start(self, seconds: float = 60) -> "Broker":
        """Format the folder when it is new, start, and wait until the broker answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = str(self._write_properties())
        if not (self.folder / "data").exists():
            command = self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", properties)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with self.log.open("ab") as log:
            command = self._java("kafka.Kafka", properties)
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait(seconds)
        return self

    def _wait(self, seconds: float) -> None:
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(KafkaException):
                admin.list_topics(timeout=2)
                return
            if self._process is not None and self._process.poll() is not None:
                break
        raise RuntimeError(f"the broker did not answer; its log: {self.log.read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def main() -> None:
    """Run a broker for people until Ctrl-C."""
    lack = missing()
    if lack is not None:
        sys.exit(f"no broker can be run here: {lack}")
    with tempfile.TemporaryDirectory(prefix="holdfast-kafka-") as folder:
        broker = Broker(Path(folder), port=int(os.environ.get("PORT", "9092"))).start()
        print(f"Kafka {VERSION} answers on {broker.address}; Ctrl-C ends it and forgets its data", flush=True)
        try:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
