"""Which drills there are, and playing one."""

from collections.abc import Callable

from stream.demo import drills_of_events, drills_of_processes
from stream.demo.catastrophes import CATASTROPHES
from stream.demo.drill import AWAY_SECONDS, Card, Deed, Drill
from stream.demo.stage import RETRAIN_DRILLS, Stage

#: what is done to something else than the events
_OTHERS: dict[str, Deed] = {
    "kill": ("trainer, guard and serving are killed with -9", drills_of_processes.kill),
    "torn-snapshot": ("the newest snapshot is cut off in the middle of its model", drills_of_processes.tear),
    "broker-down": (f"the source is away for {AWAY_SECONDS:.0f} s", drills_of_processes.away),
    "retrain-fails": (
        "a full retrain is asked for, and its folder of work cannot be used", drills_of_processes.retrain_fails,
    ),
    "baseline-worse": ("a full retrain with a recipe that makes a bad model", drills_of_processes.baseline_worse),
    "s3-down": (f"the object store is away for {AWAY_SECONDS:.0f} s", drills_of_processes.store_away),
}  # fmt: skip
DRILLS = (*CATASTROPHES, *_OTHERS)


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
