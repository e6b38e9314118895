"""Everything on an object store: learnt, judged, served, reverted, retrained; and what happens while it is away."""

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support.flaky import Flaky
from support.lineages import Folder, accounted, wait_for
from support.s3 import Server
from support.samples import numbers

from snapshots import Lineage
from stream.parts import store_of


def lineage_of(here: Folder) -> Lineage:
    return Lineage(store_of(here.config)).refresh()


def ready(client: httpx.Client) -> int:
    try:
        return client.get("/ready").status_code
    except httpx.TransportError:
        return 0


@pytest.mark.timeout(300)
def test_learn_judge_serve_revert_retrain(folder: Callable[..., Folder], s3: Server, tmp_path: Any) -> None:
    """The same commands; nothing but the store's address is another."""
    settings = {"archive__every_seconds": 0.5, "retrain__kind": "linear", "retrain__epochs": 2,
                "retrain__fewest_rows": 10, "gates__max_calibration_loss": 0.5}  # fmt: skip
    here = folder(store__url=f"s3://bucket/{tmp_path.name}", holdout__rate=0.2, **settings)
    for lot in range(3):
        here.write(numbers(300, first=300 * lot))
        here.run("train", "--until-end")
        here.run("guard", "--once")
    assert accounted(here.status()["learners"]["linear"]["events"])
    assert {row["verdict"] for row in here.json("snapshots", "list")} <= {"pass", "skipped"}
    assert "the ledger holds" in here.run("ledger", "verify").stdout
    here.start("serve")
    with here.http() as client:
        question = {"x": next(iter(numbers(1)))["x"]}
        wait_for(lambda: ready(client) == 200)
        newest = client.post("/predict", json=question).json()["snapshot"]
        here.run("snapshots", "revert", "--previous")
        wait_for(lambda: client.post("/predict", json=question).json()["snapshot"] < newest)
        here.run("archive", "run", "--until-end")
        assert here.json("archive", "show")[0]["events"] == 900
        here.run("retrain", "--now", code=None)
        assert here.json("retrain", "list")[0]["rows"] > 400
        s3.stop()
        assert client.post("/predict", json=question).status_code == 200
        wait_for(lambda: "store" in client.get("/ready").json(), 60)
        done = here.run("status", code=4)
        assert "Is the object store there" in done.stderr
        s3.start()
        wait_for(lambda: "store" not in client.get("/ready").json(), 60)


@pytest.mark.timeout(300)
def test_a_store_that_goes_away_is_waited_for(folder: Callable[..., Folder], s3: Server, tmp_path: Any) -> None:
    """The trainer goes on where it was, and everything is in one class; two trainers are told apart."""
    here = folder(store__url=f"s3://bucket/{tmp_path.name}")
    here.write(numbers(200))
    trainer = here.start("train")
    wait_for(lambda: lineage_of(here).newest() is not None and lineage_of(here).newest().counts.consumed == 200)  # type: ignore[union-attr]
    s3.stop()
    here.write(numbers(300, first=200))
    time.sleep(3)
    assert trainer.poll() is None
    s3.start()
    wait_for(lambda: lineage_of(here).newest().counts.consumed == 500, 120)  # type: ignore[union-attr]
    assert accounted(here.status()["learners"]["linear"]["events"])
    here.start("train", "--take-over")
    wait_for(lambda: trainer.poll() is not None, 60)
    assert trainer.returncode == 5


def test_the_address_may_stand_in_the_configuration(
    folder: Callable[..., Folder], s3: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region and endpoint in ``[store.options]``; credentials stay in the environment."""
    given = s3.environment
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    here = folder(
        store__url=f"s3://bucket/{tmp_path.name}",
        store__options={"endpoint": given["AWS_ENDPOINT_URL"], "region": given.get("AWS_REGION", "us-east-1")},
    )
    here.write(numbers(100))
    here.train()
    assert here.status()["learners"]["linear"]["events"]["learnt"] == 100


@pytest.mark.timeout(300)
def test_predictions_never_fail_while_the_store_has_a_bad_day(
    folder: Callable[..., Folder], s3: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers torn, answers to puts lost, then nothing but 503 while the trainer is killed; ``up`` goes on after it.

    ``HOLDFAST_TEST_AWAY`` says how long each lasts (4 s; ``make soak``: 120).
    """
    seconds = float(os.environ.get("HOLDFAST_TEST_AWAY", "4"))
    flaky = Flaky(s3.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{flaky.port}")
    here = folder(store__url=f"s3://bucket/{tmp_path.name}")
    here.write(numbers(300))
    here.start("up")
    failed: list[str] = []
    sent = 300
    with here.http() as client:
        wait_for(lambda: ready(client) == 200, 60)

        def ask_for(span: float) -> None:
            nonlocal sent
            until = time.monotonic() + span
            while time.monotonic() < until:
                sent += here.write(numbers(20, first=sent))
                answer = client.post("/predict", json={"x": {"f0": 1.0}})
                failed.extend([] if answer.status_code == 200 else [answer.text])
                time.sleep(0.1)

        flaky.torn, flaky.lost = 0.3, 0.2
        ask_for(seconds)
        flaky.torn, flaky.lost, flaky.slow = 0.0, 0.0, 1.0
        subprocess.run(["pkill", "-9", "-f", f"stream.cli train --config {here.config_path}"], check=True)
        ask_for(seconds)
        flaky.slow = 0.0
        wait_for(lambda: lineage_of(here).newest().counts.consumed == sent, 100)  # type: ignore[union-attr]
    assert failed == []
    assert min(flaky.done.values()) > 0
    counts = here.status()["learners"]["linear"]["events"]
    assert counts["learnt"] == sent
    assert accounted(counts)
    assert here.run("ledger", "verify").stdout
    flaky.close()
