"""Captions in batches give what prompts one by one give."""

from dataclasses import replace

import pytest
import torch

from daguerre.request import TextToImage
from daguerre.text.embed import embed as embed_prompts
from daguerre.train.text import AESTHETIC, Framing, embed, padded, steering
from tests.toy import toy

CAPTIONS = "a red ball", "a blue ball, " * 30 + "long", "", "(brackets) weigh [nothing]: a\\b"
FAMILIES = "tintype", "sd1", "sd2", "sdxl", "sdxl-refiner"


def one_by_one(model, captions, clip_skip=1):
    pairs = list(zip(model.text, model.family.encodings, strict=True))
    return embed_prompts(list(captions), model.tokenizer, pairs, clip_skip=clip_skip, emphasis="none")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_batches_of_captions_are_embedded_as_prompts_are(family, clip_skip):
    model = toy(family)
    found, expected = embed(model, CAPTIONS, clip_skip), one_by_one(model, CAPTIONS, clip_skip)
    assert found.tokens.shape[:2] == (4, 2 * 77)
    torch.testing.assert_close(found.tokens, torch.cat([e.tokens for e in expected]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, torch.cat([e.pooled for e in expected]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_captions_one_by_one_are_filled_up_to_the_same(family):
    model = toy(family)
    empty = embed(model, [""]).tokens
    tokens = padded([embed(model, [caption]).tokens for caption in CAPTIONS], empty)
    torch.testing.assert_close(tokens, embed(model, CAPTIONS).tokens, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_text_encoder():
    model = toy("sdxl")
    for text in model.text:
        text.requires_grad_(True)
    embedded = embed(model, CAPTIONS[:2])
    (embedded.tokens.sum() + embedded.pooled.sum()).backward()
    for text in model.text:
        assert text.token.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_framed_as_a_request_asks_is_steered_alike(family):
    model = toy(family)
    request = TextToImage(prompt="a red ball", width=512, height=768, emphasis="none")
    expected, _ = model.encode(replace(request, negative_prompt="x"))
    framing = Framing(original=(512, 768), corner=(0, 0), size=(512, 768))
    found = steering(model, embed(model, ["a red ball"]), [framing])
    torch.testing.assert_close(found.tokens, expected.tokens)
    torch.testing.assert_close(found.vector, expected.vector)


def test_sizes_and_crops_are_told_one_by_one():
    model = toy("sdxl")
    framings = [Framing((640, 480), (20, 10), (512, 512)), Framing((512, 512), (0, 0), (512, 512))]
    both = steering(model, embed(model, ["a ball"] * 2), framings).vector
    assert not torch.equal(both[0], both[1])
    for framing, row in zip(framings, both, strict=True):
        torch.testing.assert_close(steering(model, embed(model, ["a ball"]), [framing]).vector[0], row)


def test_the_refiner_is_told_of_good_pictures():
    assert AESTHETIC == 6.0
    model = toy("sdxl-refiner")
    framing = Framing((512, 768), (0, 0), (512, 768))
    positive, negative = model.encode(TextToImage(prompt="a", negative_prompt="a", width=512, height=768))
    vector = steering(model, embed(model, ["a"]), [framing]).vector
    torch.testing.assert_close(vector, positive.vector)
    assert not torch.allclose(vector, negative.vector)
