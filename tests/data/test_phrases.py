from collections import Counter

import pytest
import torch

from daguerre.data.phrases import in_style, is_plural, phrases, pick, plural, with_article

APPLE = {
    "caption": "a red apple, 3d render",
    "label": "red apple",
    "style_words": "3d render",
    "tags": ["apple", "fruit", "red", "food", "sweet", "tree"],
}
OWN = "a red apple, 3d render"
STYLED = [
    "a 3d render of a red apple",
    "3d render of a red apple",
    "a red apple in 3d render style",
    "red apple, 3d render",
    "3d render, red apple",
]
PLAIN = ["a red apple", "red apple", "picture of a red apple"]
KEYWORDS = [  # not what the name says already
    "fruit, food, sweet, 3d render",
    "a red apple, fruit, food, 3d render",
]


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("otter", "otters"),
        ("bus", "buses"),
        ("box", "boxes"),
        ("fox", "foxes"),
        ("ox", "oxen"),
        ("peach", "peaches"),
        ("petri dish", "petri dishes"),
        ("wine glass", "wine glasses"),
        ("cherry", "cherries"),
        ("donkey", "donkeys"),
        ("yo-yo", "yo-yos"),
        ("piano", "pianos"),
        ("tomato", "tomatoes"),
        ("computer mouse", "computer mice"),
        ("goose", "geese"),
        ("mongoose", "mongooses"),
        ("wolf", "wolves"),
        ("werewolf", "werewolves"),
        ("kitchen knife", "kitchen knives"),
        ("maple leaf", "maple leaves"),
        ("bookshelf", "bookshelves"),
        ("scarf", "scarves"),
        ("tooth", "teeth"),
        ("foot", "feet"),
        ("die", "dice"),
        ("birdie", "birdies"),
        ("child", "children"),
        ("person", "people"),
        ("man", "men"),
        ("snowman", "snowmen"),
        ("human", "humans"),
        ("woman farmer", "women farmers"),
        ("man running", "men running"),
        ("person lifting weights", "people lifting weights"),
        ("office building", "office buildings"),
        ("wedding ring", "wedding rings"),
        ("T-Rex", "T-Rexes"),
        ("fish", "fish"),
        ("blowfish", "blowfish"),
        ("sheep", "sheep"),
        ("deer", "deer"),
        ("water buffalo", "water buffalo"),
        ("aircraft", "aircraft"),
        ("kiwi fruit", "kiwi fruit"),
        ("slice of pizza", "slices of pizza"),
        ("box with tools", "boxes with tools"),
        ("fish in a bowl", "fish in a bowl"),
        ("lens", "lenses"),
        ("praying mantis", "praying mantises"),
    ],
)
def test_several_of_a_thing(one, several):
    assert not is_plural(one)
    assert plural(one) == several


@pytest.mark.parametrize("name", ["paw prints", "scissors", "women wrestling", "people holding hands", "dice", "skis"])
def test_names_of_many_stay(name):
    assert is_plural(name)
    assert plural(name) == with_article(name) == name


@pytest.mark.parametrize(
    ("article", "name"),
    [
        ("a", "cat"),
        ("an", "owl"),
        ("an", "umbrella"),
        ("an", "unamused face"),
        ("a", "unicorn"),
        ("a", "ukulele"),
        ("a", "user"),
        ("a", "UFO"),
        ("a", "USB stick"),
        ("a", "euro banknote"),
        ("a", "ewe"),
        ("an", "eye"),
        ("a", "one-piece swimsuit"),
        ("an", "onion"),
        ("an", "oncoming bus"),
        ("an", "hourglass"),
        ("a", "house"),
        ("an", "X-ray"),
        ("a", "xylophone"),
        ("an", "8 ball"),
        ("a", "bus"),
        ("a", "slice of pizza"),
        ("a", "face holding back tears"),
        ("an", "ear of corn"),
        ("a", "rice cooker"),
    ],
)
def test_one_thing(article, name):
    assert with_article(name) == f"{article} {name}"


@pytest.mark.parametrize(
    "name", ["bread", "cooked rice", "red luggage", "corn on the cob", "clip art", "table tennis", "person: red hair"]
)
def test_substances_and_lists_have_no_article(name):
    assert with_article(name) == name
    assert plural("cooked rice") == "cooked rice"


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("retro cartoon", "a retro cartoon of two cats"),
        ("isometric drawing", "an isometric drawing of two cats"),
        ("clip art", "clip art of two cats"),
        ("black and white icon", "a black and white icon of two cats"),
        ("flat vector sticker", "two cats in flat vector sticker style"),
        ("bold flat", "two cats in a bold flat style"),
        ("glossy gradient", "two cats in glossy gradient style"),
        ("outlined", "two cats in an outlined style"),
    ],
)
def test_sentences_with_a_style(style, said):
    assert said in in_style("two cats", style)


@pytest.mark.parametrize("style", ["bold flat", "glossy gradient", "flat modern", "outlined"])
def test_what_is_no_thing_has_no_of(style):
    assert not any(" of " in said for said in in_style("two cats", style))


def test_the_ways_to_say_it():
    assert phrases(APPLE) == [OWN, OWN, OWN, *STYLED, *PLAIN, *KEYWORDS]


def test_names_as_people_type_them():
    said = phrases({**APPLE, "caption": "a Christmas tree, 3d render", "label": "Christmas tree", "tags": None})
    assert {"a Christmas tree", "christmas tree", "3d render, christmas tree"} <= set(said)


def test_what_the_name_does_not_say_stays():
    row = {**APPLE, "caption": "an artist, dark skin tone, 3d render", "label": "artist, dark skin tone"}
    assert "artist, dark skin tone" in phrases(row)
    assert "a 3d render of an artist, dark skin tone" in phrases(row)


def test_one_keyword():
    assert phrases({**APPLE, "tags": ["fruit"]})[-2:] == ["fruit, 3d render", "a red apple, fruit, 3d render"]


@pytest.mark.parametrize("tags", [None, [], ["Apple", "RED"]])
def test_keywords_only_where_they_say_more(tags):
    assert phrases({**APPLE, "tags": tags}) == [OWN, OWN, OWN, *STYLED, *PLAIN]
    assert phrases({k: v for k, v in APPLE.items() if k != "tags"}) == phrases({**APPLE, "tags": tags})


@pytest.mark.parametrize("style", [None, ""])
def test_a_picture_of_no_style(style):
    row = {**APPLE, "caption": "a red apple", "style_words": style}
    assert phrases(row) == ["a red apple", "a red apple", *PLAIN, "a red apple, fruit, food"]


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
