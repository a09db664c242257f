from collections import Counter

import pytest
import torch

from daguerre.data.phrases import phrases, pick

APPLE = {
    "caption": "a red apple, 3d render",
    "label": "red apple",
    "style_words": "3d render",
    "tags": ["apple", "fruit", "red", "food", "sweet"],
}
OWN = "a red apple, 3d render"


def test_the_ways_to_say_it():
    assert phrases(APPLE) == [
        OWN,
        OWN,
        "a 3d render of a red apple",
        "a red apple",
        "a red apple, fruit, food, 3d render",  # not what the name says already
    ]


def test_an_article_before_a_vowel():
    row = {**APPLE, "caption": "a red apple, isometric drawing", "style_words": "isometric drawing"}
    assert phrases(row)[2] == "an isometric drawing of a red apple"


@pytest.mark.parametrize("tags", [None, [], ["Apple", "RED"]])
def test_keywords_only_where_they_say_more(tags):
    assert phrases({**APPLE, "tags": tags}) == [OWN, OWN, "a 3d render of a red apple", "a red apple"]
    assert phrases({k: v for k, v in APPLE.items() if k != "tags"}) == phrases({**APPLE, "tags": tags})


@pytest.mark.parametrize("style", [None, ""])
def test_a_picture_of_no_style(style):
    assert phrases({**APPLE, "caption": "a red apple", "style_words": style})[:3] == ["a red apple"] * 3


def test_equal_generators_pick_equally():
    def picks(seed):
        rng = torch.Generator().manual_seed(seed)
        return [pick(APPLE, rng) for _ in range(400)]

    assert picks(0) == picks(0)
    assert picks(0) != picks(1)
    counts = Counter(picks(0))
    assert counts.keys() == set(phrases(APPLE))
    assert counts[OWN] == max(counts.values())


def test_one_draw_for_each_pick():
    rng, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    pick(APPLE, rng)
    torch.randint(5, (1,), generator=other)
    assert torch.equal(rng.get_state(), other.get_state())
