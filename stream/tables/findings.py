"""What ``holdfast check`` found of a table, as people read it."""

from typing import Any

from stream.refusal import counted
from stream.terminal.printing import say, table

_SHOWN = 24


def show(checked: Any) -> None:
    """Print what ``holdfast check`` found of a table."""
    found, sent = checked.found, checked.sent
    rows = [
        [
            one.name,
            _ROLES.get(one.role, one.role),
            f"{one.share_missing:.1%}" if one.share_missing else "",
            _values(one),
        ]
        for one in found.columns.values()
    ]
    table(f"{found.path}: {found.rows:,} rows", ["column", "what it is", "missing", "values"], rows)
    if found.task is not None:
        counts = ", ".join(f"{text} {count / found.rows:.2%}" for text, count in list(found.labels.items())[:10])
        shares = "" if found.task == "regression" else f": {counts}"
        say(f"task {found.task}, label {found.label}{shares}")
    for sentence in found.said:
        say(f"- {sentence}")
    if sent is None:
        say("Which column is the label? holdfast check FILE --label COLUMN")
        return
    if sent.refused:
        many = f"{sent.refused.total():,} rows would be refused ({counted(sent.refused)})"
        say(f"{many}. The first: {sent.example}", "yellow")
        for reason in sent.refused:
            if reason in _ADVICE:
                say(_ADVICE[reason])
    if sent.unlabelled:
        say(f"{sent.unlabelled:,} rows have no label, and teach nothing")
    if sent.duplicates:
        say(f"{sent.duplicates:,} rows have the id of another one, and count once")
    say(f"A folder that learns this: {checked.begin}")


#: what can be done about rows that would be refused
_ADVICE = {
    "reserved_name": "Names that begin with _ are Holdfast's own: rename the column, or leave it out (--exclude NAME)",
    "wrong_type": (
        "Lists of objects are no features: leave the column out (--exclude NAME), or let a decoder make features of "
        "them (event.decoder in docs/configuration.md)"
    ),
}
#: how many names of what lies in objects are shown
_LEAVES = 4
_ROLES = {
    "number": "number", "code": "whole number of few values", "category": "text of few values",
    "hashed": "text of many values",
    "words": "free text", "date": "date", "nested": "nested", "constant": "always the same: left out",
    "counter": "counts the rows: left out", "time": "time of the event",
}  # fmt: skip


def _values(one: Any) -> str:
    if one.low is not None and one.role in ("number", "counter"):
        return f"{one.low:g} to {one.high:g}"
    if one.leaves:
        shown = ", ".join(f"{name.partition('.')[2]} {kind}" for name, kind in list(one.leaves.items())[:_LEAVES])
        return shown + " …" * (len(one.leaves) > _LEAVES)
    many = f"{one.distinct:,}{'+' if one.many else ''} values: "
    shown = ", ".join(text if len(text) <= _SHOWN else text[:_SHOWN] + "…" for text in list(one.values)[:4])
    return many + shown if one.values else ""
