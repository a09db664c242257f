"""What is written is read back bit for bit, with the same configs, in both layouts, for every family."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from daguerre.checkpoints.identify import Description, Identity, identify, read_component
from daguerre.checkpoints.tables import blank
from daguerre.checkpoints.writer import write_diffusers, write_ldm
from daguerre.files.checkpoint import CheckpointError
from daguerre.files.reader import open_checkpoint
from daguerre.models.clip import CLIPTextConfig
from daguerre.models.unet import UNetConfig
from daguerre.models.vae import VAEConfig

SMALL = {"vocabulary": 60, "context": 9, "end_token": 59}
FIRST = CLIPTextConfig(32, 3, 4, **SMALL)
SECOND = CLIPTextConfig(48, 2, 2, "gelu", projection=40, **SMALL)
VAE = VAEConfig((16, 24), blocks=1, groups=8)
UNET = UNetConfig((32, 64), (1, 0), 32, heads=4, linear=False, blocks=1, groups=16)
LINEAR = UNetConfig((32, 64), (1, 0), 48, head_width=16, blocks=1, groups=16)
LARGE = UNetConfig((32, 64), (0, 3), 80, 3, head_width=16, blocks=1, vector=40 + 6 * 8, groups=16)
REFINER = UNetConfig((32, 64, 64), (0, 2, 0), 48, 2, head_width=16, blocks=2, vector=40 + 5 * 8, groups=16)
XL_VAE = replace(VAE, scale=0.13025)
FAMILIES = {
    "sd1": Description(family="sd1", unet=UNET, vae=VAE, text=(FIRST,)),
    "sd1-inpaint": Description(family="sd1-inpaint", unet=replace(UNET, channels_in=9), vae=VAE, text=(FIRST,)),
    "sd1-edit": Description(family="sd1-edit", unet=replace(UNET, channels_in=8), vae=VAE, text=(FIRST,)),
    "sd2": Description(family="sd2", unet=LINEAR, vae=VAE, text=(SECOND,), unused_layers=1, prediction="v"),
    "sd2-from-diffusers": Description(family="sd2", unet=LINEAR, vae=VAE, text=(replace(SECOND, projection=0),)),
    "sd2-inpaint": Description(
        family="sd2-inpaint", unet=replace(LINEAR, channels_in=9), vae=VAE, text=(SECOND,), unused_layers=1
    ),
    "sdxl": Description(family="sdxl", unet=LARGE, vae=XL_VAE, text=(FIRST, SECOND)),
    "sdxl-v": Description(family="sdxl", unet=LARGE, vae=XL_VAE, text=(FIRST, SECOND), prediction="v", zero_snr=True),
    "turbo": Description(family="turbo", unet=LARGE, vae=XL_VAE, text=(FIRST, SECOND)),
    "sdxl-refiner": Description(family="sdxl-refiner", unet=REFINER, vae=XL_VAE, text=(SECOND,)),
}
# The built-in model: its shapes tell neither heads, groups and activation nor that it is a family of its own.
TINTYPE = Description(
    family="tintype",
    prediction="v",
    unet=UNetConfig((128, 192, 192), (0, 1, 1), 128, head_width=32, blocks=1),
    vae=VAEConfig((32, 64, 128, 192), blocks=1, groups=4, scale=0.7),
    text=(CLIPTextConfig(128, 4, 4, end_token=4, **{k: SMALL[k] for k in ("vocabulary", "context")}),),
)


def states_of(model: Description, dtype: torch.dtype = torch.float16) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return {
        part: {
            name: torch.randn(tensor.shape, generator=generator).to(dtype)
            for name, tensor in blank(config).state_dict().items()
        }
        for part, config in model.configs.items()
    }


def described(identity: Description) -> dict[str, object]:
    return {field.name: getattr(identity, field.name) for field in fields(Description)}


def read(path: Path) -> tuple[Identity, dict[str, dict[str, Tensor]]]:
    checkpoint = open_checkpoint(path)
    identity = identify(checkpoint)
    return identity, {part.name: read_component(checkpoint, identity, part.name) for part in identity.parts}


def assert_equal(ours: dict[str, dict[str, Tensor]], theirs: dict[str, dict[str, Tensor]]) -> None:
    assert ours.keys() == theirs.keys()
    for part, state in ours.items():
        assert state.keys() == theirs[part].keys()
        for name, tensor in state.items():
            assert tensor.dtype == theirs[part][name].dtype
            assert torch.equal(tensor, theirs[part][name]), name


@pytest.mark.parametrize("name", [*FAMILIES, "tintype"])
def test_an_ldm_file_is_read_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = FAMILIES.get(name, TINTYPE)
    states = states_of(model)
    write_ldm(tmp_path / "x.safetensors", states, model, {"title": "a test"})
    identity, again = read(tmp_path / "x.safetensors")
    assert_equal(again, states)
    assert described(identity) == described(model)
    assert (identity.layout, identity.missing, identity.extra) == ("ldm", (), ())
    assert open_checkpoint(tmp_path / "x.safetensors").metadata["title"] == "a test"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_diffusers_folder_is_read_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = FAMILIES[name]
    states = states_of(model)
    write_diffusers(tmp_path / "x", states, model)
    identity, again = read(tmp_path / "x")
    assert_equal(again, states)
    assert described(identity) == described(model)
    assert (identity.layout, identity.missing, identity.extra) == ("diffusers", (), ())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_layouts_convert_into_each_other_without_loss(dtype: torch.dtype, tmp_path: Path) -> None:
    states = states_of(TINTYPE, dtype)
    write_diffusers(tmp_path / "folder", states, TINTYPE)
    identity, first = read(tmp_path / "folder")
    write_ldm(tmp_path / "file", first, identity)
    identity, second = read(tmp_path / "file")
    assert_equal(second, states)
    assert identity.family == "tintype"
    assert identity.configs.keys() == TINTYPE.configs.keys()


def test_an_ldm_file_has_the_names_and_shapes_of_the_original_programs(tmp_path: Path) -> None:
    write_ldm(tmp_path / "x", states_of(FAMILIES["sdxl-v"]), FAMILIES["sdxl-v"])
    with safe_open(tmp_path / "x", "pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    assert shapes["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"] == (144, 48)
    assert shapes["conditioner.embedders.1.model.text_projection"] == (48, 40)
    assert shapes["conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight"] == (9, 32)
    assert shapes["first_stage_model.encoder.mid.attn_1.proj_out.weight"] == (24, 24, 1, 1)
    assert {"v_pred", "ztsnr"} <= shapes.keys()


def test_thirds_and_transposes_land_where_openclip_has_them(tmp_path: Path) -> None:
    states = states_of(FAMILIES["sd2"])
    write_ldm(tmp_path / "x", states, FAMILIES["sd2"])
    with safe_open(tmp_path / "x", "pt") as file:
        joined = file.get_tensor("cond_stage_model.model.transformer.resblocks.1.attn.in_proj_bias")
        projection = file.get_tensor("cond_stage_model.model.text_projection")
    text = states["text"]
    assert torch.equal(joined, torch.cat([text[f"layers.1.{x}.bias"] for x in "qkv"]))
    assert torch.equal(projection, text["projection.weight"].T)


def test_a_wrong_state_is_not_written(tmp_path: Path) -> None:
    model = FAMILIES["sd1"]
    states = states_of(model)
    for state in (
        {"unet": {**states["unet"], "odd": torch.zeros(1)}},
        {"unet": dict(list(states["unet"].items())[1:])},
    ):
        with pytest.raises(CheckpointError, match="no state of UNetConfig"):
            write_ldm(tmp_path / "x", state, model)
    with pytest.raises(CheckpointError, match="made of U-Net, VAE and text encoder"):
        write_diffusers(tmp_path / "x", {"unet": states["unet"]}, replace(model, text=()))
    with pytest.raises(CheckpointError, match="cannot build 2 blocks in the middle"):
        write_diffusers(tmp_path / "x", states, replace(model, unet=replace(LINEAR, depth=(1, 1), mid_depth=2)))
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="exists already"):
        write_diffusers(tmp_path, states_of(FAMILIES["sd1"]), FAMILIES["sd1"])


@pytest.mark.parametrize(
    ("section", "changed", "complaint"),
    [
        ("model_index", {"_daguerre_family": "sdxl"}, "'sd2', as its tensors are"),
        ("model_index", {"_daguerre_family": ["tintype"]}, "'sd2', as its tensors are"),
        ("unet", {"attention_head_dim": "32"}, "a positive integer"),
        ("unet", {"attention_head_dim": 31}, "do not divide"),
        ("unet", {"norm_num_groups": 0}, "a positive integer"),
        ("vae", {"norm_num_groups": 5}, "5 groups do not divide"),
        ("vae", {"scaling_factor": -1}, "a positive number"),
        ("text_encoder", {"hidden_act": "relu"}, "'gelu' or 'quick_gelu'"),
        ("text_encoder", {"num_attention_heads": True}, "a positive integer"),
        ("scheduler", {"prediction_type": "x0"}, "'epsilon' or 'v_prediction'"),
    ],
)
def test_wrong_settings_in_the_metadata_are_named(
    section: str, changed: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    write_ldm(tmp_path / "x", states_of(TINTYPE), TINTYPE)
    checkpoint = open_checkpoint(tmp_path / "x")
    stated = {**checkpoint.configs, section: {**checkpoint.configs[section], **changed}}
    with pytest.raises(CheckpointError, match=complaint) as caught:
        identify(replace(checkpoint, configs=stated))
    assert caught.value.path == tmp_path / "x"
    assert caught.value.key.startswith(section)


@pytest.mark.parametrize("text", ["{", "[1]", '{"unet": 3}', "[" * 100_000])
def test_broken_metadata_are_named(text: str, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x", {"daguerre.config": text})
    with pytest.raises(CheckpointError, match="JSON") as caught:
        open_checkpoint(tmp_path / "x")
    assert caught.value.key == "daguerre.config"
