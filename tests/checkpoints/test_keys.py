"""The key tables: bijections onto the parameters of full-size networks, and onto the rows of real files."""

import pytest
import torch

from daguerre.checkpoints.identify import identify, read_component
from daguerre.checkpoints.layout import Part
from daguerre.checkpoints.tables import Config, blank, table
from daguerre.files.checkpoint import CheckpointError
from daguerre.models import clip, unet, vae
from tests.checkpoints.stripped import REAL, averaged, of_shapes, real_shapes

PARTS = [Part("unet", "ldm"), Part("unet", "diffusers"), Part("unet", "ldm", "model_ema.diffusion_model", flat=True)]
UNETS = [unet.SD1, unet.SD1_INPAINT, unet.SD1_EDIT, unet.SD2, unet.SD2_INPAINT, unet.SDXL, unet.SDXL_REFINER]
CASES: list[tuple[Part, Config]] = [
    *((part, config) for part in PARTS for config in UNETS),
    *((Part("vae", layout), vae.SD) for layout in ("ldm", "diffusers", "diffusers_old")),
    *((Part("text", layout), clip.VIT_L) for layout in ("hf", "hf_bare", "openclip")),
    *((Part("text", layout), clip.VIT_H) for layout in ("hf", "hf_bare", "openclip")),
    *((Part("text", layout), clip.VIT_BIG_G) for layout in ("hf", "hf_bare", "openclip")),
]
WHAT_REAL_FILES_HOLD = {
    "sd1": ("sd1", unet.SD1, vae.SD, (clip.VIT_L,), 0),
    "sd1_inpaint": ("sd1-inpaint", unet.SD1_INPAINT, vae.SD, (clip.VIT_L,), 0),
    "sd2": ("sd2", unet.SD2, vae.SD, (clip.VIT_H,), 1),
    "sdxl": ("sdxl", unet.SDXL, vae.SDXL, (clip.VIT_L, clip.VIT_BIG_G), 0),
    "sdxl_refiner": ("sdxl-refiner", unet.SDXL_REFINER, vae.SDXL, (clip.VIT_BIG_G,), 0),
}


@pytest.mark.parametrize(("part", "config"), CASES)
def test_a_table_is_a_bijection_onto_a_full_size_network(part: Part, config: Config) -> None:
    sources = table(part, config)
    assert {name: source.shape for name, source in sources.items()} == {
        name: tuple(tensor.shape) for name, tensor in blank(config).state_dict().items()
    }
    places = [(source.key, source.reshape if "split" in source.reshape else "") for source in sources.values()]
    assert len(set(places)) == len(places), "two parameters would be read from one place"
    splits = [key for key, reshape in places if reshape]
    assert {splits.count(key) for key in splits} <= {3}, "a third of a joined matrix would be lost"
    assert not {key for key, reshape in places if not reshape} & set(splits)


@pytest.mark.parametrize("name", REAL)
def test_every_row_of_a_real_checkpoint_is_used_or_ignored_for_a_reason(name: str) -> None:
    shapes = real_shapes(name)
    identity = identify(of_shapes(shapes))
    used = {
        source.key: source for part in identity.parts for source in table(part, identity.configs[part.name]).values()
    }
    assert (identity.missing, identity.extra) == ((), ())
    assert used.keys() | identity.ignored.keys() == shapes.keys()
    assert not used.keys() & identity.ignored.keys()
    assert all(identity.ignored.values())
    assert {key: source.stored for key, source in used.items()} == {key: shapes[key] for key in used}


@pytest.mark.parametrize("name", REAL)
def test_a_real_checkpoint_has_its_familys_full_size_configs(name: str) -> None:
    identity = identify(of_shapes(real_shapes(name)))
    found = identity.family, identity.unet, identity.vae, identity.text, identity.unused_layers
    assert found == WHAT_REAL_FILES_HOLD[name]
    assert identity.layout == "ldm"


@pytest.mark.parametrize("name", REAL)
def test_a_moving_average_alone_is_as_good_as_plain_weights(name: str) -> None:
    shapes = real_shapes(name)
    rest = {key: shape for key, shape in shapes.items() if not key.startswith(("model.diffusion", "model_ema"))}
    only, both = of_shapes(rest | averaged(shapes)), of_shapes(shapes | averaged(shapes))
    for checkpoint, weights in ((only, "auto"), (only, "ema"), (both, "ema")):
        identity = identify(checkpoint, weights=weights)
        assert (identity.family, identity.unet) == WHAT_REAL_FILES_HOLD[name][:2]
        assert (identity.missing, identity.extra) == ((), ())
        assert identity.parts[0].flat
    assert not identify(both).parts[0].flat
    with pytest.raises(CheckpointError, match="no moving average"):
        identify(of_shapes({key: shape for key, shape in shapes.items() if "_ema" not in key}), weights="ema")


def test_the_moving_average_is_what_is_read() -> None:
    shapes = real_shapes("sd1")
    checkpoint = of_shapes(shapes | averaged(shapes), lambda shape: torch.zeros(1).expand(shape))
    asked: list[str] = []
    object.__setattr__(checkpoint, "fetch", lambda key, fetch=checkpoint.fetch: asked.append(key) or fetch(key))
    read_component(checkpoint, identify(checkpoint, weights="ema"), "unet")
    assert len(asked) == 686
    assert all(key.startswith("model_ema.diffusion_model") for key in asked)
