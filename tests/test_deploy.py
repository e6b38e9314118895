"""The compose file: checked by its own tool where there is one, and its commands run by hand against a real broker."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.broker import Broker
from support.documents import ROOT, doc
from support.lineages import Folder, _free_port, wait_for

COMPOSE = doc("docker-compose.yml")
_PINNED = r"@sha256:[0-9a-f]{64}$"


def compose_tool() -> list[str] | None:
    """The compose command that works here."""
    for tool in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(tool[0]) and subprocess.run([*tool, "version"], capture_output=True).returncode == 0:
            return tool
    return None


@pytest.mark.skipif(compose_tool() is None, reason="no docker-compose here")
def test_the_compose_file_is_one() -> None:
    """Without an engine: ``docker-compose config``."""
    tool = [*(compose_tool() or []), "--profile", "retrain"]
    done = subprocess.run([*tool, "config"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for service in ("kafka", "topics", "payments", "train", "guard", "serve", "prometheus", "archive", "retrain"):
        assert f"  {service}:" in done.stdout


def test_every_long_running_service_has_a_health_check() -> None:
    """Topics are made and left; the producer has nobody who waits for it."""
    services = re.split(r"^  (?=\w+:$)", COMPOSE.split("\nservices:\n")[1].split("\nvolumes:\n")[0], flags=re.MULTILINE)
    for service in filter(None, services):
        name = service.split(":")[0]
        assert "healthcheck:" in service or name in ("topics", "payments", "retrain"), name


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/Dockerfile.retrain"])
def test_an_image_runs_without_root_and_is_made_of_what_is_named(name: str) -> None:
    """Of packages and what pip needs: a layer that held the whole checkout would hold its tokens as well."""
    image = doc(name)
    assert "\nUSER 10001:10001\n" in image
    assert "PYTHONSAFEPATH=1" in image
    copied = re.findall(r"^COPY (.+)$", image, re.MULTILINE)
    assert copied == ["pyproject.toml constraints.txt README.md LICENSE ./", "learners learners", "snapshots snapshots",
                      "stream stream", "--from=build /opt/holdfast /opt/holdfast"]  # fmt: skip
    assert "ADD " not in image
    assert all(re.search(_PINNED, one) for one in re.findall(r"^FROM (\S+)", image, re.MULTILINE))


def test_what_serves_has_no_torch() -> None:
    """It is 5 GB, and serving never needs it."""
    assert not re.search(r"torch|\[[^]]*retrain", re.sub(r"^#.*$", "", doc("Dockerfile"), flags=re.MULTILINE))


def test_a_build_sees_what_is_named_and_nothing_else() -> None:
    """The list allows; what packages take along stands in it, and nothing but files of a kind."""
    first, *allowed = [line for line in doc(".dockerignore").splitlines() if line and not line.startswith("#")]
    assert first == "*"
    assert all(line.startswith("!") for line in allowed)
    assert {line.rsplit(".", 1)[-1] for line in allowed if "*" in line} == {"py"}
    for package, files in tomllib.loads(doc("pyproject.toml"))["tool"]["setuptools"]["package-data"].items():
        assert all(f"!{package.replace('.', '/')}/{one}" in allowed for one in files)
    for line in allowed:
        assert list(ROOT.glob(line[1:])), line


def test_no_container_is_root_or_gains_rights_or_grows_without_limit() -> None:
    """Each service of the compose file, whatever it inherits; those of others by digest."""
    import yaml

    found = yaml.safe_load(COMPOSE)["services"]
    for name, service in found.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["cpus"], name
        assert service["pids_limit"], name
        assert service["read_only"] or name == "kafka", name
        assert "build" in service or re.search(_PINNED, service["image"]), name
        assert "build" not in service or service["user"] == "10001:10001", name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_a_broker_by_hand_installs_no_torch() -> None:
    """``make kafka`` needs the client that Holdfast itself needs."""
    done = subprocess.run(
        ["make", "--dry-run", "kafka", "VENV=no-such-environment"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "--editable .\n" in done.stdout
    assert "test]" not in done.stdout


@pytest.mark.kafka
def test_the_commands_of_the_compose_file_work_together(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """The same commands, the same configuration and environment, with a broker beside them instead of containers."""
    broker = Broker(tmp_path / "own").start()
    try:
        here = folder("payments")
        for path in (ROOT / "examples" / "payments").iterdir():
            if path.is_file():
                shutil.copy(path, here.path)
        environment = {
            "HOLDFAST_SOURCE__KAFKA__BOOTSTRAP_SERVERS": broker.address, "HOLDFAST_STORE__URL": str(tmp_path / "store"),
            "HOLDFAST_SERVE__PORT": str(here.port), "HOLDFAST_LOG": "json", "HOLDFAST_TOKEN": "",
            "HOLDFAST_CONSOLE__PORT": str(page := _free_port()),
        }  # fmt: skip
        commands = re.findall(r"command: \[holdfast, ([^\]]+)\]", COMPOSE)
        commands = [one for one in commands if not one.startswith(("archive", "retrain"))]  # of a profile
        assert len(commands) == 5
        for command in commands:
            here.start(*(word.strip().strip('"') for word in command.split(",")), **environment)
        here.wait_ready(60)
        with here.http() as client:
            assert client.post("/predict", json={"x": {"amount": 3.0}}).status_code == 200
            wait_for(lambda: "holdfast_lag" in client.get("/metrics").text)
            status = client.get(f"http://127.0.0.1:{page}/api/payments/status").json()
            assert status["serving"]
            assert status["findings"] == []
        for role in ("train", "guard", "serve"):
            alive = here.start("alive", role, **environment)
            assert alive.wait(20) == 0
        assert here.log("train").startswith('{"time":')
        here.end()
        alive = here.start("alive", "train", **environment)
        assert alive.wait(20) == 1
    finally:
        broker.stop()


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool here")
def test_prometheus_takes_its_configuration() -> None:
    """By its own tool."""
    subprocess.run(["promtool", "check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yml")], check=True)


def container_of(name: str) -> dict[str, Any]:
    """The container of a job, which asks nothing of the cluster and may do as little as can be."""
    import kubernetes_validate
    import yaml

    job = yaml.safe_load(doc(f"deploy/kubernetes/{name}.yaml"))
    kubernetes_validate.validate(job, "1.33", strict=True)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    container: dict[str, Any] = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    return container


def test_the_drills_run_as_a_job() -> None:
    """By the schema of Kubernetes, with the command that is there."""
    assert container_of("drills")["command"] == ["holdfast", "drill", "--all"]


def test_the_retrain_runs_as_a_job_elsewhere() -> None:
    """The CronJob by the schema of Kubernetes, the workflow by that of GitHub; both run the command that is there."""
    container = container_of("retrain")
    assert container["command"][:2] == ["holdfast", "retrain"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows",
         ".github/workflows/retrain.yml"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for action in re.findall(r"uses: (\S+)", doc(".github/workflows/retrain.yml")):
        assert re.search(r"@[0-9a-f]{40}$", action), action
    options = subprocess.run(
        [sys.executable, "-m", "stream.cli", "retrain", "--help"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    for option in ("--now", "--json", "--config"):
        assert option in options
