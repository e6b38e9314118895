"""Where to keep what waits for its label: SQLite, LMDB and RocksDB at the join's own work, side by side.

    python benchmarks/waiting.py --waiting 1000000 --pairs 100000

Each store holds so many events of 400 bytes that wait; then events come and labels of random ones that wait, a thousand
at once, written every 20,000 pairs as a snapshot would. LMDB and RocksDB are asked if they are installed
(``pip install lmdb rocksdict``); nothing else needs them.
"""

import argparse
import random
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream.join.waiting import Phase, Row, Waiting

BODY = b"x" * 400
LOT, CUT = 1000, 20_000


def keys_of(count: int, seed: int) -> list[int]:
    """Random 64-bit keys."""
    draw = random.Random(seed)
    return [draw.getrandbits(63) for _ in range(count)]


def sqlite(
    folder: Path,
) -> tuple[Callable[[list[tuple[int, int]]], Any], Callable[[list[int]], Any], Callable[[], Any]]:
    """The product's own store."""
    base, number = Waiting(folder / "waiting.sqlite"), iter(range(10**9))

    def add(rows: list[tuple[int, int]]) -> None:
        base.look_up([key for key, _ in rows])
        for key, seq in rows:
            if base.find(key) is None:
                base.put(Row(seq, key, float(seq), Phase.PENDING, BODY))

    def join(keys: list[int]) -> None:
        base.look_up(keys)
        for key in keys:
            row = base.find(key)
            assert row is not None
            base.put(Row(row.seq, key, row.due + 1e9, Phase.JOINED, None))

    return add, join, lambda: base.seal(b"%d" % next(number), b"")


def lmdb(folder: Path) -> tuple[Callable[[list[tuple[int, int]]], Any], Callable[[list[int]], Any], Callable[[], Any]]:
    """The same rows by key, and the order in which they are due, in LMDB."""
    import lmdb as library  # noqa: PLC0415  only where it is installed

    env = library.open(str(folder), map_size=1 << 36, max_dbs=2, sync=False, writemap=True)
    rows, due = env.open_db(b"rows"), env.open_db(b"due")
    state = {"txn": env.begin(write=True)}

    def add(found: list[tuple[int, int]]) -> None:
        for key, seq in found:
            name = struct.pack(">q", key)
            if state["txn"].get(name, db=rows) is None:
                state["txn"].put(name, struct.pack(">q", seq) + BODY, db=rows)
                state["txn"].put(struct.pack(">dq", seq, seq), name, db=due)

    def join(keys: list[int]) -> None:
        for key in keys:
            name = struct.pack(">q", key)
            value = state["txn"].get(name, db=rows)
            seq = struct.unpack(">q", value[:8])[0]
            state["txn"].put(name, value[:8], db=rows)
            state["txn"].delete(struct.pack(">dq", seq, seq), db=due)
            state["txn"].put(struct.pack(">dq", seq + 1e9, seq), name, db=due)

    def cut() -> None:
        state["txn"].commit()
        state["txn"] = env.begin(write=True)

    return add, join, cut


def rocksdb(
    folder: Path,
) -> tuple[Callable[[list[tuple[int, int]]], Any], Callable[[list[int]], Any], Callable[[], Any]]:
    """The same in RocksDB."""
    import rocksdict as library  # noqa: PLC0415  the same

    options = library.Options(raw_mode=True)
    options.create_if_missing(True)
    base = library.Rdict(str(folder / "rows"), options)
    order = library.Rdict(str(folder / "due"), options)

    def add(found: list[tuple[int, int]]) -> None:
        known = base.get([struct.pack(">q", key) for key, _ in found])
        batch, dues = library.WriteBatch(raw_mode=True), library.WriteBatch(raw_mode=True)
        for (key, seq), there in zip(found, known, strict=True):
            if there is None:
                batch.put(struct.pack(">q", key), struct.pack(">q", seq) + BODY)
                dues.put(struct.pack(">dq", seq, seq), struct.pack(">q", key))
        base.write(batch)
        order.write(dues)

    def join(keys: list[int]) -> None:
        names = [struct.pack(">q", key) for key in keys]
        batch, dues = library.WriteBatch(raw_mode=True), library.WriteBatch(raw_mode=True)
        for name, value in zip(names, base.get(names), strict=True):
            seq = struct.unpack(">q", value[:8])[0]
            batch.put(name, value[:8])
            dues.delete(struct.pack(">dq", seq, seq))
            dues.put(struct.pack(">dq", seq + 1e9, seq), name)
        base.write(batch)
        order.write(dues)

    return add, join, base.flush


def main() -> None:
    """Print a line for each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=100_000)
    given = parser.parse_args()
    for make in (sqlite, lmdb, rocksdb):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                add, join, cut = make(folder)
            except ImportError as cause:
                print(f"{make.__name__}: not installed ({cause.name})")
                continue
            keys = keys_of(given.waiting + given.pairs, 1)
            rows = list(zip(keys, range(len(keys)), strict=True))
            began = time.perf_counter()
            for at in range(0, given.waiting, LOT):
                add(rows[at : at + LOT])
                if at % CUT == 0:
                    cut()
            filled = time.perf_counter() - began
            labels = random.Random(2).sample(keys[: given.waiting], given.pairs)
            began = time.perf_counter()
            for at in range(0, given.pairs, LOT):
                add(rows[given.waiting + at : given.waiting + at + LOT])
                join(labels[at : at + LOT])
                if at % CUT == 0:
                    cut()
            cut()
            joined = time.perf_counter() - began
            size = sum(one.stat().st_blocks * 512 for one in folder.rglob("*") if one.is_file()) / 1e6
            print(f"{make.__name__}: filled {given.waiting / filled:,.0f} rows/s; {given.pairs / joined:,.0f} pairs/s "
                  f"with {given.waiting:,} waiting; {size:,.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
