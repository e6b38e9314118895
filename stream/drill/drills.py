"""Which drills there are, and playing one."""

from collections.abc import Callable
from importlib.util import find_spec

from stream.demo.catastrophes import CATASTROPHES
from stream.drill import drills_of_events, drills_of_processes, drills_of_rollouts
from stream.drill.card import AWAY_SECONDS, Card, Deed, Drill
from stream.drill.stage import RETRAIN_DRILLS, Stage

#: what is done to something else than the events
_OTHERS: dict[str, Deed] = {
    "kill": ("trainer, guard and serving are killed with -9", drills_of_processes.kill),
    "torn-snapshot": ("the newest snapshot is cut off in the middle of its model", drills_of_processes.tear),
    "broker-down": (f"the source is away for {AWAY_SECONDS:.0f} s", drills_of_processes.away),
    "retrain-fails": (
        "a full retrain is asked for, and its folder of work cannot be used", drills_of_processes.retrain_fails,
    ),
    "baseline-worse": ("a full retrain with a recipe that makes a bad model", drills_of_processes.baseline_worse),
    "bad-canary": ("a candidate that is worse by its labels is rolled out", drills_of_rollouts.taken_back),
    "crashing-canary": (
        "a candidate that fails on a tenth of the requests is rolled out", drills_of_rollouts.taken_back,
    ),
    "slow-canary": ("a candidate that is too slow is rolled out", drills_of_rollouts.taken_back),
    "ramp-broker-down": (
        f"the source is away for {AWAY_SECONDS:.0f} s in the middle of a ramp", drills_of_rollouts.broker_away,
    ),
    "ramp-serving-killed": (
        "serving is killed with -9 in the middle of a ramp", drills_of_rollouts.serving_killed,
    ),
    "s3-down": (f"the object store is away for {AWAY_SECONDS:.0f} s", drills_of_processes.store_away),
}  # fmt: skip
DRILLS = (*CATASTROPHES, *_OTHERS)


def playable(store: str) -> list[str]:
    """The drills that can be played here: those of a retrain want torch, ``s3-down`` an object store."""
    without = set() if store else {"s3-down"}
    without |= set(RETRAIN_DRILLS) if find_spec("torch") is None else set()
    return [name for name in DRILLS if name not in without]


def play(name: str, stage: Stage, seconds: float, say: Callable[[str], None], stopping: Callable[[], bool]) -> Card:
    """Play a drill to its card. ``seconds``: how long it may take until it is undone; ``say`` is told how far it is."""
    drill = Drill(name, stage, seconds, stopping)
    if stage.changes is not None and name in CATASTROPHES:
        deed: Deed = stage.changes.words(name), drills_of_events.changed
    else:
        deed = _OTHERS[name]

    def before() -> None:
        if name in RETRAIN_DRILLS:
            say("training a first baseline …")
            drills_of_processes.train_first(drill)

    return drill.run(deed, say, before)
