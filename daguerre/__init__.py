"""daguerre: the whole of Stable Diffusion as one small Python codebase."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .request import Edit, Hires, ImageToImage, Inpaint, Outpaint, RequestError, TextToImage

if TYPE_CHECKING:
    from .diffusion.denoiser import Step
    from .families.loading import load_model
    from .families.model import Model
    from .generate.drawing import Picture
    from .generate.edit import edit
    from .generate.image_to_image import image_to_image
    from .generate.inpaint import inpaint
    from .generate.outpaint import outpaint
    from .generate.text_to_image import text_to_image

__version__ = "0.1.0"
__all__ = [
    "Edit",
    "Hires",
    "ImageToImage",
    "Inpaint",
    "Model",
    "Outpaint",
    "Picture",
    "RequestError",
    "Step",
    "TextToImage",
    "edit",
    "image_to_image",
    "inpaint",
    "load_model",
    "outpaint",
    "text_to_image",
]

# Names whose modules import torch: fetched when first used, so that `import daguerre` costs nothing.
_LATER = {
    "Model": "families.model",
    "Picture": "generate.drawing",
    "Step": "diffusion.denoiser",
    "edit": "generate.edit",
    "image_to_image": "generate.image_to_image",
    "inpaint": "generate.inpaint",
    "load_model": "families.loading",
    "outpaint": "generate.outpaint",
    "text_to_image": "generate.text_to_image",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'daguerre' has no attribute {name!r}")
    return getattr(import_module(f"daguerre.{_LATER[name]}"), name)
