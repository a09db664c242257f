"""`daguerre interrogate` as a user runs it, and the training of its eyes."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from daguerre.generate.caption import caption, load_captioner
from daguerre.generate.clip import text_alone
from daguerre.text.tokenizer import END, START
from tests.generate.test_interrogate import write_eyes
from tests.generate.test_tagger import network, table
from tests.parity.test_vit_gpt2 import made as vit_gpt2
from tests.toy import toy, write_toy


@pytest.fixture
def asked(run):
    """Runs `daguerre interrogate`; returns what it printed, and its errors."""
    return lambda *arguments, code=0: run("interrogate", *arguments, code=code)[1:]


@pytest.fixture
def clip(tmp_path):
    """A toy CLIP in transformers' layout."""
    text = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"bos_token_id": START, "eos_token_id": END}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**text, "image_size": 16, "patch_size": 8}, projection_dim=16
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def pictures(tmp_path):
    """One thing in every kind of file that people have."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10] = 255, 40, 0
    image = Image.fromarray(pixels)
    image.save(tmp_path / "plain.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((20, 30), 40_000, np.uint16)).save(tmp_path / "deep.png")
    image.convert("P").save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("P", (30, 20))])
    turned = Image.Exif()
    turned[0x0112] = 6
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=turned)
    return ["plain.png", "alpha.png", "cmyk.jpg", "deep.png", "moving.gif", "turned.png"]


@pytest.fixture
def lists(tmp_path):
    """A few phrases, so that a toy reads them at once."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "subject.txt").write_text("an apple\na dog\na house\n")
    (tmp_path / "lists" / "color.txt").write_text("red\nblue\n")
    return tmp_path / "lists"


def test_every_kind_of_picture_by_any_clip(asked, clip, pictures, lists):
    out, err = asked(*pictures, "--clip", clip, "--lists", lists, "--device", "cpu")
    told = dict(line.split(": ") for line in out.splitlines())
    assert (list(told), err) == (pictures, "")
    assert told["plain.png"] == told["alpha.png"] == told["turned.png"]
    assert all(any(noun in prompt for noun in ("apple", "dog", "house")) for prompt in told.values())
    alone, _ = asked("plain.png", "--clip", clip, "--lists", lists, "--device", "cpu")
    assert alone == f"{told['plain.png']}\n"


def test_json_tells_phrases_and_how_likely_they_are(asked, clip, pictures, lists):
    out, _ = asked("plain.png", "cmyk.jpg", "--clip", clip, "--lists", lists, "--device", "cpu", "--json", "--top", 2)
    first, second = map(json.loads, out.splitlines())
    assert (first["picture"], second["picture"]) == ("plain.png", "cmyk.jpg")
    assert {name: len(phrases) for name, phrases in first["phrases"].items()} == {"subject": 2, "color": 2}
    best = first["phrases"]["subject"][0]
    assert best.keys() == {"phrase", "similarity", "share"}
    assert best["phrase"].split()[-1] in first["prompt"]


def test_a_model_judges_the_likeliest_prompts(asked, tmp_path, clip, pictures, lists):
    write_toy(toy(), tmp_path / "toy.safetensors")
    flags = "--clip", clip, "--lists", lists, "--device", "cpu"
    judge = "--exact", "--model", "toy.safetensors", "--draws", 2, "--top", 3
    told = json.loads(asked("plain.png", *flags, *judge, "--json")[0])
    assert len(told["judged"]) == 3
    assert told["prompt"] == min(told["judged"], key=lambda j: j["error"])["prompt"]


def test_pictures_that_cannot_be_read_stop_no_others(asked, tmp_path, clip, pictures, lists):
    (tmp_path / "text.png").write_text("<svg/>")
    (tmp_path / "cut.png").write_bytes((tmp_path / "plain.png").read_bytes()[:60])
    flags = "--clip", clip, "--lists", lists, "--device", "cpu"
    out, err = asked("text.png", "cut.png", "none.png", "plain.png", *flags, code=2)
    assert out.startswith("plain.png: ")
    assert "text.png: it is text" in err
    assert "cut.png: it is damaged" in err
    assert "none.png: No such file" in err
    assert "3 of 4 pictures could not be read" in err
    assert asked("none.png", *flags, code=2)[0] == ""


def test_wrong_files_and_flags_are_refused(asked, tmp_path, clip, pictures, lists):
    write_toy(toy(), tmp_path / "toy.safetensors")
    for arguments, told in (
        ((), "name one picture"),
        (("plain.png", "--clip", "toy.safetensors"), "belongs to a vision tower of CLIP"),
        (("plain.png", "--clip", "nowhere"), "there is no such file"),
        (("plain.png", "--clip", lists), "no weights in this folder"),
        (("plain.png", "--lists", "nowhere"), "there is no list in it"),
        (("plain.png", "--captioner", clip), "which is no captioner"),
        (("plain.png", "--captioner", "nowhere"), "there is no such folder"),
        (("plain.png", "--tagger", "none.onnx"), "there is no such file"),
        (("plain.png", "--tagger", "none.onnx", "--exact"), "leave out --exact"),
        (("plain.png", "--tags", "tags.csv"), "--tags does nothing without --tagger"),
        (("plain.png", "--activation", "gelu"), "--activation does nothing without --clip"),
        (("plain.png", "--beams", 4), "--beams does nothing without --captioner"),
        (("plain.png", "--model", "nope"), "--model does nothing without --exact or --eyes"),
        (("plain.png", "--draws", 0), "--draws does nothing without --exact"),
        (("plain.png", "--clip", clip, "--threshold", 3), "--threshold does nothing without --tagger"),
        (("plain.png", "--eyes", "none.safetensors"), "so tintype has no eyes; name a CLIP with --clip"),
        (("plain.png", "--eyes", "toy.safetensors"), "no vision tower of daguerre"),
        (("plain.png", "--eyes", "toy.safetensors", "--clip", clip), "leave out one"),
    ):
        out, err = asked(*arguments, code=2)
        assert (out, told in err) == ("", True), err


def test_a_captioner_tells_a_sentence_which_phrases_may_adorn(asked, tmp_path, clip, pictures, lists):
    (tmp_path / "captioner").mkdir()
    vit_gpt2(tmp_path / "captioner")
    flags = "--captioner", tmp_path / "captioner", "--device", "cpu"
    with Image.open(tmp_path / "plain.png") as image:
        sentence = caption(load_captioner(tmp_path / "captioner", device="cpu"), image)
    assert sentence
    assert asked("plain.png", *flags)[0] == f"{sentence}\n"
    with Image.open(tmp_path / "plain.png") as image:
        sought = caption(load_captioner(tmp_path / "captioner", device="cpu"), image, beams=5)
    assert asked("plain.png", *flags, "--beams", 5)[0] == f"{sought}\n" != f"{sentence}\n"
    assert "it goes from 1 to 64" in asked("plain.png", *flags, "--beams", 0, code=2)[1]
    both = asked("plain.png", *flags, "--clip", clip, "--lists", lists)[0].strip()
    assert sentence in both != sentence
    write_toy(toy(), tmp_path / "toy.safetensors")
    judge = "--exact", "--model", "toy.safetensors", "--draws", 1, "--top", 2
    told = json.loads(asked("plain.png", *flags, "--clip", clip, "--lists", lists, *judge, "--json")[0])
    assert [sentence in one["prompt"] for one in told["judged"]].count(True) == 1
    assert len(told["judged"]) == 2
    assert "--exact is of phrases; name what ranks them with --clip" in asked("plain.png", *flags, *judge, code=2)[1]


def test_tags(asked, tmp_path, pictures):
    network(tmp_path / "model.onnx")
    table(tmp_path / "selected_tags.csv")
    assert asked("plain.png", "--tagger", "model.onnx", "--threshold", 0.15)[0] == "blue sky, ^_^\n"
    told = json.loads(asked("plain.png", "--tagger", "model.onnx", "--json")[0])
    assert told["prompt"] == "blue sky"
    assert told["tags"][0].keys() == {"name", "category", "confidence"}
    assert "threshold is 2" in asked("plain.png", "--tagger", "model.onnx", "--threshold", 2, code=2)[1]
    assert set(told["ratings"]) == {"general", "explicit"}


def test_eyes_of_a_model_of_ones_own(asked, tmp_path, pictures):
    told = {"network": {"size": 16, "widths": [8, 16], "blocks": [1, 1], "projection": 32}, "scale": 9.0}
    model = write_toy(toy(), tmp_path / "toy.safetensors")
    told |= {"text": text_alone(model, device="cpu").sha256(), "lists": {"subject": ["a cat", "a dog"]}}
    write_eyes(tmp_path / "eyes.safetensors", told)
    eyes = "--eyes", "eyes.safetensors", "--device", "cpu"
    assert asked("plain.png", *eyes, "--model", "toy.safetensors")[0].strip() in ("a cat", "a dog")
    assert "trained for another text encoder" in asked("plain.png", *eyes, code=2)[1]
