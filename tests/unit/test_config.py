"""The configuration: TOML, the environment over it, and errors that say what to write."""

import itertools
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.config import check, load
from stream.errors import ConfigError
from stream.settings import Config

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


@pytest.mark.parametrize("key", ["wait", "idle", "late_wait"])
@pytest.mark.parametrize("value", ["30 minutes", "-5m", "m", "1.5", "1h 30m", "10000000000s", ""])
def test_what_is_no_duration_is_said_without_a_pattern(key: str, value: str) -> None:
    """Every duration, and every spelling that is none; an empty one only where a setting says what it then is."""
    if key == "late_wait" and not value:
        assert check(having(("join", key), value), Path("folder")).join.late_seconds == 1800.0
        return
    with pytest.raises(ConfigError, match=f'a duration such as "30m".*`join.{key}`'):
        check(having(("join", key), value), Path("folder"))


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


def settings(struct: type[msgspec.Struct], *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting there is, with its type: those of one learner stand for all."""
    for field in msgspec.structs.fields(struct):
        kind = typing.get_args(field.type)[1] if field.name == "learners" else field.type
        here = (*path, field.name, *(["linear"] if field.name == "learners" else []))
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from settings(kind, *here)
        else:
            yield here, kind


def bare(kind: Any) -> Any:
    """A type without what is said about it."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def having(path: tuple[str, ...], value: Any, source: str = "files") -> dict[str, Any]:
    """A configuration with one setting of one value."""
    table: dict[str, Any] = {
        "name": "payments", "task": "binary", "source": {"kind": source},
        "learners": {"linear": {"kind": "river", "factory": "model:linear"}},
    }  # fmt: skip
    if source == "kafka":
        table["source"] |= {"topics": ["t"], "kafka": {"bootstrap.servers": "b:1"}}
    place = table
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    return table


NUMBERS = [(".".join(path), path) for path, kind in settings(Config) if bare(kind) in (int, float)]
ENDLESS = [float("inf"), float("-inf"), float("nan"), 1e300, -1e300]


@pytest.mark.parametrize(("key", "path"), NUMBERS)
def test_no_number_is_endless(key: str, path: tuple[str, ...]) -> None:
    """What is infinite, no number, or beyond any clock, file and stream is refused by its key: of all settings."""
    kind = bare(dict(settings(Config))[path])
    for value in [*ENDLESS, 10**30, 10**400, -(10**30)] if kind is float else [10**30, 10**400, -(10**30)]:
        with pytest.raises(ConfigError) as refused:
            check(having(path, value), Path("folder"))
        assert f"`{key}`" in str(refused.value) or "linear" in key, value


def test_the_table_of_numbers_is_whole() -> None:
    """Those of which it was found are in it."""
    assert {"signing.head_seconds", "guard.poll_seconds", "snapshots.keep.verdict_days"} <= dict(NUMBERS).keys()
    assert len(NUMBERS) > 90


@pytest.mark.parametrize("value", ENDLESS[:3])
@pytest.mark.parametrize("path", [("event", "positive"), ("event", "negative"), ("source", "kafka", "linger.ms")])
def test_no_value_of_any_type_is_endless(path: tuple[str, ...], value: float) -> None:
    """Also where texts and truth values may stand."""
    with pytest.raises(ConfigError, match=r"no finite number"):
        check(having(path, value, "kafka"), Path("folder"))
    with pytest.raises(ConfigError, match=r"event.labels.*no finite number"):
        check(having(("event", "labels"), [1, value]), Path("folder"))


@pytest.mark.parametrize("text", ["head_seconds = " + "9" * 5000, "a = " + "[" * 5000, "a" * 5000 + " = inf"])
def test_a_file_that_no_parser_takes_is_told(tmp_path: Path, text: str) -> None:
    """Numbers of 5,000 digits and brackets without end are no traceback."""
    with pytest.raises(ConfigError):
        load(write(tmp_path, f"{text}\n{GOOD}"), {})
    with pytest.raises(ConfigError):
        load(write(tmp_path, GOOD), {"HOLDFAST_GUARD__POLL_SECONDS": text.rpartition("= ")[2]})


@pytest.mark.parametrize("directory", ["/", "", ".", "..", "../..", "events/..", "a\0b"])
def test_the_directory_of_events_holds_events_alone(tmp_path: Path, directory: str) -> None:
    """Not the configuration, and not the whole machine."""
    with pytest.raises(ConfigError, match=r"source\.directory"):
        check(having(("source", "directory"), directory), tmp_path)
    check(having(("source", "directory"), directory, "kafka"), tmp_path)


@pytest.mark.parametrize(
    ("name", "end"), [*itertools.product(["payments", "learner", "host"], ["\n", "\r", "\0", " "])]
)
def test_a_name_ends_where_its_last_letter_does(name: str, end: str) -> None:
    """An end of a line behind it is no part of a name."""
    table = having(("serve", "hosts"), ["example.com" + (end if name == "host" else "")])
    table["name"] += end if name == "payments" else ""
    table["learners"] = {"linear" + (end if name == "learner" else ""): table["learners"]["linear"]}
    with pytest.raises(ConfigError):
        check(table, Path("folder"))
