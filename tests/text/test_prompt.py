import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.request import RequestError
from daguerre.text.prompt import BREAK, Run, parse

# Prompts rich in syntax, with every other character now and then.
PROMPTS = st.lists(
    st.sampled_from([*"()[]\\:,. ab", "1.2", "-1", ":1.5)", "BREAK", " BREAK ", "\n"]) | st.characters(codec=None)
).map("".join)


def runs(*pairs):
    return [Run(text, pytest.approx(weight, rel=1e-12)) for text, weight in pairs]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [("", 1)]),
        ("a b", [("a b", 1)]),
        ("(a)", [("a", 1.1)]),
        ("[a]", [("a", 1 / 1.1)]),
        ("((a))", [("a", 1.21)]),
        ("[[a]]", [("a", 1 / 1.21)]),
        ("([a])", [("a", 1)]),
        ("(a:1.5)", [("a", 1.5)]),
        ("(a: 1.5 )", [("a", 1.5)]),
        ("(a:-1)", [("a", -1)]),
        ("(a:+.5)", [("a", 0.5)]),
        ("(a:0)", [("a", 0)]),
        ("[a:1.2]", [("a:1.2", 1 / 1.1)]),
        ("(a (b:2))", [("a ", 1.1), ("b", 2.2)]),
        ("((b:1.5) c:2)", [("b", 3), (" c", 2)]),
        (
            "a (((barn:1.3)) [by] a (lake:0.5), fog, (((moon))).",
            [
                ("a ", 1),
                ("barn", 1.573),
                (" ", 1.1),
                ("by", 1),
                (" a ", 1.1),
                ("lake", 0.55),
                (", fog, ", 1.1),
                ("moon", 1.4641),
                (".", 1.1),
            ],
        ),
        ("(a", [("a", 1.1)]),
        ("x (a [b", [("x ", 1), ("a ", 1.1), ("b", 1)]),
        ("a)", [("a)", 1)]),
        ("a]", [("a]", 1)]),
        ("(a:1.2", [("a:1.2", 1.1)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("a:1.2)", [("a:1.2)", 1)]),
        ("a:1..2)", [("a:1..2)", 1)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
        (r"\(a\) \[b\] \\", [(r"(a) [b] \ "[:-1], 1)]),
        (r"(\(a\):1.2)", [("(a)", 1.2)]),
        (r"(a\:1.2)", [("a", 1.2)]),
        (r"a\b", [("ab", 1)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("(a)(b:1.1)", [("ab", 1.1)]),
        ("(a) b", [("a", 1.1), (" b", 1)]),
        ("()", [("", 1)]),
        # what is read before is plain text
        ("[a:b:0.5]", [("a:b:0.5", 1 / 1.1)]),
        ("[a|b]", [("a|b", 1 / 1.1)]),
        ("a AND b:1.2", [("a AND b:1.2", 1)]),
        ("<lora:a:1>", [("<lora:a:1>", 1)]),
    ],
)
def test_attention(prompt, expected):
    assert parse(prompt) == runs(*expected)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a BREAK b", [("a", 1), BREAK, ("b", 1)]),
        ("a\n BREAK\t b", [("a", 1), BREAK, ("b", 1)]),
        ("(a) BREAK [b]", [("a", 1.1), ("", 1), BREAK, ("", 1), ("b", 1 / 1.1)]),
        ("BREAK", [("", 1), BREAK, ("", 1)]),
        ("a BREAK BREAK b", [("a", 1), BREAK, ("", 1), BREAK, ("b", 1)]),
        ("aBREAKb", [("aBREAKb", 1)]),
        ("a break b", [("a break b", 1)]),
        ("(a BREAK b:1.2)", [("a", 1.2), ("BREAK", -1.2), ("b", 1.2)]),
        ("([a BREAK b])", [("a", 1), BREAK, ("b", 1)]),
    ],
)
def test_break(prompt, expected):
    assert parse(prompt) == runs(*expected)


@pytest.mark.parametrize("prompt", ["(a:1..2)", "(a:.)", "(a:1.2.3)", "x ((a:+..) b)"])
def test_a_weight_that_is_no_number_is_refused(prompt):
    with pytest.raises(RequestError, match=r"is not a number; write it as in \(word:1\.2\)"):
        parse(prompt)


@pytest.mark.parametrize("prompt", ["(a:" + "9" * 400 + ")", "(" * 8000 + "a"])
def test_a_weight_beyond_a_float_is_refused(prompt):
    with pytest.raises(RequestError, match="beyond all numbers"):
        parse(prompt)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "prompt",
    [
        "(" * 20_000,
        "[a" * 10_000,
        "([a" * 6_000,
        "(" * 10_000 + ")" * 10_000,
        "(a:1)" * 4_000,
        "\\" * 20_000,
        ":" + " " * 19_999,
        ": " * 10_000,
        ":" + "1" * 19_999,
        " " * 20_000,
        "BREAK " * 3_333,
    ],
    ids=lambda prompt: prompt[:6],
)
def test_hostile_prompts_take_no_time(prompt):
    assert parse(prompt)


def weighted_characters(prompt):
    """An independent reading, without escapes: each pair of brackets scales the characters between them."""
    pieces = [match[0] for match in re.finditer(r":\s*\d+\s*\)|.", prompt, re.DOTALL)]
    weights = [1.0] * len(pieces)
    for opening, closing, factor in (("(", ")", 1.1), ("[", "]", 1 / 1.1)):
        waiting = []
        for i, piece in enumerate(pieces):
            if piece == opening:
                waiting.append(i)
                pieces[i] = ""
            elif piece.endswith(closing) and waiting:
                start, scale = waiting.pop(), float(piece[1:-1]) if len(piece) > 1 else factor
                weights[start:i] = [weight * scale for weight in weights[start:i]]
                pieces[i] = ""
        for start in waiting:
            weights[start:] = [weight * factor for weight in weights[start:]]
    return [(character, weight) for piece, weight in zip(pieces, weights, strict=True) for character in piece]


@given(st.text("()[]ab: 12"))
def test_every_character_has_the_weight_of_its_brackets(prompt):
    got = [(character, run.weight) for run in parse(prompt) for character in run.text]
    expected = weighted_characters(prompt)
    assert [character for character, _ in got] == [character for character, _ in expected]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in expected], rel=1e-12)


@given(PROMPTS)
def test_nothing_but_a_request_error_is_raised(prompt):
    try:
        result = parse(prompt)
    except RequestError:
        return
    assert result
    assert all(left.weight != right.weight for left, right in pairwise(result))


@given(PROMPTS)
def test_all_that_is_no_syntax_is_kept(prompt):
    try:
        text = "".join(run.text for run in parse(prompt))
    except RequestError:
        return
    removed = r"[()\[\]\\:.+\-\d\s]"  # brackets, escapes, numbers, and the blanks round BREAK
    assert re.sub(removed, "", text) == re.sub(removed, "", prompt)


@given(st.text(st.characters(codec=None, exclude_characters="()[]\\")))
def test_a_prompt_without_syntax_is_one_run(prompt):
    assert parse(prompt.replace("BREAK", "")) == [Run(prompt.replace("BREAK", ""), 1.0)]


@given(st.text(st.characters(codec=None)))
def test_escaping_keeps_any_text(text):
    text = text.replace("BREAK", "")
    assert parse(re.sub(r"([()\[\]\\])", r"\\\1", text)) == [Run(text, 1.0)]
