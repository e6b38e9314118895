"""Several models that share the requests under a policy: fixed shares, or by weights that their losses gave them."""

import logging
from collections.abc import Callable, Mapping

import msgspec

from learners import Features, LearnersError, Prediction
from snapshots import Lineage
from snapshots.errors import DamagedError, VersionMismatchError
from stream.rollout.routing import position_of
from stream.serve.loaded import CHAMPION, Serving, load_snapshot
from stream.settings import Config

log = logging.getLogger("holdfast.serving")
#: what answers say in the learner's place when the weighted mean of all answers
MEAN = "mean"


class Shares(msgspec.Struct, frozen=True):
    """Who answers just now. Replaced as a whole, never changed.

    ``shares``: name → the share of the requests, which sum to 1. ``weights``: of a mean, None where one answers.
    """

    servings: dict[str, Serving]
    shares: dict[str, float]
    weights: dict[str, float] | None = None

    def chosen(self, key: str, salt: bytes) -> str:
        """Whose turn it is, by a keyed hash."""
        place, reached = position_of(key, salt) / 100, 0.0
        for name, share in self.shares.items():
            reached += share
            if place < reached:
                return name
        return next(reversed(self.shares))


class Arms:
    """Follows the learners that may answer. ``now`` is in Unix seconds."""

    def __init__(self, config: Config, now: Callable[[], float]) -> None:
        self._config, self._now = config, now
        self._policy = config.routing.policy
        self._servings: dict[str, Serving] = {}
        self._refused: set[tuple[str, int]] = set()
        self.shares: Shares | None = None

    def follow(self, lineage: Lineage, champion: Serving | None) -> None:
        """Look once who may answer, and load it: newest passing snapshots of learners that nothing stopped."""
        if self._policy == "champion" or champion is None or champion.epoch is None:
            self.shares = None
            return
        servings = {champion.name: champion}
        for name in self._config.learners:
            number = lineage.serving(name) if name != champion.name else None
            if number is None or lineage.decided.stopped(name) is not None:
                continue
            found = self._loaded(lineage, name, number)
            if found is not None:
                servings[name] = found
        self._servings = servings
        manifest = lineage.manifest(champion.snapshot)
        able = set(servings)  # what is stopped was left out above, but for the champion
        if lineage.decided.stopped(champion.name) is not None and len(able) > 1:
            able.remove(champion.name)
        weights = manifest.weights if manifest is not None else {}
        self.shares = self._shares(servings, able, weights, champion.name)

    def _loaded(self, lineage: Lineage, name: str, number: int) -> Serving | None:
        """The learner's snapshot; the one before where that cannot be loaded, which is said once."""
        there = self._servings.get(name)
        if (there is not None and there.snapshot == number) or (name, number) in self._refused:
            return there
        try:
            return load_snapshot(self._config, lineage, number, name, self._now())[0]
        except (DamagedError, VersionMismatchError, LearnersError) as cause:
            self._refused.add((name, number))
            log.error("snapshot %d of %s cannot serve: %s", number, name, cause)
            return there

    def _shares(
        self, servings: dict[str, Serving], able: set[str], weights: Mapping[str, float], champion: str
    ) -> Shares:
        """Shares among those who are able; the champion stays at hand for where one of them fails."""
        first = champion if champion in able else min(able)
        if self._policy == "split":
            wanted = self._config.routing.shares
            given = {name: wanted.get(name, 0.0) / 100 for name in servings if name in able}
            given[first] += 1 - sum(given.values())  # what cannot answer leaves its share to the champion
            return Shares(servings, {name: share for name, share in given.items() if share > 0})
        known = {name: weights.get(name, 0.0) for name in servings if name in able}
        whole = sum(known.values())
        if whole <= 0:
            return Shares(servings, {first: 1.0})
        known = {name: weight / whole for name, weight in known.items()}
        best = max(known, key=lambda name: known[name])
        if self._policy == "thompson":
            return Shares(servings, known)
        mean = self._config.routing.answer == "mean"
        return Shares(servings, {best: 1.0}, known if mean else None)


def mean_of(shares: Shares, features: Features, champion: Serving) -> Prediction:
    """The weighted mean of what all say; one that fails has no say. Raises what the champion raises."""
    said: list[tuple[float, Prediction]] = []
    for name, weight in (shares.weights or {}).items():
        try:
            one = shares.servings[name].learner.predict(features)
        except Exception:
            if name == champion.name:
                raise
            continue
        if one.value is not None and weight > 0:
            said.append((weight, one))
    whole = sum(weight for weight, _ in said)
    if not said or whole <= 0:
        return champion.learner.predict(features)
    first = said[0][1]
    if first.probability is not None:
        chance = sum(weight * _chance(one) for weight, one in said) / whole
        return Prediction(chance >= 0.5, chance)
    if first.probabilities is None and not isinstance(first.value, bool) and champion.task == "regression":
        return Prediction(sum(weight * float(one.value or 0.0) for weight, one in said) / whole)
    chances: dict[int, float] = {}
    for weight, one in said:
        for number, chance in (one.probabilities or {int(one.value or 0): 1.0}).items():
            chances[number] = chances.get(number, 0.0) + weight / whole * chance
    return Prediction(max(chances, key=lambda number: chances[number]), None, chances)


def _chance(said: Prediction) -> float:
    return said.probability if said.probability is not None else float(said.value or 0)


def route_of(name: str, champion: str) -> str:
    """What answers say as their route."""
    return CHAMPION if name == champion else name
