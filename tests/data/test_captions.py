from collections import Counter

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from daguerre.data.captions import varied
from daguerre.data.config import Captions

PLAIN = Captions(dropout=0)
TAGS = "a cat, red, small, old"


def many(caption, settings, count=1000):
    rng = torch.Generator().manual_seed(0)
    return Counter(varied(caption, settings, rng) for _ in range(count))


def test_a_caption_is_left_as_it_is():
    assert many("a {red|green} ball,  on  grass", PLAIN) == {"a {red|green} ball,  on  grass": 1000}


def test_dropout():
    counts = many("a cat", Captions(dropout=0.1, prefix="zwx ", suffix=", photo"))
    assert counts.keys() == {"", "zwx a cat, photo"}
    assert 70 < counts[""] < 130


def test_shuffled_tags():
    counts = many("a, b, c", Captions(dropout=0, shuffle=True))
    assert counts.keys() == {"a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"}
    assert min(counts.values()) > 110


def test_tags_that_stay():
    counts = many(TAGS, Captions(dropout=0, shuffle=True, keep=2, tag_dropout=0.5))
    assert all(said.startswith("a cat, red") for said in counts)
    assert counts.keys() == {
        "a cat, red", "a cat, red, small", "a cat, red, old", "a cat, red, small, old", "a cat, red, old, small"
    }  # fmt: skip
    assert 200 < counts["a cat, red"] < 300


def test_another_separator():
    assert many("a| b |c", Captions(dropout=0, separator="|", tag_dropout=1.0, keep=2)) == {"a| b": 1000}


def test_wildcards():
    wild = Captions(dropout=0, wildcards=True)
    counts = many("a {red|green|} ball", wild)
    assert counts.keys() == {"a red ball", "a green ball", "a  ball"}
    assert min(counts.values()) > 280
    nested = many("{a {big|small} cat|dogs}", wild)
    assert nested.keys() == {"a big cat", "a small cat", "dogs"}
    assert many("{a} {", wild) == {"a {": 1000}


@given(st.text("ab{}|,", max_size=60), st.integers(0, 9))
def test_any_caption_ends(caption, seed):
    settings = Captions(dropout=0, wildcards=True, shuffle=True, tag_dropout=0.5)
    said = [varied(caption, settings, torch.Generator().manual_seed(seed)) for _ in range(2)]
    assert said[0] == said[1]
    assert len(said[0]) <= 2 * len(caption)


@pytest.mark.parametrize("caption", ["{" * 20_000, "{|" * 10_000, "{" * 10_000 + "}" * 10_000, "{a|b}" * 4000])
def test_bombs(caption):
    assert len(varied(caption, Captions(dropout=0, wildcards=True), torch.Generator())) <= 20_000
