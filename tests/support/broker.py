"""A real Kafka broker on loopback, without Docker: Apache Kafka 4 from Maven Central's jars, KRaft, one process.

``python -m support.broker`` (``make kafka``) runs one on 127.0.0.1:9092 until Ctrl-C. The jars are cached in
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
POM = Path(__file__).parent / "pom.xml"
MISSING = "install a Java 17 runtime and Maven (Debian: apt-get install openjdk-17-jre-headless maven)"
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
USERS = {"alice": "wonderland"}
STORE_PASSWORD = "changeit-now"


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
    """One broker and controller in one process, its data in ``folder``; can be killed and started again.

    ``node`` and ``quorum`` make it one of several (see :class:`Cluster`). ``secure`` is the folder of :func:`keystore`:
    a second listener then takes SASL over TLS, for the users in ``USERS``.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        node: int = 1,
        quorum: dict[int, int] | None = None,
        secure: Path | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = folder / "broker.log"
        self.node = node
        self._quorum = quorum or {node: free_port()}
        self._secure = secure
        self._secure_port = free_port() if secure else 0
        self.secure_address = f"127.0.0.1:{self._secure_port}"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def _write_properties(self) -> Path:
        controller = self._quorum[self.node]
        copies = str(min(3, len(self._quorum)))
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{port}" for n, port in self._quorum.items()),
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "1",
            "offsets.topic.replication.factor": copies,
            "default.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "1" if copies == "1" else "2",
            "min.insync.replicas": "1" if copies == "1" else "2",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.num.partitions": "1",
            **self._secure_properties(controller),
            **self._settings,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        return path

    def _secure_properties(self, controller: int) -> dict[str, str]:
        if self._secure is None:
            return {}
        plain, secure = f"PLAINTEXT://127.0.0.1:{self.port}", f"SECURE://127.0.0.1:{self._secure_port}"
        module = "org.apache.kafka.common.security"
        users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
        return {
            "listeners": f"{plain},{secure},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"{plain},{secure}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
            "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
            "listener.name.secure.scram-sha-256.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
            "listener.name.secure.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {users};",
            "listener.name.secure.ssl.keystore.location": str(self._secure / "broker.p12"),
            "listener.name.secure.ssl.keystore.password": STORE_PASSWORD,
            "listener.name.secure.ssl.keystore.type": "PKCS12",
        }

    def _java(self, *arguments: str) -> list[str]:
        return ["java", "-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-cp", f"{jars()}/*", *arguments]

    def start(self, seconds: float = 60, *, wait: bool = True) -> "Broker":
        """Format the folder when it is new, start, and wait until the broker answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = str(self._write_properties())
        if not (self.folder / "data").exists():
            command = self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", properties)
            for name, password in USERS.items() if self._secure else ():
                command += ["--add-scram", f"SCRAM-SHA-256=[name={name},password={password}]"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with self.log.open("ab") as log:
            command = self._java("kafka.Kafka", properties)
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            self.wait(seconds)
        return self

    def wait(self, seconds: float = 60) -> None:
        """Wait until the broker answers."""
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


class Cluster:
    """Three brokers on loopback, each its own process: replication 3, of which 2 must acknowledge."""

    def __init__(self, folder: Path) -> None:
        quorum = {node: free_port() for node in (1, 2, 3)}
        self.brokers = {node: Broker(folder / f"node-{node}", node=node, quorum=quorum) for node in quorum}
        self.address = ",".join(one.address for one in self.brokers.values())

    def start(self) -> "Cluster":
        """Start all, then wait until each answers and knows the others."""
        for one in self.brokers.values():
            one.start(wait=False)
        for one in self.brokers.values():
            one.wait()
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        deadline = time.monotonic() + 60
        while len(admin.list_topics(timeout=5).brokers) < len(self.brokers):
            if time.monotonic() > deadline:
                raise RuntimeError("the brokers did not find each other")
            time.sleep(0.2)
        return self

    def leader(self, topic: str, partition: int = 0) -> Broker:
        """The broker that leads a partition now."""
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        return self.brokers[admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End all."""
        for one in self.brokers.values():
            one.stop(how)


def keystore(folder: Path, *, expired: bool = False) -> Path:
    """Make a self-signed certificate for 127.0.0.1: ``broker.p12`` for the broker, ``ca.pem`` for clients."""
    folder.mkdir(parents=True, exist_ok=True)
    when = ["-startdate", "-10d", "-validity", "3"] if expired else ["-validity", "30"]
    store = ["-keystore", str(folder / "broker.p12"), "-storepass", STORE_PASSWORD, "-alias", "broker"]
    names = ["-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1"]
    command = ["keytool", "-genkeypair", "-keyalg", "RSA", "-storetype", "PKCS12", *store, *names, *when]
    subprocess.run(command, check=True, capture_output=True)
    export = ["keytool", "-exportcert", "-rfc", *store, "-file", str(folder / "ca.pem")]
    subprocess.run(export, check=True, capture_output=True)
    return folder


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
