"""From files to models that draw the same pictures, and from unusable files to reasons."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from daguerre import RequestError, TextToImage, text_to_image
from daguerre.checkpoints.identify import Description
from daguerre.checkpoints.writer import write_diffusers, write_ldm
from daguerre.families.catalog import FAMILIES
from daguerre.families.loading import load_model, most_clip_skip
from daguerre.files.checkpoint import CheckpointError
from daguerre.generate.drawing import Picture
from daguerre.models.vae import SDXL
from tests.toy import UNETS, toy, write_toy

REQUEST = TextToImage(prompt="a red apple", steps=2, width=64, height=64, seed=3, sampler="Euler")
EXACT = {"device": "cpu", "dtype": "float32"}


def draw(model, **changes):
    request = replace(REQUEST, **changes)
    return next(event for event in text_to_image(model, request) if isinstance(event, Picture))


def apart(one, other):
    """The largest difference of two models' pictures, of 255.

    Up to 1 is the same picture: matrix products sum in another order where the weights lie at other addresses, and in
    a mapped file they lie where the file has them.
    """
    a, b = (np.asarray(draw(model).image).astype(int) for model in (one, other))
    return np.abs(a - b).max()


def description(model, **changes):
    text = tuple(encoder.config for encoder in model.text)
    known = {"family": model.family.name, "unet": model.unet.config, "vae": model.vae.config, "text": text}
    return Description(**{"prediction": model.prediction, **known, **changes})


def states(model, dtype=None):
    return {name: (module.to(dtype) if dtype else module).state_dict() for name, module in model.parts.items()}


def lone_vae(path, seed=5):
    """Another VAE in a file of its own, and a model that differs from the toy in nothing else."""
    other = toy("sd1", seed=seed)
    write_ldm(path, {"vae": other.vae.state_dict()}, Description(family="vae", vae=other.vae.config))
    return path, replace(toy("sd1"), vae=other.vae)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory):
    return write_toy(toy("sd1"), tmp_path_factory.mktemp("sd1") / "toy.safetensors")


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
@pytest.mark.parametrize("name", UNETS)
def test_every_family_draws_from_a_file_what_it_draws_in_memory(name, layout, tmp_path):
    model = toy(name)
    if layout == "ldm":
        path = write_toy(model, tmp_path / "some.safetensors")
    else:
        write_diffusers(path := tmp_path / "some", states(model), description(model))
    loaded = load_model(path, **EXACT)
    assert (loaded.family, loaded.name) == (model.family, "some")
    assert len(loaded.sha256) == 64
    assert apart(loaded, model) <= 1
    assert apart(loaded, toy(name, seed=1)) > 20


def test_low_memory_reads_the_same_weights_when_they_are_used(sd1):
    small = load_model(sd1, low_memory=True, **EXACT)
    assert all(parameter.is_meta for module in small.parts.values() for parameter in module.parameters())
    record = draw(small).record
    assert record.mode == "low memory"
    assert all(parameter.is_meta for module in small.parts.values() for parameter in module.parameters())
    assert draw(small).record.pixel_sha256 == record.pixel_sha256
    assert apart(small, load_model(sd1, **EXACT)) <= 1


def test_a_name_replaces_that_of_the_file(sd1):
    assert load_model(sd1, name="ann/toy", **EXACT).name == "ann/toy"


@pytest.mark.parametrize("layout", ["ldm file", "ldm file of another model", "diffusers folder"])
def test_a_separate_vae_changes_the_picture_and_is_recorded(sd1, layout, tmp_path):
    path, expected = lone_vae(tmp_path / "other.safetensors")
    if layout == "ldm file of another model":
        path = write_toy(toy("sd1", seed=5), tmp_path / "whole.safetensors")
    if layout == "diffusers folder":
        write_diffusers(tmp_path / "whole", states(expected), description(expected))
        path = tmp_path / "whole" / "vae"
    loaded, plain = load_model(sd1, vae=path, **EXACT), load_model(sd1, **EXACT)
    assert apart(loaded, expected) <= 1
    assert apart(loaded, plain) > 20
    record, plain = draw(loaded).record, draw(plain).record
    assert record.vae == path.stem
    assert len(record.vae_sha256) == 64
    assert (plain.vae, plain.vae_sha256) == (None, None)
    assert record.model_sha256 == plain.model_sha256


@pytest.mark.parametrize("inside", [True, False])
def test_a_separate_vae_gets_latents_of_the_scale_that_the_unet_was_trained_on(inside, tmp_path):
    """A VAE file in the ldm layout does not tell its scale, and that of SDXL is another one."""
    model = toy("sdxl")
    model = replace(model, vae=type(model.vae)(replace(model.vae.config, scale=SDXL.scale)))
    parts = states(model) if inside else {k: v for k, v in states(model).items() if k != "vae"}
    write_ldm(tmp_path / "model", parts, description(model, **({} if inside else {"vae": None})))
    write_ldm(tmp_path / "described", {"vae": model.vae.state_dict()}, Description(family="vae", vae=model.vae.config))
    save_file(load_file(tmp_path / "described"), tmp_path / "vae")
    assert load_model(tmp_path / "model", vae=tmp_path / "vae", **EXACT).vae.config == model.vae.config


def test_turbo_is_sdxl_by_another_name(tmp_path):
    path = write_toy(toy("sdxl"), tmp_path / "toy.safetensors")
    assert load_model(path, **EXACT).defaults.steps == 20
    turbo = load_model(path, family="turbo", **EXACT)
    assert turbo.family.name == "turbo"
    assert (turbo.defaults.steps, turbo.defaults.cfg_scale) == (1, 1.0)
    record = draw(turbo).record
    assert (record.family, record.schedule) == ("turbo", "turbo")
    assert draw(turbo, sampler="Euler Karras").record.schedule == "karras"


def test_another_prediction_draws_another_picture(sd1):
    epsilon, v = (load_model(sd1, prediction=kind, **EXACT) for kind in ("epsilon", "v"))
    assert apart(v, toy("sd1", prediction="v")) <= 1
    assert apart(epsilon, load_model(sd1, **EXACT)) == 0
    assert apart(v, epsilon) > 20
    assert draw(v).record.prediction == "v"


def test_what_the_file_says_of_its_training_is_heeded(tmp_path):
    model = toy("sd1", prediction="v")
    write_ldm(tmp_path / "x", states(model), description(model, zero_snr=True))
    loaded = load_model(tmp_path / "x", **EXACT)
    assert loaded.prediction == "v"
    assert loaded.levels.sigmas[-1] > 1000 > toy().levels.sigmas[-1]


def test_the_layers_that_sd2_leaves_unused_are_skipped(tmp_path):
    model = toy("sd2")
    write_ldm(tmp_path / "x", states(model), description(model, unused_layers=1))
    loaded = load_model(tmp_path / "x", **EXACT)
    assert [encoding.skip for encoding in loaded.family.encodings] == [FAMILIES["sd2"].encodings[0].skip + 1]
    encodings = (replace(FAMILIES["sd2"].encodings[0], skip=2),)
    expected = replace(model, family=replace(FAMILIES["sd2"], encodings=encodings))
    assert apart(loaded, expected) <= 1
    assert apart(loaded, model) > 1


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_the_largest_clip_skip_is_known_before_there_is_a_model(name, tmp_path):
    write_toy(toy(name), path := tmp_path / "x.safetensors")
    most = most_clip_skip(path)
    if name == "sdxl":  # whose encoders are read at one layer whatever is asked for
        assert most is None
        return
    model = load_model(path, **EXACT)
    request = TextToImage(prompt="x", clip_skip=most)
    model.encode(request)
    with pytest.raises(RequestError, match=f"allows at most {most}"):
        model.encode(replace(request, clip_skip=most + 1))


def test_the_moving_average_is_taken_when_asked_for(sd1, tmp_path):
    tensors, average = load_file(sd1), load_file(write_toy(toy("sd1", seed=1), tmp_path / "1.safetensors"))
    prefix = "model.diffusion_model."
    for key in [key for key in tensors if key.startswith(prefix)]:
        flat = key.removeprefix("model.").replace(".", "")
        tensors[f"model_ema.{flat}"] = average[key]
    with safe_open(sd1, "pt") as file:
        save_file(tensors, tmp_path / "both.safetensors", file.metadata())
    plain, ema = (load_model(tmp_path / "both.safetensors", weights=w, **EXACT) for w in ("auto", "ema"))
    assert apart(plain, toy("sd1")) <= 1
    assert apart(ema, replace(toy("sd1"), unet=toy("sd1", seed=1).unet)) <= 1
    assert apart(plain, ema) > 20
    with pytest.raises(CheckpointError, match="no moving average"):
        load_model(sd1, weights="ema")


@pytest.mark.parametrize(
    ("kept", "lacking"),
    [
        (["vae"], "no U-Net and no text encoder"),
        (["unet"], "no VAE and no text encoder"),
        (["unet", "vae"], "no text encoder"),
        (["unet", "text"], "no VAE"),
        (["text"], "no U-Net and no VAE"),
    ],
)
def test_what_is_no_whole_model_says_what_it_lacks(kept, lacking, tmp_path):
    model = toy("sd1")
    parts = {name: state for name, state in states(model).items() if name in kept}
    missing = {name: () if name == "text" else None for name in ("unet", "vae", "text") if name not in kept}
    family = "sd1" if "unet" in kept else kept[0]
    write_ldm(path := tmp_path / "part.safetensors", parts, description(model, family=family, **missing))
    with pytest.raises(CheckpointError, match=f"part.safetensors: not a whole model: it has {lacking}\\."):
        load_model(path)
    if lacking == "no VAE":
        vae, _ = lone_vae(tmp_path / "vae.safetensors")
        assert load_model(path, vae=vae, **EXACT).vae_name == "vae"


def test_a_file_that_is_no_vae_is_named(sd1, tmp_path):
    model = toy("sd1")
    write_ldm(tmp_path / "unet", {"unet": model.unet.state_dict()}, description(model, vae=None, text=()))
    with pytest.raises(CheckpointError, match="unet: there is no VAE in it"):
        load_model(sd1, vae=tmp_path / "unet")


def test_families_that_do_not_fit_are_refused(sd1, tmp_path):
    with pytest.raises(RequestError, match="unknown family 'sd9'; the families are sd1, "):
        load_model(sd1, family="sd9")
    with pytest.raises(CheckpointError, match=r"'sdxl' has 2 text encoders and this file 1\. Leave out --family"):
        load_model(sd1, family="sdxl")
    model = toy("sd1")
    write_ldm(tmp_path / "x", states(model), description(model, family="daguerreotype"))
    with pytest.raises(CheckpointError, match=r"of family 'daguerreotype'.*--family"):
        load_model(tmp_path / "x")
    assert load_model(tmp_path / "x", family="sd1", **EXACT).family.name == "sd1"


def test_a_half_precision_file_runs_in_single_precision_where_half_is_slow(tmp_path, monkeypatch):
    monkeypatch.setattr("daguerre.runtime.precision._cpu_has_matrix_units", lambda: False)
    halves = toy("sd1")
    write_ldm(tmp_path / "half", states(halves, torch.float16), description(halves))
    loaded = load_model(tmp_path / "half", device="cpu")
    assert {p.dtype for module in loaded.parts.values() for p in module.parameters()} == {torch.float32}
    for module in halves.parts.values():
        module.float()
    assert apart(loaded, halves) <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
def test_the_weights_are_those_of_the_mapped_file(layout, dtype, tmp_path):
    """There is no second copy of them in memory."""
    model = toy("sd1")
    tensors, path = states(model, getattr(torch, dtype)), tmp_path / "x"
    write = write_ldm if layout == "ldm" else write_diffusers
    write(path, tensors, description(model))
    loaded = load_model(path, device="cpu", dtype=dtype)
    inside = mapped(tmp_path)
    for part, module in loaded.parts.items():
        for name, parameter in module.named_parameters():
            where = parameter.data_ptr()
            assert any(start <= where < end for start, end in inside), (part, name)
    assert not any(p.requires_grad for module in loaded.parts.values() for p in module.parameters())


def mapped(folder):
    """The address ranges at which files of `folder` are mapped into this process."""
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    return [tuple(int(end, 16) for end in row[0].split("-")) for row in rows]
