"""Whole pictures against diffusers' pipelines: same weights, prompts, seed and spacing, at most 1/255 apart."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
import transformers

from daguerre import TextToImage, text_to_image
from daguerre.families.loading import load_model
from daguerre.generate.drawing import Picture
from daguerre.text.tokenizer import tokenizer_files

REQUEST = TextToImage(
    prompt="a red apple on a table, highly detailed",
    negative_prompt="blurry, dark",
    steps=10,
    width=64,
    height=64,
    seed=5,
)
SPACING = {
    "DDIM": ("DDIMScheduler", {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False}),
    "Euler": ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def text_encoder(projected: bool = False, activation: str = "quick_gelu"):
    config = transformers.CLIPTextConfig(
        hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, hidden_act=activation,
        projection_dim=32, vocab_size=49_408, bos_token_id=49_406, eos_token_id=49_407,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    return model


def unet(**changes):
    config = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32, "attention_head_dim": 8, "norm_num_groups": 32,
    }  # fmt: skip
    model = diffusers.UNet2DConditionModel(**(config | changes)).eval()
    with torch.no_grad():
        model.conv_out.weight.mul_(8)  # so that the prompt is seen in the picture
        for name, parameter in model.named_parameters():
            if "attn2" in name and parameter.ndim > 1:
                parameter.mul_(3)
    return model


def vae(scale: float = 0.18215):
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32), layers_per_block=1, norm_num_groups=32, scaling_factor=scale,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4,
    ).eval()  # fmt: skip


def tokenizer(folder, pad: str = "<|endoftext|>"):
    for name, data in tokenizer_files().items():
        (folder / name).write_bytes(data)
    return transformers.CLIPTokenizer.from_pretrained(folder, pad_token=pad, model_max_length=77)


def scheduler(sampler: str, **extra):
    name, config = SPACING[sampler]
    clip = {"clip_sample": False} if sampler == "DDIM" else {}
    return getattr(diffusers, name)(**BETAS, **config, **clip, **extra)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sd1")
    words = tokenizer(tmp_path_factory.mktemp("words"))
    pipe = diffusers.StableDiffusionPipeline(
        vae(), text_encoder(), words, unet(), scheduler("DDIM"), None, None, requires_safety_checker=False
    )
    pipe.save_pretrained(folder)
    return pipe, folder


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("sdxl")
    first = tokenizer(tmp_path_factory.mktemp("first"))
    second = tokenizer(tmp_path_factory.mktemp("second"), pad="!")
    network = unet(
        block_out_channels=(64, 128), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=64, attention_head_dim=(1, 2),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )  # fmt: skip
    pipe = diffusers.StableDiffusionXLPipeline(
        vae(0.13025), text_encoder(), text_encoder(projected=True, activation="gelu"), first, second, network,
        scheduler("Euler"), add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return pipe, folder


def theirs(pipe, request, sampler):
    pipe.scheduler = scheduler(sampler, prediction_type=pipe.scheduler.config.prediction_type)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe(
        request.prompt, negative_prompt=request.negative_prompt, num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale, width=request.width, height=request.height, output_type="np",
        generator=torch.Generator("cpu").manual_seed(request.seed),
    ).images[0]  # fmt: skip
    return (picture * 255).round().astype(int)


def ours(model, request, sampler):
    for event in text_to_image(model, replace(request, sampler=sampler, schedule="automatic")):
        if isinstance(event, Picture):
            return np.asarray(event.image).astype(int)
    raise AssertionError("no picture")


@pytest.mark.parametrize("sampler", SPACING)
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_diffusers_folder_gives_the_pixels_of_diffusers(kind, sampler, request):
    pipe, folder = request.getfixturevalue(kind)
    model = load_model(folder, device="cpu", dtype="float32")
    assert model.family.name == kind
    expected = theirs(pipe, REQUEST, sampler)
    assert np.abs(ours(model, REQUEST, sampler) - expected).max() <= 1
    other = replace(REQUEST, prompt="a blue car")
    assert np.abs(theirs(pipe, other, sampler) - expected).max() >= 20, "the prompt must matter for this to be a test"
    assert np.abs(ours(model, other, sampler) - theirs(pipe, other, sampler)).max() <= 1


@pytest.mark.parametrize("sampler", SPACING)
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_the_same_model_as_an_ldm_file_gives_the_same_pixels(kind, sampler, request, tmp_path):
    from daguerre.checkpoints.identify import identify, read_component
    from daguerre.checkpoints.writer import write_ldm
    from daguerre.files.reader import open_checkpoint

    pipe, folder = request.getfixturevalue(kind)
    checkpoint = open_checkpoint(folder)
    identity = identify(checkpoint)
    states = {part.name: read_component(checkpoint, identity, part.name) for part in identity.parts}
    write_ldm(tmp_path / "model.safetensors", states, identity)
    model = load_model(tmp_path / "model.safetensors", device="cpu", dtype="float32")
    assert np.abs(ours(model, REQUEST, sampler) - theirs(pipe, REQUEST, sampler)).max() <= 1
