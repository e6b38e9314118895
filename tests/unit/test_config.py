"""The configuration: TOML, the environment over it, and errors that say what to write."""

from pathlib import Path
from typing import Any

import pytest

from stream.bearer import tokens_of
from stream.config import load
from stream.errors import ConfigError

GOOD = """
name = "payments"
task = "binary"
[source]
topics = ["payments"]
[source.kafka]
"bootstrap.servers" = "127.0.0.1:9092"
[event]
slices = ["country"]
[learners.linear]
kind = "river"
factory = "model:linear"
role = "champion"
[learners.hashed]
kind = "vw"
args = "-b 22"
[snapshots]
keep = { last = 5, hourly = 2 }
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "holdfast.toml"
    path.write_text(text)
    return path


def test_a_configuration_with_defaults(tmp_path: Path) -> None:
    """What is not written has its default; relative paths are relative to the file."""
    config = load(write(tmp_path, GOOD), {})
    assert (config.first_champion, config.serve.port, config.snapshots.keep.last) == ("linear", 8000, 5)
    assert config.snapshots.keep.daily == 30
    assert config.base == tmp_path
    assert config.weight_path == "w"


def test_every_key_can_come_from_the_environment(tmp_path: Path) -> None:
    """Numbers, texts, lists and librdkafka's dotted names."""
    config = load(
        write(tmp_path, GOOD),
        {
            "HOLDFAST_SERVE__PORT": "9000",
            "HOLDFAST_STORE__URL": "elsewhere",
            "HOLDFAST_EVENT__SLICES": '["a", "b"]',
            "HOLDFAST_SOURCE__KAFKA__BOOTSTRAP_SERVERS": "broker:1",
            "HOLDFAST_TOKEN": "not a key",
            "OTHER": "ignored",
        },
    )
    assert (config.serve.port, config.store.url, config.event.slices) == (9000, "elsewhere", ["a", "b"])
    assert config.source.kafka["bootstrap.servers"] == "broker:1"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"[event]": "[evnt]"}, "did you mean event"),
        ({"slices": "slice"}, "did you mean event.slices"),
        ({"factory": "facory"}, "did you mean learners.linear.factory"),
        ({"keep = { last": "keep = { lst"}, "did you mean snapshots.keep.last"),
        ({'task = "binary"': 'task = "binry"'}, "task"),
        ({'role = "champion"': 'role = "king"'}, "role"),
        ({'role = "champion"': ""}, "exactly one learner is the champion"),
        ({'args = "-b 22"': 'role = "champion"'}, "exactly one learner is the champion"),
        ({'factory = "model:linear"': ""}, "needs factory"),
        ({'topics = ["payments"]': ""}, "source.topics is empty"),
        ({'"bootstrap.servers"': '"group.id"'}, "bootstrap.servers|group.id"),
        ({'name = "payments"': 'name = "no spaces please"'}, "name"),
        ({'name = "payments"': ""}, "name"),
    ],
)
def test_errors_name_the_key_and_what_to_write(tmp_path: Path, change: dict[str, str], word: str) -> None:
    """An unknown key suggests the nearest one."""
    text = GOOD
    for old, new in change.items():
        text = text.replace(old, new)
    with pytest.raises(ConfigError, match=word):
        load(write(tmp_path, text), {})


@pytest.mark.parametrize("key", ["group.id", "enable.auto.commit", "isolation.level", "auto.offset.reset"])
def test_settings_that_would_break_the_promises_are_refused(tmp_path: Path, key: str) -> None:
    """With the reason."""
    text = GOOD.replace('"bootstrap.servers"', f'"{key}" = "x"\n"bootstrap.servers"')
    with pytest.raises(ConfigError, match=f"{key}.*cannot be set"):
        load(write(tmp_path, text), {})


@pytest.mark.parametrize("text", ["name = ", "\xff"])
def test_a_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    """Says where."""
    path = tmp_path / "holdfast.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"holdfast\.toml"):
        load(path, {})


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    """Holdfast init."""
    with pytest.raises(ConfigError, match="holdfast init"):
        load(tmp_path / "none.toml", {})


def test_one_learner_alone_is_the_champion(tmp_path: Path) -> None:
    """Nothing else could answer."""
    text = GOOD.replace('role = "champion"', "").split("[learners.hashed]")[0]
    assert load(write(tmp_path, text), {}).first_champion == "linear"


def test_the_champion_may_be_named_or_left_to_the_guard(tmp_path: Path) -> None:
    """By name, whatever the roles say; with auto the one whose role it is begins, or the first."""
    assert load(write(tmp_path, 'champion = "hashed"\n' + GOOD), {}).first_champion == "hashed"
    assert load(write(tmp_path, 'champion = "auto"\n' + GOOD), {}).first_champion == "linear"
    bare = GOOD.replace('role = "champion"', "")
    assert load(write(tmp_path, 'champion = "auto"\n' + bare), {}).first_champion == "linear"
    with pytest.raises(ConfigError, match="known: linear, hashed"):
        load(write(tmp_path, 'champion = "nobody"\n' + GOOD), {})


def test_the_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """And is None when there is neither."""
    config: Any = load(write(tmp_path, GOOD), {})
    assert tokens_of(config, {}).changes.value() is None
    (tmp_path / "token").write_text("secret\n")
    assert tokens_of(config, {}).changes.value() == "secret"
    assert tokens_of(config, {"HOLDFAST_TOKEN": "other"}).changes.value() == "other"


DESIGN = """
name = "payments"
task = "binary"
[source]
kind = "kafka"
topics = ["payments"]
start = "earliest"
[source.kafka]
"bootstrap.servers" = "127.0.0.1:9092"
[event]
id = "id"
time = "ts"
features = "x"
label = "y"
weight = "w"
positive = 1
slices = ["country"]
time_format = "auto"
[learners.linear]
kind = "river"
factory = "model:linear"
role = "champion"
[learners.hashed]
kind = "vw"
args = "--loss_function logistic -b 22"
role = "challenger"
[store]
url = "store"
[snapshots]
every_seconds = 1.0
every_events = 100_000
keep = { last = 50, minutely = 60, hourly = 48, daily = 30 }
[holdout]
rate = 0.02
rows = 5000
by = "id"
[guard]
tolerance = 0.01
false_reverts_per_year = 1.0
moved = "hold"
hold_events = 50_000
hold_seconds = 900
[serve]
host = "127.0.0.1"
port = 8000
token_file = "token"
"""


def test_every_firm_key_is_known(tmp_path: Path) -> None:
    """The configuration of the design, word for word."""
    assert load(write(tmp_path, DESIGN), {}).guard.moved == "hold"


@pytest.mark.parametrize("line", ['label = "x.y"', 'id = "x"', 'weight = "x.w"'])
def test_a_field_among_the_features_is_refused(tmp_path: Path, line: str) -> None:
    """It would be learnt as a feature."""
    with pytest.raises(ConfigError, match="among the features"):
        load(write(tmp_path, GOOD.replace("[event]", f"[event]\n{line}")), {})
