"""Every alert can fire: its metrics have a sample whatever is gone, and Prometheus itself says so."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.documents import ROOT, doc
from support.lineages import Folder

from stream.serve.current import Server
from stream.serve.prometheus import HoldfastCollector, RequestCounts

RULES = [rule for group in yaml.safe_load(doc("deploy/prometheus/alerts.yml"))["groups"] for rule in group["rules"]]
GONE = {"HoldfastNotReady", "HoldfastNothingLearns", "HoldfastRoleGone", "HoldfastStale", "HoldfastNoSnapshots"}


def scraped(here: Folder) -> str:
    """What a serving process would export that has looked once; nothing else runs."""
    server = Server(here.config, now=time.time)
    server.follow()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HoldfastCollector(server, RequestCounts()))
    text = generate_latest(registry).decode()
    server.stop()
    return text


def samples(text: str) -> list[Any]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


@pytest.fixture
def idle(folder: Callable[..., Folder]) -> Folder:
    """A lineage that nothing has ever run for."""
    return folder(learners={"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_what_an_alert_is_made_of_always_has_a_sample(idle: Folder, rule: dict[str, Any]) -> None:
    """With no trainer, no guard and no snapshot: a comparison with nothing never fires."""
    (name,) = set(re.findall(r"holdfast_\w+", rule["expr"])) or {"up"}
    wanted = dict(re.findall(r'(\w+)="(\w+)"', rule["expr"]))
    found = [one for one in samples(scraped(idle)) if one.name == name and wanted.items() <= one.labels.items()]
    assert found or name == "up"


def test_every_reason_status_and_role_begins_at_nought(idle: Folder) -> None:
    """Or the first of them would be no increase."""
    found = {(one.name, *one.labels.values()): one.value for one in samples(scraped(idle))}
    assert found["holdfast_dead_lettered_total", "not_json"] == 0
    assert found["holdfast_requests_total", "500"] == 0
    assert found["holdfast_reverts_total", "guard", "linear"] == 0
    assert found["holdfast_alive", "train"] == found["holdfast_alive", "guard"] == 0
    assert found["holdfast_source_reading",] == 0
    assert found["holdfast_event_age_seconds",] == found["holdfast_lag",] == float("inf")


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool here")
def test_with_the_trainer_gone_prometheus_raises_the_alarm(idle: Folder, tmp_path: Path) -> None:
    """The rules by promtool, over what is exported then, for ten minutes."""
    shutil.copy(ROOT / "deploy" / "prometheus" / "alerts.yml", tmp_path)
    wanted = [
        f'{one.name}{{{",".join(f"{key}={value!r}" for key, value in one.labels.items())}}}'
        for one in samples(scraped(idle)) if one.name.startswith("holdfast_") and one.value != float("inf")
    ]  # fmt: skip
    series = [
        {"series": name.replace("'", '"'), "values": "0x20"} for name in wanted if "_bucket" not in name
    ] + [{"series": name, "values": "Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf"}
         for name in ("holdfast_event_age_seconds", "holdfast_snapshot_age_seconds", "holdfast_lag")]  # fmt: skip
    fires = [
        {"eval_time": "10m", "alertname": rule["alert"], "exp_alerts": _alerts(rule)} for rule in RULES
        if rule["alert"] in GONE
    ]  # fmt: skip
    test = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": fires}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _alerts(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """One alert, or one for each role that should run."""
    if rule["alert"] != "HoldfastRoleGone":
        return [{"exp_annotations": rule["annotations"]}]
    said = "no process of the role {} has spoken"
    page = rule["annotations"]["runbook"]
    return [{"exp_labels": {"role": role}, "exp_annotations": {"summary": said.format(role), "runbook": page}}
            for role in ("train", "guard", "serve")]  # fmt: skip


def test_runbooks_that_alerts_name_are_there() -> None:
    """By their headings."""
    headings = re.findall(r"^## ([^(\n]+)", doc("docs/runbook.md"), re.MULTILINE)
    for rule in RULES:
        assert any(one.strip() == rule["annotations"]["runbook"].split(", ", 1)[1] for one in headings), rule
