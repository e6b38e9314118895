"""Building the join from the configuration: which topics hold what, and over which sources."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from learners.labels import Labels
from stream.join.join import Join
from stream.join.records import Decoder, Kind
from stream.join.several import Several
from stream.join.source import JoinedSource
from stream.join.waiting import Waiting
from stream.settings import Config, EventPaths
from stream.source.codec import Codec, Rewards
from stream.source.source import Source


def kinds_of(config: Config) -> dict[str, Kind]:
    """What each topic holds; a directory is a topic of its name."""
    source, predictions, labels = config.source, config.predictions, config.labels
    kinds: dict[str, Kind] = dict.fromkeys(
        [Path(source.directory).name] if source.kind == "files" else source.topics, "events"
    )
    for topic in (Path(predictions.directory).name, predictions.topic):
        if topic:
            kinds[topic] = "predictions"
    for topic in (Path(labels.directory).name, *labels.topics):
        if topic:
            kinds[topic] = "labels"
    return kinds


def labels_codec(config: Config, labels: Labels) -> Codec:
    """The codec of labels that come by themselves."""
    fields, event = config.labels, config.event
    paths = EventPaths(
        id=fields.id, time=fields.time, label=fields.label, time_format=event.time_format,
        max_ahead_seconds=event.max_ahead_seconds, max_bytes=event.max_bytes,
    )  # fmt: skip
    low, high = config.routing.rewards
    rewards = Rewards(fields.reward, low, high) if config.routing.policy == "thompson" else None
    return Codec(paths, labels, fields.weight, rewards=rewards)


def joined(
    config: Config,
    source_of: Callable[[Config], Source],
    codec: Codec,
    labels: Labels,
    digest: Callable[[str], bytes],
    path: Path | None,
) -> JoinedSource:
    """A source of events with their labels; ``source_of`` opens what a configuration's ``[source]`` describes.

    ``path`` is the file of what waits, None for one of its own that goes when it is closed.
    """
    places = [config.source] if config.source.kind == "files" else []
    topics = config.source.topics if config.source.kind == "kafka" else []
    for directory in (config.predictions.directory, config.labels.directory):
        places += [msgspec.structs.replace(config.source, kind="files", directory=directory)] if directory else []
    topics = [*topics, *([config.predictions.topic] if config.predictions.topic else []), *config.labels.topics]
    if topics:
        places.append(msgspec.structs.replace(config.source, kind="kafka", topics=topics))
    for one in places:
        if one.kind == "files":
            (config.base / one.directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    # none waits by itself: what one has to give would wait for the others
    sources = [
        source_of(msgspec.structs.replace(config, source=msgspec.structs.replace(one, poll_seconds=0.0)))
        for one in places
    ]
    inner = sources[0] if len(sources) == 1 else Several(sources)
    decoder = Decoder(kinds_of(config), codec, labels_codec(config, labels), labels, digest)
    join = Join(config.join, Waiting(path))
    return JoinedSource(inner, join, decoder, config.join.idle_seconds, config.source.poll_seconds)
