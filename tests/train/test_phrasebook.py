from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from daguerre.train.phrasebook import PAINTED, SCENES, TEMPLATED, Text, phrasebook

ROWS = [
    {"caption": "a red apple, 3d render", "label": "red apple", "style_words": "3d render", "tags": ["fruit"]},
    {"caption": "a cat, flat modern", "label": "cat", "style_words": "flat modern", "tags": None},
    {"caption": "a dog, flat modern", "label": "dog", "style_words": "flat modern", "tags": ["pet", "hound"]},
    {"caption": "a photo: sea", "label": "photo: sea", "style_words": None, "tags": []},
]
NAMES = [
    {"concept": "1F431", "locale": "en", "label": "cat", "tags": ["pet", "face"]},
    {"concept": "1F431", "locale": "de", "label": "Katze", "tags": ["Tier"]},
    {"concept": "1F431", "locale": "zh", "label": "猫", "tags": []},
    {"concept": "1F999", "locale": "de", "label": "Lama", "tags": []},  # without an English name
]


@pytest.fixture
def names(tmp_path) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(NAMES), tmp_path / "names.parquet")
    return tmp_path / "names.parquet"


def test_names_mean_the_english_one(names):
    said = phrasebook(ROWS, names, ["puppy"], 0)["names"]
    assert {Text("Katze", "cat"), Text("ein Katze", "a cat"), Text("Tier", "cat"), Text("猫", "cat")} <= set(said)
    assert not [text for text in said if "Lama" in text.said]


def test_painted_names_have_the_color_where_the_language_has_it(names):
    said = [text for text in phrasebook(ROWS, names, ["puppy"], 0)["names"] if text.kinds]
    assert len(said) == PAINTED
    assert Text("红色的猫", "red cat", ("red thing",)) in said
    assert Text("ein roter Katze", "a red cat", ("red thing",)) in said
    assert {kind for text in said for kind in text.kinds} >= {"black thing", "white thing", "brown thing"}


def test_captions_keywords_and_words_mean_themselves(names):
    book = phrasebook(ROWS, names, ["puppy", "vessel"], 0)
    assert [text.said for text in book["captions"]] == [
        "a red apple, 3d render", "a red apple", "a cat, flat modern", "a cat", "a dog, flat modern", "a dog",
        "a photo: sea", "fruit", "hound", "pet",
    ]  # fmt: skip
    assert [text.said for text in book["words"][:2]] == ["puppy", "vessel"]
    assert len(book["words"]) == 2 + TEMPLATED
    assert all(text.said == text.means for key in ("captions", "words", "scenes") for text in book[key])


def test_scenes_tell_their_colors_and_counts(names):
    scenes = phrasebook(ROWS, names, [], 0)["scenes"]
    assert len(scenes) == SCENES
    for text in scenes:
        for kind in text.kinds:
            if kind.startswith("on "):
                assert f"{kind.removeprefix('on ')} background" in text.said
            elif kind.endswith(" thing"):
                assert kind.removesuffix(" thing") in text.said
            elif kind == "count 3":
                assert "three" in text.said or "3 " in text.said
    assert {"count 1", "count 2", "count 3", "count 4", "flat modern"} <= {k for text in scenes for k in text.kinds}


def test_the_same_book_each_time(names):
    assert phrasebook(ROWS, names, ["puppy"], 3) == phrasebook(ROWS, names, ["puppy"], 3)
    assert phrasebook(ROWS, names, ["puppy"], 3) != phrasebook(ROWS, names, ["puppy"], 4)


def test_no_names_are_needed_but_those_given_are_whole(tmp_path):
    assert "names" not in phrasebook(ROWS, None, ["puppy"], 0)
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"concept": "1F431", "label": "cat"}]), tmp_path / "n.parquet"
    )
    with pytest.raises(ValueError, match="is no table of names: it has no column locale, tags"):
        phrasebook(ROWS, tmp_path / "n.parquet", [], 0)
