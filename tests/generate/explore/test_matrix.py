import pytest

from daguerre.generate.explore.job import Job
from daguerre.generate.explore.matrix import plan_matrix
from daguerre.request import RequestError, TextToImage


def plan(prompt, **options):
    return plan_matrix(Job(TextToImage(prompt=prompt, seed=5)), **options)


def prompts(prompt, **options):
    return [job.request.prompt for job in plan(prompt, **options).jobs]


def test_all_combinations_in_the_order_of_a1111():
    assert prompts("a cat|with a hat|blue") == ["a cat", "a cat, with a hat", "a cat, blue", "a cat, with a hat, blue"]
    assert prompts("a cat|, with a hat,|blue", at_start=True)[3] == "with a hat, blue, a cat"


def test_labels_strike_out_what_a_cell_lacks():
    made = plan("a cat|hat|blue|night")
    assert [[(words.text, words.is_active) for words in label] for label in made.columns] == [
        [("hat", False), ("blue", False)],
        [("hat", True), ("blue", False)],
        [("hat", False), ("blue", True)],
        [("hat", True), ("blue", True)],
    ]
    assert made.title(6) == "blue, night"
    assert made.jobs[6].request.prompt == "a cat, blue, night"


def test_seeds_and_the_negative_prompt():
    assert [job.request.seed for job in plan("a|b|c", different_seeds=True).jobs] == [5, 6, 7, 8]
    assert {job.request.seed for job in plan("a|b|c").jobs} == {5}
    base = Job(TextToImage(prompt="x", negative_prompt="blur|dark", seed=1))
    found = [job.request.negative_prompt for job in plan_matrix(base, of="negative_prompt").jobs]
    assert found == ["blur", "blur, dark"]


def test_brackets_keep_their_bars():
    assert prompts("a [cat|dog] (x|y)|blue") == ["a [cat|dog] (x|y)", "a [cat|dog] (x|y), blue"]


@pytest.mark.parametrize("prompt", ["a cat", "a cat|", "|".join("abcdefghijklm")])
def test_what_is_no_matrix_is_refused(prompt):
    with pytest.raises(RequestError, match="parts"):
        plan(prompt)
