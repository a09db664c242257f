"""Kinds of flags, and the panels that a command's help shows them in."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

Switch = Annotated[bool, Parameter(negative="", show_default=False)]
Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
Texts = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]  # of a flag that can be repeated
Paths = Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)]

# In the order of the help, behind the flags that a command alone has.
OWN, GIVEN, MASK, DRAWING, HIRES, REFINER, STEERING, NAMES, ADAPTERS, MODEL, OUTPUT = (
    Group(title, sort_key=i)
    for i, title in enumerate(
        (
            "Parameters",
            "The given picture",
            "Mask",
            "Drawing",
            "Second pass",
            "Refiner",
            "Steering",
            "What the prompt names",
            "Adapters",
            "Model",
            "Output",
        )
    )
)
