"""diffusers loads the folders that we write, and we read those that it saves: same weights, same settings."""

import json
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
from transformers import CLIPTokenizer

from daguerre.checkpoints.identify import Description, identify, read_component
from daguerre.checkpoints.tables import Config, blank
from daguerre.checkpoints.writer import write_diffusers
from daguerre.files.reader import open_checkpoint
from daguerre.models.clip import CLIPTextConfig
from daguerre.models.unet import UNetConfig
from daguerre.models.vae import VAEConfig

LETTERS = [chr(n) for n in range(ord("!"), ord("~") + 1)]
TOKENS = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
VOCABULARY = {
    "vocab.json": json.dumps({token: n for n, token in enumerate(TOKENS)}).encode(),
    "merges.txt": b"#version: 0.2\n",
}
WORDS = {"vocabulary": len(TOKENS), "context": 16, "end_token": len(TOKENS) - 1}
FIRST = CLIPTextConfig(32, 3, 4, **WORDS)
SECOND = CLIPTextConfig(48, 3, 2, "gelu", projection=40, **WORDS)
VAE = VAEConfig((16, 24), blocks=1, groups=8)
UNET = UNetConfig((32, 64), (1, 0), 32, heads=4, linear=False, blocks=1, groups=16)
LINEAR = UNetConfig((32, 64), (1, 0), 48, head_width=16, blocks=1, groups=16)
LARGE = UNetConfig((32, 64), (0, 3), 80, 3, head_width=16, blocks=1, vector=40 + 6 * 8, groups=16)
REFINER = replace(LARGE, depth=(2, 0), mid_depth=2, context=48, vector=40 + 5 * 8)
XL_VAE = replace(VAE, scale=0.13025)
MODELS = {
    "StableDiffusionPipeline": Description(family="sd1", unet=UNET, vae=VAE, text=(FIRST,)),
    "StableDiffusionInpaintPipeline": Description(
        family="sd2-inpaint", unet=replace(LINEAR, channels_in=9), vae=VAE, text=(SECOND,), unused_layers=1
    ),
    "StableDiffusionInstructPix2PixPipeline": Description(
        family="sd1-edit", unet=replace(UNET, channels_in=8), vae=VAE, text=(FIRST,)
    ),
    "StableDiffusionXLPipeline": Description(
        family="sdxl", unet=LARGE, vae=XL_VAE, text=(FIRST, SECOND), prediction="v", zero_snr=True
    ),
    "StableDiffusionXLImg2ImgPipeline": Description(family="sdxl-refiner", unet=REFINER, vae=XL_VAE, text=(SECOND,)),
}


def random_network(config: Config) -> torch.nn.Module:
    network = blank(config).to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(3)
    for tensor in network.state_dict().values():
        tensor.normal_(std=0.2, generator=generator)
    return network


@pytest.fixture(params=MODELS)
def written(request, tmp_path: Path):
    model = MODELS[request.param]
    networks = {part: random_network(config) for part, config in model.configs.items()}
    states = {part: network.state_dict() for part, network in networks.items()}
    write_diffusers(tmp_path / "ours", states, model, VOCABULARY)
    return request.param, model, networks, tmp_path / "ours"


@torch.no_grad()
def test_diffusers_loads_what_we_write(written) -> None:
    name, model, networks, folder = written
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert type(pipe).__name__ == name
    assert pipe.scheduler.config.prediction_type == {"v": "v_prediction"}.get(model.prediction, "epsilon")
    assert pipe.scheduler.config.rescale_betas_zero_snr == model.zero_snr
    assert pipe.vae.config.scaling_factor == model.vae.scale
    torch.manual_seed(0)

    ids = torch.tensor([[len(TOKENS) - 2, 5, 9, *[len(TOKENS) - 1] * 13]])
    encoders = [pipe.text_encoder] if name[15:17] != "XL" else [pipe.text_encoder, pipe.text_encoder_2]
    for part, encoder in zip(("text", "text2"), [encoder for encoder in encoders if encoder], strict=False):
        expected, ours = encoder(ids, output_hidden_states=True), networks[part](ids)
        assert torch.allclose(ours.hidden[-2], expected.hidden_states[model.text[0].layers - 1], atol=1e-5)
        if "text_embeds" in expected:
            assert torch.allclose(ours.pooled, expected.text_embeds, atol=1e-5)

    latents = torch.randn(1, 4, 8, 8)
    expected = pipe.vae.decode(latents / model.vae.scale).sample
    assert (networks["vae"].decode(latents) - expected).abs().max() <= 1e-5 * expected.abs().max()

    x, t = torch.randn(1, model.unet.channels_in, 8, 8), torch.tensor([500.0])
    tokens, vector, added = torch.randn(1, 16, model.unet.context), None, {}
    if model.unet.vector:
        pooled, sizes = torch.randn(1, 40), torch.randint(0, 512, (1, (model.unet.vector - 40) // 8))
        added = {"text_embeds": pooled, "time_ids": sizes}
        vector = torch.cat([pooled, pipe.unet.add_time_proj(sizes.flatten()).reshape(1, -1)], dim=1)
    expected = pipe.unet(x, t, tokens, added_cond_kwargs=added).sample
    assert (networks["unet"](x, t, tokens, vector) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_tokenizers_come_with_their_padding(written) -> None:
    _, model, _, folder = written
    for name, text in zip(sorted(folder.glob("tokenizer*")), model.text, strict=True):
        tokenizer = CLIPTokenizer.from_pretrained(name)
        ids = tokenizer("a b", padding="max_length", max_length=6, truncation=True)["input_ids"]
        end, pad = len(TOKENS) - 1, 0 if text.activation == "gelu" else len(TOKENS) - 1
        assert ids == [end - 1, TOKENS.index("a</w>"), TOKENS.index("b</w>"), end, pad, pad]
        assert tokenizer.model_max_length == 16


@pytest.mark.parametrize("how", [{}, {"max_shard_size": "50KB"}, {"variant": "fp16"}, {"safe_serialization": False}])
def test_what_diffusers_saves_is_read_as_it_was(written, how: dict[str, object], tmp_path: Path) -> None:
    name, model, networks, folder = written
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.save_pretrained(tmp_path / "theirs", **how)
    checkpoint = open_checkpoint(tmp_path / "theirs")
    identity = identify(checkpoint)
    assert (identity.family, identity.prediction, identity.zero_snr) == (model.family, model.prediction, model.zero_snr)
    assert (identity.unet, identity.vae) == (model.unet, model.vae)
    assert identity.text == model.text or model.unused_layers, "diffusers drops what SD 2 does not use"
    assert (identity.missing, identity.extra) == ((), ())
    assert identity.unused_layers == 0
    assert len(checkpoint.files) > len(identity.parts) if "max_shard_size" in how else True
    for part in identity.parts:
        state = networks[part.name].state_dict()
        for key, tensor in read_component(checkpoint, identity, part.name).items():
            assert torch.equal(tensor, state[key]), (name, key)
