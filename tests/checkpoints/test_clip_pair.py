"""Whole CLIPs: every published size is known by its shapes, and what is none is refused by name."""

from dataclasses import replace

import pytest
import torch

from daguerre.checkpoints.clip_pair import identify_clip
from daguerre.checkpoints.layout import Part
from daguerre.checkpoints.tables import blank, table
from daguerre.files.checkpoint import CheckpointError
from daguerre.models.clip import CLIPTextConfig
from daguerre.models.vision import CLIPVisionConfig
from tests.checkpoints.stripped import of_shapes

SIZES = {  # as OpenCLIP's configs have them: size, patch, width, layers, heads, projection, inner
    "ViT-B/32": (224, 32, 768, 12, 12, 512, 0),
    "ViT-B/16": (224, 16, 768, 12, 12, 512, 0),
    "ViT-L/14": (224, 14, 1024, 24, 16, 768, 0),
    "ViT-L/14@336": (336, 14, 1024, 24, 16, 768, 0),
    "ViT-H/14": (224, 14, 1280, 32, 16, 1024, 0),
    "ViT-g/14": (224, 14, 1408, 40, 16, 1024, 6144),
    "ViT-bigG/14": (224, 14, 1664, 48, 16, 1280, 8192),
}
TEXTS = {512: (512, 12, 8), 768: (768, 12, 12), 1024: (1024, 24, 16), 1280: (1280, 32, 20)}  # width, layers, heads


def shapes_of(name, layout, prefix=""):
    """The keys and shapes of a published CLIP, and the configs of its towers."""
    size, patch, width, layers, heads, projection, inner = SIZES[name]
    gelu = layout == "openclip"
    vision = CLIPVisionConfig(size, patch, width, layers, heads, "quick_gelu", projection, inner)
    text = CLIPTextConfig(*TEXTS[projection], projection=projection)
    vision = replace(vision, activation="gelu" if gelu or width > 1024 else "quick_gelu")
    text = replace(text, activation="gelu" if gelu or text.width > 768 else "quick_gelu")
    found = {}
    for part, config in ((Part("text", layout, prefix), text), (Part("vision", layout, prefix), vision)):
        found |= {source.key: source.stored for source in table(part, config).values()}
    return found, text, vision


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("layout", "prefix"), [("hf", ""), ("openclip", ""), ("openclip", "module.")])
def test_a_published_size_is_known_by_its_shapes(name, layout, prefix):
    shapes, text, vision = shapes_of(name, layout, prefix)
    pair = identify_clip(of_shapes(shapes))
    assert (pair.text, pair.vision, pair.scale) == (text, vision, 100.0)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("layout", ["hf", "openclip"])
def test_the_table_of_a_vision_tower_is_a_bijection(name, layout):
    vision = shapes_of(name, layout)[2]
    sources = table(Part("vision", layout), vision)
    state = blank(vision).state_dict()
    assert {n: source.shape for n, source in sources.items()} == {n: tuple(v.shape) for n, v in state.items()}
    keys = [source.key for source in sources.values() if "split" not in source.reshape]
    assert len(set(keys)) == len(keys)
    assert all(source.accepts(source.stored) for source in sources.values())


def test_what_is_no_whole_clip_is_refused():
    shapes, _, _ = shapes_of("ViT-B/32", "hf")
    without = {key: shape for key, shape in shapes.items() if not key.startswith("text")}
    with pytest.raises(CheckpointError, match="a vision tower but no text tower"):
        identify_clip(of_shapes(without))
    with pytest.raises(CheckpointError, match=r"none of its .* belongs to a vision tower of CLIP"):
        identify_clip(of_shapes({key: shape for key, shape in shapes.items() if key.startswith("text")}))
    with pytest.raises(CheckpointError, match="text tower ends in 512 features and its vision tower in 640"):
        identify_clip(of_shapes(shapes | {"visual_projection.weight": (640, 768)}))
    with pytest.raises(CheckpointError, match=r"patch_embedding.*should have 4 dimensions"):
        identify_clip(of_shapes(shapes | {"vision_model.embeddings.patch_embedding.weight": (5,)}))
    with pytest.raises(CheckpointError, match=r"logit_scale.*one number"):
        identify_clip(of_shapes(shapes | {"logit_scale": (2,)}))


def test_settings_that_no_clip_here_has_are_refused():
    shapes, _, _ = shapes_of("ViT-B/32", "hf")
    stated = replace(of_shapes(shapes), configs={"": {"vision_config": {"hidden_act": "relu"}}})
    with pytest.raises(CheckpointError, match=r"hidden_act.*should be 'gelu' or 'quick_gelu'"):
        identify_clip(stated)
    stated = replace(
        of_shapes(shapes), configs={"": {"vision_config": {"hidden_act": "gelu", "num_attention_heads": 7}}}
    )
    with pytest.raises(CheckpointError, match="7 attention heads do not divide 768"):
        identify_clip(stated)


def test_what_openclips_own_settings_say():
    shapes, _, _ = shapes_of("ViT-B/16", "openclip")
    configs = {
        "open_clip": {"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    }
    pair = identify_clip(replace(of_shapes(shapes), configs=configs))
    assert (pair.vision.activation, pair.text.activation) == ("quick_gelu", "quick_gelu")
    assert (pair.mean, pair.std) == ((0.5,) * 3, (0.25,) * 3)
    assert torch.tensor(pair.scale) == 100
