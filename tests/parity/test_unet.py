"""The U-Net against diffusers' at toy width, random weights, through the key table; float32, at most 1e-6."""

import json
from pathlib import Path

import diffusers
import pytest
import torch

from daguerre.checkpoints.identify import identify, read_component
from daguerre.checkpoints.tables import blank
from daguerre.files.checkpoint import Checkpoint, TensorInfo

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
FAMILIES = {
    "sd1": {"attention_head_dim": 4},
    "sd1-inpaint": {"attention_head_dim": 4, "in_channels": 9},
    "sd1-edit": {"attention_head_dim": 4, "in_channels": 8},
    "sd2": {"attention_head_dim": [2, 4, 6], "use_linear_projection": True},
    "sdxl": {
        "attention_head_dim": [2, 4, 6],
        "use_linear_projection": True,
        "down_block_types": (PLAIN, CROSS, CROSS),
        "transformer_layers_per_block": (1, 2, 3),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 16 + 6 * 8,
    },
    "sdxl-refiner": {
        "attention_head_dim": [2, 4, 6],
        "use_linear_projection": True,
        "down_block_types": (PLAIN, CROSS, PLAIN),
        "transformer_layers_per_block": (1, 2, 2),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 16 + 5 * 8,
    },
}


def reference(**changes: object) -> diffusers.UNet2DConditionModel:
    down = changes.get("down_block_types", (CROSS, CROSS, PLAIN))
    up = [kind.replace("Down", "Up") for kind in reversed(down)]
    config = {"block_out_channels": (32, 64, 96), "cross_attention_dim": 24, "norm_num_groups": 16, "sample_size": 8}
    return diffusers.UNet2DConditionModel(**config | changes | {"down_block_types": down, "up_block_types": up}).eval()


def opened(network: torch.nn.Module, config: str) -> Checkpoint:
    state = network.state_dict()
    infos = {key: TensorInfo(tuple(tensor.shape), tensor.dtype) for key, tensor in state.items()}
    return Checkpoint(Path("toy"), infos, state.__getitem__, (), configs={"": json.loads(config)})


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_unet_is_equal_to_that_of_diffusers(family: str) -> None:
    torch.manual_seed(0)
    theirs = reference(**FAMILIES[family])
    checkpoint = opened(theirs, theirs.to_json_string())
    identity = identify(checkpoint)
    assert identity.family == family
    assert (identity.missing, identity.extra) == ((), ())
    assert identity.unet is not None
    ours = blank(identity.unet).eval()
    ours.load_state_dict(read_component(checkpoint, identity, "unet"), assign=True)

    x = torch.randn(2, identity.unet.channels_in, 8, 12)
    t, tokens = torch.tensor([981.0, 3.0]), torch.randn(2, 7, 24)
    vector, added = None, {}
    if identity.unet.vector:
        pooled, numbers = torch.randn(2, 16), torch.randint(0, 1024, (2, (identity.unet.vector - 16) // 8))
        added = {"text_embeds": pooled, "time_ids": numbers}
        sizes = theirs.add_time_proj(numbers.flatten()).reshape(2, -1)
        vector = torch.cat([pooled, sizes], dim=1)
    expected = theirs(x, t, tokens, added_cond_kwargs=added).sample
    assert (ours(x, t, tokens, vector) - expected).abs().max() <= 1e-6
    assert (theirs(x, t, tokens.flip(1) * 2, added_cond_kwargs=added).sample - expected).abs().max() > 1e-4
