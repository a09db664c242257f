"""Fields that say of themselves what they may hold."""

from dataclasses import field, fields
from typing import Any


class RequestError(ValueError):
    """A request that cannot be carried out; the message names the field, what is wrong and what to do."""


def number(default: float, low: float, high: float) -> Any:
    """A field that holds a number from low to high."""
    return field(default=default, metadata={"limits": (low, high)})


def choice(*choices: str) -> Any:
    """A field that holds one of some texts, the first by default."""
    return field(default=choices[0], metadata={"choices": choices})


def check_fields(of: Any, told: str) -> None:
    """Refuses a field's value outside of its limits, choices and type; `told` stands before the field's name."""
    for f in fields(of):
        value, name = getattr(of, f.name), told + f.name
        if "limits" in f.metadata:
            low, high = f.metadata["limits"]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise RequestError(f"{name} is {value!r}; it must be a number from {low:.10g} to {high:.10g}")
            if isinstance(f.default, int) and value != int(value):
                raise RequestError(f"{name} is {value!r}; it must be a whole number")
        elif not isinstance(value, type(f.default)):
            raise RequestError(f"{name} is {value!r}; it must be {'true or false' if f.default is False else 'text'}")
        if value not in f.metadata.get("choices", [value]):
            raise RequestError(f"{name} is {value!r}; choose one of {', '.join(f.metadata['choices'])}")
