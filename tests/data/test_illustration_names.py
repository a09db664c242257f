from daguerre.data.illustrations.iconify import Drawing, IconSet
from daguerre.data.illustrations.names import Concept, bare
from daguerre.data.illustrations.naming import code_book, entries
from daguerre.data.illustrations.sets import STYLES

CONCEPTS = {
    code: Concept(code, label, (), "objects", None, {})
    for code, label in (("1F3CF", "cricket game"), ("1F997", "cricket"), ("1F9ED", "compass"), ("1F620", "angry face"))
}


def labels(icons, style=STYLES[0]):
    return [(e.label, e.name) for e in entries(style, icons, code_book([icons], CONCEPTS.values()), CONCEPTS)]


def drawings(*names):
    return {name: Drawing(name, f"<svg>{name}</svg>") for name in names}


def test_a_first_name_counts_more_than_a_second():
    aliases = {"cricket": "cricket-game", "compass": "navigation-tool"}
    icons = IconSet(drawings("cricket-game", "navigation-tool"), {}, aliases)
    assert labels(icons) == [("compass", "1F9ED"), ("cricket game", "1F3CF")]


def test_a_code_point_counts_more_than_a_name():
    icons = IconSet(drawings("compass", "cricket"), {"1F3CF": "cricket"}, {})
    assert labels(icons) == [("compass", "1F9ED"), ("cricket game", "1F3CF")]


def test_pictographs_without_a_concept_are_extras():
    icons = IconSet(
        drawings("net", "net-dark", "sign"), {"1FA8D": "net", "1FA8D-1F3FF": "net-dark", "2B1B": "sign"}, {}
    )
    assert labels(icons) == [("net", "net")]


def test_glued_names():
    (style,) = [style for style in STYLES if style.key == "fxemoji"]
    icons = IconSet(drawings("cricketgame", "angry", "foxcrying", "uparrow"), {}, {})
    assert labels(icons, style) == [("angry face", "1F620"), ("cricket game", "1F3CF"), ("crying fox", "foxcrying")]


def test_codes_without_marks():
    assert bare("1f3cb-fe0f-200d-2640-fe0f") == "1F3CB-200D-2640"
