"""What is in a checkpoint, told from names, shapes and a folder's own settings."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daguerre.checkpoints.identify import identify
from daguerre.checkpoints.layout import Part
from daguerre.checkpoints.tables import table
from daguerre.files.checkpoint import CheckpointError
from daguerre.models import clip, unet, vae
from tests.checkpoints.stripped import averaged, of_shapes, real_shapes

Shapes = dict[str, tuple[int, ...]]
SCHEDULER = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon"}


@pytest.fixture(scope="module")
def sd1() -> Shapes:
    return real_shapes("sd1")


@pytest.fixture(scope="module")
def sd2() -> Shapes:
    return real_shapes("sd2")


@pytest.fixture(scope="module")
def sdxl() -> Shapes:
    return real_shapes("sdxl")


def shapes_of(*parts: tuple[Part, object]) -> Shapes:
    return {source.key: source.stored for part, config in parts for source in table(part, config).values()}


def under(shapes: Mapping[str, tuple[int, ...]], prefix: str, renamed: str = "") -> Shapes:
    return {renamed + key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}


def test_a_pruned_file_is_as_good_as_a_whole_one(sd1: Shapes) -> None:
    needed = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    pruned = identify(of_shapes({key: shape for key, shape in sd1.items() if key.startswith(needed)}))
    assert replace(pruned, ignored={}) == replace(identify(of_shapes(sd1)), ignored={})


def test_names_without_text_model_are_understood(sd1: Shapes) -> None:
    root = "cond_stage_model.transformer."
    older = {key.replace(f"{root}text_model.", root): shape for key, shape in sd1.items()}
    identity = identify(of_shapes(older))
    assert identity.text == (clip.VIT_L,)
    assert (identity.missing, identity.extra) == ((), ())


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_alone_is_a_vae(prefix: str, sd1: Shapes) -> None:
    shapes = under(sd1, "first_stage_model.", prefix) | {f"{prefix}loss.discriminator.main.0.weight": (64, 3, 4, 4)}
    identity = identify(of_shapes(shapes))
    assert (identity.family, identity.vae, identity.unet, identity.text) == ("vae", vae.SD, None, ())
    assert set(identity.ignored.values()) == {"only for training the VAE"}


@pytest.mark.parametrize("layout", ["diffusers", "diffusers_old"])
def test_a_vae_of_diffusers_is_a_vae_whatever_its_attention_is_called(layout: str) -> None:
    identity = identify(of_shapes(shapes_of((Part("vae", layout), vae.SD))))
    assert (identity.family, identity.vae, identity.layout) == ("vae", vae.SD, "diffusers")
    assert (identity.missing, identity.extra) == ((), ())


def test_a_vae_may_have_linear_layers_for_1x1_convolutions(sd1: Shapes) -> None:
    flat = {key: shape[:2] if ".attn_1." in key and len(shape) == 4 else shape for key, shape in sd1.items()}
    part = next(part for part in identify(of_shapes(flat)).parts if part.name == "vae")
    assert all(source.accepts(flat[source.key]) for source in table(part, vae.SD).values())


@pytest.mark.parametrize(("config", "layout"), [(clip.VIT_L, "hf"), (clip.VIT_BIG_G, "hf"), (clip.VIT_H, "openclip")])
def test_a_text_encoder_alone_is_one(config: clip.CLIPTextConfig, layout: str) -> None:
    identity = identify(of_shapes(shapes_of((Part("text", layout), config))))
    assert (identity.family, identity.text, identity.unused_layers) == ("text", (config,), 0)


def test_a_unet_alone_is_of_its_family(sdxl: Shapes) -> None:
    bare = identify(of_shapes(under(sdxl, "model.diffusion_model.")))
    assert (bare.family, bare.unet, bare.vae, bare.text) == ("sdxl", unet.SDXL, None, ())
    assert {"it has no VAE", "it has no text encoder"} <= set(bare.notes)
    refiner = under(real_shapes("sdxl_refiner"), "model.diffusion_model.")
    assert identify(of_shapes(refiner)).family == "sdxl-refiner"


@pytest.mark.parametrize(("channels", "family"), [(4, "sd2"), (9, "sd2-inpaint"), (8, "sd2-edit")])
def test_the_channels_of_the_first_layer_tell_inpainting_and_editing(channels, family, sd2: Shapes) -> None:
    first = {"model.diffusion_model.input_blocks.0.0.weight": (320, channels, 3, 3)}
    assert identify(of_shapes(sd2 | first)).family == family


def test_channels_that_no_family_has_are_an_error(sd2: Shapes) -> None:
    with pytest.raises(CheckpointError, match="takes 5 channels; models that take 4, 8 or 9 are known"):
        identify(of_shapes(sd2 | {"model.diffusion_model.input_blocks.0.0.weight": (320, 5, 3, 3)}))


@pytest.mark.parametrize(("spread", "expected"), [(0.02, "epsilon"), (0.3, "v")])
def test_sd2_predicts_v_if_a_bias_spreads(spread: float, expected: str, sd2: Shapes) -> None:
    def alternating(shape: tuple[int, ...]) -> torch.Tensor:
        return spread * (-1.0) ** torch.arange(shape[0])

    identity = identify(of_shapes(sd2, alternating))
    assert identity.prediction == expected
    assert any(f"spreads by {spread:.3f}" in note for note in identity.notes)


def test_marks_and_metadata_tell_the_prediction(sd1: Shapes, sdxl: Shapes) -> None:
    marked = identify(of_shapes(sdxl | {"v_pred": (0,), "ztsnr": (0,)}))
    assert (marked.prediction, marked.zero_snr, marked.extra) == ("v", True, ())
    assert "predicts v: a tensor named v_pred says so" in marked.notes
    stated = identify(of_shapes(sd1, metadata={"modelspec.prediction_type": "v"}))
    assert (stated.prediction, stated.zero_snr) == ("v", False)
    assert identify(of_shapes(sd1, metadata={"modelspec.prediction_type": "x"})).prediction == "epsilon"


def folder(family: str, shapes: Shapes, **configs: Mapping[str, object]) -> object:
    made = shapes_of(
        (Part("unet", "diffusers", "unet/"), {"sd1": unet.SD1, "sd2": unet.SD2, "sdxl": unet.SDXL}[family]),
        (Part("vae", "diffusers", "vae/"), vae.SD),
        (Part("text", "hf", "text_encoder/"), clip.VIT_L),
    )
    return of_shapes(made | shapes, configs=configs)


def test_a_folders_scheduler_tells_the_prediction() -> None:
    scheduler = SCHEDULER | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    identity = identify(folder("sd2", {}, scheduler=scheduler))
    assert (identity.prediction, identity.zero_snr, identity.layout) == ("v", True, "diffusers")
    for wrong in ({"prediction_type": "sample"}, {"prediction_type": 1}, {"rescale_betas_zero_snr": "yes"}):
        with pytest.raises(CheckpointError, match=f"scheduler {next(iter(wrong))}"):
            identify(folder("sd2", {}, scheduler=SCHEDULER | wrong))


def test_a_folder_is_turbo_by_its_scheduler() -> None:
    second = shapes_of((Part("text2", "hf", "text_encoder_2/"), clip.VIT_BIG_G))
    turbo = {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}
    assert identify(folder("sdxl", second, scheduler=SCHEDULER)).family == "sdxl"
    assert identify(folder("sdxl", second, scheduler=turbo)).family == "turbo"
    assert identify(folder("sd2", {}, scheduler=turbo)).family == "sd2"


@pytest.mark.parametrize(
    ("stated", "heads", "head_width"),
    [(5, 5, 64), ([5, 10, 20, 20], 0, 64), ([10, 20, 40, 40], 0, 32), ([5, 5, 5, 5], 5, 64), (None, 8, 64)],
)
def test_attention_head_dim_is_the_number_of_heads(stated: object, heads: int, head_width: int) -> None:
    identity = identify(folder("sd2", {}, unet={"attention_head_dim": stated, "act_fn": "silu"}))
    assert identity.unet == replace(unet.SD2, heads=heads, head_width=head_width)


@pytest.mark.parametrize(
    ("part", "settings", "complaint"),
    [
        ("unet", {"attention_head_dim": [5, 10]}, "4 numbers of heads"),
        ("unet", {"attention_head_dim": [5, 10, 20, "20"]}, "4 numbers of heads"),
        ("unet", {"attention_head_dim": [5, 5, 20, 20]}, "4 numbers of heads"),
        ("unet", {"attention_head_dim": 7}, "do not divide"),
        ("unet", {"act_fn": "gelu"}, "'silu'"),
        ("unet", {"flip_sin_to_cos": False}, "True"),
        ("unet", {"norm_num_groups": 1e9}, "a positive integer"),
        ("vae", {"scaling_factor": float("nan")}, "a positive number"),
        ("vae", {"scaling_factor": True}, "a positive number"),
        ("vae", {"norm_num_groups": 48}, "48 groups do not divide"),
        ("text_encoder", {"hidden_act": "__import__('os')"}, "'gelu' or 'quick_gelu'"),
        ("text_encoder", {"num_attention_heads": -1}, "a positive integer"),
        ("text_encoder", {"num_hidden_layers": 13}, "at most 12"),
        ("text_encoder", {"layer_norm_eps": 0.1}, "1e-05"),
        ("model_index", {"_daguerre_family": 3}, "'sd2', as its tensors are"),
    ],
)
def test_wrong_settings_of_a_folder_are_named(part: str, settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint) as caught:
        identify(folder("sd2", {}, **{part: settings}))
    assert "stripped" in str(caught.value)


def test_the_end_token_of_old_configs_is_the_last_of_the_vocabulary() -> None:
    for stated in (2, 49_407, None):
        assert identify(folder("sd1", {}, text_encoder={"eos_token_id": stated, "num_attention_heads": 12})).text == (
            clip.VIT_L,
        )


def test_sd2_without_a_text_projection_comes_from_diffusers_and_uses_every_layer(sd2: Shapes) -> None:
    last = "cond_stage_model.model.transformer.resblocks.23."
    converted = {key: s for key, s in sd2.items() if not key.startswith(last) and "text_projection" not in key}
    identity = identify(of_shapes(converted))
    assert (identity.text, identity.unused_layers) == ((replace(clip.VIT_H, layers=23, projection=0),), 0)


def test_what_is_missing_or_extra_is_listed(sd1: Shapes) -> None:
    key = "model.diffusion_model.output_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    identity = identify(of_shapes({k: s for k, s in sd1.items() if k != key} | {"unheard.of": (3,)}))
    assert (identity.missing, identity.extra) == ((key,), ("unheard.of",))


@pytest.mark.parametrize(
    "lost",
    [
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
        "first_stage_model.encoder.down.0.block.0.conv1.weight",
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight",
        "first_stage_model.post_quant_conv.weight",
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
    ],
)
def test_a_tensor_that_tells_the_kind_is_named_when_lost_or_misshapen(lost: str, sd1: Shapes) -> None:
    with pytest.raises(CheckpointError, match="missing") as caught:
        identify(of_shapes({key: shape for key, shape in sd1.items() if key != lost}))
    assert caught.value.key == lost
    for shape in ((), (0, 0, 0, 0), (1,) * 7):
        with pytest.raises(CheckpointError, match="dimensions") as caught:
            identify(of_shapes(sd1 | {lost: shape}))
        assert caught.value.key == lost


def test_other_files_are_not_taken_for_models() -> None:
    lora = {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)}
    with pytest.raises(CheckpointError, match="none of its 1 tensors belongs to"):
        identify(of_shapes(lora))


def test_endless_blocks_are_an_error() -> None:
    root = "model.diffusion_model."
    key = f"{root}middle_block.1.transformer_blocks."
    shapes = real_shapes("sd1") | {f"{key}{n}.norm1.weight": (1280,) for n in range(1000)}
    with pytest.raises(CheckpointError, match="more than 128 blocks"):
        identify(of_shapes(shapes))


def test_a_structure_that_needs_more_tensors_than_there_are_is_not_built() -> None:
    block = "model.diffusion_model.input_blocks.{}.0.in_layers.2.weight"
    shapes = real_shapes("sd1") | {block.format(n): (320, 320, 3, 3) for n in range(4, 100)}
    for level in range(90):
        attention = f"model.diffusion_model.input_blocks.{1 + 3 * level}.1.transformer_blocks"
        shapes |= {f"{attention}.{n}.norm1.weight": (320,) for n in range(100)}
    with pytest.raises(CheckpointError, match=r"like this has at least [0-9,]+ tensors"):
        identify(of_shapes(shapes))


def test_the_name_of_the_file_does_not_matter(sd1: Shapes, sdxl: Shapes) -> None:
    for shapes in (sd1, sdxl, sd1 | averaged(sd1)):
        named = replace(of_shapes(shapes), path=Path("sdxl_turbo-inpainting-v-prediction.safetensors"))
        assert identify(named) == identify(of_shapes(shapes))
