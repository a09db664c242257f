"""What steers a drawing from outside of its prompt: other networks, pictures, regions."""

from .networks import NetworkControl, load_control
from .picture_prompt import PicturePrompt, load_vision
from .regions import Region, Regions, half
from .steering import Span
from .style import Style

__all__ = [
    "NetworkControl",
    "PicturePrompt",
    "Region",
    "Regions",
    "Span",
    "Style",
    "half",
    "load_control",
    "load_vision",
]
