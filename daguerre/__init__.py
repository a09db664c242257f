"""daguerre: the whole of Stable Diffusion as one small Python codebase."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .request import RequestError, TextToImage

if TYPE_CHECKING:
    from .diffusion.denoiser import Step
    from .families.loading import load_model
    from .families.model import Model
    from .generate.drawing import Picture
    from .generate.text_to_image import text_to_image

__version__ = "0.1.0"
__all__ = ["Model", "Picture", "RequestError", "Step", "TextToImage", "load_model", "text_to_image"]

# Names whose modules import torch: fetched when first used, so that `import daguerre` costs nothing.
_LATER = {
    "Model": "families.model",
    "Picture": "generate.drawing",
    "Step": "diffusion.denoiser",
    "load_model": "families.loading",
    "text_to_image": "generate.text_to_image",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'daguerre' has no attribute {name!r}")
    return getattr(import_module(f"daguerre.{_LATER[name]}"), name)
