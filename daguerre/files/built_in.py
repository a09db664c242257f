"""The networks that come with daguerre."""

from importlib.resources import files
from pathlib import Path

BUILT_IN = "tintype"  # the model


def built_in(name: str = BUILT_IN) -> Path:
    """The file of one of them: "tintype", "upscaler", "preview" or "vision"."""
    return Path(str(files("daguerre") / "weights" / f"{name}.safetensors"))
