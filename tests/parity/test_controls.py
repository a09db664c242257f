"""ControlNet, T2I-Adapter and IP-Adapter against diffusers' at toy width, random weights, through the key tables."""

import diffusers
import pytest
import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import Tensor

from daguerre.checkpoints.controls import identify_control, read_control
from daguerre.checkpoints.identify import identify, read_component
from daguerre.checkpoints.tables import blank
from daguerre.generate.controls.steering import skipping, within
from daguerre.models.attention import attending
from daguerre.models.unet import UNet
from tests.checkpoints.stripped import of_tensors
from tests.parity.test_unet import FAMILIES, opened, reference


def unets(family: str) -> tuple[diffusers.UNet2DConditionModel, UNet]:
    """Theirs, and ours of the same weights."""
    theirs = reference(**FAMILIES[family])
    checkpoint = opened(theirs, theirs.to_json_string())
    identity = identify(checkpoint)
    ours = blank(identity.unet).eval()
    ours.load_state_dict(read_component(checkpoint, identity, "unet"), assign=True)
    return theirs, ours


def control(state: dict[str, Tensor], unet: UNet) -> torch.nn.Module:
    file = identify_control(of_tensors(state), unet.config)
    network = blank(file.config).eval()
    network.load_state_dict(read_control(file, unet.state_dict()), assign=True)
    return network


def inputs(family: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None, dict[str, Tensor]]:
    x, t, tokens = torch.randn(2, 4, 8, 12), torch.tensor([981.0, 3.0]), torch.randn(2, 7, 24)
    if family != "sdxl":
        return x, t, tokens, None, {}
    pooled, numbers = torch.randn(2, 16), torch.randint(0, 1024, (2, 6))
    sizes = diffusers.models.embeddings.Timesteps(8, True, 0)(numbers.flatten()).reshape(2, -1)
    return x, t, tokens, torch.cat([pooled, sizes], dim=1), {"text_embeds": pooled, "time_ids": numbers}


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@torch.no_grad()
def test_a_controlnet_steers_as_that_of_diffusers(family: str) -> None:
    torch.manual_seed(0)
    theirs, ours = unets(family)
    other = diffusers.ControlNetModel.from_unet(theirs, conditioning_embedding_out_channels=(8, 12, 16, 20)).eval()
    for parameter in other.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)  # its zero convolutions, too
    network = control(other.state_dict(), ours)
    x, t, tokens, vector, added = inputs(family)
    picture = torch.rand(2, 3, 64, 96)
    told = {"encoder_hidden_states": tokens, "added_cond_kwargs": added}
    skips, middle = other(x, t, controlnet_cond=picture, return_dict=False, **told)
    residuals = network(x, t, tokens, vector, network.embed_hint(picture))
    assert max((a - b).abs().max() for a, b in zip(residuals, [*skips, middle], strict=True)) <= 2e-6
    expected = theirs(x, t, down_block_additional_residuals=skips, mid_block_additional_residual=middle, **told).sample
    plain = ours(x, t, tokens, vector)
    with skipping(ours, residuals[:-1], residuals[-1]):
        assert (ours(x, t, tokens, vector) - expected).abs().max() <= 3e-6
    assert torch.equal(ours(x, t, tokens, vector), plain)
    assert (expected - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("kind", "family", "channels"),
    [
        ("full_adapter", "sd1", (32, 64, 96)),
        ("light_adapter", "sd1", (32, 64)),
        ("full_adapter_xl", "sdxl", (32, 64, 96, 96)),
    ],
)
@torch.no_grad()
def test_a_t2i_adapter_steers_as_that_of_diffusers(kind: str, family: str, channels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    theirs, ours = unets(family)
    if kind == "light_adapter":  # whose last level is as wide as the one before
        theirs = reference(**FAMILIES[family], block_out_channels=(32, 64, 64))
        checkpoint = opened(theirs, theirs.to_json_string())
        identity = identify(checkpoint)
        ours = blank(identity.unet).eval()
        ours.load_state_dict(read_component(checkpoint, identity, "unet"), assign=True)
    factor = 16 if kind == "full_adapter_xl" else 8
    other = diffusers.T2IAdapter(3, list(channels), 2, factor, kind).eval()
    network = control(other.state_dict(), ours)
    x, t, tokens, vector, added = inputs(family)
    picture = torch.rand(2, 3, 64, 96)
    features, mine = other(picture), network(picture)
    assert max((a - b).abs().max() for a, b in zip(mine, features, strict=True)) <= 1e-6
    expected = theirs(
        x, t, tokens, added_cond_kwargs=added, down_intrablock_additional_residuals=[f.clone() for f in features]
    ).sample
    places = [3, 5, 8] if kind == "full_adapter_xl" else [2, 5, 8]
    middle = mine[3] if kind == "full_adapter_xl" else None
    with within(ours, dict(zip(places, mine, strict=False)), middle):
        assert (ours(x, t, tokens, vector) - expected).abs().max() <= 3e-6
    assert (expected - ours(x, t, tokens, vector)).abs().max() > 1e-2


def ip_state(theirs: diffusers.UNet2DConditionModel, *, plus: bool) -> dict[str, dict[str, Tensor]]:
    """Random weights in the layout of IP-Adapter's authors."""
    attention = {}
    for i, name in enumerate(theirs.attn_processors):
        if "attn2" in name:
            layer = theirs.get_submodule(name.removesuffix(".processor"))
            for x in "kv":
                attention[f"{i}.to_{x}_ip.weight"] = torch.randn_like(layer.to_k.weight) * 0.2
    if not plus:
        project = {"proj.weight": torch.randn(4 * 24, 20), "proj.bias": torch.randn(4 * 24)}
        return {
            "image_proj": project | {"norm.weight": torch.rand(24), "norm.bias": torch.rand(24)},
            "ip_adapter": attention,
        }
    width, inner = 40, 64
    project = {"latents": torch.randn(1, 6, width), "proj_in.weight": torch.randn(width, 20) * 0.2}
    project |= {"proj_in.bias": torch.randn(width), "proj_out.weight": torch.randn(24, width) * 0.2}
    project |= {"proj_out.bias": torch.randn(24), "norm_out.weight": torch.rand(24), "norm_out.bias": torch.rand(24)}
    for i in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            project |= {f"layers.{i}.{norm}.weight": torch.rand(width), f"layers.{i}.{norm}.bias": torch.rand(width)}
        shapes = {"0.to_q": (inner, width), "0.to_kv": (2 * inner, width), "0.to_out": (width, inner)}
        shapes |= {"1.1": (4 * width, width), "1.3": (width, 4 * width)}
        project |= {f"layers.{i}.{name}.weight": torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    return {"image_proj": project, "ip_adapter": attention}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("plus", [False, True])
@torch.no_grad()
def test_an_ip_adapter_attends_as_that_of_diffusers(family: str, plus: bool) -> None:
    torch.manual_seed(0)
    theirs, ours = unets(family)
    state = ip_state(theirs, plus=plus)
    flat = {f"{part}.{name}": value for part, values in state.items() for name, value in values.items()}
    network = control(flat, ours)
    x, t, tokens, vector, added = inputs(family)
    picture = torch.randn(2, 9, 20) if plus else torch.randn(2, 20)
    theirs._load_ip_adapter_weights([state], low_cpu_mem_usage=False)
    if plus:
        assert isinstance(theirs.encoder_hid_proj.image_projection_layers[0], IPAdapterPlusImageProjection)
    for processor in theirs.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.7]
    expected = theirs(x, t, tokens, added_cond_kwargs={**added, "image_embeds": [picture[:, None]]}).sample
    plain, seen = ours(x, t, tokens, vector), network.project(picture)
    with attending(ours, network.change(ours, seen, 0.7)):
        assert (ours(x, t, tokens, vector) - expected).abs().max() <= 3e-6
    assert torch.equal(ours(x, t, tokens, vector), plain)
    assert (expected - plain).abs().max() > 1e-2
