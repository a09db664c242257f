"""What is drawn of prompts with styles and choices, in one pass or two."""

from dataclasses import replace

import pytest

from daguerre import Hires, TextToImage
from daguerre.text.styles import Style
from daguerre.text.template import resolved, second_prompts
from daguerre.text.wildcards import Wildcards

STYLES = {"oil": Style("oil painting", "photo"), "frame": Style("a framed {prompt}")}
REQUEST = TextToImage(prompt="a {red|blue|green|gray} cat", negative_prompt="{ugly|dull}", seed=5)


def drawn(request, *styles):
    return resolved(request, STYLES, styles, Wildcards())


def hires(prompt="", negative_prompt="", **changes):
    return replace(REQUEST, hires=Hires(prompt=prompt, negative_prompt=negative_prompt), **changes)


def test_both_passes_make_the_same_choice_where_they_offer_the_same():
    request = hires("a {red|blue|green|gray} cat, {sharp|soft}", "{ugly|dull}, noise", count=8)
    for one in drawn(request):
        assert one.hires.prompt in (f"{one.prompt}, sharp", f"{one.prompt}, soft")
        assert one.hires.negative_prompt == f"{one.negative_prompt}, noise"
        assert drawn(replace(request, seed=one.seed, count=1)) == [one]
    assert len({(one.prompt, one.hires.prompt) for one in drawn(request)}) > 2


def test_a_choice_of_the_second_pass_alone_is_made_for_each_picture():
    found = drawn(TextToImage(prompt="a cat", seed=5, count=8, hires=Hires(prompt="{a|b|c|d}")))
    assert [one.seed for one in found] == list(range(5, 13))
    assert {one.prompt for one in found} == {"a cat"}
    assert {one.hires.prompt for one in found} > {"a", "b"}


def test_styles_are_put_on_both_passes():
    request = TextToImage(
        prompt="a cat", negative_prompt="ugly", seed=1, hires=Hires(prompt="fur", negative_prompt="n")
    )
    (one,) = drawn(request, "frame", "oil")
    assert (one.prompt, one.negative_prompt) == ("a framed a cat, oil painting", "ugly, photo")
    assert (one.hires.prompt, one.hires.negative_prompt) == ("a framed fur, oil painting", "n, photo")


@pytest.mark.parametrize("own", ["", "# a note"])
def test_what_says_nothing_stays_with_the_first_pass(own):
    request = hires(own, own)
    assert second_prompts(request) == ("", "")
    (one,) = drawn(request, "oil")
    assert (one.hires.prompt, one.hires.negative_prompt) == ("", "")


def test_prompts_without_any_of_it_stay_as_they_were_typed():
    request = TextToImage(prompt="a cat # mine", seed=1, hires=Hires(prompt="fur # thick"))
    assert drawn(request) == [request]
    assert second_prompts(request) == ("fur", "")
    assert second_prompts(replace(request, comments=False)) == ("fur # thick", "")
    assert second_prompts(replace(request, hires=None)) == ("", "")
