"""A real Prometheus scrapes a running system: alerts fire when they are provoked, and every query has an answer."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml
from support.documents import ROOT, doc
from support.lineages import Folder, _free_port, wait_for
from support.rollouts import FAST, TWO
from support.samples import numbers

RULES = ROOT / "deploy" / "prometheus"
DASHBOARD = orjson.loads(doc("deploy/grafana/dashboards/holdfast.json"))
pytestmark = pytest.mark.skipif(not shutil.which("prometheus"), reason="no Prometheus here: apt-get install prometheus")


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[httpx.Client]:
    """A Prometheus with the rules of ``deploy/``, which scrapes each half second and waits with no alert."""
    folder.mkdir()
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES / "recording.yml", folder)
    alerts = re.sub(r"(?m)^        for: .*\n", "", (RULES / "alerts.yml").read_text())
    (folder / "alerts.yml").write_text(alerts)
    port = _free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            wait_for(lambda: _ready(client), 60)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def firing(client: httpx.Client) -> set[str]:
    """The names of the alerts that fire just now."""
    found = client.get("/api/v1/alerts").json()["data"]["alerts"]
    return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}


def asked(client: httpx.Client, expression: str) -> list[Any]:
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return list(answer["data"]["result"])


@pytest.mark.timeout(480)
def test_alerts_fire_when_they_are_provoked_and_not_before(folder: Callable[..., Folder], tmp_path: Path) -> None:
    here = folder(learners=TWO, **FAST, snapshots__every_seconds=0.3)
    here.write(numbers(3000))
    trainer, guard, serving = here.start("train"), here.start("guard"), here.start("serve")
    here.wait_ready()
    wait_for(lambda: here.lineage.serving("quick") is not None)
    here.write(numbers(1000, first=3000))
    wait_for(lambda: (here.lineage.serving("slow") or 0) > 1, 60)
    with prometheus(tmp_path / "prometheus", here.port) as client:
        wait_for(lambda: asked(client, "holdfast_ready == 1"))
        wait_for(lambda: asked(client, "holdfast:events:rate5m"), 60)
        provoked = {"HoldfastReverted", "HoldfastRolloutAborted", "HoldfastDeadLetters", "HoldfastBreakerOpen"}
        gone = {"HoldfastRoleGone", "HoldfastNothingLearns"}
        wait_for(lambda: not firing(client) & (provoked | gone | {"HoldfastGone"}), 60)
        with here.http() as caller:
            caller.post("/predict", json={"x": numbers(1)[0]["x"]})

        here.run("rollout", "start", "quick")
        here.run("rollout", "abort")
        here.run("snapshots", "revert", "slow")
        here.write([b"not json"] * 2000, "bad.jsonl")
        wait_for(lambda: provoked <= firing(client), 120)

        _kill(guard)
        _kill(trainer)
        wait_for(lambda: gone <= firing(client), 120)
        assert {one["metric"]["role"] for one in asked(client, "holdfast_alive == 0")} == {"train", "guard"}

        for panel in DASHBOARD["panels"]:
            for target in panel["targets"]:
                asked(client, target["expr"])
        shown = {name for panel in DASHBOARD["panels"] for t in panel["targets"] for name in names(t["expr"])}
        here_now = {one["metric"]["__name__"] for one in asked(client, '{__name__=~"holdfast.+"}')}
        optional = {"holdfast_baseline_difference", "holdfast_rollout_loss_difference", "holdfast_slice_metric",
                    "holdfast_label_delay_seconds", "holdfast_champion_difference"}  # fmt: skip
        assert shown - here_now <= optional

        _kill(serving)
        wait_for(lambda: "HoldfastGone" in firing(client), 120)


def _kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)
    time.sleep(0.1)


def names(expression: str) -> set[str]:
    """The metrics in an expression, histograms by their buckets."""
    return set(re.findall(r"holdfast[\w:]+", expression))


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_the_dashboard_shows_what_is_exported(panel: dict[str, Any]) -> None:
    """Each query is of a metric of the list, or of a rule that records."""
    from stream.serve.http.metrics import METRICS

    recorded = {rule["record"] for group in yaml.safe_load((RULES / "recording.yml").read_text())["groups"]
                for rule in group["rules"]}  # fmt: skip
    for target in panel["targets"]:
        for name in names(target["expr"]):
            assert name.removesuffix("_bucket") in METRICS or name in recorded, name
