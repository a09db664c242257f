"""Controls in files: key tables are bijections, kinds are told by shapes alone, what does not fit is named."""

import pytest
import torch

from daguerre.checkpoints.controls import attended, identify_control, read_control
from daguerre.checkpoints.layout import Part
from daguerre.checkpoints.tables import ControlConfig, blank, table
from daguerre.files.checkpoint import CheckpointError
from daguerre.models.controlnet import ControlNetConfig
from daguerre.models.ip_adapter import IPAdapterConfig, cross_attentions
from daguerre.models.t2i_adapter import T2IAdapterConfig
from daguerre.models.unet import SD1, SD2, SDXL, UNet, UNetConfig
from tests.checkpoints.stripped import of_shapes, of_tensors

FOUR = (320, 640, 1280, 1280)
PLUS = {"features": 1280, "tokens": 16, "depth": 4, "width": 768, "inner": 768}
CASES: list[tuple[Part, ControlConfig, UNetConfig]] = [
    *(
        (Part("ControlNet", layout, prefix), ControlNetConfig(unet), unet)
        for layout, prefix in (("ldm", "control_model."), ("ldm", ""), ("diffusers", ""))
        for unet in (SD1, SD2, SDXL)
    ),
    (Part("T2I-Adapter", "full"), T2IAdapterConfig(FOUR), SD1),
    (Part("T2I-Adapter", "full"), T2IAdapterConfig(FOUR, colors=1), SD1),
    (Part("T2I-Adapter", "light"), T2IAdapterConfig(FOUR, 4, kind="light"), SD1),
    (Part("T2I-Adapter", "diffusers"), T2IAdapterConfig(FOUR), SD1),
    (Part("T2I-Adapter", "diffusers"), T2IAdapterConfig(FOUR, 4, kind="light"), SD1),
    (Part("T2I-Adapter", "diffusers"), T2IAdapterConfig(FOUR, kind="xl"), SDXL),
    (Part("IP-Adapter", "authors"), IPAdapterConfig(attended(SD1)), SD1),
    (Part("IP-Adapter", "authors"), IPAdapterConfig(attended(SD1), **PLUS), SD1),
    (Part("IP-Adapter", "authors"), IPAdapterConfig(attended(SDXL), 2048, 1280), SDXL),
]
TOY = UNetConfig((32, 64), (1, 1), 24, heads=8, linear=False, blocks=1)


@pytest.mark.parametrize(("part", "config", "unet"), CASES)
def test_a_full_size_control_is_told_by_its_shapes_and_all_of_it_is_read(
    part: Part, config: ControlConfig, unet: UNetConfig
) -> None:
    sources = table(part, config)
    parameters = {name: tuple(tensor.shape) for name, tensor in blank(config).state_dict().items()}
    assert {name: source.shape for name, source in sources.items()} == parameters
    keys = [source.key for source in sources.values()]
    assert len(set(keys)) == len(keys), "two parameters would be read from one place"
    file = identify_control(of_shapes({source.key: source.stored for source in sources.values()}), unet)
    assert (file.kind, file.part, file.config) == (part.name, part, config)


def test_the_cross_attention_of_sdxl_is_counted_as_ip_adapters_do() -> None:
    assert len(attended(SD1)) == 16
    assert len(attended(SDXL)) == 70
    paths = cross_attentions(UNet(TOY))
    assert [path.split(".")[0] for path in paths] == ["encoder"] * 2 + ["decoder"] * 4 + ["mid_attn"]
    assert attended(TOY) == (32, 64, 64, 64, 32, 32, 64)


@pytest.mark.parametrize(("part", "config", "unet"), [CASES[0], CASES[9], CASES[-1]])
def test_a_control_for_another_model_is_refused_naming_both(
    part: Part, config: ControlConfig, unet: UNetConfig
) -> None:
    stored = {source.key: source.stored for source in table(part, config).values()}
    with pytest.raises(CheckpointError, match=rf"stripped: this {part.name} is for .*; the model is .*Name one"):
        identify_control(of_shapes(stored), SD2 if part.name != "T2I-Adapter" else SDXL)


def test_what_is_no_control_or_has_more_than_is_known_is_refused() -> None:
    with pytest.raises(CheckpointError, match="none of its 1 tensors belongs to a control"):
        identify_control(of_shapes({"a": (1,)}), SD1)
    part, config, unet = CASES[2 * 3]
    stored = {source.key: source.stored for source in table(part, config).values()}
    with pytest.raises(CheckpointError, match="'task_embedding': no part of a ControlNet"):
        identify_control(of_shapes(stored | {"task_embedding": (6, 320)}), unet)


def test_a_folder_that_states_another_order_of_colors_is_refused() -> None:
    part, config, unet = CASES[2 * 3]
    stored = {source.key: source.stored for source in table(part, config).values()}
    stated = {"": {"controlnet_conditioning_channel_order": "bgr"}}
    with pytest.raises(CheckpointError, match="channel_order"):
        identify_control(of_shapes(stored, configs=stated), unet)


def low_rank(unet: UNet) -> dict[str, torch.Tensor]:
    """A ControlLoRA as its authors write it: factors beside biases, whole norms, and what a U-Net does not have."""
    part, own = Part("ControlNet", "ldm"), {"lora_controlnet": torch.zeros(0)}
    base = unet.state_dict()
    for name, source in table(part, ControlNetConfig(unet.config, (4, 4, 4, 4))).items():
        if name not in base or len(source.shape) < 2:
            own[source.key] = torch.randn(source.stored)
        elif "attn" in name:
            module = source.key.removesuffix(".weight")
            down = torch.randn(2, *source.stored[1:])
            up = torch.randn(source.stored[0], 2, *[1] * (down.ndim - 2))
            own |= {f"{module}.up": up, f"{module}.down": down}
    return own


def test_a_control_lora_is_the_unets_weights_and_a_change_of_low_rank() -> None:
    torch.manual_seed(0)
    unet = UNet(TOY)
    tensors = low_rank(unet)
    file = identify_control(of_tensors(tensors), TOY)
    assert file.kind == "ControlLoRA"
    state, base = read_control(file, unet.state_dict()), unet.state_dict()
    name, key = "mid_attn.blocks.0.cross_attn.q.weight", "middle_block.1.transformer_blocks.0.attn2.to_q"
    change = tensors[f"{key}.up"] @ tensors[f"{key}.down"]
    assert torch.allclose(state[name], base[name] + change, atol=1e-5)
    assert change.abs().max() > 0.1
    kept = "encoder.1.res.conv1.weight"
    assert state[kept].data_ptr() == base[kept].data_ptr(), "what is not changed is not copied"
    assert torch.equal(state["encoder.1.res.norm1.weight"], tensors["input_blocks.1.0.in_layers.0.weight"])
    blank(file.config).load_state_dict(state, assign=True)


def test_a_control_lora_for_another_model_is_refused() -> None:
    tensors = low_rank(UNet(TOY))
    wide = UNet(UNetConfig((64, 64), (1, 1), 24, heads=8, linear=False, blocks=1))
    with pytest.raises(CheckpointError, match=r"the shape is \[128\]; expected \[256\], as this model"):
        read_control(identify_control(of_tensors(tensors), wide.config), wide.state_dict())
