"""The configuration: one TOML file, every key overridable by ``HOLDFAST_…``; docs/configuration.md lists the keys."""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from learners.labels import canonical, folded
from snapshots.errors import StoreError
from snapshots.store.object_store import where
from stream import choices, durations
from stream.errors import ConfigError
from stream.settings import Config, LearnerConfig

_FORBIDDEN_KAFKA = {
    "group.id": "the group is the lineage's name",
    "enable.auto.commit": "the place is kept in snapshots, and offsets are committed last",
    "enable.auto.offset.store": "the place is kept in snapshots",
    "isolation.level": "it is read_committed, or aborted events would be learnt",
    "auto.offset.reset": "it is error, or lost events would go unnoticed; set source.start instead",
    "enable.partition.eof": "it is true, or the end of a topic could not be told",
}
_NOT_KEYS = (
    "HOLDFAST_TEST_", "HOLDFAST_CONFIG", "HOLDFAST_LOG", "HOLDFAST_VIA",
    "HOLDFAST_TOKEN", "HOLDFAST_EVENTS_TOKEN", "HOLDFAST_LABELS_TOKEN", "HOLDFAST_READ_TOKEN", "HOLDFAST_TRUSTED_TOKEN",
)  # fmt: skip
_OPEN_TABLES = {"source.kafka", "event.types", "store.options"}
#: the beginning of an address, or its query, where a directory was to be
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:|.*@.*:|.*\?.*=", re.DOTALL | re.IGNORECASE)


def packed(config: Config) -> bytes:
    """The configuration and its folder as bytes, for a process of ours; :func:`unpacked` takes them."""
    return msgspec.msgpack.encode((str(config.base), config), enc_hook=str)


def unpacked(data: bytes) -> Config:
    """The configuration that :func:`packed` made."""
    base, config = msgspec.msgpack.decode(data, type=tuple[str, Config], dec_hook=lambda _, value: Path(value))
    config.base = Path(base)
    return config


def load(path: Path, environment: Mapping[str, str]) -> Config:
    """Read the file, lay the environment over it, and check everything; raise :class:`ConfigError`."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}. Write one with: holdfast init, or name it with --config FILE") from None
    except (OSError, ValueError, RecursionError) as cause:  # ValueError: no UTF-8, no TOML, a number of 5,000 digits
        raise ConfigError(f"{path} cannot be read: {cause}") from cause
    overlay(table, environment)
    return check(table, path.resolve().parent)


def overlay(table: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Put ``HOLDFAST_SERVE__PORT=9000`` over ``serve.port``; values are read as TOML, and as text when they are not.

    In ``source.kafka`` a single underscore stands for the dot: ``HOLDFAST_SOURCE__KAFKA__BOOTSTRAP_SERVERS``.
    """
    for variable, text in sorted(environment.items()):
        if not variable.startswith("HOLDFAST_") or variable.startswith(_NOT_KEYS):
            continue
        keys = variable.removeprefix("HOLDFAST_").lower().split("__")
        if keys[:2] == ["source", "kafka"]:
            keys = ["source", "kafka", *(key.replace("_", ".") for key in keys[2:])]
        place = table
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{variable}: {key} is not a table")
        place[keys[-1]] = _value(text)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def check(table: dict[str, Any], base: Path) -> Config:
    """Turn a table into a configuration, or say what is wrong and what to write instead."""
    _refuse_unknown(table, Config, "")
    choices.refuse_others(table, Config)
    try:
        config = msgspec.convert({**table, "base": ""}, Config, strict=True, dec_hook=lambda _, value: Path(value))
    except msgspec.ValidationError as cause:
        raise ConfigError(f"the configuration does not fit: {_in_words(cause)}. See docs/configuration.md") from cause
    config.base = base
    _check_together(config)
    return config


def _in_words(cause: Exception) -> str:
    said, _, where = str(cause).partition(" - at ")
    if durations.UNITS in said:  # the pattern of a duration, which nobody should have to read
        return f"{durations.IN_WORDS} — at {where.replace('`$.', '`')}"
    return str(cause).replace(" - at `$.", " — at `").replace("`$`", "the top level")


def _refuse_unknown(table: dict[str, Any], struct: type[msgspec.Struct], path: str) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct) if field.name != "base"}
    for key, value in table.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {path}{near[0]}?" if near else f"; known here: {', '.join(sorted(fields))}"
            raise ConfigError(f"unknown key {path}{key}{hint}")
        if not isinstance(value, dict) or f"{path}{key}" in _OPEN_TABLES:
            continue
        inner = fields[key].type
        if key == "learners":
            for name, learner in value.items():
                if isinstance(learner, dict):
                    _refuse_unknown(learner, LearnerConfig, f"learners.{name}.")
        elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _refuse_unknown(value, inner, f"{path}{key}.")


def _choose_champion(config: Config) -> None:
    """Let exactly one learner begin as the champion."""
    if config.champion not in ("", "auto"):
        if config.champion not in config.learners:
            known = ", ".join(config.learners)
            raise ConfigError(f'champion = "{config.champion}" is no learner; known: {known}, or "auto"')
        for name, learner in config.learners.items():
            learner.role = "champion" if name == config.champion else "challenger"
    champions = [name for name, learner in config.learners.items() if learner.role == "champion"]
    if not champions and (len(config.learners) == 1 or (config.champion == "auto" and config.learners)):
        next(iter(config.learners.values())).role = "champion"
    elif len(champions) != 1:
        names = ", ".join(config.learners) or "[learners.NAME]"
        raise ConfigError(
            f'exactly one learner is the champion, not {len(champions)}: set role = "champion" for {names}'
        )


def _check_together(config: Config) -> None:
    """Check what no single key tells."""
    _choose_champion(config)
    for name, learner in config.learners.items():
        if learner.kind == "river" and not learner.factory:
            raise ConfigError(f'learners.{name}: kind "river" needs factory = "module:function"')
    _check_paths(config)
    _check_names(config)
    _check_numbers(config)
    _check_store(config)
    _check_money(config)
    if config.source.kind == "kafka":
        if not config.source.topics and not config.labels.given:
            raise ConfigError('source.topics is empty: name at least one topic, or set source.kind = "files"')
        if "bootstrap.servers" not in config.source.kafka:
            raise ConfigError('[source.kafka] needs "bootstrap.servers" = "host:port"')
    else:
        _check_directory(config, "source.directory", config.source.directory)
    _check_trusted(config)
    _check_join(config)
    _check_rollout(config)
    _check_routing(config)
    for key in config.source.kafka:
        if key in _FORBIDDEN_KAFKA:
            raise ConfigError(f"[source.kafka] {key!r} cannot be set: {_FORBIDDEN_KAFKA[key]}")


def _check_directory(config: Config, setting: str, name: str) -> Path:
    """Refuse a directory of events that holds the configuration, or everything: who sends events writes there."""
    try:
        directory = (config.base / name).resolve()
    except (OSError, ValueError, RuntimeError) as cause:  # too long, a NUL in it, links in a circle
        raise ConfigError(f"{setting} = {name!r} is no directory: {cause}") from cause
    if config.base.resolve().is_relative_to(directory):
        raise ConfigError(
            f"{setting} = {name!r} holds the configuration itself, and every *.jsonl in it "
            'would be read as events: name a directory of their own, such as "events"'
        )
    return directory


def _check_trusted(config: Config) -> None:
    """Refuse a place of checked labels that is also one of events: they are never learnt."""
    trusted, source = config.holdout.trusted, config.source
    if trusted.directory and trusted.topic:
        raise ConfigError("holdout.trusted.directory and holdout.trusted.topic are both set: set one")
    if trusted.topic and "bootstrap.servers" not in source.kafka:
        raise ConfigError('holdout.trusted.topic is read with [source.kafka], which needs "bootstrap.servers"')
    if trusted.topic and trusted.topic in source.topics:
        raise ConfigError(f"holdout.trusted.topic = {trusted.topic!r} is in source.topics, and would be learnt")
    if trusted.directory:
        directory = _check_directory(config, "holdout.trusted.directory", trusted.directory)
        if source.kind == "files" and directory == (config.base / source.directory).resolve():
            raise ConfigError("holdout.trusted.directory is source.directory: its events would be learnt")


def _check_join(config: Config) -> None:
    """Refuse a join that could join nothing, or topics and directories that would hold two things."""
    source, predictions, labels, join = config.source, config.predictions, config.labels, config.join
    for name, one in (("predictions", predictions.directory), ("labels", labels.directory)):
        if one:
            _check_directory(config, f"{name}.directory", one)
    if predictions.directory and predictions.topic:
        raise ConfigError("predictions.directory and predictions.topic are both set: set one")
    if labels.directory and labels.topics:
        raise ConfigError("labels.directory and labels.topics are both set: set one")
    if (predictions.topic or labels.topics) and "bootstrap.servers" not in source.kafka:
        raise ConfigError('predictions.topic and labels.topics need [source.kafka] "bootstrap.servers"')
    named = [
        *([Path(source.directory).name] if source.kind == "files" else source.topics),
        *(Path(one).name for one in (predictions.directory, labels.directory) if one),
        *([predictions.topic] if predictions.topic else []), *labels.topics,
    ]  # fmt: skip
    for name in named:
        if named.count(name) > 1:
            raise ConfigError(f"{name!r} is named twice among events, predictions and labels: each has its own")
    if labels.given and join.missing == "negative" and config.task != "binary":
        raise ConfigError('join.missing = "negative" is for task = "binary": no other task has a label that means no')


def _check_rollout(config: Config) -> None:
    """Refuse steps that are none."""
    steps = config.rollout.steps
    if not steps or list(steps) != sorted(set(steps)) or steps[-1] != 100:
        raise ConfigError(
            f"rollout.steps = {list(steps)} are percents that grow, and end with 100, such as [1, 5, 25, 50, 100]"
        )


def _check_money(config: Config) -> None:
    """Refuse sums that lack one of their sides."""
    rules = config.retrain
    if rules.cost and not rules.gain:
        raise ConfigError("retrain.cost is weighed against retrain.gain, what a loss lower by 1 is worth for one event")
    if rules.budget and not rules.price_per_hour:
        raise ConfigError("retrain.budget is in money: set retrain.price_per_hour, what an hour of one process costs")
    price = rules.price_per_hour + rules.cost + rules.attention + rules.churn
    if rules.rule == "regret" and not (rules.gain and price):
        raise ConfigError(
            'retrain.rule = "regret" weighs what is lost against what a retrain costs: set retrain.gain, and a price: '
            "retrain.price_per_hour, retrain.cost, retrain.attention or retrain.churn"
        )


def _check_routing(config: Config) -> None:
    """Refuse shares of what is no learner, or that are more or less than everything."""
    shares, policy = config.routing.shares, config.routing.policy
    if unknown := shares.keys() - config.learners.keys():
        there = ", ".join(config.learners)
        raise ConfigError(f"routing.shares.{min(unknown)} is no learner: there are {there}")
    if policy == "split" and abs(sum(shares.values()) - 100) > 1e-6:
        raise ConfigError(f"routing.shares sum to {sum(shares.values()):g} %, and have to sum to 100")
    if policy != "split" and shares:
        raise ConfigError(f'routing.shares are for routing.policy = "split", and it is "{policy}"')
    if policy == "thompson":
        _check_rewards(config)


def _check_rewards(config: Config) -> None:
    """Refuse a policy by rewards that none can reach."""
    routing = config.routing
    low, high = routing.rewards
    if not math.isfinite(high - low) or low >= high:
        raise ConfigError(
            f"routing.rewards = [{low:g}, {high:g}] are the least and the greatest reward, such as [0, 1]"
        )
    if routing.floor * len(config.learners) > 1:
        raise ConfigError(
            f"routing.floor = {routing.floor:g} for each of {len(config.learners)} learners is more than 1"
        )
    if not (config.labels.given and config.predictions.given):
        raise ConfigError(
            'routing.policy = "thompson" spreads requests by the rewards of answers: set [predictions], where answers '
            "are written down, and [labels], where rewards come"
        )


def _check_store(config: Config) -> None:
    """Refuse an address that no store has; what it holds beside bucket and prefix may be a secret."""
    if "://" in config.store.url:
        try:
            where(config.store.url)
        except StoreError as cause:
            raise ConfigError(str(cause)) from None
    elif _ADDRESS.match(config.store.url):
        raise ConfigError("store.url looks like an address without ://. Write s3://bucket/prefix, or a directory")


def _check_numbers(config: Config) -> None:
    """Refuse infinite numbers where any number, text or truth value may stand."""
    event = config.event
    open_ones = [("event.positive", event.positive), ("event.negative", event.negative)]
    open_ones += [("event.labels", one) for one in event.labels]
    open_ones += [(f"source.kafka.{key}", value) for key, value in config.source.kafka.items()]
    for key, value in open_ones:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} = {value} is no finite number: write another value")


def _check_names(config: Config) -> None:
    """Refuse names that would mean two things, or that a learner could not be told."""
    seen: dict[str, object] = {}
    key_of = folded if config.event.fold_labels else canonical
    for label in config.event.labels:
        if (key := key_of(label)) in seen:
            raise ConfigError(f"event.labels names one label twice: {seen[key]!r} and {label!r}; write it once")
        seen[key] = label
    for name, learner in config.learners.items():
        placed: dict[str, str] = {}
        for space, features in learner.namespaces.items():
            if not space or space.startswith("_") or not space.isprintable() or not set(" |:").isdisjoint(space):
                raise ConfigError(
                    f"learners.{name}.namespaces: {space!r} is no name of a namespace: it must not be empty, begin "
                    "with _, or hold spaces, | or :"
                )
            for feature in features:
                if feature in placed:
                    raise ConfigError(
                        f"learners.{name}.namespaces: {feature!r} is in {placed[feature]!r} and in {space!r}; "
                        "a feature is in one"
                    )
                placed[feature] = space


def _check_paths(config: Config) -> None:
    """Refuse a label, or another field, that would also be learnt as a feature."""
    event = config.event
    for key, path in (("id", event.id), ("time", event.time), ("label", event.label), ("weight", config.weight_path)):
        if path == event.features or path.startswith(f"{event.features}."):
            raise ConfigError(
                f"event.{key} = {path!r} lies among the features, so it would be learnt as one: move it out"
            )
