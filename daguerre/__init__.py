"""daguerre: the whole of Stable Diffusion as one small Python codebase."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .request import Edit, Hires, ImageToImage, Inpaint, Outpaint, RequestError, TextToImage, TiledUpscale

if TYPE_CHECKING:
    from .adapters.adapted import AdapterFile, adapted
    from .diffusion.denoiser import Step
    from .families.loading import load_model
    from .families.model import Model
    from .generate.drawing import Picture
    from .generate.edit import edit
    from .generate.heat_maps import HeatMaps
    from .generate.image_to_image import image_to_image
    from .generate.inpaint import inpaint
    from .generate.outpaint import outpaint
    from .generate.refiner import Refiner
    from .generate.text_to_image import text_to_image
    from .generate.tiled_upscale import tiled_upscale
    from .generate.upscale import load_upscaler, upscaled

__version__ = "0.1.0"
__all__ = [
    "AdapterFile",
    "Edit",
    "HeatMaps",
    "Hires",
    "ImageToImage",
    "Inpaint",
    "Model",
    "Outpaint",
    "Picture",
    "Refiner",
    "RequestError",
    "Step",
    "TextToImage",
    "TiledUpscale",
    "adapted",
    "edit",
    "image_to_image",
    "inpaint",
    "load_model",
    "load_upscaler",
    "outpaint",
    "text_to_image",
    "tiled_upscale",
    "upscaled",
]

# Names whose modules import torch: fetched when first used, so that `import daguerre` costs nothing.
_LATER = {
    "AdapterFile": "adapters.adapted",
    "HeatMaps": "generate.heat_maps",
    "Model": "families.model",
    "Picture": "generate.drawing",
    "Refiner": "generate.refiner",
    "Step": "diffusion.denoiser",
    "adapted": "adapters.adapted",
    "edit": "generate.edit",
    "image_to_image": "generate.image_to_image",
    "inpaint": "generate.inpaint",
    "load_model": "families.loading",
    "load_upscaler": "generate.upscale",
    "outpaint": "generate.outpaint",
    "text_to_image": "generate.text_to_image",
    "tiled_upscale": "generate.tiled_upscale",
    "upscaled": "generate.upscale",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'daguerre' has no attribute {name!r}")
    return getattr(import_module(f"daguerre.{_LATER[name]}"), name)
