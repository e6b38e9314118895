"""The holdout as the trainer keeps it: sealing, the rolling candidate, what is left out; and who is told of what."""

import http.server
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.lineages import wait_for

from snapshots.errors import DamagedError
from snapshots.records.held_rows import HeldRow, rows_of
from snapshots.records.holdout import Holdout, Sizes
from snapshots.records.manifest import Part
from stream.config import check
from stream.guard.notify import Notifier


def row(number: int, label: bool | float = True, country: str = "de") -> HeldRow:
    return HeldRow("t", "0", number, b'{"a":%d}' % number, label, float(number), [f"country={country}"])


def filled(holdout: Holdout, rows: list[HeldRow]) -> list[int]:
    """Add rows as the trainer does; return the sizes of what was sealed."""
    sealed = []
    for number, one in enumerate(rows):
        holdout.add(one)
        if holdout.due(number * 50):
            version = holdout.seal([], 1.0)
            assert version is not None
            sealed.append(version.rows)
    return sealed


def test_a_first_version_and_a_full_one_are_sealed_by_themselves() -> None:
    """500 rows, then all; nothing more after that. A small holdout has one version."""
    assert filled(Holdout(Sizes(2000), "binary"), [row(n) for n in range(5000)]) == [500, 2000]
    assert filled(Holdout(Sizes(300), "binary"), [row(n) for n in range(900)]) == [300]


def test_a_thin_stream_is_sealed_with_what_is_there() -> None:
    """After 100,000 events, if that is 200 rows."""
    holdout = Holdout(Sizes(5000), "binary")
    for number in range(210):
        holdout.add(row(number))
        assert not holdout.due(99_999)
    assert holdout.due(100_000)


def test_the_candidate_is_bounded_and_keeps_what_is_short() -> None:
    """Rows of a rare slice or class stay when older ones give way; a restart goes on with the same rows."""
    holdout = Holdout(Sizes(1000, min_slice_rows=50), "binary")
    rare = {n for n in range(6000) if n % 400 == 0}
    filled(holdout, [row(n, country="br" if n in rare else "de") for n in range(6000)])
    candidate = holdout.candidate
    assert 1000 <= len(candidate) <= 2000
    kept = {one.offset for one in candidate if one.slices == ["country=br"]}
    assert kept == rare
    again = Holdout(Sizes(1000, min_slice_rows=50), "binary")
    written = holdout.unwritten()
    assert again.restore(holdout.state(), holdout.tails(), lambda part: written[part.name]) == []
    assert again.candidate == candidate
    assert again.state() == holdout.state()


def test_a_stream_whose_slices_are_all_short_is_bounded_too() -> None:
    """As many slices as rows: nothing is ever enough, and memory still is."""
    holdout = Holdout(Sizes(1000), "binary")
    for number in range(12_000):
        holdout.add(row(number, country=str(number)))
        if holdout.due(number * 50):
            holdout.seal([], 1.0)
        holdout.unwritten()
        assert len(holdout) <= 2400
    assert len(holdout) >= 1000
    assert holdout.candidate[-1].offset == 11_999


def test_rows_of_a_quarantined_range_are_left_out_when_it_is_sealed() -> None:
    """What was condemned is not what others are measured by."""
    holdout = Holdout(Sizes(300), "binary")
    filled(holdout, [row(n) for n in range(300)])
    for number in range(1000, 1400):
        holdout.add(row(number))
    version = holdout.seal([{"t": {"0": (1100, 1200)}}], 2.0)
    assert version is not None
    rows = rows_of(holdout.unwritten()[version.part.name], "it")
    assert len(rows) == 300
    assert not [one for one in rows if 1100 <= one.offset < 1200]
    assert holdout.seal([{"t": {"0": (0, None)}}], 3.0) is None


def test_a_damaged_chunk_loses_its_rows_and_nothing_else() -> None:
    """The candidate has fewer rows, and it is said."""
    holdout = Holdout(Sizes(1000), "regression")
    filled(holdout, [row(n, float(n % 7)) for n in range(450)])

    def read(part: Part) -> bytes:
        raise DamagedError(f"{part.name} was changed")

    again = Holdout(Sizes(1000), "regression")
    assert len(again.restore(holdout.state(), holdout.tails(), read)) == 2
    assert len(again) == 50
    with pytest.raises(DamagedError):
        rows_of(b"nonsense", "it")


class _Hook(http.server.BaseHTTPRequestHandler):
    got: ClassVar[list[Any]] = []
    refuse = 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if _Hook.refuse:
            _Hook.refuse -= 1
            self.send_error(503)
            return
        _Hook.got.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_command_and_webhook_are_told_and_tried_again(tmp_path: Path) -> None:
    """The caller never waits; a webhook that refuses once is asked again."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    out = tmp_path / "told"
    script = f"import sys; open({str(out)!r}, 'ab').write(sys.stdin.buffer.read())"
    config = check(
        {
            "name": "n", "task": "binary", "source": {"kind": "files"},
            "learners": {"a": {"kind": "vw", "args": ""}},
            "notify": {"command": [sys.executable, "-c", script], "webhook": f"http://127.0.0.1:{server.server_port}/x"},
        },
        tmp_path,
    )  # fmt: skip
    notifier = Notifier(config, time.time)
    began = time.monotonic()
    notifier.tell({"action": "revert", "learner": "a"})
    assert time.monotonic() - began < 0.5
    wait_for(lambda: out.exists() and out.read_bytes() and _Hook.got)
    assert json.loads(out.read_bytes()) == _Hook.got[0] == {"action": "revert", "learner": "a"}
    notifier.close()
    server.shutdown()
    server.server_close()
