import time
from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.request import RequestError
from daguerre.text.wildcards import Wildcards, expand

NONE = Wildcards()


@pytest.fixture
def wildcards(tmp_path):
    (tmp_path / "animals").mkdir()
    (tmp_path / "color.txt").write_text("\ufeffred\n\n# no color\nblue\n  green  \n", encoding="utf-8")
    (tmp_path / "animals" / "Big.txt").write_text("{gray|white} whale\n", encoding="utf-8")
    (tmp_path / "animals" / "small.txt").write_text("__color__ mouse\n", encoding="utf-8")
    (tmp_path / "often.txt").write_text("1000000::a\nb\n", encoding="utf-8")
    (tmp_path / "loop.txt").write_text("a __loop__\n", encoding="utf-8")
    (tmp_path / "double.txt").write_text("__double2__ __double2__ __double2__ __double2__\n" * 2, encoding="utf-8")
    (tmp_path / "double2.txt").write_text("__double__ __double__ __double__ __double__\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("# nothing\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    return Wildcards(tmp_path)


def all_of(prompt, wildcards=NONE, count=200):
    return Counter(expand(prompt, wildcards, Random(seed)) for seed in range(count))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", {"a cat"}),
        ("a {red|blue} cat", {"a red cat", "a blue cat"}),
        ("{a|}", {"a", ""}),
        ("{a|{b|c}d}", {"a", "bd", "cd"}),
        ("{2$$a|b}", {"a, b", "b, a"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{0$$a|b}", {""}),
        ("{2$${a|b}|c}", {"a, c", "b, c", "c, a", "c, b"}),
        ("{0::a|b}", {"b"}),
        ("{0::a|0::b}", {"a", "b"}),
        # what is no choice stays
        ("{a}", {"{a}"}),
        ("{a {b|c}}", {"{a b}", "{a c}"}),
        ("{a|b", {"{a|b"}),
        ("a}", {"a}"}),
        ("a|b", {"a|b"}),
        ("{x$$a|b}", {"x$$a", "b"}),
        ("{$$a|b}", {"$$a", "b"}),
        (r"\{a|b\}", {r"\{a|b\}"}),
        (r"{a\|b|c}", {r"a\|b", "c"}),
        ("a__b", {"a__b"}),
        ("__", {"__"}),
        ("____", {"____"}),
        ("[a:b:0.5] (c:1.2) [d|e]", {"[a:b:0.5] (c:1.2) [d|e]"}),
    ],
)
def test_choices(prompt, expected):
    assert set(all_of(prompt)) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a __color__ cat", {"a red cat", "a blue cat", "a green cat"}),
        ("__COLOR__", {"red", "blue", "green"}),
        ("__animals/big__", {"gray whale", "white whale"}),
        ("__animals/*__", {"gray whale", "white whale", "red mouse", "blue mouse", "green mouse"}),
        ("{2$$__color__}", {f"{a}, {b}" for a in ("red", "blue", "green") for b in ("red", "blue", "green") if a != b}),
        ("{__color__|x}", {"red", "blue", "green", "x"}),
        ("__often__", {"a"}),
        ("{1$$__often__}", {"a"}),
    ],
)
def test_wildcards(prompt, expected, wildcards):
    assert set(all_of(prompt, wildcards)) == expected


def test_heavier_options_are_drawn_more_often():
    found = all_of("{3::a|b}", count=2_000)
    assert 2.5 < found["a"] / found["b"] < 3.6


def test_the_same_seed_chooses_alike(wildcards):
    prompt = "{a|b|c} __color__ {2$$d|e|f} __animals/*__"
    assert expand(prompt, wildcards, Random(7)) == expand(prompt, Wildcards(wildcards.folder), Random(7))
    assert expand(prompt, wildcards, Random(7)) == "a blue d, f gray whale"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("__colour__", "did you mean __color__"),
        ("__../color__", "no line in a file"),
        ("{a|__none__}", "__none__"),  # whether or not it is chosen
        ("__empty__", "no line in a file empty.txt"),
        ("__latin__", "latin.txt: not in UTF-8"),
        ("__loop__", "does a file name itself"),
        ("__double__", "does a file name itself"),
    ],
)
def test_what_leads_nowhere_is_refused(prompt, words, wildcards):
    for seed in range(3):
        with pytest.raises(RequestError, match=words):
            expand(prompt, wildcards, Random(seed))


def test_without_a_folder_no_wildcard_is_known():
    with pytest.raises(RequestError, match="no folder of wildcards"):
        expand("__color__", NONE, Random(0))


def test_a_prompt_may_not_grow_without_limit(tmp_path):
    (tmp_path / "long.txt").write_text("x" * 9_000, encoding="utf-8")
    with pytest.raises(RequestError, match="longer than 20000"):
        expand("__long__ __long__ __long__", Wildcards(tmp_path), Random(0))


@given(st.text("{}|$_\\ab1-:*/.") | st.text(st.characters(codec=None)), st.integers())
def test_nothing_but_a_request_error_is_raised(prompt, seed):
    try:
        assert isinstance(expand(prompt, NONE, Random(seed)), str)
    except RequestError as error:
        assert "wildcards" in str(error)  # noqa: PT017  some of them have wildcards, and here are none


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "prompt",
    ["{" * 20_000, "{a|" * 6_667, "{" * 10_000 + "}" * 10_000, "{a|" * 5_000 + "}" * 5_000, "_" * 20_000, "|" * 20_000],
    ids=lambda prompt: prompt[:6],
)
def test_hostile_prompts_take_no_time(prompt):
    begun = time.process_time()
    with suppress(RequestError):
        expand(prompt, NONE, Random(0))
    assert time.process_time() - begun < 2
