import hashlib

import pytest

from daguerre.data.illustrations.fxemoji import labels
from daguerre.data.illustrations.italian import labels as italian_labels
from daguerre.data.illustrations.naming import slug
from daguerre.data.illustrations.sets import LICENSES, STYLES
from daguerre.data.illustrations.splits import CONCEPTS, PAIRS, says_held_out, split_of, strictest


def test_the_hold_outs_stay_the_same():
    text = " ".join([*sorted(CONCEPTS), *(f"{family}:{code}" for family in PAIRS for code in sorted(PAIRS[family]))])
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "668e948af12435d57fbf72b4013bde2c243c6ff17fa83087ab4a9afbd8b53d92"
    )


def test_each_pair_is_held_out_in_one_family_only():
    assert len(CONCEPTS) == 40
    codes = [code for held in PAIRS.values() for code in held]
    assert len(codes) == len(set(codes)) == 200
    assert not CONCEPTS & set(codes)
    assert set(PAIRS) == {style.family for style in STYLES} - {"openclipart"}


@pytest.mark.parametrize(
    ("name", "family", "split"),
    [
        ("1F413", "noto", "concept_holdout"), ("1F413", "openclipart", "concept_holdout"),
        ("1F337", "noto", "pair_holdout"), ("1F337", "noto_v1", "train"), ("1F337", "fluent", "train"),
        ("1F41C", "noto", "val"), ("1F41C", "twemoji", "val"), ("1F34E", "noto", "train"),
    ],
)  # fmt: skip
def test_splits(name, family, split):
    assert split_of(name, family) == split


def test_about_one_in_a_hundred_is_for_validation():
    count = sum(split_of(f"thing {number}", "openclipart") == "val" for number in range(10_000))
    assert 70 < count < 130


def test_the_strictest_split_counts():
    assert strictest(["train", "val"]) == "val"
    assert strictest(["pair_holdout", "concept_holdout", "val"]) == "concept_holdout"


@pytest.mark.parametrize(
    ("texts", "held"),
    [
        (["rooster"], True), (["a crowing Rooster"], True), (["hen", "roosters"], True), (["hen", "bird"], False),
        (["roosterish"], False), (["ping pong"], True), (["ping", "pong"], False),
    ],
)  # fmt: skip
def test_words_that_name_what_is_held_out(texts, held):
    assert says_held_out(texts, ["rooster", "ping pong"]) is held


def test_nothing_is_held_out_without_names():
    assert not says_held_out(["rooster"], [])


def test_each_set_has_its_pinned_package_and_license():
    assert len({style.package for style in STYLES}) == len(STYLES) == 11
    assert all(len(style.package.sha256) == 64 and style.licence in LICENSES for style in STYLES)


def test_labels_of_glued_names():
    told = labels()
    assert told["bunnyside"] == "rabbit"
    assert all(told.values())


def test_labels_of_italian_titles():
    told = italian_labels()
    assert told["al bar"] == "person at the bar"
    assert all(told.values())


def test_slugs():
    assert slug("man’s shoe") == "mans-shoe"
    assert slug("keycap: 10") == "keycap-10"
