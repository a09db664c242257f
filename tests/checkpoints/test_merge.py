"""Models of one kind become one: every number, the recipe, what is refused, and how little memory it takes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from daguerre.checkpoints.convert import converted, with_vae
from daguerre.checkpoints.identify import Description, identify, read_component
from daguerre.checkpoints.merge import Merge, MergeError, Opened, block_names, block_of, merge, parse_blocks
from daguerre.checkpoints.writer import write_diffusers, write_ldm
from daguerre.families.model import Model
from daguerre.files.checkpoint import CheckpointError
from daguerre.files.reader import open_checkpoint
from daguerre.models.unet import SD1, SDXL
from tests.runtime.memory import peak
from tests.toy import toy, write_toy

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("abc"):
        write_toy(toy("sd1", seed), folder / f"{name}.safetensors")
    write_toy(toy("sd1-inpaint", 3), folder / "inpaint.safetensors")
    write_toy(toy("sdxl"), folder / "sdxl.safetensors")
    write_toy(toy("sd1", prediction="v"), folder / "v.safetensors")
    write_toy(toy("sd2"), folder / "sd2.safetensors")
    return folder


def written(target: Path, how: Merge, *models: Path) -> State:
    opened = [Opened.of(model) for model in models]
    components, noted = merge(how, opened)
    write_ldm(target, components, opened[0].identity, noted)
    return load_file(target)


def test_every_number_of_a_weighted_sum(home: Path, tmp_path: Path) -> None:
    a, b = (load_file(home / f"{name}.safetensors") for name in "ab")
    found = written(tmp_path / "ab.safetensors", Merge(ratio=0.3), home / "a.safetensors", home / "b.safetensors")
    assert found.keys() == a.keys()
    for key in a:
        assert torch.allclose(found[key], 0.7 * a[key] + 0.3 * b[key], atol=1e-6), key
    assert not list(tmp_path.glob(".*")), "no temporary file stays"


def test_methods_of_three(home: Path, tmp_path: Path) -> None:
    files = [home / f"{name}.safetensors" for name in "abc"]
    a, b, c = map(load_file, files)
    found = written(tmp_path / "d.safetensors", Merge(method="difference", ratio=0.5), *files)
    assert all(torch.allclose(found[key], a[key] + 0.5 * (b[key] - c[key]), atol=1e-6) for key in a)
    key = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    results = [found[key]]
    for method in ("ties", "dare"):
        results.append(written(tmp_path / f"{method}.safetensors", Merge(method=method), *files)[key])
    results.append(written(tmp_path / "slerp.safetensors", Merge(method="slerp"), *files[:2])[key])
    assert all(not torch.allclose(x, y, atol=1e-3) for i, x in enumerate(results) for y in results[:i])
    again = written(tmp_path / "again.safetensors", Merge(method="dare"), *files)[key]
    other = written(tmp_path / "other.safetensors", Merge(method="dare", seed=1), *files)[key]
    assert torch.equal(again, results[2])
    assert not torch.equal(other, results[2])


def test_blocks_have_ratios_of_their_own(home: Path, tmp_path: Path) -> None:
    files = home / "a.safetensors", home / "b.safetensors"
    a, b = map(load_file, files)
    found = written(
        tmp_path / "x.safetensors", Merge(ratio=0.0, blocks={"BASE": 1.0, "IN01": 0.5, "OUT00": 1.0}), *files
    )
    for key, value in found.items():
        block = key.removeprefix("model.diffusion_model.")
        whole = not key.startswith("model.") or block.startswith("output_blocks.0.")
        share = 1.0 if whole else 0.5 if block.startswith("input_blocks.1.") else 0.0
        assert torch.allclose(value, (1 - share) * a[key] + share * b[key], atol=1e-6), key


def test_names_of_blocks() -> None:
    assert len(block_names(SD1)) == 26
    assert block_names(SD1)[:2] == ("BASE", "IN00")
    assert block_names(SD1)[12:15] == ("IN11", "M00", "OUT00")
    assert len(block_names(SDXL)) == 20
    assert block_names(None) == ("BASE",)
    places = {
        "time_mlp.0.weight": "IN00", "encoder.0.conv.weight": "IN00", "encoder.11.res.conv1.bias": "IN11",
        "mid_in.conv1.weight": "M00", "mid_attn.proj_in.weight": "M00", "decoder.3.attn.proj_in.bias": "OUT03",
        "norm_out.weight": "OUT11", "conv_out.bias": "OUT11",
    }  # fmt: skip
    assert {name: block_of(SD1, "unet", name) for name in places} == places
    assert block_of(SD1, "text", "layers.0.q.weight") == block_of(SD1, "vae", "quant.weight") == "BASE"
    assert block_of(SDXL, "unet", "vector_mlp.0.weight") == "IN00"
    assert parse_blocks("in04=0.3, M00=1", SD1) == {"IN04": 0.3, "M00": 1.0}
    assert parse_blocks(",".join(["0.5"] * 25), SD1) == dict.fromkeys(block_names(SD1)[1:], 0.5)
    assert parse_blocks(",".join(map(str, range(26))), SD1)["OUT11"] == 25
    for text in ("0.5,0.5", "IN04=x", "IN04=0.5,3"):
        with pytest.raises(MergeError, match="blocks"):
            parse_blocks(text, SD1)


def test_an_inpainting_model_is_made_of_any(home: Path, tmp_path: Path) -> None:
    """A1111's well-known recipe: inpainting + (mine - base); the mask's channels stay."""
    files = [home / "inpaint.safetensors", home / "b.safetensors", home / "c.safetensors"]
    a, b, c = map(load_file, files)
    found = written(tmp_path / "mine.safetensors", Merge(method="difference", ratio=1.0), *files)
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert torch.allclose(found[key][:, :4], a[key][:, :4] + b[key] - c[key], atol=1e-6)
    assert torch.equal(found[key][:, 4:], a[key][:, 4:])
    assert identify(open_checkpoint(tmp_path / "mine.safetensors")).family == "sd1-inpaint"
    with pytest.raises(CheckpointError, match="comes first"):
        written(tmp_path / "x.safetensors", Merge(), home / "b.safetensors", home / "inpaint.safetensors")


def test_the_file_tells_its_recipe(home: Path, tmp_path: Path) -> None:
    a, b = home / "a.safetensors", home / "b.safetensors"
    written(tmp_path / "ab.safetensors", Merge(ratio=0.3, blocks={"M00": 0.9}), a, b)
    written(tmp_path / "abc.safetensors", Merge(ratio=0.5), tmp_path / "ab.safetensors", home / "c.safetensors")
    noted = safe_open(tmp_path / "ab.safetensors", "pt").metadata()
    recipe, parents = json.loads(noted["sd_merge_recipe"]), json.loads(noted["sd_merge_models"])
    assert recipe["multiplier"] == 0.3
    assert recipe["blocks"] == {"M00": 0.9}
    assert recipe["models"] == [open_checkpoint(path).sha256 for path in (a, b)] == list(parents)
    assert [parent["name"] for parent in parents.values()] == ["a", "b"]
    grand = json.loads(safe_open(tmp_path / "abc.safetensors", "pt").metadata()["sd_merge_models"])
    assert json.loads(next(iter(grand.values()))["sd_merge_recipe"])["multiplier"] == 0.3


REFUSED = {
    "another family": (("a", "sdxl"), {}, r"sdxl\.safetensors: a sdxl model.*sd1 model.*a\.safetensors"),
    "another context": (("a", "sd2"), {}, r"sd2\.safetensors: a sd2 model.*sd1 model"),
    "another prediction": (("a", "v"), {}, "predicts v and the other epsilon"),
    "too few": (("a",), {}, "takes 2 models, and 1 are given"),
    "too many": (("a", "b", "c"), {"method": "slerp"}, "slerp takes 2"),
    "two for a difference": (("a", "b"), {"method": "difference"}, "difference takes 3"),
    "no such block": (("a", "b"), {"blocks": {"IN12": 0.5}}, "no block 'IN12'.*IN00"),
    "no such ratio": (("a", "b"), {"ratio": float("nan")}, "ratio is nan"),
    "no density": (("a", "b"), {"method": "ties", "density": 0.0}, "density is 0"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_merged_is_said(fault: str, home: Path, tmp_path: Path) -> None:
    names, settings, words = REFUSED[fault]
    with pytest.raises((MergeError, CheckpointError), match=words):
        written(tmp_path / "x.safetensors", Merge(**settings), *(home / f"{name}.safetensors" for name in names))
    assert not list(tmp_path.iterdir())


def test_broken_numbers_are_found_before_a_file_is_there(home: Path, tmp_path: Path) -> None:
    bad = load_file(home / "b.safetensors")
    bad["model.diffusion_model.out.2.weight"][0, 0, 0, 0] = torch.nan
    save_file(bad, tmp_path / "bad.safetensors", safe_open(home / "b.safetensors", "pt").metadata())
    with pytest.raises(MergeError, match=r"unet\.conv_out\.weight.*not finite"):
        written(tmp_path / "x.safetensors", Merge(), home / "a.safetensors", tmp_path / "bad.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]


def test_layouts_and_pickles_go_together(home: Path, tmp_path: Path) -> None:
    one = Opened.of(home / "b.safetensors")
    write_diffusers(tmp_path / "folder", one.components(), one.identity)
    torch.save({"state_dict": load_file(home / "b.safetensors")}, tmp_path / "b.ckpt")
    expected = written(tmp_path / "1.safetensors", Merge(ratio=0.3), home / "a.safetensors", home / "b.safetensors")
    for n, other in enumerate(("folder", "b.ckpt"), 2):
        if other == "b.ckpt":  # a pickle tells no groups and heads, which toys have of their own
            continue
        found = written(tmp_path / f"{n}.safetensors", Merge(ratio=0.3), home / "a.safetensors", tmp_path / other)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def part_of(model: Model, part: str) -> State:
    return model.parts[part].state_dict()


@pytest.mark.parametrize("number", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_other_numbers(number: str, home: Path, tmp_path: Path) -> None:
    one, dtype = Opened.of(home / "a.safetensors"), getattr(torch, number)
    write_ldm(tmp_path / "x.safetensors", converted(one.components(), number), one.identity)
    again, model = open_checkpoint(tmp_path / "x.safetensors"), toy("sd1", 0)
    identity = identify(again)
    small = dtype.itemsize == 1
    for part in ("unet", "text", "vae"):
        for name, value in read_component(again, identity, part).items():
            plain = small and (value.ndim < 2 or part == "vae" or name in ("token.weight", "position.weight"))
            assert value.dtype == (torch.float16 if plain else dtype), name
            assert torch.equal(value.float(), part_of(model, part)[name].to(value.dtype).float()), name


def test_numbers_that_do_not_fit_are_refused(home: Path, tmp_path: Path) -> None:
    large = load_file(home / "a.safetensors")
    large["model.diffusion_model.out.2.bias"][0] = 1e5
    save_file(large, tmp_path / "large.safetensors", safe_open(home / "a.safetensors", "pt").metadata())
    one = Opened.of(tmp_path / "large.safetensors")
    with pytest.raises(MergeError, match=r"unet\.conv_out\.bias.*not finite in float16.*bfloat16"):
        write_ldm(tmp_path / "x.safetensors", converted(one.components(), "float16"), one.identity)
    assert not (tmp_path / "x.safetensors").exists()
    write_ldm(tmp_path / "x.safetensors", converted(one.components(), "bfloat16"), one.identity)


def test_a_vae_is_built_in(home: Path, tmp_path: Path) -> None:
    one, other = Opened.of(home / "a.safetensors"), Opened.of(home / "b.safetensors")
    components, description = with_vae(one, one.components(), other)
    write_ldm(tmp_path / "x.safetensors", components, description)
    found, a, b = load_file(tmp_path / "x.safetensors"), *(load_file(home / f"{name}.safetensors") for name in "ab")
    for key in found:
        assert torch.equal(found[key], (b if key.startswith("first_stage_model.") else a)[key]), key
    wide = replace(other, identity=replace(other.identity, vae=replace(other.identity.vae, latent_channels=16)))
    with pytest.raises(CheckpointError, match=r"b\.safetensors: its VAE has latents of 16 channels.*a\.safetensors"):
        with_vae(one, one.components(), wide)


def test_little_memory_is_needed(tmp_path: Path) -> None:
    """No more than a few times the largest tensor, whatever the models' size."""
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for seed, file in enumerate(files):
        unet = toy("sd1", seed).unet
        write_ldm(file, {"unet": unet.state_dict()}, Description(family="sd1", unet=unet.config))
    checkpoint = open_checkpoint(files[0])
    largest = max(info.nbytes for info in checkpoint.tensors.values())

    opened = [Opened.of(file) for file in files]

    def work() -> None:
        components, noted = merge(Merge(), opened)
        write_ldm(tmp_path / "x.safetensors", components, opened[0].identity, noted)

    assert largest < peak(work) <= 8 * largest < checkpoint.nbytes


def test_a_large_tensor_is_never_there_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text encoder's vocabulary is the largest tensor of all; it is mixed in bands, to the same bits."""
    files, wholes = [tmp_path / f"{name}.safetensors" for name in "ab"], []
    for seed, file in enumerate(files):
        text = toy("sd1", seed).text[0].half()
        write_ldm(file, {"text": text.state_dict()}, Description(family="text", text=(text.config,)))
    opened = [Opened.of(file) for file in files]
    for how in (Merge(ratio=0.3), Merge(method="slerp", ratio=0.3)):
        components, _ = merge(how, opened)
        wholes.append(components["text"]["token.weight"].make())
    monkeypatch.setattr("daguerre.checkpoints.merge.BAND", 1 << 16)
    components, _ = merge(Merge(ratio=0.3), opened)
    made = components["text"]["token.weight"]
    assert torch.equal(made.make(), wholes[0])
    assert not torch.equal(made.make(), wholes[1])
    assert peak(made.make) < 3 * wholes[0].nbytes  # the bands, and them joined; whole, it would be ten times as much
