"""Write learners/vw/options.txt: every option of the pinned Vowpal Wabbit with its short name and what values it takes.

Run after changing the pinned version, read the diff, and decide of each new option whether learners/vw/options.py
refuses it::

    python scripts/vw_options.py > learners/vw/options.txt
"""

from vowpalwabbit import Workspace


def rows() -> set[tuple[str, str, str]]:
    """Name, short name (or -), and flag, value or values."""
    config = Workspace("--quiet").get_config(filtered_enabled_reductions_only=False)
    options = (option for groups in config.values() for _, members in groups for option in members)
    found = set()
    for one in options:
        kind = {bool: "flag", list: "values"}.get(type(one.value), "value")
        found.add((one.name, one.short_name or "-", kind))
    return found


if __name__ == "__main__":
    for row in sorted(rows()):
        print(*row)
