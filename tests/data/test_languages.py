from random import Random

import pyarrow
import pyarrow.parquet
import pytest

from daguerre.data.languages import ABROAD, COLORS, Name, foreign, painted, translations

APPLE = (
    Name("en", "red apple", ("fruit",)),
    Name("de", "roter Apfel", ("Apfel", "Obst")),
    Name("zh", "红苹果", ("水果",)),
)


def test_names_are_read_by_concept(tmp_path):
    rows = [{"concept": "1F34E", "locale": n.locale, "label": n.label, "tags": list(n.tags)} for n in APPLE]
    rows.append({"concept": "1F431", "locale": "de", "label": "Katze", "tags": None})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "names.parquet")
    assert translations(tmp_path / "names.parquet") == {"1F34E": APPLE, "1F431": (Name("de", "Katze", ()),)}


def test_a_table_that_is_none_is_named(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"concept": ["1F34E"], "label": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet.*no column locale, tags"):
        translations(tmp_path / "other.parquet")


def test_foreign_names_as_people_type_them():
    said = {foreign(APPLE, "3d render", Random(seed)) for seed in range(400)}
    assert {"ein roter apfel", "roter Apfel, 3d render", "红苹果", "一个红苹果"} <= said
    assert not any("red apple" in words for words in said)
    assert foreign(APPLE[:1], "3d render", Random(0)) == ""
    assert foreign(APPLE, "3d render", Random(7)) == foreign(APPLE, "3d render", Random(7))


def test_colors_stand_where_the_language_puts_them():
    assert painted("zh", "苹果", "red", Random(0)) == "红色的苹果"
    assert painted("it", "mela", "green", Random(0)) == "mela verde"
    assert {painted("de", "Auto", "red", Random(seed)) for seed in range(40)} >= {"rote Auto", "rotes Auto"}


@pytest.mark.parametrize("locale", ABROAD)
def test_every_language_has_all_colors(locale):
    assert len(set(ABROAD[locale].split())) == len(COLORS)
