"""Tables over Vowpal Wabbit's reductions: kept, refused with the reason, or learnt; and taken over from a file."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from vowpalwabbit import Workspace

from learners.errors import ArgumentsRefusedError, LearnersError, StateRefusedError
from learners.event import Event
from learners.labels import Labels
from learners.vw.arguments import Trial, arguments, check_loss
from learners.vw.imported import adopted
from learners.vw.learner import VwLearner
from learners.vw.trial import tried

KEPT: dict[str, list[str]] = {
    "binary": [
        "", "--loss_function logistic", "--loss_function hinge", "--binary", "--ftrl", "--coin", "--pistol", "--sgd",
        "-q ::", "--boosting 3", "--nn 2", "--nn 2 --inpass", "--lrq ab3", "--stage_poly", "--ksvm", "--freegrad",
        "--loss_function logistic -l 0.0001", "--power_t 0 -l 1e-6", "--l1 0.01", "--l2 0.1", "--keep u", "--keep x",
        "--ignore a", "--ignore_linear b -q ab", "--autolink 2", "--marginal f", "--cubic :::", "--random_weights",
        "--sparse_weights", "--noconstant", "--adaptive", "--normalized", "--replay_b 10", "--loss_function classic",
        "--link glf1", "--loss_function logistic --link logistic", "--confidence", "--interact ab", "--ngram 2",
        "--affix +2", "--spelling a", "--baseline",
    ],
    "multiclass": [
        "--oaa 4", "--oaa 4 --probabilities --loss_function logistic", "--ect 4", "--ect 4 --error 2", "--log_multi 4",
        "--recall_tree 4", "--oaa 1000", "--oaa 4 --oaa_subsample 2", "--oaa 4 --loss_function hinge", "--oaa 4 --nn 2",
        "--oaa 4 --boosting 2", "--oaa 4 --classweight 1:0.5", "--memory_tree 10 --max_number_of_labels 4",
    ],
    "regression": [
        "", "--ftrl", "--coin", "--pistol", "--loss_function quantile", "--loss_function quantile --quantile_tau 0.1",
        "--loss_function poisson --link poisson", "--loss_function expectile --expectile_q 0.5", "--nn 3",
        "--stage_poly", "--l2 0.1", "--power_t 0 -l 1e-6", "--min_prediction 0 --max_prediction 9", "--freegrad",
    ],
}  # fmt: skip
REFUSED: list[tuple[str, str, str]] = [
    ("binary", "--noop", "learn nothing"), ("binary", "--print", "prints"), ("binary", "--svrg", "learns nothing"),
    ("binary", "--rank 3", "changed by being asked|predictions change"), ("binary", "--bootstrap 3", "predictions"),
    ("binary", "--loss_function quantile", "does not predict a class"), ("binary", "--oaa 3", "do not predict"),
    ("binary", "--cbzo", "do not predict"), ("binary", "--lda 3", "label parser"),
    ("multiclass", "--oaa 4 --scores", "--probabilities"), ("multiclass", "--oaa 4 --named_labels a,b,c,d", "labels"),
    ("multiclass", "--csoaa 4", "do not predict"), ("multiclass", "--multilabel_oaa 4", "do not predict"),
    ("multiclass", "--plt 4", "logistic"), ("multiclass", "--oaa 4 --noop", "learn nothing"),
    ("regression", "--loss_function logistic", "one of two classes"), ("regression", "--binary", "learns nothing"),
    ("regression", "--loss_function hinge", "one of two classes"), ("regression", "--link logistic", "two classes"),
    ("regression", "--noop", "learn nothing"), ("regression", "--svrg", "learns nothing"),
]  # fmt: skip


@cache
def found(args: str, task: Any) -> dict[str, Any]:
    """What the trial's child finds, without the child."""
    tokens = arguments(args, "x")
    check_loss(tokens, task, "x")
    return tried(tokens, task)


@pytest.mark.parametrize(("task", "args"), [(task, args) for task, all_ in KEPT.items() for args in all_])
def test_what_learns_is_kept(task: Any, args: str) -> None:
    """However slowly: a small rate and a strong regularisation rank the trial's rows rightly, too."""
    said = found(args, task)
    assert "refused" not in said
    assert said["pure"]


@pytest.mark.parametrize(("task", "args", "why"), REFUSED)
def test_what_learns_nothing_or_another_task_is_refused_with_the_reason(task: Any, args: str, why: str) -> None:
    """By name, or by what it did on rows that anything learns."""
    try:
        said = found(args, task)
    except (ArgumentsRefusedError, RuntimeError) as refused:
        said = {"refused": str(refused)}
    reason = said.get("refused") or ("" if said["pure"] else "predictions change the model")
    assert any(one in reason for one in why.split("|")), reason


@pytest.mark.parametrize("args", ["--ksvm", "--ksvm --loss_function hinge", "--binary", "--loss_function hinge", ""])
def test_both_classes_are_learnt_and_answered(args: str) -> None:
    """Labels of 0 and 1 mean nothing to what decides by the sign: it would say yes to everything."""
    learner, draw = here(args, "binary"), random.Random(1)
    for _ in range(400):
        yes = draw.random() < 0.5
        learner.step(Event.of({"c": "up" if yes else "down", "b": draw.random()}, yes))
    assert [learner.predict(Event.of({"c": one, "b": 0.5}).features).value for one in ("up", "down")] == [True, False]


def test_names_of_digits_are_places_as_documented() -> None:
    """docs/learners.md says so; a release of Vowpal Wabbit that tells them apart ends the sentence there."""
    learner = here("", "regression")
    for _ in range(200):
        learner.step(Event.of({"7": 1.0}, 3.0))
    said = [learner.predict(Event.of({name: 1.0}).features).value for name in ("7", "07", "8", "c7")]
    assert said[0] == said[1] != said[2] == said[3]


# Files that plain Vowpal Wabbit wrote --------------------------------------------------------------------------------


def plain(args: str, task: str, path: Path, *, hashed: bool = False) -> list[Any]:
    """Train plain Vowpal Wabbit, save it, and return what it answers for the three words and their neighbours."""
    draw = random.Random(1)
    workspace = Workspace(f"{args} --quiet")
    for _ in range(600):
        kind = draw.randrange(1, 4)
        zero_one = "logistic" not in args and "hinge" not in args and "--binary" not in args
        label = {"binary": int(kind == 1) if zero_one else 2 * (kind == 1) - 1, "multiclass": kind}.get(task, kind)
        workspace.learn(f"{label} | {word(kind, hashed)} b:{draw.random():.3f}")
    answers = [workspace.predict(f"| {word(kind, hashed)} b:0.5") for kind in (1, 2, 3)]
    workspace.save(str(path))
    workspace.finish()
    return answers


def word(kind: int, hashed: bool) -> str:
    return f"c:w{kind}" if hashed else f"cw{kind}"


def here(args: str, task: Any) -> VwLearner:
    said = found(args, task)
    trial = Trial(**{name: said[name] for name in Trial.__struct_fields__})
    return VwLearner(trial, Labels(task, names=[1, 2, 3] if task == "multiclass" else None))


#: what leaves nothing of these words, makes others of them in its text format than in JSON, or is not saved exactly
OTHER = ("--keep", "--ngram", "oaa 1000", "--affix", "--spelling", "--autolink")
#: what learns too little of so few rows to decide rightly
WEAK = ("--ksvm", "-l 1e-6", "--l1", "--l2", "tree", "log_multi")
FILES = [(task, args) for task, all_ in KEPT.items() for args in all_ if not any(one in args for one in OTHER)]


@pytest.mark.parametrize(("task", "args"), FILES)
def test_a_file_answers_here_as_it_did_or_is_refused(task: Any, args: str, tmp_path: Path) -> None:
    """With several models in one or one alone, saved as Vowpal Wabbit saves when nobody tells it how."""
    args = args.replace("oaa 4", "oaa 3").replace("ect 4", "ect 3")
    wanted = plain(args, task, tmp_path / "m.vw")
    learner = adopted(here(args, task), (tmp_path / "m.vw").read_bytes())
    again = learner.load(learner.save())
    for kind, answer in zip((1, 2, 3), wanted, strict=True):
        features = Event.of({"c": f"w{kind}", "b": 0.5}).features
        assert learner.says(features) == pytest.approx(answer, abs=1e-4)
        assert again.says(features) == pytest.approx(answer, abs=1e-4)
        said = learner.predict(features).value
        right = {"binary": kind == 1, "multiclass": kind - 1}.get(task)
        assert right is None or said == right or any(one in args for one in WEAK)


def test_a_file_that_chains_its_hashes_is_read_so(tmp_path: Path) -> None:
    """The header says how names and texts were put together, and the learner goes on with that."""
    wanted = plain("--chain_hash", "regression", tmp_path / "m.vw", hashed=True)
    learner = adopted(here("", "regression"), (tmp_path / "m.vw").read_bytes())
    said = [learner.says(Event.of({"c": f"w{kind}", "b": 0.5}).features) for kind in (1, 2, 3)]
    assert said == pytest.approx(wanted, abs=1e-4)
    assert "--chain_hash" in learner.tokens


@pytest.mark.parametrize("how", ["--hash all", "--hash strings", "--hash all --chain_hash"])
def test_a_file_is_read_with_the_hash_that_its_header_names(how: str, tmp_path: Path) -> None:
    """Whatever the arguments say; with --hash all, JSON means other features than the text format, so it is refused."""
    plain(how, "regression", tmp_path / "m.vw")
    data = (tmp_path / "m.vw").read_bytes()
    if "all" in how:
        with pytest.raises(StateRefusedError, match="plain Vowpal Wabbit answers"):
            adopted(here("", "regression"), data)
        return
    assert ("--chain_hash" in adopted(here("", "regression"), data).tokens) == ("chain" in how)


def test_a_file_is_asked_in_the_configured_namespaces(tmp_path: Path) -> None:
    """What the configuration puts elsewhere is there in plain Vowpal Wabbit's question, too."""
    workspace = Workspace("-q uv --quiet")
    for number in range(300):
        workspace.learn(f"{number % 3} |u a:{number % 3} |v b:{number % 2}")
    wanted = workspace.predict("|u a:2 |v b:1")
    workspace.save(str(tmp_path / "m.vw"))
    spaces = {"u": ["a"], "v": ["b"]}
    trial = here("-q uv", "regression").trial
    data = (tmp_path / "m.vw").read_bytes()
    learner = adopted(VwLearner(trial, Labels("regression"), namespaces=spaces), data)
    assert learner.says(Event.of({"a": 2.0, "b": 1.0}).features) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("args", ["", "--loss_function classic", "--loss_function hinge", "--loss_function logistic",
                                  "--loss_function poisson", "--binary", "--link glf1", "--ksvm"])  # fmt: skip
@pytest.mark.parametrize(
    ("trained", "labels"),
    [("", (3, 80)), ("", (-2, 2)), ("", (0.2, 0.7)), ("", (0, 5)), ("--loss_function quantile", (3, 80)),
     ("--loss_function expectile --expectile_q 0.3", (0, 80)), ("--loss_function poisson --link poisson", (3, 80)),
     ("--loss_function poisson", (3, 80))],
)  # fmt: skip
def test_a_file_of_numbers_is_no_binary_model(
    trained: str, labels: tuple[float, float], args: str, tmp_path: Path
) -> None:
    """Its labels are not two classes, whatever the arguments say."""
    workspace = Workspace(f"{trained} --quiet")
    for number in range(100):
        workspace.learn(f"{labels[number % 2]} | a:{number % 2} b")
    workspace.save(str(tmp_path / "m.vw"))
    if args == "--loss_function poisson":
        with pytest.raises(LearnersError):
            check_loss(arguments(args, "x"), "binary", "x")
        return
    with pytest.raises(
        LearnersError, match=r"labels from|trained with|trained without|does not name|Disagreeing|plain Vowpal"
    ):
        adopted(here(args, "binary"), (tmp_path / "m.vw").read_bytes())


def test_counts_beyond_fifty_are_poisson_all_the_same(tmp_path: Path) -> None:
    """The range in the header goes on to the largest label."""
    args = "--loss_function poisson --link poisson"
    workspace = Workspace(f"{args} --quiet")
    for number in range(100):
        workspace.learn(f"{3 + 77 * (number % 2)} | a:{number % 2} b")
    workspace.save(str(tmp_path / "m.vw"))
    assert adopted(here(args, "regression"), (tmp_path / "m.vw").read_bytes())


def test_a_loss_that_no_file_tells_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Squared or quantile: the arguments decide, and who imports is told so."""
    plain("--loss_function quantile", "regression", tmp_path / "m.vw")
    adopted(here("", "regression"), (tmp_path / "m.vw").read_bytes())
    assert "learns on with --loss_function squared" in caplog.text


@pytest.mark.parametrize(
    ("trained", "args", "task", "names", "why"),
    [
        ("--loss_function logistic", "", "binary", None, "trained with --loss_function logistic"),
        ("", "--loss_function logistic", "binary", None, "another loss function"),
        ("--binary", "", "binary", None, "--binary"),
        ("--loss_function hinge", "", "binary", None, "labels from -1 to 1"),
        ("--oaa 3", "--oaa 3", "multiclass", [], "event.labels"),
        ("--oaa 3", "--oaa 3", "multiclass", [3, 1, 2], r"event.labels = \[1, 2, 3\]"),
        ("--oaa 4", "--oaa 3", "multiclass", [1, 2, 3], "oaa"),
        ("--oaa 3", "--ect 3", "multiclass", [1, 2, 3], "--oaa"),
        ("", "--link logistic", "binary", None, "answers|another"),
        ("", "--binary", "binary", None, "plain Vowpal Wabbit answers"),
        ("-b 12", "", "regression", None, "12 bits"),
        ("-q ab", "", "regression", None, "does not name"),
    ],
)
def test_a_file_of_another_make_is_refused_with_what_differs(
    trained: str, args: str, task: Any, names: Any, why: str, tmp_path: Path
) -> None:
    """Loss, link, classes, bits: what the header tells, and what only the answers tell."""
    plain(trained, task, tmp_path / "m.vw")
    said = found(args, task)
    learner = VwLearner(Trial(**{name: said[name] for name in Trial.__struct_fields__}), Labels(task, names=names))
    with pytest.raises(LearnersError, match=why):
        adopted(learner, (tmp_path / "m.vw").read_bytes())
    assert issubclass(StateRefusedError, LearnersError)
