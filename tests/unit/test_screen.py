"""What the demo shows: whole at 80 columns and 24 lines, the story first, hints that can be pasted."""

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from snapshots.records.verdict import Verdict
from stream.demo import screen
from stream.demo.demo import Demo, Poison
from stream.drill.card import Card
from stream.terminal import printing

STORY = [
    "card payments, which are fraud? all is well; in 12 s the labels of country=de are poisoned: watch the guard",
    "07:31:12 POISON: the labels of country=de are others from now on, as if a join upstream were broken",
    "07:31:19 SEEN after 7.1 s: country=de, web got worse. No new snapshot is promoted; the last good one answers",
    "07:31:24 UNDONE after 12.3 s: linear is back at snapshot 1234, what it learnt since is quarantine 1",
]


def scene(story: int, hints: list[tuple[str, str]]) -> screen.Scene:
    rows = [screen.Row(name, role, [0.6 + 0.01 * (i % 20) for i in range(40)], "pass")
            for name, role in (("linear", "champion"), ("hashed", "challenger"))]  # fmt: skip
    return screen.Scene(STORY[:story], rows, 123_456, 987.6, 1234, 1233, 0.42, hints)


def rendered(found: screen.Scene) -> list[str]:
    console = Console(width=80, height=24, file=io.StringIO(), highlight=False, force_terminal=False)
    with console.capture() as kept:
        console.print(screen.shown(found))
    return kept.get().splitlines()


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.chdir(tmp_path)
    return Demo(Path("holdfast demo"), rate=100.0, port=18_000, environment={}, poison=30.0)


@pytest.mark.parametrize("story", [1, 2, 3, 4])
def test_the_story_comes_first_and_all_of_it_fits(demo: Demo, story: int) -> None:
    """Nothing is wider than the terminal, or below its last line."""
    lines = rendered(scene(story, hints(demo)))
    assert len(lines) < 24
    words = " ".join(line.strip() for line in lines)
    for told in STORY[:story]:
        assert told in words
    learners = next(number for number, line in enumerate(lines) if "linear" in line and "champion" in line)
    assert all(words.index(told) < words.index("challenger") for told in STORY[:story])
    assert set(lines[learners]) & set("▁▂▃▄▅▆▇█")
    assert "0.4 s old" in words


def hints(demo: Demo) -> list[tuple[str, str]]:
    made: dict[str, Any] = {"snapshot": 1, "serving": [], "learners": {}}
    return demo._scene(made).hints


def test_hints_are_whole_lines_for_the_shell(demo: Demo) -> None:
    """None is folded, each is one command, also where a folder's name has a space."""
    lines = rendered(scene(4, hints(demo)))
    for _, command in hints(demo):
        assert command in lines
        assert shlex.split(command)[0] in ("curl", "holdfast")
    assert len(demo._curl()) <= 80


@pytest.mark.parametrize(
    ("slices", "wanted"),
    [
        (["country=de"], "country=de got worse"),
        (["country=de", "device=web"], "country=de, device=web got worse"),
        ([""], "all payments (of which country=de is poisoned) got worse"),
        ([], "what is served (of which country=de is poisoned) got worse"),
    ],
)
def test_what_was_seen_names_the_slice_that_was_poisoned(demo: Demo, slices: list[str], wanted: str,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Whatever the verdict is about."""
    poison = demo._poison
    assert isinstance(poison, Poison)
    verdict = Verdict("linear", 7, 0, "suspect", "worse", {}, 0.0, 101.0, slices=slices)
    monkeypatch.setattr("stream.demo.demo.first_harm", lambda *_: (7, verdict))
    poison._follow(100.0)
    assert wanted in poison.said[0]


def test_the_card_of_a_drill(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done, seen and undone, in words; escapes of what producers wrote stay escapes."""
    out = io.StringIO()
    monkeypatch.setattr(printing, "console", Console(width=100, file=out, force_terminal=False))
    card = Card(
        "slice", "labels of \x1b[31mde", 1.5, "snapshot 3", 4.0, "entry 3", "snapshots 1 to 2", 220, 0, passed=True
    )
    printing.show_card(card)
    text = out.getvalue()
    for said in ("drill slice", "after 1.5 s: snapshot 3", "after 4.0 s: entry 3", "220, of which 0 failed", "passed"):
        assert said in text
    assert "\x1b" not in text
    assert " object at " not in text
