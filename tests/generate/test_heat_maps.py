"""Heat maps tell which word drew what, and change nothing of what is drawn."""

from dataclasses import replace
from functools import cache
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from daguerre import Hires, TextToImage, load_model, text_to_image
from daguerre.diffusion.denoiser import Step
from daguerre.generate.controls.style import Style
from daguerre.generate.drawing import Picture
from daguerre.generate.heat_maps import HeatMaps, words_of
from daguerre.models.attention import Attention
from daguerre.request import PerturbedAttention, RequestError, SkipNegative, read_guide
from tests.toy import toy, write_toy

REQUEST = TextToImage(
    prompt="a red apple on a table", negative_prompt="a pear", steps=2, width=64, height=72, seed=7, sampler="Euler"
)


def drawn(model, request=REQUEST, words=(), watched=True):
    """The maps, and the latents of the last step."""
    maps = HeatMaps(words)
    *_, step, _ = text_to_image(model, request, controls=[maps] if watched else [])
    return maps, step.x


@cache
def tintype():
    return load_model(files("daguerre") / "weights" / "tintype.safetensors", device="cpu", dtype="float32")


PROMPTS = ["a red apple", "[a red apple:a green pear:0.5] on a table", "a red apple AND a table :0.7", "a [cat|dog]"]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_watched_drawing_is_the_same_to_the_bit(family, prompt):
    model, request = toy(family), replace(REQUEST, prompt=prompt, guides=(PerturbedAttention(),))
    maps, watched = drawn(model, request)
    assert torch.equal(watched, drawn(model, request, watched=False)[1])
    assert all(maps.of(word).isfinite().all() for word in maps.words)
    assert all(not (isinstance(m, Attention) and "attend" in vars(m)) for m in model.unet.modules())


def test_what_cfgpp_draws_is_the_same_to_the_bit_when_watched():
    model, request = toy("sd1"), replace(REQUEST, sampler="Euler CFG++")
    maps, watched = drawn(model, request)
    assert torch.equal(watched, drawn(model, request, watched=False)[1])
    assert maps.of("apple").max() > 0


def test_a_map_is_the_mean_share_of_attention():
    model, request = toy("sd1"), replace(REQUEST, steps=1, cfg_scale=1.0, width=64, height=64)
    shares = []

    def look(module, args):
        q, k = (p.unflatten(-1, (module.heads, -1)).transpose(1, 2) for p in (module.q(args[0]), module.k(args[1])))
        looks = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)[0, :, :, 3].mean(0)  # start, a, red, apple
        side = int(len(looks) ** 0.5)
        small = looks.reshape(1, 1, side, side)
        shares.append(torch.nn.functional.interpolate(small, (8, 8), mode="bicubic").clamp_min(0)[0, 0])

    layers = [m for path, m in model.unet.named_modules() if path.endswith("cross_attn")]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    maps, _ = drawn(model, request, ["apple"])
    for hook in hooks:
        hook.remove()
    assert len(shares) == len(layers) > 3
    expected = torch.nn.functional.interpolate(torch.stack(shares).mean(0)[None, None], (64, 64), mode="bicubic")[0, 0]
    assert maps.of("apple").shape == (64, 64)
    assert torch.allclose(maps.of("Apple"), expected.clamp_min(0), atol=1e-6)


@pytest.mark.parametrize("guide", ["pag", "seg", "sag", "auto:drop=mid_attn"])
def test_what_guides_call_the_network_for_does_not_count(guide):
    request = replace(REQUEST, steps=1, prompt="an apple AND a table")  # the first step sees the same noise
    skip = (SkipNegative(early=1.0),) if guide == "sag" else ()  # where that looks at the positive side
    plain, guided = (drawn(toy("sd1"), replace(request, guides=guides), ["apple"])[0]
                     for guides in (skip, (read_guide(guide), *skip)))  # fmt: skip
    assert torch.equal(guided._layers, plain._layers)
    assert torch.equal(guided.of("apple"), plain.of("apple"))


def test_what_a_control_calls_the_network_for_does_not_count():
    model, request = toy("sd1"), replace(REQUEST, steps=1, height=64)
    plain, _ = drawn(model, request, ["apple"])
    control = Style(image=Image.new("RGB", (64, 64), "teal"))
    for order in (0, 1):
        maps = HeatMaps(["apple"])
        controls = [control, maps] if order else [maps, control]
        list(text_to_image(model, request, controls=controls))
        assert torch.equal(maps._layers, plain._layers)
        assert not torch.equal(maps.of("apple"), plain.of("apple"))  # which the style changes


def test_only_the_positive_side_is_read(tmp_path):
    path = write_toy(toy("sd1"), tmp_path / "toy.safetensors")
    batched, lean = (load_model(path, device="cpu", dtype="float32", low_memory=low) for low in (False, True))
    one, other = (drawn(model)[0].of("apple") for model in (batched, lean))
    assert torch.allclose(one, other, atol=1e-5)
    request = replace(REQUEST, steps=1)
    unlike = [drawn(batched, replace(request, negative_prompt=text))[0].of("apple") for text in ("", "an apple, red")]
    assert torch.allclose(*unlike, atol=1e-6)  # the first step sees the same noise


def test_the_words_of_a_scene_go_to_unlike_places():
    request = replace(REQUEST, width=128, height=128, steps=3, cfg_scale=4.0)
    maps, _ = drawn(tintype(), request)
    assert maps.words == ("a", "red", "apple", "on", "table")
    apple, table = maps.of("apple"), maps.of("table")
    for heat in (apple, table):
        assert 0 <= heat.min() < 0.7 * heat.max()
        assert heat.std() > 0.05 * heat.mean()
    assert np.corrcoef(apple.flatten(), table.flatten())[0, 1] < 0.9


def test_maps_are_those_of_the_picture_last_drawn():
    model, maps = toy("sd1"), HeatMaps(["apple"])
    found = []
    for event in text_to_image(model, replace(REQUEST, count=2), controls=[maps]):
        if isinstance(event, Picture):
            found.append(maps.of("apple"))
    alone, _ = drawn(model, replace(REQUEST, seed=8), ["apple"])
    assert torch.equal(found[1], alone.of("apple"))
    assert not torch.equal(found[0], found[1])


def test_a_prompt_that_changes_is_read_while_its_words_hold():
    request = replace(REQUEST, prompt="a [red apple:green pear:0.5]", steps=4)
    maps, _ = drawn(toy("sd1"), request)
    assert set(maps.words) == {"a", "red", "apple", "green", "pear"}
    calls = maps._layers[:, 0, 0].tolist()
    by_word = dict(zip(maps.words, calls, strict=True))
    assert by_word["a"] == by_word["apple"] + by_word["pear"] > by_word["pear"] > 0


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("a (red:1.3) [apple]", "apple"),
        ("a daguerreotype of an apple", "daguerreotype"),
        ("a pineapple, an apple", "apple"),
        ("a red apple", "red apple"),
        ("a red apple # in oil", "RED"),
    ],
)
def test_words_are_found_under_the_syntax(prompt, word):
    model = toy("sd1")
    maps, _ = drawn(model, replace(REQUEST, prompt=prompt, steps=1), [word])
    assert maps.of(word).max() > 0


@pytest.mark.parametrize(
    ("prompt", "word", "hint"),
    [
        ("a red apple", "aple", "did you mean 'apple'"),
        ("a pineapple", "apple", "there is no 'apple'"),
        ("a red apple # in oil", "oil", "its words are a, red, apple"),
        ("a red apple", "", "there is no ''"),
    ],
)
def test_a_word_that_is_not_there_is_refused_before_a_step(prompt, word, hint):
    with pytest.raises(RequestError, match=hint):
        next(text_to_image(toy("sd1"), replace(REQUEST, prompt=prompt), controls=[HeatMaps([word])]))


def test_a_word_that_was_not_watched_has_no_map_and_the_nearest_is_named():
    maps, _ = drawn(toy("sd1"), replace(REQUEST, steps=1), ["Red apple", "table"])
    assert maps.of("red APPLE").max() > 0
    with pytest.raises(RequestError, match="no 'tables' in what was watched; did you mean 'table'"):
        maps.of("tables")
    with pytest.raises(RequestError, match="no 'dog' in what was watched; its words are Red apple, table"):
        maps.overlay("dog", Image.new("RGB", (64, 72)))


def test_there_is_no_map_before_the_drawing():
    with pytest.raises(RequestError, match="before a picture is drawn"):
        HeatMaps(["apple"]).of("apple")


def test_an_overlay_is_brightest_where_the_word_went():
    maps, _ = drawn(toy("sd1"), REQUEST, ["apple"])
    image = maps.overlay("apple", Image.new("RGB", (64, 72), "gray"))
    bright, heat = np.asarray(image.convert("L"), float), maps.of("apple").numpy()
    assert image.size == (64, 72)
    assert np.corrcoef(bright.ravel(), heat.ravel())[0, 1] > 0.9
    assert bright.max() - bright.min() > 60


def test_words_of_a_text():
    assert words_of("a (Red:1.2) apple, [a] table BREAK x") == ("a", "red", "apple", "table", "x")


def test_where_brackets_are_text_they_are_not_read():
    maps, _ = drawn(toy("sd1"), replace(REQUEST, prompt="a (pear:1..2) [x]", emphasis="none", steps=1))
    assert maps.words == ("a", "pear", "1", "2", "x")
    assert maps.of("pear").max() > 0


@pytest.mark.parametrize("prompt", ["", "!!!", "# later"])
def test_a_prompt_without_words_is_refused(prompt):
    with pytest.raises(RequestError, match="the prompt has none"):
        drawn(toy("sd1"), replace(REQUEST, prompt=prompt))


def test_each_drawing_has_the_words_of_its_own_prompt():
    maps = HeatMaps()
    for prompt, words in {"a cat": ("a", "cat"), "one dog": ("one", "dog")}.items():
        list(text_to_image(toy("sd1"), replace(REQUEST, prompt=prompt, steps=1), controls=[maps]))
        assert maps.words == words
        assert all(maps.of(word).max() > 0 for word in words)


@pytest.mark.parametrize("negative", ["", "# [b:c:1]"])
def test_of_a_hires_fix_the_first_pass_is_watched(negative):
    model, square = toy("sd1"), replace(REQUEST, prompt="a [cat:dog:1.5]", negative_prompt=negative, height=64)
    first, _ = drawn(model, square)
    for own in ("", "fur"):
        maps, _ = drawn(model, replace(square, hires=Hires(width=96, height=192, prompt=own)))
        assert maps.words == first.words == ("a", "cat")
        assert torch.equal(maps._sums, first._sums)
        large = torch.nn.functional.interpolate(first.of("cat")[None, None], (192, 192), mode="bicubic")[0, 0]
        cut = large[:, 48:144]  # as the second pass cuts the picture
        assert maps.of("cat").shape == cut.shape
        assert (maps.of("cat") - cut).abs().max() < 0.1 * cut.max()


def test_watching_holds_one_map_per_word():
    model, maps = toy("sd1"), HeatMaps()
    for event in text_to_image(model, replace(REQUEST, steps=6), controls=[maps]):
        if isinstance(event, Step):
            assert maps._sums.shape == (5, 9, 8)
