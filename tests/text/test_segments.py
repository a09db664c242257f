import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.request import RequestError, TextToImage
from daguerre.text.extra_networks import split_networks
from daguerre.text.prompt import parse
from daguerre.text.segments import Part, check_prompts, parts, segments, without_comments


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1)]),
        ("", [("", 1)]),
        ("a AND b", [("a", 1), (" b", 1)]),
        ("a :1.2 AND b: -0.5 AND c", [("a", 1.2), (" b", -0.5), (" c", 1)]),
        ("a:1.AND b:.5", [("a", 1), (" b", 0.5)]),
        ("a:+2", [("a", 2)]),
        ("a:2 \n", [("a", 2)]),
        ("12:30:2", [("12:30", 2)]),
        ("(a:1.2)", [("(a:1.2)", 1)]),
        ("a:b", [("a:b", 1)]),
        ("a:1e3", [("a:1e3", 1)]),
        ("SAND ANDROID and", [("SAND ANDROID and", 1)]),
        ("AND", [("", 1), ("", 1)]),
        ("[a AND b:c:5]", [("[a", 1), (" b:c:5]", 1)]),
    ],
)
def test_and(prompt, expected):
    assert parts(prompt) == expected


def test_a_weight_beyond_a_float_is_refused():
    with pytest.raises(RequestError, match="beyond all numbers"):
        parts("a:" + "9" * 400)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", "a cat"),
        ("a cat # gray?", "a cat"),
        ("# title\na cat", "a cat"),
        ("a\n# no\ncat", "a\n\ncat"),
        ("a#b\nc#d", "a\nc"),
        ("#", ""),
        ("  a  ", "  a  "),
    ],
)
def test_a_comment_reaches_to_the_end_of_its_line(text, expected):
    assert without_comments(text) == expected


def test_parts_change_each_at_its_own_time():
    found = segments("a [b:4] AND [c|d]:0.5", "[e::2]", 6)
    assert [segment.last for segment in found] == [1, 2, 3, 4, 5, 6]
    assert [segment.positive[0] for segment in found] == [Part("a ", 1)] * 4 + [Part("a b", 1)] * 2
    assert [segment.positive[1] for segment in found] == [Part(" c", 0.5), Part(" d", 0.5)] * 3
    assert [segment.negative for segment in found] == ["e"] * 2 + [""] * 4


def test_the_negative_prompt_has_no_and():
    assert segments("a", "b AND c:2", 5) == [(5, (Part("a", 1),), "b AND c:2")]


def test_a_second_pass_counts_on():
    assert [s.positive[0].text for s in segments("[a:b:12]", "", 5, after=10)] == ["a", "b"]


@pytest.mark.parametrize(
    ("prompt", "text", "found"),
    [
        ("a cat", "a cat", []),
        ("a <lora:x> cat", "a  cat", [("lora", "x", 1, 1, None)]),
        ("<lora:x:0.5>", "", [("lora", "x", 0.5, 0.5, None)]),
        ("<lora:x:0.5:-1>", "", [("lora", "x", 0.5, -1, None)]),
        ("<lora:x:0.5:0.7:8>", "", [("lora", "x", 0.5, 0.7, 8)]),
        ("<lora:x:unet=0.5>", "", [("lora", "x", 1, 0.5, None)]),
        ("<lora:x:te=0.5>", "", [("lora", "x", 0.5, 0.5, None)]),
        ("<lora:x:0.3:te=0.5:dyn=4>", "", [("lora", "x", 0.5, 0.5, 4)]),
        ("<lyco:x y:2>", "", [("lora", "x y", 2, 2, None)]),
        ("<hypernet:h:0.4>", "", [("hypernet", "h", 1, 0.4, None)]),
        ("<lora:a><lora:b:2> c", " c", [("lora", "a", 1, 1, None), ("lora", "b", 2, 2, None)]),
        ("a < b > <3", "a < b > <3", []),
    ],
)
def test_networks_are_taken_out_of_a_prompt(prompt, text, found):
    kept, networks = split_networks(prompt)
    assert kept == text
    assert [(n.kind, n.name, n.text_weight, n.weight, n.ranks) for n in networks] == found


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("<lorra:x:1>", "'lorra' is not known"),
        ("<lora:x:much>", "'much' is no weight"),
        ("<lora:x:1e999>", "is no weight"),
        ("<lora:x:1:1:1.5>", "dyn is '1.5'"),
        ("<lora:x:dyn=0>", "dyn is '0'"),
        ("<lora:x:1:1:1:1>", "cannot be read"),
        ("<lora:x:wide=1>", "cannot be read"),
        ("<lora: :1>", "cannot be read"),
        ("<lora:>", "cannot be read"),
        ("<hypernet:x:1:1>", "<hypernet:name:weight>"),
        ("<lora:x:dyn=" + "9" * 5000 + ">", "dyn is"),
    ],
)
def test_a_tag_that_makes_no_sense_is_refused(tag, words):
    with pytest.raises(RequestError, match=words):
        split_networks(f"a cat {tag}")


def read_whole(prompt, negative, steps):
    """A prompt through every stage up to the tokens."""
    text, _ = split_networks(without_comments(prompt))
    for segment in segments(text, without_comments(negative), steps):
        for said in (*(part.text for part in segment.positive), segment.negative):
            parse(said)


WORDS = [*"()[]{}<>\\:|#,. ab\n\0é", "AND", " AND ", "BREAK", " BREAK ", "1.2", ":-1", ":1.5)", "[a:b:0.5]", "[a|b]"]
WORDS += ["<lora:x:1>", "<lora:", "<hypernet:", "te=", "0.5]", "9" * 310, "\ud800", "\N{GRINNING FACE}", "٣", "1..2"]


def generated(seed, count):
    """Prompts rich in syntax, always the same."""
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choices(WORDS, k=rng.randint(0, 24)))


def refused(prompts):
    """How many of the prompts cannot be used; whatever is raised for one of them is a RequestError."""
    count = 0
    for prompt in prompts:
        try:
            read_whole(prompt, prompt[::-1], 12)
        except RequestError:
            count += 1
    return count


def test_nothing_but_a_request_error_is_raised():
    assert 0 < refused(generated(0, 1_000)) < 1_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_but_a_request_error_is_raised_for_100_000_prompts():
    assert 0 < refused(generated(1, 100_000)) < 100_000


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_any_text_is_a_prompt_or_a_request_error(prompt, negative):
    refused([prompt, negative])


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "prompt",
    ["<lora:" * 3_333, "<a" * 10_000, "a:" + " " * 19_990 + "x", "AND" * 6_666, "AND " * 5_000, "#" * 20_000],
    ids=lambda prompt: prompt[:6],
)
def test_hostile_prompts_take_no_time(prompt):
    begun = time.process_time()
    refused([prompt])
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "said",
    [
        {"prompt": "a (b:1..2)"},
        {"prompt": "a", "negative_prompt": "(b:1..2)"},
        {"prompt": "a AND [b:(c:1..2):0.5]"},
        {"prompt": "<lora:a:b>"},
    ],
)
def test_prompts_are_read_without_a_model(said):
    with pytest.raises(RequestError, match=r"1\.\.2|'b' is no weight"):
        check_prompts(TextToImage(**said), 20)


def test_what_no_step_says_is_not_read():
    check_prompts(TextToImage(prompt="[a:(b:1..2):30]"), 20)
    with pytest.raises(RequestError, match=r"1\.\.2"):
        check_prompts(TextToImage(prompt="[a:(b:1..2):30]"), 20, after=20)
    check_prompts(TextToImage(prompt="# (b:1..2)"), 20)
    check_prompts(TextToImage(prompt="(b:1..2)", emphasis="none"), 20)
