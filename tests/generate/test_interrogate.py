"""Prompts for pictures: ranking, joining, lists of phrases, and eyes that belong to a text encoder."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from daguerre.files.checkpoint import CheckpointError
from daguerre.files.reader import SETTINGS
from daguerre.generate.clip import cropped, load_towers, padded, text_alone
from daguerre.generate.interrogate import LISTS, interrogate, joined, phrase_lists, prompts, ranker
from daguerre.request import RequestError
from tests.generate.eyes import seeing, small_clip
from tests.toy import toy, write_toy

WHITE = Image.new("RGB", (30, 20), "white")
WORDS = {
    "subject": ["a dog", "an apple", "a house", "bread"],
    "color": ["red", "orange", "blue"],
    "style": ["3d render", "pencil drawing", "flat vector sticker"],
}


def test_the_phrase_that_is_seen_is_the_first():
    found = interrogate(ranker(seeing("a house"), WORDS), WHITE)
    first, *others = found.ranked["subject"]
    assert (first.phrase, round(first.similarity, 5)) == ("a house", 1.0)
    assert found.prompt == "a house"  # nothing that could be added brings it nearer
    assert [r.similarity for r in others] == sorted((r.similarity for r in others), reverse=True)
    for phrases in found.ranked.values():
        assert sum(r.share for r in phrases) == pytest.approx(1)
    other = interrogate(ranker(seeing("bread"), WORDS), WHITE)
    assert other.ranked["subject"][0].phrase == "bread"


@pytest.mark.parametrize(
    ("subject", "kind", "whole"),
    [
        ("an apple", "style", "an apple, 3d render"),
        ("a dog", "style", "a dog, pencil drawing"),
        ("a house", "color", "a blue house"),
        ("a house", "color", "an orange house"),
    ],
)
def test_a_phrase_is_added_that_brings_the_prompt_nearer(subject, kind, whole):
    clip = seeing(whole)
    found = interrogate(ranker(clip, {"subject": [subject], kind: WORDS[kind]}), WHITE)
    assert found.prompt == whole
    assert found.similarity == pytest.approx(1.0)
    assert found.ranked["subject"][0].similarity < 0.99
    assert interrogate(ranker(clip, {"subject": [subject]}), WHITE).prompt == subject


def test_a_prompt_may_begin_with_a_sentence():
    found = interrogate(ranker(seeing("two men on a bench, pencil drawing"), WORDS), WHITE, start="two men on a bench")
    assert found.prompt == "two men on a bench, pencil drawing"
    assert found.similarity == pytest.approx(1.0)


def test_several_prompts_for_another_judge():
    found = prompts(ranker(seeing("a house"), WORDS), WHITE, 3)
    assert found[0] == "a house"
    assert len(set(found)) == len(found) == 3


def test_only_so_many_phrases_are_told():
    found = interrogate(ranker(small_clip(), WORDS), WHITE, top=2)
    assert {len(phrases) for phrases in found.ranked.values()} == {2}
    with pytest.raises(RequestError, match="top is 0"):
        interrogate(ranker(small_clip(), WORDS), WHITE, top=0)
    with pytest.raises(RequestError, match="the list 'style' is empty"):
        ranker(small_clip(), {**WORDS, "style": []})


@pytest.mark.parametrize(
    ("prompt", "kind", "phrase", "expected"),
    [
        ("an apple", "color", "red", "a red apple"),
        ("a hat", "color", "orange", "an orange hat"),
        ("bread", "color", "white", "white bread"),
        ("a red apple", "color", "red", "a red apple"),
        ("a dog", "style", "3d render", "a dog, 3d render"),
        ("a dog, 3d render", "style", "3d render", "a dog, 3d render"),
        ("a hundred", "color", "red", "a red hundred"),
    ],
)
def test_joining(prompt, kind, phrase, expected):
    assert joined(prompt, kind, phrase) == expected


def test_our_own_lists_are_sound():
    lists = phrase_lists()
    assert tuple(lists) == LISTS
    for phrases in lists.values():
        assert len(set(phrases)) == len(phrases) >= 20
        assert all(phrase == phrase.strip() and len(phrase) < 60 for phrase in phrases)


def test_lists_of_a_folder(tmp_path):
    with pytest.raises(RequestError, match="there is no list in it"):
        phrase_lists(tmp_path)
    (tmp_path / "subject.txt").write_text("# mine\n\na cat\na dog\na cat\n")
    assert phrase_lists(tmp_path) == {"subject": ["a cat", "a dog"]}
    (tmp_path / "style.txt").write_text("# nothing\n")
    with pytest.raises(RequestError, match=r"style\.txt: there is no phrase in it"):
        phrase_lists(tmp_path)
    (tmp_path / "style.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match=r"style\.txt: it is not UTF-8"):
        phrase_lists(tmp_path)


def test_long_phrases_and_company_change_nothing():
    clip = small_clip()
    alone = clip.of_phrases(["a cat"])
    many = clip.of_phrases(["word " * 200, "a cat", *(f"{i} cats" for i in range(200))])
    torch.testing.assert_close(many[1:2], alone, rtol=0, atol=1e-6)
    assert many.isfinite().all()


def test_pictures_of_any_shape():
    for size in ((1, 1), (2000, 3), (3, 700), (16, 16)):
        image = Image.new("RGB", size, "red")
        assert padded(image, 16).size == cropped(image, 16).size == (16, 16)
    wide = Image.new("RGB", (32, 16), "red")
    assert padded(wide, 16).getpixel((8, 1)) == (255, 255, 255)
    assert padded(wide, 16).getpixel((8, 8)) == (255, 0, 0)
    assert cropped(wide, 16).getpixel((8, 1)) == (255, 0, 0)


@pytest.fixture
def towers(tmp_path):
    """A toy model's file, and eyes for it."""
    model = write_toy(toy(), tmp_path / "toy.safetensors")
    told = {
        "network": {"size": 16, "widths": [8, 16], "blocks": [1, 1], "projection": 32},
        "text": text_alone(model, device="cpu").sha256(),
        "scale": 20.0,
        "lists": {"subject": ["a cat", "a dog"]},
    }
    return model, write_eyes(tmp_path / "vision.safetensors", told), told


def write_eyes(path, told):
    save_file(small_clip().vision.state_dict(), path, {SETTINGS: json.dumps({"vision": told})})
    return path


def test_eyes_for_a_model(towers):
    model, eyes, _ = towers
    clip, lists = load_towers(model, eyes, device="cpu")
    assert (lists, clip.scale, clip.size) == ({"subject": ["a cat", "a dog"]}, 20.0, 16)
    torch.testing.assert_close(clip.of_picture(WHITE), small_clip().of_picture(WHITE), rtol=0, atol=1e-6)
    expected = toy().text[0]
    torch.testing.assert_close(clip.text.token.weight, expected.token.weight.half().float(), rtol=1e-3, atol=1e-3)


def test_eyes_of_another_text_encoder_are_refused(towers, tmp_path):
    _, eyes, _ = towers
    other = write_toy(toy(seed=1), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="trained for another text encoder"):
        load_towers(other, eyes, device="cpu")


@pytest.mark.parametrize(
    "damage",
    [
        {"network": {"size": 16, "widths": [8, 10**9], "blocks": [1, 1], "projection": 32}},
        {"network": {"size": 16, "widths": [8], "blocks": [1, 1], "projection": 32}},
        {"network": {"size": 16, "widths": "wide", "blocks": [1, 1], "projection": 32}},
        {"network": 3},
        {"scale": "much"},
        {"lists": {"subject": []}},
        {"lists": ["a cat"]},
        {"text": None},
    ],
)
def test_files_that_are_no_eyes(towers, tmp_path, damage):
    model, _, told = towers
    eyes = write_eyes(tmp_path / "damaged.safetensors", told | damage)
    with pytest.raises(CheckpointError, match="no vision tower of daguerre"):
        load_towers(model, eyes, device="cpu")


def test_weights_that_do_not_fit(towers, tmp_path):
    model, eyes, told = towers
    state = load_file(eyes)
    del state["norm.bias"]
    save_file(state, tmp_path / "less.safetensors", {SETTINGS: json.dumps({"vision": told})})
    with pytest.raises(CheckpointError, match=r"norm\.bias.*do not fit"):
        load_towers(model, tmp_path / "less.safetensors", device="cpu")
