"""The compose file: checked by its own tool where there is one, and its commands run by hand against a real broker."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from broker import Broker
from lineages import Folder, wait_for
from test_docs import ROOT, doc

COMPOSE = doc("docker-compose.yml")


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


def test_the_image_runs_without_root_and_without_torch() -> None:
    """And the containers with a root that cannot be written."""
    image = doc("Dockerfile")
    assert "\nUSER holdfast\n" in image
    assert "retrain" not in image
    assert "torch" not in image
    assert "read_only: true" in COMPOSE
    assert "cap_drop: [ALL]" in COMPOSE


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
        }  # fmt: skip
        commands = re.findall(r"command: \[holdfast, ([^\]]+)\]", COMPOSE)
        commands = [one for one in commands if not one.startswith(("archive", "retrain"))]  # of a profile
        assert len(commands) == 4
        for command in commands:
            here.start(*(word.strip().strip('"') for word in command.split(",")), **environment)
        here.wait_ready(60)
        with here.http() as client:
            assert client.post("/predict", json={"x": {"amount": 3.0}}).status_code == 200
            wait_for(lambda: "holdfast_lag" in client.get("/metrics").text)
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
    subprocess.run(["promtool", "check", "config", str(ROOT / "deploy" / "prometheus.yml")], check=True)


def test_the_retrain_runs_as_a_job_elsewhere() -> None:
    """The CronJob by the schema of Kubernetes, the workflow by that of GitHub; both run the command that is there."""
    import kubernetes_validate
    import yaml

    job = yaml.safe_load(doc("deploy/kubernetes/retrain.yaml"))
    kubernetes_validate.validate(job, "1.33", strict=True)
    container = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][:2] == ["holdfast", "retrain"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    tool = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    assert tool is not None
    done = subprocess.run(
        [tool, "--builtin-schema", "vendor.github-workflows", ".github/workflows/retrain.yml"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    options = subprocess.run(
        [sys.executable, "-m", "stream.cli", "retrain", "--help"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    for option in ("--now", "--json", "--config"):
        assert option in options
