import random
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.text.schedule import schedule

# Prompts rich in syntax, with every other character now and then.
PROMPTS = st.lists(
    st.sampled_from([*"()[]\\:|ab \n", "2", "0.5", ":3]", "[a:b:2]", "[c|d]", "1e999", "AND"])
    | st.characters(codec=None)
).map("".join)


def every_step(*options, steps=10):
    return [(step, options[(step - 1) % len(options)]) for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("test", [(10, "test")]),
        ("", [(10, "")]),
        # the published vectors
        ("a [b:0.5]", [(5, "a "), (10, "a b")]),
        ("a [b::5]", [(5, "a b"), (10, "a ")]),
        ("a [b:c:0.25]", [(2, "a b"), (10, "a c")]),
        ("a [b:c:1.0]", [(10, "a b")]),
        ("a [b:c:1]", [(1, "a b"), (10, "a c")]),
        ("a [b:c:0]", [(10, "a c")]),
        ("a [b:c:-1]", [(10, "a c")]),
        ("a [b:c:20]", [(10, "a b")]),
        ("[a|b|c]", every_step("a", "b", "c")),
        ("[fe|]male", every_step("female", "male")),
        ("[fe|||]male", every_step("female", "male", "male", "male")),
        ("[a:[b|c]:8]", [*every_step("a", steps=8), (9, "b"), (10, "c")]),
        ("[a:b|c:4]", [(10, "[a:b|c:4]")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        # blanks and forms of numbers
        ("a [b: 3 ]", [(3, "a "), (10, "a b")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("[b:.5]", [(5, ""), (10, "b")]),
        ("[b:+5.]", [(10, "")]),
        ("[b:1e0]", [(1, ""), (10, "b")]),
        ("[b:1.0e-1]", [(1, ""), (10, "b")]),
        ("[b:1e999]", [(10, "")]),
        ("[b:-1e999]", [(10, "b")]),
        ("[b:-0.5]", [(10, "b")]),
        ("[:3]", [(3, ""), (10, "")]),
        ("[::3]", [(3, ""), (10, "")]),
        ("[b:٣]", [(10, "[b:٣]")]),
        ("[b:]", [(10, "[b:]")]),
        ("[b:x]", [(10, "[b:x]")]),
        ("[b:(3)]", [(10, "[b:(3)]")]),
        ("[b:1_0]", [(10, "[b:1_0]")]),
        # nesting
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("([a:b:2]:1.3)", [(2, "(a:1.3)"), (10, "(b:1.3)")]),
        ("[[a:b:2]]", [(2, "[a]"), (10, "[b]")]),
        ("[[a|b]|c]", every_step("a", "c", "a", "c")),
        # what is no change stays, and so does all that it lies in
        ("[a]", [(10, "[a]")]),
        ("a [unclosed", [(10, "a [unclosed")]),
        ("a] closed", [(10, "a] closed")]),
        ("[x [a:b:3]", [(3, "[x a"), (10, "[x b")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[x [a:b:c:3]:5]", [(10, "[x [a:b:c:3]:5]")]),
        ("([a:b:3]:c:d)", [(3, "(a:c:d)"), (10, "(b:c:d)")]),
        ("[a (b:c:3]", [(10, "[a (b:c:3]")]),
        ("(a [b) c:d:3]", [(10, "(a [b) c:d:3]")]),
        # escapes
        (r"\[a:b:3\]", [(10, r"\[a:b:3\]")]),
        (r"[a\]:b\::3]", [(3, r"a\]"), (10, r"b\:")]),
        (r"[a\|b:3]", [(3, ""), (10, r"a\|b")]),
        # all or nothing
        ("[a:b:3] | c", [(10, "[a:b:3] | c")]),
        ("[a:b:3] (c|d)", [(10, "[a:b:3] (c|d)")]),
        ("[a:b:3] [c|d", [(10, "[a:b:3] [c|d")]),
        ("[a:b:3] \\", [(10, "[a:b:3] \\")]),
        ("[a:b:3] \\\n", [(10, "[a:b:3] \\\n")]),
    ],
)
def test_schedule(prompt, expected):
    assert schedule(prompt, 10) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a [b:.5] c", [(10, "a b c")]),
        ("a [b:1.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b:20] c", [(10, "a b c")]),
        ("a [b:24] c", [(4, "a  c"), (10, "a b c")]),
        ("a [b:99] c", [(10, "a  c")]),
        ("[a|b]", every_step("a", "b")),
    ],
)
def test_a_second_pass_counts_on(prompt, expected):
    assert schedule(prompt, 10, after=20) == expected


HOSTILE = {
    "opened": "[" * 10_000 + "]" * 10_000,
    "never closed": "[a:" * 6_667,
    "deep": "[a:" * 3_000 + "b" + ":2]" * 3_000,
    "turns in turns": "[a|" * 5_000 + "b" + "]" * 5_000,
    "round": "(" * 10_000 + "[a:b:2]" + ")" * 9_000,
    "closed only": "]" * 20_000,
    "mixed": "([" * 5_000 + ")]" * 5_000,
    "invalid": "[a:b:c:2]" * 2_200,
    "colons": "[" + ":" * 19_000 + "2]",
    "bars": "[" + "|" * 19_000 + "]",
    "escapes": "\\[" * 10_000,
    "blanks": "[a:" + " " * 19_000 + "]",
    "digits": "[a:" + "9" * 19_000 + "]",
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE)
def test_hostile_prompts_take_linear_time(prompt):
    def seconds(text):
        begun = time.process_time()
        schedule(text, 20)
        return time.process_time() - begun

    assert schedule(prompt, 20)[-1].last == 20
    assert seconds(prompt) < 2


@given(PROMPTS, st.integers(1, 40), st.integers(0, 40))
def test_any_text_is_a_schedule(prompt, steps, after):
    entries = schedule(prompt, steps, after=after)
    assert entries[-1].last == steps
    assert all(0 < a.last < b.last for a, b in pairwise(entries))


def said(node, step):
    """What a made-up tree says at a step."""
    kind, *rest = node
    if kind == "plain":
        return rest[0]
    if kind == "all":
        return "".join(said(part, step) for part in rest)
    if kind == "change":
        return said(rest[0 if step <= rest[2] else 1], step)
    if kind == "turns":
        return said(rest[(step - 1) % len(rest)], step)
    return f"({said(rest[0], step)}:1.2)"


def written(node):
    kind, *rest = node
    if kind == "plain":
        return rest[0]
    if kind == "all":
        return "".join(map(written, rest))
    if kind == "change":
        return f"[{written(rest[0])}:{written(rest[1])}:{rest[2]}]"
    if kind == "turns":
        return f"[{'|'.join(map(written, rest))}]"
    return f"({written(rest[0])}:1.2)"


TREES = st.recursive(
    st.tuples(st.just("plain"), st.text("ab ,")),
    lambda inner: (
        st.tuples(st.just("change"), inner, inner, st.integers(0, 12))
        | st.tuples(st.just("turns"), inner, inner)
        | st.tuples(st.just("turns"), inner, inner, inner)
        | st.tuples(st.just("all"), inner, inner)
        | st.tuples(st.just("weighed"), inner)
    ),
    max_leaves=12,
)


@given(TREES)
def test_a_prompt_says_at_each_step_what_its_tree_says(tree):
    entries = schedule(written(tree), 10)
    for step in range(1, 11):
        entry = next(entry for entry in entries if step <= entry.last)
        assert entry.text == said(tree, step)


def test_the_order_of_magnitude_is_linear():
    rng = random.Random(0)
    text = "".join(rng.choice(["[", "]", "(", ")", ":", "|", "a", ":2]", "[a|b]", "[a:b:2]"]) for _ in range(20_000))

    def seconds(count):
        taken = []
        for _ in range(3):
            begun = time.process_time()
            schedule(text[:count].replace("|", ""), 20)
            taken.append(time.process_time() - begun)
        return min(taken)

    seconds(1_000)
    assert seconds(40_000) < 50 * max(seconds(4_000), 0.01)
