"""A full retrain's parts: the same features on both sides, the same model from the same data, what is left out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from support.archived import RULES, archived, mixed
from support.lineages import Folder
from support.samples import numbers

from learners.baseline.encoding import Encoder, Encoding, Number, bin_of, hash_of
from learners.baseline.recipe import Recipe
from learners.baseline.served import About, Baseline, pack
from learners.errors import BudgetUsedUpError, FactoryRefusedError, StateRefusedError
from learners.event import Features
from learners.extras import install
from snapshots.judging.reverts import ancestry
from snapshots.store.local import LocalStore
from stream.compose import retraining_of
from stream.retrain.dataset import rows_of
from stream.retrain.retrain import Retraining
from stream.retrain.triggers import Order

torch = pytest.importorskip("torch")
from learners.baseline import batches, distributed, networks, training  # noqa: E402  torch is there
from learners.baseline.batches import Batches, Rows, Share  # noqa: E402  the same


def retraining(here: Folder) -> Retraining:
    return retraining_of(here.config)


@pytest.mark.parametrize("kind", ["standardised", "binned"])
def test_the_same_bytes_mean_the_same_in_training_and_in_serving(folder: Callable[..., Folder], kind: str) -> None:
    """Promise 10: what the model was trained on is what serving makes of the same events."""
    here = folder(**RULES, retrain__numbers=kind, retrain__bins=7)
    events = mixed(600)
    archived(here, events)
    dataset, work = retraining(here).gather()
    rows = rows_of(work, dataset)
    encoder = Encoder(dataset.encoding)
    served, places = encoder.many([Features.of(event["x"]) for event in events])
    assert np.array_equal(np.asarray(rows.numbers), served)
    assert np.array_equal(np.asarray(rows.places), places)
    assert rows.labels.tolist() == [event["y"] for event in events]
    one = encoder.one(Features.of(events[7]["x"]))
    assert np.array_equal(one[0][0], served[7])
    assert np.array_equal(one[1][0], places[7])
    again = Encoder(Encoding.load(dataset.encoding.dump())).many([Features.of(events[3]["x"])])
    assert np.array_equal(again[0][0], served[3])
    strange = encoder.one(Features.of({"country": "nowhere", "a": "text now", "new": 1.0}))
    assert set(strange[1][0].tolist()) == {0}


def test_the_same_version_of_the_data_gives_the_same_model(folder: Callable[..., Folder]) -> None:
    """Bit for bit, on the same machine; and another version when anything of it is another."""
    here = folder(**RULES, holdout__rate=0.2)
    archived(here, mixed(800))
    first = retraining(here).run(Order("test")).manifest
    second = retraining(here).run(Order("test", again=True)).manifest
    assert first.number + 1 == second.number
    assert (first.data_version, first.model.sha256) == (second.data_version, second.model.sha256)
    archived(here, mixed(50, first=5000), "more.jsonl")
    third = retraining(here).run(Order("test")).manifest
    assert third.data_version != first.data_version
    assert third.model.sha256 != first.model.sha256


@pytest.mark.parametrize("kind", ["linear", "fm", "dcn"])
def test_killed_in_the_middle_it_goes_on_from_its_last_epoch(kind: str) -> None:
    """And ends with the very same weights."""
    rng = np.random.default_rng(1)
    numbers_, places = rng.normal(size=(900, 3)).astype(np.float32), rng.integers(0, 20, (900, 2)).astype(np.int32)
    labels = (numbers_[:, 0] + (places[:, 0] > 10) > 0.5).astype(np.float32)
    rows = Rows(numbers_, places, labels, np.ones(900, np.float32), np.arange(900, dtype=np.float64))
    shape = networks.Shape(3, 2, 20, 1)
    recipe = Recipe(kind=kind, epochs=4, patience=9)  # type: ignore[arg-type]
    kept: list[bytes] = []
    device = torch.device("cpu")
    whole = training.train(rows, shape, "binary", recipe, device, hooks=training.Hooks(keep=kept.append))
    again = training.train(rows, shape, "binary", recipe, device, hooks=training.Hooks(kept=kept[1]))
    assert whole.losses == again.losses
    assert len(whole.losses) == 4
    for name, weight in whole.state.items():
        assert torch.equal(weight, again.state[name]), name
    assert networks.export(whole.served, shape) == networks.export(again.served, shape)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("kind", ["linear", "fm", "dcn"])
def test_what_is_served_is_what_was_trained(task: str, kind: str) -> None:
    """The ONNX graph answers as the torch model does, one by one and together; and it has learnt something."""
    rng = np.random.default_rng(2)
    count = 3000
    x = [{"a": float(a), "k": f"v{k}"} for a, k in zip(rng.normal(size=count), rng.integers(0, 5, count), strict=True)]
    raw = np.array([[one["a"]] for one in x], np.float32)
    values = sorted(hash_of("k", f"v{k}") for k in range(5))

    encoding = Encoding([Number("a", 0.0, 1.0)], ["k"], values)
    encoder = Encoder(encoding)
    _, places = encoder.many([Features.of(one) for one in x])  # type: ignore[arg-type]
    signal = raw[:, 0] + (places[:, 0] == 2) * 2.0
    labels = {"binary": signal > 0.5, "multiclass": np.digitize(signal, [-0.5, 1.0]), "regression": 40 * signal + 500}
    outputs = 3 if task == "multiclass" else 1
    shape = networks.Shape(encoding.width, encoding.fields, encoding.places, outputs)
    y = labels[task].astype(np.float32)
    rows = Rows(raw, places.astype(np.int32), y, np.ones(count, np.float32), np.arange(count) * 1.0)
    recipe = Recipe(kind=kind, epochs=15, rate=0.02)  # type: ignore[arg-type]
    trained = training.train(rows, shape, task, recipe, torch.device("cpu"))  # type: ignore[arg-type]
    graph = networks.export(trained.served, shape)
    baseline = Baseline(pack(About(task, ["x", "y", "z"] if task == "multiclass" else [], encoding), graph))  # type: ignore[arg-type]
    features = [Features.of(one) for one in x[:200]]  # type: ignore[arg-type]
    with torch.no_grad():
        wanted = trained.served(torch.from_numpy(raw[:200]), torch.from_numpy(places[:200])).numpy()
    many, single = baseline.predict_many(features), [baseline.predict(one) for one in features]
    if task == "binary":
        got = np.array([[one.probability] for one in many])
        assert [one.probability for one in single] == pytest.approx(got[:, 0], abs=1e-6)
        assert np.mean([one.value == bool(label) for one, label in zip(many, y[:200], strict=True)]) > 0.9
    elif task == "multiclass":
        got = np.array([list((one.probabilities or {}).values()) for one in many])
        assert got.sum(1) == pytest.approx(np.ones(200), abs=1e-5)
        assert np.mean([one.value == label for one, label in zip(many, y[:200], strict=True)]) > 0.85
    else:
        got = np.array([[one.value] for one in many])
        assert np.abs(got[:, 0] - y[:200]).mean() < 10
    assert got == pytest.approx(wanted, abs=1e-3)


def test_held_out_repeated_and_condemned_events_are_left_out(folder: Callable[..., Folder]) -> None:
    """And counted, each for its reason; what was replayed is learnt after all."""
    here = folder(learners={"linear": {"kind": "river", "factory": "model:logreg", "role": "champion"}},
                  **RULES, holdout__rate=0.1, source__batch=50)  # fmt: skip
    here.write(numbers(400))
    here.trained()
    good = ancestry(here.lineage, "linear")[-1]
    here.write(numbers(300, first=400))
    here.write(numbers(50))  # the first fifty again
    here.trained()
    here.run("snapshots", "revert", "linear", str(good))
    here.train()
    here.run("archive", "run", "--until-end")
    found, _ = retraining(here).gather()
    events = here.learner()["events"]
    assert found.excluded["held_out"] >= events["held_out"]
    assert found.excluded["quarantined"] >= events["quarantined"] > 0
    assert found.rows == events["learnt"]
    row = here.json("quarantine", "list")[0]
    here.run("quarantine", "replay", row["id"])
    here.train()
    again, _ = retraining(here).gather()
    assert "quarantined" not in again.excluded
    assert again.rows == here.learner()["events"]["learnt"]
    assert again.excluded["repeated"] > 0
    assert again.version != found.version


def test_a_module_of_ones_own_is_trained_and_served(folder: Callable[..., Folder]) -> None:
    """And refused with the reason when it does not answer with logits."""
    here = folder(**RULES, retrain__factory="mine:good", holdout__rate=0.2, gates__tolerance=0.5)
    (here.path / "mine.py").write_text(
        "from torch import nn, cat\n"
        "class Small(nn.Module):\n"
        "    def __init__(self, shape):\n"
        "        super().__init__()\n"
        "        self.places = nn.Embedding(shape.places, 4)\n"
        "        self.out = nn.Linear(shape.width + 4 * shape.fields, shape.outputs)\n"
        "    def forward(self, numbers, places):\n"
        "        return self.out(cat((numbers, self.places(places).flatten(1)), 1))\n"
        "def good(shape): return Small(shape)\n"
        "def bad(shape): return nn.Linear(shape.width, 7)\n"
    )
    archived(here, mixed(700))
    done = here.run("retrain", "--now", "--json", code=None)
    assert orjson.loads(done.stdout)["kind"] == "mine:good"
    refused = here.run("retrain", "--now", code=None, HOLDFAST_RETRAIN__FACTORY="mine:bad")
    assert "mine:bad" in refused.stderr
    assert "Traceback" not in refused.stderr
    with pytest.raises(FactoryRefusedError, match="gives no model"):
        networks.build("linear", networks.Shape(1, 1, 2, 1), factory="nowhere:it")


def test_a_warm_start_learns_only_what_is_new(folder: Callable[..., Folder]) -> None:
    here = folder(**RULES, holdout__rate=0.2, gates__tolerance=0.5, gates__min_gain=-0.5)
    archived(here, mixed(800))
    assert "cannot be warm" in here.run("retrain", "--warm", code=3).stderr
    here.run("retrain", "--now")
    assert "fewest_rows" in here.run("retrain", "--now", "--warm").stdout
    archived(here, mixed(300, first=800), "more.jsonl")
    here.run("retrain", "--now", "--warm", code=None)
    newest, first = here.json("retrain", "list")
    assert (newest["warm_from"], first["warm_from"]) == (1, None)
    assert newest["excluded"]["older"] >= 790
    assert newest["rows"] < 300
    archived(here, mixed(300, first=1100), "third.jsonl")
    both = here.run("retrain", "--now", "--compare-warm", code=None).stdout
    assert "warm start from baseline" in both
    assert [one["warm_from"] is None for one in here.json("retrain", "list")[:2]] == [True, False]


def test_damaged_baselines_are_refused(folder: Callable[..., Folder]) -> None:
    """No byte of the head may be another, and what is no graph is no model."""
    for data in (b"", b"nonsense", pack(About("binary", [], Encoding([], [], [])), b"no graph")):
        with pytest.raises(StateRefusedError):
            Baseline(data)
    here = folder(**RULES, holdout__rate=0.2)
    archived(here, mixed(900))
    here.run("retrain", "--now")
    (path,) = (here.path / "store" / "baselines").rglob("model-*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = here.run("retrain", "--now", "--again", code=None)
    assert "was changed: sha256" in done.stderr
    manifest = path.parent / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"linear"', b'"lineaR"'))
    assert "digest does not hold" in here.run("retrain", "list", code=None).stderr


def test_bins_meet_at_their_edges() -> None:
    """A number on an edge is in the same bin for training (float32, many) and serving (one)."""
    edges = sorted({float(np.float32(one)) for one in (0.1, 0.2, 0.3)})
    for value in (0.1, 0.2, 0.3, 0.15):
        many = int(np.searchsorted(edges, np.array([value], np.float32).astype(np.float64), side="right")[0])
        assert bin_of(edges, float(np.float32(value))) == f"#{many}"


def test_the_trainer_guard_and_serving_never_import_torch(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """Not even with a baseline to compare with: torch is made to fail on import."""
    here = folder(**RULES, holdout__rate=0.2)
    here.write(numbers(900))
    here.train()
    here.run("archive", "run", "--until-end")
    here.run("retrain", "--now", code=None)
    hooks = tmp_path / "hooks" / "torch"
    hooks.mkdir(parents=True)
    (hooks / "__init__.py").write_text("raise SystemExit('torch was imported')")

    path = os.pathsep.join([str(hooks.parent), os.environ.get("PYTHONPATH", "")])
    here.write(numbers(300, first=900))
    for command in (["train", "--until-end"], ["guard", "--once"], ["status"], ["retrain", "list"]):
        here.run(*command, code=0, PYTHONPATH=path)
    assert "torch was imported" in (here.run("retrain", "--now", "--again", code=None, PYTHONPATH=path).stderr)
    code = "import sys; sys.modules['cronsim'] = None; from stream.cli import main; main(['retrain'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here.path)
    assert install("retrain") in done.stderr
    assert LocalStore(here.path / "store").names("baselines/")


@pytest.mark.parametrize("device", ["cuda:97", "toaster"])
def test_a_device_that_is_not_here_is_said(device: str) -> None:
    """In a sentence, before anything is trained."""
    with pytest.raises(FactoryRefusedError, match="Set it to auto or cpu"):
        training.device_of(device)


def made_up(count: int = 901) -> Any:
    """Rows with weights and times; of module level, so that processes can open them."""
    rng = np.random.default_rng(1)
    numbers_, places = rng.normal(size=(count, 3)).astype(np.float32), rng.integers(0, 20, (count, 2)).astype(np.int32)
    labels = (numbers_[:, 0] + (places[:, 0] > 10) > 0.5).astype(np.float32)
    weights = rng.uniform(0.5, 2.0, count).astype(np.float32)
    return Rows(numbers_, places, labels, weights, np.arange(count, dtype=np.float64))


SHAPE = networks.Shape(3, 2, 20, 1)
CPU = torch.device("cpu")


def test_several_processes_take_the_step_that_one_takes() -> None:
    """One batch of all rows, weighted, an odd number of them: the same gradient, so the same weights but for rounding.

    (AdamW's first step has the sign of the gradient, so where that is nothing but rounding it may differ.) Over several
    batches: the same after a kill in between.
    """
    one = Recipe(kind="fm", epochs=1, batch=10_000)
    alone = training.train(made_up(), SHAPE, "binary", one, CPU)
    together = distributed.train_together(made_up, SHAPE, "binary", one, CPU, 2)
    for name, weight in alone.state.items():
        far = (weight - together.state[name]).abs() > 1e-5
        assert far.float().mean() < 0.01, name
    more = Recipe(kind="fm", epochs=3, batch=128, patience=9)
    kept: list[bytes] = []
    whole = distributed.train_together(made_up, SHAPE, "binary", more, CPU, 2, hooks=training.Hooks(keep=kept.append))
    again = distributed.train_together(made_up, SHAPE, "binary", more, CPU, 2, hooks=training.Hooks(kept=kept[0]))
    assert whole.losses == again.losses
    assert len(kept) == 3
    assert all(torch.equal(weight, again.state[name]) for name, weight in whole.state.items())


def test_a_retrain_by_two_processes(folder: Callable[..., Folder]) -> None:
    """Through the command: the manifest says how many there were."""
    here = folder(**RULES | {"retrain__kind": "dcn"}, retrain__processes=2)
    archived(here, mixed(1500))
    shown = json.loads(here.run("retrain", "--now", "--json", code=None).stdout)
    assert shown["manifest"]["trained"]["processes"] == 2


def test_rows_that_do_not_fit_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once an epoch, in blocks; what is learnt is as good."""
    monkeypatch.setattr(batches, "_free_bytes", lambda _: 0.0)
    monkeypatch.setattr(batches, "STREAMED_ROWS", 100)
    rows = made_up()
    found = Batches(rows, rows.weights, 811, CPU, Share())
    assert not found.resident
    seen = torch.cat([labels for _, _, labels, _ in found.epoch(32, torch.Generator().manual_seed(1))])
    assert len(seen) == 811
    weights = torch.cat([weight for *_, weight in found.epoch(32, torch.Generator().manual_seed(2))])
    assert sorted(weights.tolist()) == sorted(rows.weights[:811].tolist())
    streamed = training.train(rows, SHAPE, "binary", Recipe(kind="fm", epochs=9), CPU)
    assert min(streamed.losses) < 0.5 * 0.693


def test_what_is_older_counts_less_and_what_is_rare_more() -> None:
    """A concept that turned around: with a half-life the model follows the new one. A rare class is named as well."""
    rows = made_up(4000)
    rows.labels[:2000] = 1 - rows.labels[:2000]
    flat = training.train(rows, SHAPE, "binary", Recipe(kind="linear", epochs=5), CPU)
    fresh = training.train(rows, SHAPE, "binary", Recipe(kind="linear", epochs=5, half_life_days=200.0 / 86_400), CPU)
    assert min(fresh.losses) < 0.5 * min(flat.losses)
    few = made_up(4000)
    few.labels[np.arange(4000) % 10 > 0] = 0
    said = []
    for weight in ("none", "balanced"):
        recipe = Recipe(kind="linear", epochs=8, class_weight=weight)  # type: ignore[arg-type]
        run = training.Run(few, SHAPE, "binary", recipe, CPU, None)
        while not run.done():
            run.epoch(training.Hooks())
        run.model.load_state_dict(run.best["state"])
        with torch.no_grad():
            logits = run.model(torch.from_numpy(few.numbers), torch.from_numpy(few.places))[:, 0]
        said.append(float((logits > 0).float().mean()))
    assert said[0] < 0.02
    assert said[1] > 0.2


def test_the_budget_cuts_training_off_and_keeps_the_best_so_far() -> None:
    """Of one process and of two; before the first epoch is done it is refused. What is kept can be gone on from."""
    moment = [0.0]

    def now() -> float:
        moment[0] += 1.0
        return moment[0]

    recipe = Recipe(kind="linear", epochs=50, batch=8, patience=50)
    kept: list[bytes] = []
    hooks = training.Hooks(keep=kept.append, now=now, most_seconds=9.0)
    cut = training.train(made_up(), SHAPE, "binary", recipe, CPU, hooks=hooks)
    assert cut.cut_off
    assert 0 < len(cut.losses) == len(kept) < 50
    with pytest.raises(BudgetUsedUpError, match="less than one epoch"):
        training.train(made_up(), SHAPE, "binary", recipe, CPU, hooks=training.Hooks(now=now, most_seconds=0.5))
    with pytest.raises(BudgetUsedUpError, match="less than one epoch"):
        distributed.train_together(made_up, SHAPE, "binary", recipe, CPU, 2, hooks=training.Hooks(most_seconds=1e-6))
    whole = training.train(made_up(), SHAPE, "binary", recipe, CPU)
    again = training.train(made_up(), SHAPE, "binary", recipe, CPU, hooks=training.Hooks(kept=kept[-1]))
    assert whole.losses == again.losses
    assert not whole.cut_off
