"""What a person sees of a lineage: in words and units, whatever is not there yet."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.lineages import Folder, wait_for
from support.samples import numbers

from stream.process.presence import FRESH_SECONDS, Presence
from stream.status import overview
from stream.status.status import words_of


def said(here: Folder) -> str:
    """What ``holdfast status`` prints; never a word of Python's."""
    text = here.run("status").stdout
    assert not re.search(r"\b(None|nan|True|False)\b|[{}]", text), text
    return text


def test_nothing_is_said_in_words(folder: Callable[..., Folder]) -> None:
    """No snapshot, no process: and which command would begin."""
    text = said(folder())
    assert "no snapshot has been written yet: holdfast up" in text
    assert "serving: no process" in text
    assert "guard: no process" in text
    assert f"no trainer runs: it has ended, or has said nothing for {FRESH_SECONDS:g} s" in " ".join(text.split())
    assert "free" in text


def test_a_process_that_answers_nothing_yet_is_one(folder: Callable[..., Folder]) -> None:
    """It has no snapshot, and no age."""
    here = folder()
    presence = Presence(here.lineage.store, "serving", time.time)
    presence.say(learner=None, snapshot=None, created=None, since=None, port=here.port, wall="")
    try:
        wait_for(lambda: here.status()["serving"])
        assert f"on port {here.port} answers nothing yet" in said(here)
    finally:
        presence.close()


def test_what_is_so_has_units_reasons_and_an_example(folder: Callable[..., Folder]) -> None:
    """Rate and time left while it reads; the reasons of dead letters, each with its newest; the store's size."""
    here = folder()
    here.write([*numbers(300), b"nope", b"nope again", {"id": "b", "x": {"f0": 1.0}, "y": "yes"}])
    here.trained()
    here.write(numbers(100, first=300))
    here.trained()
    presence = Presence(here.lineage.store, "trainer", time.time)
    presence.say(state="reading", why="", lag=5000, given_up={}, walls={})
    try:
        source = wait_for(lambda: (found := here.status()["source"])["state"] == "reading" and found)
        assert source["rate"] > 0
        assert source["seconds_left"] > 0
        text = said(here)
    finally:
        presence.close()
    assert re.search(r"source reading, 5,000 bytes waiting, [\d,]+ events/s, about [\d.]+ \w+ left at this rate", text)
    assert re.search(r"refused: 2 not_json, as events:a.jsonl:\d+: ", text)
    assert re.search(r"refused: 1 unknown_label, as events:a.jsonl:\d+: y: unknown label: 'yes'", text)
    assert re.search(r"store: [\d.]+ \w?B, [\d.]+ \wB free", text)
    assert re.search(r"snapshot \d+, [\d.]+ \w+ old", text)
    report = here.status()
    assert report["store"]["bytes"] > 0
    assert set(report["examples"]) == {"not_json", "unknown_label"}


def test_a_line_without_an_end_is_said(folder: Callable[..., Folder]) -> None:
    """For as long as it waits, whether anything runs or not."""
    here = folder()
    path = here.events / "mine.jsonl"
    path.write_bytes(b'{"id": 1, "x": {"f0": 1}, "y": 1}')
    os.utime(path, (1.0, 1.0))
    assert "mine.jsonl ends without a newline" in " ".join(said(here).split())
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, (1.0, 1.0))
    assert here.status()["unended"] == []


def test_it_is_shown_again_until_ctrl_c(folder: Callable[..., Folder]) -> None:
    """A line of JSON each time, for scripts."""
    here = folder()
    process = here.start("status", "--watch", "0.1", "--json")
    wait_for(lambda: here.log("status").count("\n") > 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert all(json.loads(line)["name"] == "test" for line in here.log("status").splitlines())


@pytest.mark.parametrize(
    ("figures", "wanted"),
    [
        ((-0.03, -0.05, -0.01), "online better by 0.0300 [0.0100, 0.0500] over 900 events"),
        ((0.03, 0.01, 0.05), "online worse by 0.0300 [0.0100, 0.0500] over 900 events"),
        ((-0.03, -0.05, 0.01), "no difference for certain, online better by 0.0300 [-0.0100, 0.0500] over 900 events"),
        ((0.0, 0.0, 0.0), "no difference for certain, online better by 0.0000 [0.0000, 0.0000] over 900 events"),
    ],
)
def test_an_interval_that_holds_nought_tells_no_difference(figures: tuple[float, ...], wanted: str) -> None:
    """Whichever way the mean points."""
    difference, low, high = figures
    assert words_of({"difference": difference, "low": low, "high": high, "events": 900}) == wanted


def test_snapshots_end_with_the_newest_and_say_why_not(folder: Callable[..., Folder]) -> None:
    """Oldest first for people, newest first for scripts; so many as asked; the reason of each that failed."""
    here = folder()
    for first in (0, 100, 200):
        here.write(numbers(100, first=first))
        here.trained()
    here.run("revert", "1", code=None)
    rows = here.json("snapshots", "list")
    numbers_ = [row["snapshot"] for row in rows]
    assert numbers_ == sorted(numbers_, reverse=True)
    text = here.run("snapshots", "list").stdout
    shown = [int(found) for found in re.findall(r"^│ +(\d+) ", text, re.MULTILINE)]
    assert shown == numbers_[::-1]
    assert [row["snapshot"] for row in here.json("snapshots", "list", "--last", "2")] == numbers_[:2]
    (here.path / "store" / "snapshots").mkdir(exist_ok=True)
    newest = max((here.path / "store" / "snapshots").glob("*/manifest.json"))
    newest.write_bytes(newest.read_bytes()[:-20])
    assert f"snapshot {numbers_[0]}: fail: " in here.run("snapshots", "list").stdout


@pytest.mark.parametrize("key", ["rate", "seconds_left", "lag"])
def test_a_figure_that_is_not_known_is_left_out(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And the rest is said."""
    source: dict[str, Any] = {
        "state": "reading",
        "why": "",
        "lag": 7,
        "unit": "offsets",
        "rate": 3.0,
        "seconds_left": 2.0,
    }
    assert "None" not in overview._source({**source, key: None})
