"""Promise 9: the header of a Vowpal Wabbit file is read before Vowpal Wabbit reads it."""

import struct
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.errors import ArgumentsRefusedError, LearnersError, UnsafeStateError
from learners.event import Event
from learners.labels import Labels
from learners.vw import header as headers
from learners.vw import options
from learners.vw.arguments import Trial, arguments, trial
from learners.vw.learner import VwLearner

NEWEST = version("vowpalwabbit")
TOKENS = arguments("--loss_function logistic -b 10", "x")
BARE = Trial(TOKENS, one_call=True, exact=True, pure=True, weights=True, probabilities=False, reductions=[])


def saved(tokens: list[str] = TOKENS) -> bytes:
    """A real model, trained a little."""
    learner = VwLearner(BARE if tokens == TOKENS else trial(tokens, "binary", "x"), Labels("binary"))
    for i in range(20):
        learner.step(Event.of({"a": float(i), "b": "t"}, i % 2 == 0, id=str(i)))
    return learner.save()


def with_options(data: bytes, options: str) -> bytes:
    """A model file whose header names other options."""
    own = headers.parse(data).options.encode() + b"\0"
    new = options.encode() + b"\0"
    old, put = struct.pack("<I", len(own)) + own, struct.pack("<I", len(new)) + new
    assert data.count(old) == 1
    return data.replace(old, put)


def test_the_header_of_a_real_file_is_read() -> None:
    """Version, bits and options as Vowpal Wabbit wrote them."""
    header = headers.check(saved(), TOKENS, NEWEST)
    assert (".".join(map(str, header.version)), header.bits) == (NEWEST, 10)
    assert "--random_seed" in header.options


@pytest.mark.parametrize("name", sorted(options.known()))
def test_every_option_in_a_header_is_refused_unless_the_arguments_name_it(name: str, tmp_path: Path) -> None:
    """All options of the pinned version, each with a value where it takes one, and the file goes no further."""
    value = "" if options.known()[name] == "flag" else f" {tmp_path / 'victim'}"
    bad = with_options(saved(), f" --random_seed 5 --{name}{value}")
    if name in ("random_seed", "hash_seed", "hash", "chain_hash", "bit_precision", "loss_function"):
        assert headers.check(bad, TOKENS, NEWEST)
        return
    with pytest.raises(UnsafeStateError, match=name):
        headers.check(bad, TOKENS, NEWEST)
    with pytest.raises(UnsafeStateError):
        VwLearner(BARE, Labels("binary"), data=bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(options.REFUSED.keys() & options.known().keys()))
def test_what_touches_files_or_the_network_is_refused_in_arguments_too(name: str) -> None:
    """Also when a manifest names it: the arguments of a snapshot may come from somebody else."""
    tokens = [*TOKENS, f"--{name}"] if options.known()[name] == "flag" else [*TOKENS, f"--{name}", "x"]
    with pytest.raises(ArgumentsRefusedError, match=name):
        options.read(tokens)
    stolen = Trial(tokens, one_call=True, exact=True, pure=True, weights=True, probabilities=False, reductions=[])
    with pytest.raises(LearnersError):
        VwLearner(stolen, Labels("binary"))


@pytest.mark.parametrize(
    "options",
    [
        " -p out", " -pout", " -f out", " --final_regressor=out", " -d in", " out", " --quiet out", " --id 'a b'",
        " --random_seed 5\n--daemon", ' --ignore "a"', " --nothing_known", " --random_seed", " -", " --", " -\u00a0p x",
    ],
)  # fmt: skip
def test_short_joined_quoted_and_unknown_options_are_refused(options: str) -> None:
    """However they are written."""
    with pytest.raises(UnsafeStateError):
        headers.check(with_options(saved(), options), TOKENS, NEWEST)


def test_a_larger_index_is_refused() -> None:
    """The bits of a header would make Vowpal Wabbit take gigabytes."""
    data = saved()
    at = data.index(b"m", 4 + len(NEWEST)) + 9
    assert data[at : at + 4] == struct.pack("<I", 10)
    with pytest.raises(UnsafeStateError, match="bits"):
        headers.check(data[:at] + struct.pack("<I", 40) + data[at + 4 :], TOKENS, NEWEST)


@pytest.mark.parametrize("old", ["7.1.0", "8.1.1", "99.0.0", "9.11", "9.11.9 ", ""])
def test_other_versions_are_refused(old: str) -> None:
    """Old ones have another header, so they could say something else there than is read here."""
    data = saved()
    text = old.encode() + b"\0"
    with pytest.raises(UnsafeStateError):
        headers.check(struct.pack("<I", len(text)) + text + data[5 + len(NEWEST) :], TOKENS, NEWEST)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_of_the_header_that_were_changed_are_refused_or_mean_the_same(data: st.DataObject) -> None:
    """No change of the header's bytes raises anything but a refusal."""
    good = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, 70))] = data.draw(st.integers(0, 255))
    try:
        header = headers.check(bytes(good), TOKENS, NEWEST)
    except UnsafeStateError:
        return
    assert {one.name for one in options.read(header.options.split())} <= {
        "random_seed", "hash_seed", "hash", "chain_hash", "bit_precision", "loss_function",
    }  # fmt: skip


GOOD = saved()


@pytest.mark.parametrize(
    "args",
    ["-q ::", "--ngram 2 --skips 1", "--ngram a2 --ngram b3", "--cubic abc --interactions abcd", "-l 0.1 --power_t 0.3",
     "--l1 1e-5 --l2 1e-6 --noconstant", "--ignore a --keep b", "--nn 2", "--lrq ab3", "--boosting 3",
     "--coin", "--ftrl --ftrl_alpha 0.1", "-b12 -qab", "--link=logistic --loss_function=logistic", "--power_t -0.5"],
)  # fmt: skip
def test_honest_files_pass(args: str) -> None:
    """Files that Vowpal Wabbit wrote with the same arguments, n-grams and skips included."""
    tokens = arguments(args, "x")
    tried = trial(tokens, "binary", "x").tokens
    assert headers.check(saved(tokens), tried, NEWEST).bits in (12, 18)
