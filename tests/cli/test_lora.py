"""LoRAs and words as a user has them: real commands, real files, exit codes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from daguerre.adapters.formats import save_lora
from daguerre.provenance import png
from tests.adapters.made import random_lora, random_word
from tests.toy import toy, write_toy

SMALL = ("--steps", 2, "--size", "64x64", "--seed", 5, "--device", "cpu", "--dtype", "float32", "--json")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model, two LoRAs for it, a model with one of them built in, and a word."""
    folder = tmp_path_factory.mktemp("home")
    model, tuned = toy(), toy()
    write_toy(model, folder / "toy.safetensors")
    for seed, name in enumerate(("a", "b")):
        lora = random_lora(model, seed, convolutions=True)
        save_lora(folder / f"{name}.safetensors", lora, model, "kohya", {"title": name})
    random_lora(tuned, 0, convolutions=True).merge(tuned)
    write_toy(tuned, folder / "tuned.safetensors")
    random_word(model, "zwx").save(folder / "word.safetensors")
    return folder


@pytest.fixture
def draw(run, tmp_path):
    def draw(prompt, *flags, model="toy"):
        done = run("generate", prompt, "--model", model, *SMALL, *flags)
        return tmp_path / json.loads(done.stdout)["path"]

    return draw


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


def apart(a: Path, b: Path) -> int:
    return max(abs(x - y) for x, y in zip(pixels(a), pixels(b), strict=True))


def test_a_picture_with_adapters_is_drawn_recorded_and_drawn_again(run, draw, home, tmp_path):
    lora, word = home / "a.safetensors", home / "word.safetensors"
    plain, with_lora = draw("a zwx"), draw("a zwx", "--lora", lora)
    both = draw("a zwx", "--lora", f"{lora}:0.5:0.25", "--lora", f"{home / 'b.safetensors'}:-0.1", "--embedding", word)
    assert min(apart(plain, with_lora), apart(with_lora, both), apart(plain, both)) > 5
    record, infotext = png.read(both)
    assert [(used.kind, used.name, used.weight, used.text_weight) for used in record.adapters] == [
        ("embedding", "zwx", 1.0, None),
        ("lora", "a", 0.5, 0.25),
        ("lora", "b", -0.1, None),
    ]
    assert f'Lora hashes: "a: {record.adapters[1].sha256[:10]}, b: ' in infotext
    assert f'TI hashes: "zwx: {record.adapters[0].sha256[:12]}"' in infotext
    assert "a (" in run("show", both).stdout
    (moved := tmp_path / "moved.safetensors").write_bytes(lora.read_bytes())
    files = ("--lora", home / "b.safetensors", "--lora", moved, "--embedding", word)
    assert "pixel-identical" in run("reproduce", both, *files).stdout
    assert "'a'" in run("reproduce", both, *files[:2], *files[4:], code=2).stderr
    assert "'zwx'" in run("reproduce", both, code=2).stderr


def test_a_model_with_the_lora_merged_draws_the_same(run, draw, home, tmp_path):
    run("lora", "merge", tmp_path / "merged.safetensors", f"{home / 'a.safetensors'}:0.5", "--model", "toy")
    merged = draw("an apple", model=tmp_path / "merged.safetensors")
    assert apart(merged, draw("an apple", "--lora", f"{home / 'a.safetensors'}:0.5")) <= 1
    assert apart(merged, draw("an apple")) > 5
    run("lora", "merge", tmp_path / "whole.safetensors", home / "a.safetensors", "--model", "toy")
    mine, tuned = load_file(tmp_path / "whole.safetensors"), load_file(home / "tuned.safetensors")
    assert all(torch.allclose(mine[key], tuned[key], atol=1e-6) for key in tuned)


def test_convert_resize_extract_combine(run, draw, home, tmp_path):
    lora = home / "a.safetensors"
    first = draw("an apple", "--lora", lora)
    run("lora", "convert", lora, tmp_path / "peft", "--layout", "peft", "--model", "toy")
    run("lora", "convert", tmp_path / "peft", tmp_path / "back.safetensors", "--layout", "diffusers", "--model", "toy")
    assert apart(draw("an apple", "--lora", tmp_path / "back.safetensors"), first) <= 1
    run("lora", "extract", "toy", "tuned", tmp_path / "extracted.safetensors", "--rank", 4)
    assert apart(draw("an apple", "--lora", tmp_path / "extracted.safetensors"), first) <= 2
    run("lora", "resize", lora, tmp_path / "small.safetensors", "--rank", 2, "--model", "toy", "--dtype", "float16")
    facts = json.loads(run("lora", "inspect", tmp_path / "small.safetensors", "--json").stdout)
    assert facts["ranks"] == {"2": facts["layers"]}
    assert facts["metadata"] == {"title": "a"}
    run(
        "lora",
        "combine",
        tmp_path / "both.safetensors",
        f"{lora}:0.5",
        f"{home / 'b.safetensors'}:-1",
        "--model",
        "toy",
    )
    together = draw("an apple", "--lora", f"{lora}:0.5", "--lora", f"{home / 'b.safetensors'}:-1")
    assert apart(draw("an apple", "--lora", tmp_path / "both.safetensors"), together) <= 1
    assert "exists already" in run("lora", "combine", tmp_path / "both.safetensors", lora, code=2).stderr


def test_inspect_in_words(run, home):
    words = run("lora", "inspect", home / "a.safetensors").stdout
    assert "4 (" in words
    assert "title: a" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "x", "--lora", "absent.safetensors:0.5"), "absent.safetensors: there is no such file"),
        (("generate", "x", "--lora", "a:0.5.5"), "FILE:WEIGHT"),
        (("generate", "x", "--lora", "{home}/a.safetensors"), "[128, 128]"),
        (("generate", "x", "--lora", "{home}/word.safetensors", "--model", "toy"), "no LoRA is in it"),
        (("generate", "x", "--embedding", "{home}/a.safetensors", "--model", "toy"), "no textual inversion"),
        (("lora", "inspect", "{home}/toy.safetensors"), "a whole model"),
        (("lora", "resize", "{home}/a.safetensors", "x.safetensors", "--model", "toy"), "give a rank"),
        (("lora", "merge", "x.safetensors", "--model", "toy"), "at least one"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(run, home, arguments, words):
    done = run(*(argument.format(home=home) for argument in arguments), code=2)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
