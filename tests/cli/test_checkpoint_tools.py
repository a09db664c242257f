"""Model tools as a user has them: models merged, a VAE built in."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from daguerre.cli.exit import Failure, friendly
from daguerre.cli.main import app
from tests.families.test_gguf import UNET
from tests.toy import toy, write_toy

SMALL = ("--steps", 1, "--size", "64x64", "--seed", 5, "--device", "cpu", "--dtype", "float32", "--json")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for seed, name in enumerate("ab"):
        write_toy(toy("sd1", seed), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def run(home, tmp_path, monkeypatch, capsys):
    """The command in this process: what it prints, or what it says as it ends with `code`."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DAGUERRE_MODELS", str(home))
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        ended, said = 0, ""
        try:
            app([str(argument) for argument in arguments], result_action="return_value")
        except (ValueError, Failure) as error:
            said, ended = f"{friendly(error)}\n", friendly(error).code
        assert ended == code, said
        return capsys.readouterr().out or said

    return run


def pixels(run, *flags) -> bytes:
    with Image.open(json.loads(run("generate", "a dog", *SMALL, *flags))["path"]) as picture:
        return picture.tobytes()


def test_merge_then_inspect_then_draw(run, home, tmp_path):
    run("checkpoint", "merge", "ab.safetensors", "a", "b", "--ratio", 0.3, "--blocks", "M00=1", "--dtype", "float16")
    found, a, b = load_file("ab.safetensors"), *(load_file(home / f"{name}.safetensors") for name in "ab")
    key = f"{UNET}input_blocks.1.0.in_layers.2.weight"
    assert torch.equal(found[key], (0.7 * a[key] + 0.3 * b[key]).half())
    key = f"{UNET}middle_block.0.in_layers.2.weight"
    assert torch.equal(found[key], b[key].half())
    facts = json.loads(run("checkpoint", "inspect", "ab.safetensors", "--json"))
    assert json.loads(facts["recipe"])["blocks"] == {"M00": 1.0}
    assert "merged {" in run("checkpoint", "inspect", "ab.safetensors")
    run("checkpoint", "merge", "baked.safetensors", "a", "a", "--vae", "b")
    baked = load_file("baked.safetensors")
    assert all(torch.equal(baked[k], (b if k.startswith("first_stage") else a)[k]) for k in baked)
    drawn = {pixels(run, "--model", model) for model in ("a", "b", tmp_path / "ab.safetensors")}
    assert len(drawn) == 3
