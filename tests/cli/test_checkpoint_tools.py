"""Model tools as a user has them: merge, prune, convert, a VAE built in, GGUF, and adapters of every kind."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.adapters.test_hypernetwork import trained
from tests.adapters.test_kinds import LINEAR, loha, written
from tests.families.test_gguf import UNET, write
from tests.toy import toy, write_toy

SMALL = ("--steps", 1, "--size", "64x64", "--seed", 5, "--device", "cpu", "--dtype", "float32", "--json")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for seed, name in enumerate("ab"):
        write_toy(toy("sd1", seed), folder / f"{name}.safetensors")
    write_toy(toy("sdxl"), folder / "large.safetensors")
    weights = {key: v for key, v in load_file(folder / "a.safetensors").items() if key.startswith(UNET)}
    write(folder / "lone.gguf", weights)
    whole = load_file(folder / "a.safetensors")
    averages = {"model_ema." + k.removeprefix("model.").replace(".", ""): v + 1 for k, v in weights.items()}
    save_file({**whole, **averages, "betas": torch.ones(3), "stranger": torch.ones(2)}, folder / "full.safetensors")
    torch.save(trained(), folder / "hyper.pt")
    written(folder / "loha.safetensors", LINEAR[0], loha(torch.zeros(64, 32).numpy())[0])
    return folder


def pixels(said, *flags) -> bytes:
    with Image.open(json.loads(said("generate", "a dog", *SMALL, *flags))["path"]) as picture:
        return picture.tobytes()


def test_merge_then_inspect_then_draw(said, home, tmp_path):
    said("checkpoint", "merge", "ab.safetensors", "a", "b", "--ratio", 0.3, "--blocks", "M00=1", "--dtype", "float16")
    found, a, b = load_file("ab.safetensors"), *(load_file(home / f"{name}.safetensors") for name in "ab")
    key = f"{UNET}input_blocks.1.0.in_layers.2.weight"
    assert torch.equal(found[key], (0.7 * a[key] + 0.3 * b[key]).half())
    key = f"{UNET}middle_block.0.in_layers.2.weight"
    assert torch.equal(found[key], b[key].half())
    facts = json.loads(said("checkpoint", "inspect", "ab.safetensors", "--json"))
    assert json.loads(facts["recipe"])["blocks"] == {"M00": 1.0}
    assert "merged {" in said("checkpoint", "inspect", "ab.safetensors")
    said("checkpoint", "merge", "arc.safetensors", "a", "b", "--ratio", 0.3, "--method", "slerp")
    assert not torch.equal(load_file("arc.safetensors")[key], 0.7 * a[key] + 0.3 * b[key])
    said("checkpoint", "merge", "baked.safetensors", "a", "a", "--vae", "b")
    baked = load_file("baked.safetensors")
    assert all(torch.equal(baked[k], (b if k.startswith("first_stage") else a)[k]) for k in baked)
    drawn = {pixels(said, "--model", model) for model in ("a", "b", tmp_path / "ab.safetensors")}
    assert len(drawn) == 3


def test_prune_drops_what_no_drawing_needs(said, home):
    full, a = load_file(home / "full.safetensors"), load_file(home / "a.safetensors")
    said("checkpoint", "prune", home / "full.safetensors", "plain.safetensors")
    said("checkpoint", "prune", home / "full.safetensors", "ema.safetensors", "--weights", "ema", "--dtype", "bfloat16")
    plain, average = load_file("plain.safetensors"), load_file("ema.safetensors")
    assert plain.keys() == average.keys() == a.keys() < full.keys()
    for key, value in a.items():
        assert torch.equal(plain[key], value)
        assert torch.equal(average[key], (value + 1 if key.startswith(UNET) else value).bfloat16()), key


def test_a_gguf_draws_with_a_base_and_becomes_a_whole_file(said, home):
    lone = pixels(said, "--model", home / "lone.gguf", "--base", "a")
    assert lone != pixels(said, "--model", home / "lone.gguf", "--base", "b")
    near = max(abs(x - y) for x, y in zip(lone, pixels(said, "--model", "a"), strict=True))
    assert near <= 12, "eight bits are nearly exact"
    assert "GGUF: " in said("checkpoint", "inspect", home / "lone.gguf")
    said("checkpoint", "convert", home / "lone.gguf", "lone.safetensors", "--layout", "ldm", "--dtype", "float16")
    assert {value.dtype for value in load_file("lone.safetensors").values()} == {torch.float16}


def test_hypernetworks_and_other_kinds_of_adapters(said, home):
    plain = pixels(said, "--model", "a")
    weak = pixels(said, "--model", "a", "--hypernetwork", f"{home / 'hyper.pt'}:0.1")
    strong = pixels(said, "--model", "a", "--hypernetwork", home / "hyper.pt")
    other = pixels(said, "--model", "a", "--lora", home / "loha.safetensors")
    assert len({plain, weak, strong, other}) == 4
    told = said("lora", "inspect", home / "loha.safetensors")
    assert "LoHa (1 layers)" in told
    said("lora", "resize", home / "loha.safetensors", "small.safetensors", "--rank", 32, "--model", "a")
    same = pixels(said, "--model", "a", "--lora", "small.safetensors")
    assert max(abs(x - y) for x, y in zip(same, other, strict=True)) <= 1, "a LoRA of full rank is as good"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("checkpoint", "merge", "x.safetensors", "a", "large"), "a sdxl model cannot be merged with the sd1 model"),
        (("checkpoint", "merge", "x.safetensors", "a"), "takes 2 models"),
        (("checkpoint", "merge", "x.safetensors"), "name the models"),
        (("checkpoint", "merge", "{home}/a.safetensors", "a", "b"), "exists already"),
        (("checkpoint", "merge", "x.safetensors", "a", "b", "--blocks", "IN77=1"), "no block 'IN77'"),
        (("checkpoint", "prune", "a", "x.safetensors", "--weights", "ema"), "no moving average"),
        (("checkpoint", "convert", "a", "x", "--layout", "ldm", "--vae", "{home}/lone.gguf"), "there is no VAE in it"),
        (("generate", "x", "--model", "{home}/lone.gguf"), "--base"),
        (("generate", "x", "--model", "{home}/lone.gguf", "--base", "large"), "cannot borrow from the sdxl model"),
        (("generate", "x", "--model", "large", "--hypernetwork", "{home}/loha.safetensors"), "no hypernetwork"),
        (("generate", "x", "--model", "large", "--lora", "{home}/loha.safetensors"), "sdxl|XL"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(said, home, arguments, words):
    text = said(*(argument.format(home=home) for argument in arguments), code=2)
    assert any(word in text for word in words.split("|"))
    assert text.count("\n") == 1
    assert not Path("x.safetensors").exists()
