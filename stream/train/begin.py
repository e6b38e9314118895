"""How a trainer begins, as the command that starts it was told."""

import msgspec


class Begin(msgspec.Struct, frozen=True):
    """How to begin: ``by`` names host and process, ``fresh`` a new lineage; ``accept`` takes changed learners.

    ``imports`` maps learners to files to begin from, in a lineage that has no snapshot yet. ``take_over``: also from a
    trainer that is alive.
    """

    by: str
    fresh: bool = False
    accept: bool = False
    operator: str = "operator"
    imports: dict[str, str] = {}
    take_over: bool = False
