"""A new word: what it becomes, what it leaves alone, and the files that it comes in."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from daguerre import TextToImage
from daguerre.adapters.change import AdapterError
from daguerre.adapters.textual_inversion import TextualInversion, WithWord
from daguerre.families.model import Model
from daguerre.text.embed import tokenize
from daguerre.text.tokenizer import END, Tokenizer
from tests.adapters.made import KINDS, random_word
from tests.toy import toy

IDS = range(49_408, 49_410)


def tokens(model: Model, prompt: str) -> torch.Tensor:
    return model.encode(TextToImage(prompt=prompt))[0].tokens


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_tokenizer_knows_the_word_and_nothing_else_changes(before: str, after: str) -> None:
    plain, knowing = Tokenizer(), WithWord(Tokenizer(), "zwx", IDS)
    assert knowing.encode(f"{before} ZWX {after}".replace("zwx", "")) == [
        *plain.encode(before.replace("zwx", "")), *IDS, *plain.encode(after.replace("zwx", "")),
    ]  # fmt: skip


def test_where_words_begin_and_end() -> None:
    plain, knowing = Tokenizer(), WithWord(Tokenizer(), "zwx", IDS)
    for text in ("zwxy", "azwx", "zwx2", "z wx", ""):
        assert knowing.encode(text) == plain.encode(text)
    assert knowing.encode("zwx,zwx") == [*IDS, *plain.encode(","), *IDS]
    assert WithWord(plain, "<cat-toy>", IDS).encode("a<cat-toy>b") == [*plain.encode("a"), *IDS, *plain.encode("b")]
    assert WithWord(plain, "bad artist", IDS).encode("by Bad  artist") == [*plain.encode("by"), *IDS]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_word_is_its_vectors(kind: str) -> None:
    """Vectors that are those of known words make a word that means just these."""
    model = toy(kind)
    plain = tokens(model, "a photo of a red apple, old")
    inversion = TextualInversion.new(model, "<zwx>", 2, "red apple", 0)
    with inversion.attach(model) as knowing:
        assert torch.equal(tokens(knowing, "a photo of a <zwx>, old"), plain)
        assert torch.equal(tokens(knowing, "a photo of a red apple, old"), plain)
        for vectors in inversion.vectors.values():
            vectors.neg_()
        assert not torch.allclose(tokens(knowing, "a photo of a <zwx>, old"), plain, atol=0.1)
        assert torch.equal(tokens(knowing, "a photo of a red apple, old"), plain)
    unknown = tokens(model, "a photo of a <zwx>, old")
    with pytest.raises(RuntimeError), inversion.attach(model):
        raise RuntimeError
    assert torch.equal(tokens(model, "a photo of a <zwx>, old"), unknown)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.text[0].modules())


@torch.no_grad()
def test_several_words_at_once() -> None:
    model = toy("sdxl")
    one, two = (TextualInversion.new(model, f"<{word}>", 1, word, 0) for word in ("apple", "car"))
    with one.attach(model) as first, two.attach(first) as both:
        assert torch.equal(tokens(both, "a <car> and an <apple>"), tokens(model, "a car and an apple"))


def test_gradients_reach_the_vectors_and_nothing_else() -> None:
    model = toy("sdxl")
    inversion = random_word(model)
    with inversion.attach(model) as knowing:
        tokens(knowing, "a zwx dog").square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in inversion.parameters())
    assert all(p.grad is None for text in model.text for p in text.parameters())


def test_what_it_starts_from() -> None:
    model = toy("sdxl")
    table = model.text[0].token.weight
    red, apple = Tokenizer().encode("red apple")
    vectors = TextualInversion.new(model, "zwx", 3, "red apple", 0).vectors
    assert torch.equal(vectors["text"], table[[red, apple, red]])
    assert vectors["text2"].shape == (3, 32)
    first, again, other = (random_word(model, seed=seed).vectors["text"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.allclose(first.norm(dim=1), table.norm(dim=1).mean(), rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    model, path = toy(kind), tmp_path / "any.safetensors"
    inversion = random_word(model, "bad artist")
    inversion.save(path, {"steps": 3})
    again = TextualInversion.load(path, model)
    assert again.word == "bad artist"
    assert all(torch.equal(again.vectors[part], vectors) for part, vectors in inversion.vectors.items())
    assert TextualInversion.load(path, model, "other").word == "other"
    assert load_file(path).keys() == ({"clip_l", "clip_g"} if kind == "sdxl" else {"bad artist"})


def test_files_of_others(tmp_path: Path) -> None:
    model, vectors = toy("sd1"), torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    a1111 = {
        "string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "style", "step": 100,
        "sd_checkpoint": None, "sd_checkpoint_name": None,
    }  # fmt: skip
    torch.save(a1111, tmp_path / "my-style.pt")
    save_file({"emb_params": vectors}, tmp_path / "other.safetensors")
    torch.save({"<cat-toy>": vectors[0]}, tmp_path / "learned_embeds.bin")
    found = {path.name: TextualInversion.load(path, model) for path in tmp_path.iterdir()}
    assert {name: one.word for name, one in found.items()} == {
        "my-style.pt": "my-style", "other.safetensors": "other", "learned_embeds.bin": "<cat-toy>",
    }  # fmt: skip
    assert torch.equal(found["my-style.pt"].vectors["text"], vectors)
    assert torch.equal(found["other.safetensors"].vectors["text"], vectors)
    assert torch.equal(found["learned_embeds.bin"].vectors["text"], vectors[:1])


BROKEN = {
    "NaN": ({"x": torch.full((1, 32), torch.nan)}, "'x'.*not finite"),
    "whole numbers": ({"x": torch.ones(1, 32, dtype=torch.int64)}, "'x'.*no vectors"),
    "a picture": ({"x": torch.ones(1, 2, 4, 4)}, "'x'.*no vectors"),
    "empty": ({"x": torch.ones(0, 32)}, "'x'.*no vectors"),
    "too many": ({"x": torch.ones(76, 32)}, "1 to 75"),
    "two": ({"x": torch.ones(1, 32), "y": torch.ones(1, 32)}, "2 tensors"),
    "SD 1": ({"x": torch.ones(1, 768)}, "Stable Diffusion 1.x"),
    "SD 2": ({"x": torch.ones(1, 1024)}, "Stable Diffusion 2.x"),
    "SDXL": ({"clip_l": torch.ones(1, 32), "clip_g": torch.ones(1, 1280)}, "Stable Diffusion XL"),
    "hostile": ({"x.__class__": torch.ones(1, 32)}, "no honest tensor"),
    "a word of syntax": ({"(x)": torch.ones(1, 32)}, "cannot be a word"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_named(fault: str, tmp_path: Path) -> None:
    tensors, words = BROKEN[fault]
    save_file(tensors, path := tmp_path / "word.safetensors")
    with pytest.raises(AdapterError, match=words) as caught:
        TextualInversion.load(path, toy("sd1"))
    assert str(path) in str(caught.value) or fault in ("too many", "a word of syntax")


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    model = toy("sd1")
    for word in ("", "  ", "a(b", "a:1", "\x00"):
        with pytest.raises(AdapterError, match="cannot be a word"):
            random_word(model, word)
    with pytest.raises(AdapterError, match="2 tokens long"):
        TextualInversion.new(model, "zwx", 1, "red apple", 0)
    with pytest.raises(AdapterError, match="1 to 75"):
        random_word(model, vectors=0)
    with pytest.raises(AdapterError, match="Stable Diffusion XL"), random_word(model).attach(toy("sdxl")):
        pass
    save_file({"x": torch.ones(1, 32)}, path := tmp_path / "x.safetensors", {"daguerre": json.dumps({"word": 3})})
    assert TextualInversion.load(path, model).word == "x"


def test_words_stand_together_in_a_chunk():
    known = WithWord(WithWord(Tokenizer(), "ab", range(60_000, 60_002)), "cd", range(60_002, 60_005))
    chunks = tokenize("cat " * 74 + "ab " + "cat " * 71 + "cd", known)
    assert [chunk.ids.index(END) - 1 for chunk in chunks] == [74, 73, 3]
