"""``make bench``: every row of the table, each with its yardstick in the same run; ``--only NAME`` for a part."""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import figures
import flat
import guarding
import learning
import retraining
import service
import serving

PARTS: dict[str, Callable[[str, Path], list[figures.Row]]] = {
    "learning": lambda address, _: learning.rows(address),
    "snapshots": lambda address, _: service.lost_to_snapshots(address),
    "serving": lambda _, folder: serving.rows(folder),
    "pauses": lambda _, folder: service.pauses(folder),
    "freshness": service.freshness,
    "guard": lambda _, folder: guarding.rows(folder),
    "revert": lambda _, folder: service.revert_and_restart(folder),
    "retrain": lambda _address, _folder: list(retraining.rows_of()),
    "flat": lambda _address, _folder: flat.rows(),
}


def main() -> None:
    """Print each row as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this part; may be repeated")
    chosen = parser.parse_args().only or list(PARTS)
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d', time.gmtime())}")
    with figures.broker() as address, tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        if {"learning", "snapshots"} & set(chosen):
            learning.prepare(address)
        for name in chosen:
            for row in PARTS[name](address, Path(folder)):
                print(row, flush=True)


if __name__ == "__main__":
    main()
