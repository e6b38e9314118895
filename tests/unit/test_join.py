"""The join (stream/join): which labels belong to which events is a function of the topics, and of nothing else."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.joins import Apart, Given, a_stream, copied, place_after, put_all, rest, totals
from support.joins import given as seen

from learners.labels import Labels
from stream.join.records import Decoder
from stream.record import Record
from stream.settings import EventPaths
from stream.source.codec import Codec

EVENT_CLASSES = ("dead_lettered", "unlabelled", "duplicate", "pending", "timed_out")
LABEL_CLASSES = ("dead_lettered", "joined", "early", "late", "orphan", "duplicate", "withdrawn")
RULES: list[dict[str, Any]] = [
    {"wait": 20},
    {"wait": 20, "late_wait": 40},
    {"wait": 20, "missing": "negative", "late": "count"},
    {"wait": 10, "missing": "negative", "late_wait": 30},
    {"wait": 60, "max_pending": 10},
]


def joined_by_hand(stream: dict[str, Any], wait: float) -> dict[str, int]:
    """Which events get which label, computed from whole tables: the first that is not too early decides."""
    whole = [(one["ts"], n, one) for n, part in enumerate(stream["labels"]) for one in part]
    labels = sorted(whole, key=lambda one: one[:2])
    found: dict[str, int] = {}
    for part in stream["events"]:
        for event in part:
            known = (one for _, _, one in labels if one["id"] == event["id"] and one["ts"] + wait >= event["ts"])
            first = next(known, None)
            if first is not None and first["y"] is not None and first["ts"] <= event["ts"] + wait:
                found[event["id"]] = first["y"]
    return found


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_joins_are_the_same_whatever_the_fetches_are(
    tmp_path_factory: Any, rule: dict[str, Any], seed: int
) -> None:
    """Promise 1 where labels come later: records mean what the topics say, and all adds up (promise 2)."""
    apart = Apart(tmp_path_factory.mktemp("apart"), **rule)
    stream = a_stream(random.Random(seed))
    put_all(apart, stream)
    whole = apart.all()
    for limit in (1, 7):
        assert apart.all(limit) == whole
    sums = totals(whole)
    learnt = sum(1 for one in whole if one.mode in ("learn", "negative"))
    pending_negative = sum(1 for one in whole if one.mode == "negative")
    assert sums["consumed"] == sum(sums.get(name, 0) for name in EVENT_CLASSES) + learnt - pending_negative
    labels = {name.removeprefix("labels."): count for name, count in sums.items() if name.startswith("labels.")}
    assert labels["consumed"] == sum(labels.get(name, 0) for name in LABEL_CLASSES)


@given(seed=st.integers(0, 10**6), wait=st.sampled_from([5, 20, 45]))
@settings(max_examples=25, deadline=None)
def test_the_pairs_are_those_of_the_whole_tables(tmp_path_factory: Any, seed: int, wait: int) -> None:
    """An event is learnt with its first label, when that comes within the wait; nothing else is."""
    apart = Apart(tmp_path_factory.mktemp("apart"), wait=wait)
    stream = a_stream(random.Random(seed))
    put_all(apart, stream)
    assert {one.id: int(one.label) for one in apart.all() if one.mode == "learn"} == joined_by_hand(stream, wait)


@pytest.mark.parametrize("lost", ["kept", "gone", "older"])
@pytest.mark.parametrize("rule", RULES[:4], ids=str)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_restart_goes_on_as_if_there_had_been_none(
    tmp_path_factory: Any, rule: dict[str, Any], lost: str, seed: int
) -> None:
    """Promise 1: after a kill the file of what waits is put to the snapshot's place, or read again from the topics."""
    draw = random.Random(seed)
    apart = Apart(tmp_path_factory.mktemp("apart"), **rule)
    put_all(apart, a_stream(draw, 200))
    whole = apart.all()
    place, topics, before = killed(apart, draw, lost)
    again = apart.source(lasting=True)
    again.open(place, topics)
    again.mark_end()
    assert before + rest(again, 13) == whole
    again.close()


def killed(apart: Apart, draw: random.Random, lost: str) -> tuple[Any, dict[str, str], list[Given]]:
    """Read and cut now and then, go on a little without a cut, and end; the newest cut, and what came before it."""
    source = apart.source(lasting=True)
    place = source.open(source.resolve(), {})
    source.mark_end()
    before: list[Given] = []
    so_far: list[Given] = []
    cut = (copied(place), source.cut())
    old = apart.folder / "old"
    for number in range(draw.randrange(3, 14)):
        records: list[Record] = []
        while not records or not source.whole():
            if source.ended():
                break
            records += source.poll(11)
        place_after(place, records)
        so_far += map(seen, records)
        if number % 3 == 1 and source.whole():
            cut, before = (copied(place), source.cut()), list(so_far)
            if not old.exists():
                shutil.copytree(apart.folder / "waiting", old)
    source.close()
    if lost == "gone":
        shutil.rmtree(apart.folder / "waiting")
    if lost == "older" and old.exists():
        shutil.rmtree(apart.folder / "waiting")
        shutil.copytree(old, apart.folder / "waiting")
    return *cut, before


def test_a_damaged_file_of_what_waits_is_made_anew(tmp_path: Path) -> None:
    """It is a cache: bytes that are no database are thrown away, and everything is read again."""
    draw = random.Random(3)
    apart = Apart(tmp_path, wait=20)
    put_all(apart, a_stream(draw, 200))
    whole = apart.all()
    place, topics, before = killed(apart, draw, "kept")
    for path in (tmp_path / "waiting").glob("*.sqlite*"):
        path.write_bytes(b"no database at all" * 100)
    again = apart.source(lasting=True)
    again.open(place, topics)
    again.mark_end()
    assert before + rest(again, 13) == whole


def test_more_than_may_wait_are_timed_out_by_age(tmp_path: Path) -> None:
    """``join.max_pending``: the oldest go first, each is counted, and a label of theirs is late."""
    apart = Apart(tmp_path, wait=1000, max_pending=3)
    apart.put("events", [{"id": f"e{n}", "ts": 100.0 + n, "x": {"a": n}} for n in range(10)])
    apart.put("labels", [{"id": "e0", "y": 1, "ts": 120.0}, {"id": "e9", "y": 1, "ts": 121.0}])
    found = apart.all()
    assert totals(found) == {
        "consumed": 10, "pending": 2, "timed_out": 7, "labels.evicted": 7, "labels.consumed": 2, "labels.late": 1,
        "labels.joined": 1,
    }  # fmt: skip
    assert [one.id for one in found if one.mode == "learn"] == ["e9"]


def test_an_event_that_was_asked_about_and_comes_whole_is_learnt_once(tmp_path: Path) -> None:
    """The id of a request comes again with its label in the source: one event, of the features that were served."""
    apart = Apart(tmp_path, wait=100)
    asked = {"id": "q", "ts": 10.0, "x": {"a": 1.5}, "prediction": True, "probability": 0.75, "learner": "one",
             "snapshot": 3}  # fmt: skip
    apart.put("predictions", [asked])
    apart.put("events", [{"id": "q", "ts": 11.0, "x": {"a": 2.5}, "y": 1}, {"id": "q", "ts": 12.0, "x": {}, "y": 0}])
    found = apart.all()
    assert totals(found) == {"consumed": 3, "duplicate": 2}
    assert [(one.id, one.label) for one in found if one.mode == "learn"] == [("q", True)]


def test_records_of_no_use_are_refused_and_stop_nothing(tmp_path: Path) -> None:
    """Bad events, bad predictions and bad labels each have their class and their reason."""
    apart = Apart(tmp_path, wait=10)
    (tmp_path / "labels" / "bad.jsonl").write_bytes(
        b'{"id": "a"}\n[]\n{"id": "a", "y": 7}\nnot json\n{"y": 1}\n'
        b'{"id": "a", "y": 1, "w": -1}\n{"id":"a","y":1,"ts":"x"}\n'
    )
    (tmp_path / "predictions" / "bad.jsonl").write_bytes(
        b'{"id": "b"}\n{"id": "b", "ts": 1, "x": {"_a": 1}, "prediction": 1, "learner": "one", "snapshot": 1}\n{}\n'
    )
    (tmp_path / "events" / "bad.jsonl").write_bytes(b'{"id": "c"}\n{"id": "c", "x": {"a": {"b": {"c": 1}}}}\n')
    sums = totals(apart.all())
    assert sums == {"consumed": 5, "dead_lettered": 5, "labels.consumed": 7, "labels.dead_lettered": 7}


def test_a_file_of_what_waits_has_one_owner(tmp_path: Path) -> None:
    """A trainer that was taken over and wakes up late writes nothing where the new one keeps what waits."""
    apart = Apart(tmp_path, wait=20)
    put_all(apart, a_stream(random.Random(1), 100))
    whole = apart.all()
    sources = [apart.source(lasting=True) for _ in range(2)]
    for source in sources:
        source.open(source.resolve(), {})
        source.mark_end()
    first, second = sources
    assert rest(second, 13) == whole
    second.cut()
    second.cut()
    assert first._waiting.memo() is None
    assert rest(first, 13) == whole


def test_what_came_meanwhile_is_not_put_before_what_was_known(tmp_path: Path) -> None:
    """Promise 1: a label older than its event, that came while nobody read, joins as it would have then."""
    apart = Apart(tmp_path, wait=3600)
    apart.put("predictions", [asked(number, 1000.0 + number) for number in range(5)])
    source = apart.source(lasting=True)
    place = source.open(source.resolve(), {})
    source.mark_end()
    for _ in range(3):  # the file of what waits is a cut behind
        place_after(place, list(iter_records(source)))
        cut = (copied(place), source.cut())
    source.close()
    apart.put("labels", [{"id": "q3", "y": 1, "ts": 900.0}, {"id": "q4", "y": 1, "ts": 2000.0}])
    for forget in (False, True):
        if forget:
            shutil.rmtree(tmp_path / "waiting")
        again = apart.source(lasting=True)
        again.open(*cut)
        again.mark_end()
        found = rest(again, 7)
        assert sorted(one.id for one in found if one.mode == "learn") == ["q3", "q4"]
        assert totals(found) == {"pending": -2, "labels.consumed": 2, "labels.joined": 2}
        again.close()


def test_an_event_without_a_time_waits_for_no_label(tmp_path: Path) -> None:
    """Nothing tells when to stop waiting for its label; a whole one does not wait."""
    apart = Apart(tmp_path, wait=60)
    apart.put("events", [{"id": "a", "x": {"f": 1.0}}, {"id": "b", "x": {"f": 1.0}, "y": 1}])
    found = apart.all()
    assert totals(found) == {"consumed": 2, "unlabelled": 1}
    assert [one.id for one in found if one.mode == "learn"] == ["b"]


def test_whole_events_without_times_hold_nobody_up(tmp_path: Path) -> None:
    """A file that goes on growing, with labels and no times, beside predictions and labels that have them."""
    apart = Apart(tmp_path, wait=3600, idle=30)
    apart.put("predictions", [asked(number, 1000.0 + number) for number in range(3)])
    apart.put("labels", [{"id": "q1", "y": 1, "ts": 1001.5}, {"id": "q2", "y": 1, "ts": 1002.5}])
    source = apart.source()
    source.open(source.resolve(), {})
    found: list[Given] = []
    for number in range(200):
        apart.put("events", [{"id": f"w{number}", "x": {"f": 1.0}, "y": 1}])
        found += map(seen, source.poll(100))
    source.close()
    assert {"q1"} <= {one.id for one in found if one.mode == "learn"}


def test_a_record_from_the_future_does_not_pull_the_stream_ahead() -> None:
    """With a broker a record is never put after the time at which the broker had it."""
    labels = Labels("binary")
    kinds: dict[str, Any] = {name: name for name in ("events", "labels", "predictions")}
    codec = Codec(EventPaths(), labels)
    decoder = Decoder(kinds, codec, codec, labels, lambda one: one.encode())
    for topic in ("events", "labels", "predictions"):
        for ts, recorded, expected in ((5e9, 1000.0, 1000.0), (900.0, 1000.0, 900.0), (5e8, None, 5e8)):
            value = orjson.dumps({"id": "a", "ts": ts, "x": {}, "y": 1})
            assert decoder.time_of(Record(topic, "0", 0, 1, value, recorded)) == expected


def test_early_labels_are_bounded_like_what_waits(tmp_path: Path) -> None:
    """A storm of labels for unknown ids: the oldest are orphans as soon as there are too many."""
    apart = Apart(tmp_path, wait=3600, max_pending=10)
    apart.put("labels", [{"id": f"nobody{number}", "y": 1, "ts": 1000.0 + number} for number in range(100)])
    apart.put("predictions", [asked(3, 2000.0)])
    found = apart.all()
    assert totals(found)["labels.orphan"] == 90
    assert totals(found)["labels.early"] == 10


def test_rewards_are_of_one_answer_and_counted_once(tmp_path: Path) -> None:
    """With the label, before it, or without any; twice, too late, of nobody, or no number between the two."""
    apart = Apart(tmp_path, rewards=(-1.0, 5.0), wait=100)
    apart.put("predictions", [asked(number, 100.0 + number) for number in range(10)])
    apart.put("events", [{"id": "unasked", "ts": 106.0, "x": {"f": 1.0}}])
    early = [
        {"id": "q6", "r": 1.5}, {"id": "q7", "y": 1}, {"id": "q7", "r": 2}, {"id": "q8", "r": 3}, {"id": "q8", "y": 0},
        {"id": "q8", "r": 4}, {"id": "q9", "y": None}, {"id": "q9", "r": 0.5}, {"id": "nobody", "r": 1},
        {"id": "nobody", "y": 1},
    ]  # fmt: skip
    apart.put("labels", [{**one, "ts": 90.0 + number / 10} for number, one in enumerate(early)], partition=1)
    labels = [
        {"id": "q0", "y": 1, "r": 5}, {"id": "q0", "r": 5},  # joined; of what is joined already
        {"id": "q1", "r": 2.5}, {"id": "q1", "r": 1}, {"id": "q1", "y": 0, "r": 4},  # rewarded, twice, joined
        {"id": "q2", "y": None, "r": -1}, {"id": "q3", "y": 1}, {"id": "q3", "r": None}, {"id": "stranger", "r": 1},
        {"id": "q4", "r": 5.5}, {"id": "q4", "r": "much"}, {"id": "unasked", "r": 1},
    ]  # fmt: skip
    apart.put("labels", [{**one, "ts": 110.0 + number} for number, one in enumerate(labels)])
    apart.put("labels", [{"id": "q5", "r": 1.0, "ts": 300.0}, {"id": "q4", "y": 1, "r": 1.0, "ts": 301.0}])
    found = apart.all()
    assert [(one.id, one.reward) for one in found if one.reward is not None] == [
        (None, 1.5), ("q7", 2.0), ("q8", 3.0), (None, 0.5), ("q0", 5.0), (None, 2.5), (None, -1.0),
    ]  # fmt: skip
    assert {name: count for name, count in totals(found).items() if name.startswith("labels.")} == {
        "labels.consumed": 24, "labels.joined": 5, "labels.duplicate": 3, "labels.rewarded": 6, "labels.withdrawn": 2,
        "labels.dead_lettered": 3, "labels.orphan": 3, "labels.late": 2,
    }  # fmt: skip
    assert apart.all(1) == found


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_rewards_add_up_whatever_the_fetches_are(tmp_path_factory: Any, seed: int) -> None:
    """Labels with a reward, rewards by themselves, before and after their events: one reward an answer at most."""
    apart, draw = Apart(tmp_path_factory.mktemp("apart"), rewards=(0.0, 1.0), wait=20), random.Random(seed)
    stream = a_stream(draw, twice=0.4)
    events = {event["id"]: event for part in stream.pop("events") for event in part}
    known = {event["id"]: asked(0, event["ts"]) | {"id": event["id"]} for event in events.values()}
    stream["predictions"] = [sorted(known.values(), key=lambda one: float(one["ts"]))]
    for label in (one for part in stream["labels"] for one in part):
        if draw.random() < 0.6:
            label["r"] = draw.random()
            if draw.random() < 0.5:
                del label["y"]
    put_all(apart, stream)
    whole = apart.all()
    assert apart.all(1) == apart.all(7) == whole
    given = {round(one["r"], 12) for part in stream["labels"] for one in part if "r" in one}
    seen_ = [one.reward for one in whole if one.reward is not None]
    assert {round(one, 12) for one in seen_} <= given
    assert 0 < len(seen_) == len(set(seen_)) <= len(events)
    sums = totals(whole)
    labels = {name.removeprefix("labels."): count for name, count in sums.items() if name.startswith("labels.")}
    assert labels["consumed"] == sum(labels.get(name, 0) for name in (*LABEL_CLASSES, "rewarded"))
    assert min(sums.values()) >= 0


def test_a_reward_is_what_it_always_was_where_no_policy_asks_for_it(tmp_path: Path) -> None:
    """A field that is not configured: ignored, whatever it holds; a label is then what has a label."""
    apart = Apart(tmp_path, wait=100)
    apart.put("predictions", [asked(0, 100.0), asked(1, 101.0)])
    apart.put("labels", [{"id": "q0", "y": 1, "r": "x", "ts": 110.0}, {"id": "q1", "r": 1, "ts": 111.0}])
    sums = totals(apart.all())
    assert (sums["labels.joined"], sums["labels.dead_lettered"]) == (1, 1)


def asked(number: int, at: float) -> dict[str, Any]:
    """A logged prediction."""
    return {"id": f"q{number}", "ts": at, "x": {"f": 1.0}, "prediction": True, "learner": "one", "snapshot": 1}


def iter_records(source: Any) -> Iterator[Record]:
    """Everything up to the marked end."""
    while not source.ended():
        yield from source.poll(100)
