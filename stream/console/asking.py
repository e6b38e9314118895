"""Asks every model the same question: champion, challengers and baseline side by side. A process of its own.

It loads models, so it is shut in before the first byte of one is read, as every process that does. The question comes
on standard input as ``{"x": {...}}``, the answers go out as JSON: ``{"answers": [...]}``, or ``{"detail": "..."}``.
An empty question asks for the weights of the linear models, beside those of their reference.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from learners import Features, LearnersError
from snapshots import Lineage, SnapshotsError
from stream.config import load
from stream.errors import StreamError
from stream.parts import import_kind, labels_of, store_of
from stream.process import wall
from stream.refusal import Refusal
from stream.serve.loaded import answer_of, load_baseline, load_snapshot
from stream.settings import Config
from stream.source.codec import Codec

log = logging.getLogger("holdfast.console")


def ask(config: Config, lineage: Lineage, body: bytes) -> dict[str, Any]:
    """Every answer to one question, or why it is none."""
    asked = Codec(config.event, labels_of(config)).question(body)
    if isinstance(asked, Refusal):
        return {"detail": f"{asked.field}: {asked.message}"}
    _, features = asked
    champion = lineage.champion()
    found = []
    for name in config.learners:
        number = lineage.serving(name)
        role = "champion" if name == champion else "challenger"
        if number is None:
            found.append({"learner": name, "role": role, "detail": "no snapshot of it has passed"})
            continue
        found.append(_asked(partial(_learner, config, lineage, name, number, features), name, role))
    if (baseline := lineage.decided.baseline) is not None:
        found.append(_asked(partial(_baseline, lineage, baseline, features), f"baseline {baseline}", "baseline"))
    return {"answers": found}


def weigh(config: Config, lineage: Lineage) -> dict[str, Any]:
    """The most telling weights of each linear model that serves, and what they were at its reference."""
    newest, found = lineage.newest(), {}
    for name, one in config.learners.items():
        number = lineage.serving(name)
        part = newest.learners.get(name) if newest is not None else None
        if one.kind != "river" or number is None or part is None:
            continue
        from stream.console.contributions import telling, weights  # noqa: PLC0415  only where there is River

        numbers = [number, part.reference if part.reference is not None else lineage.numbers[0]]
        try:
            models: list[Any] = [load_snapshot(config, lineage, n, name, time.time())[0].learner for n in numbers]
            now, then = (weights(model.model) for model in models)
        except Exception as cause:  # the reference may be gone; what serves is said elsewhere to be
            log.debug("no weights of %s: %s", name, cause)
            continue
        if now is not None and then is not None:
            found[name] = {"snapshot": numbers[0], "reference": numbers[1], "weights": telling(now, then)}
    return {"learners": found}


def _asked(answer: Callable[[], dict[str, Any]], name: str, role: str) -> dict[str, Any]:
    try:
        return {**answer(), "learner": name, "role": role}
    except (SnapshotsError, LearnersError) as cause:
        return {"learner": name, "role": role, "detail": str(cause)}
    except Exception as cause:
        return {"learner": name, "role": role, "detail": f"{type(cause).__name__}: {cause}"[:300]}


def _baseline(lineage: Lineage, number: int, features: Features) -> dict[str, Any]:
    serving = load_baseline(lineage, number, time.time())
    return answer_of(serving, serving.learner.predict(features), None)


def _learner(config: Config, lineage: Lineage, name: str, number: int, features: Features) -> dict[str, Any]:
    serving, _ = load_snapshot(config, lineage, number, name, time.time())
    answer = answer_of(serving, serving.learner.predict(features), None)
    if config.learners[name].kind == "river":
        from stream.console.contributions import contributions  # noqa: PLC0415  only where there is River

        model: Any = serving.learner
        answer["contributions"] = contributions(model.model, features.flat())
    return answer


def main() -> None:
    """Answer one question about the lineage of the configuration that is named."""
    try:
        config = load(Path(sys.argv[1]), os.environ)
        lineage = Lineage(store_of(config), looking=True).refresh()
        for kind in {one.kind for one in config.learners.values()}:
            import_kind(kind)
        if config.wall.enabled:
            wall.put_up(may_connect="://" in config.store.url)
        asked = sys.stdin.buffer.read()
        said = ask(config, lineage, asked) if asked else weigh(config, lineage)
    except (StreamError, SnapshotsError, LearnersError) as cause:
        said = {"detail": str(cause)}
    sys.stdout.buffer.write(orjson.dumps(said))


if __name__ == "__main__":
    main()
