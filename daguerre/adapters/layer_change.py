"""From the tensors that a file holds of one layer to its change, of the kind that they show."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .change import Additive, Change
from .kinds import Full, LoHa, LoKr, Orthogonal, Scaled
from .layer_names import Role
from .lora import Factors

MAX_RANK = 1 << 14
Values = Mapping[Role, Tensor]  # finite, float32
Alpha = Callable[[int | None], float]  # by which the change is multiplied, after division by this rank, if any


class MisfitError(ValueError):
    """Tensors that make no change; `role` is the one to name."""

    def __init__(self, role: Role, reason: str):
        super().__init__(reason)
        self.role = role


def built(values: Values, alpha: Alpha) -> Change:
    """The change that these tensors are. Raises MisfitError."""
    kinds: dict[Role, Callable[[Values, Alpha], Change]] = {
        "down": _factors, "up": _factors, "mid": _factors, "hada": _loha, "lokr": _lokr, "diff": _full, "diff_b": _full,
        "w_norm": _norm, "b_norm": _norm, "oft_blocks": _orthogonal, "ia3": _scaled, "ia3_l": _scaled,
    }  # fmt: skip
    found = {
        role: make for role in values for name, make in kinds.items() if role == name or role.startswith(f"{name}_")
    }
    if not found:
        raise MisfitError(next(iter(values)), "what it belongs to is missing; get the whole file again")
    if len(set(found.values())) > 1:
        raise MisfitError(next(iter(found)), f"{' and '.join(sorted(found))} are of different kinds of adapters")
    role, make = next(iter(found.items()))
    try:
        change = make(values, alpha)
        if isinstance(change, Additive):
            _ = change.shape  # computed of shapes alone; fails where they do not fit together
    except (RuntimeError, ValueError, IndexError, KeyError) as fault:
        if isinstance(fault, MisfitError):
            raise
        if isinstance(fault, KeyError):
            raise MisfitError(role, f"{fault} of this layer is missing; get the whole file again") from None
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
        raise MisfitError(role, f"the shapes of this layer do not fit together: {shapes}") from None
    if isinstance(change, Additive) and (lengths := change.magnitude) is not None and lengths.ndim == 1:
        _check_magnitude(lengths, change.shape, "dora_scale")  # those of columns are compared with the layer's weight
    return change


def stored(change: Change) -> dict[Role, Tensor]:
    """The tensors that make this change again, as LyCORIS stores them. Of `Factors`, formats.py writes them."""
    values: dict[Role, Tensor]
    match change:
        case LoHa():
            values = {
                "hada_w1_a": change.w1a,
                "hada_w1_b": change.w1b,
                "hada_w2_a": change.w2a,
                "hada_w2_b": change.w2b,
            }
            values |= dict(zip(("hada_t1", "hada_t2"), change.cores, strict=False))
            values["alpha"] = torch.tensor(change.strength * change.rank)
        case LoKr():
            values = {}
            for name, parts in (("lokr_w1", change.first), ("lokr_w2", change.second)):
                values |= dict(zip((f"{name}_a", f"{name}_b") if len(parts) > 1 else (name,), parts, strict=True))
            ranks = [len(values[key]) for key in ("lokr_w1_b", "lokr_w2_b") if key in values]
            if ranks:
                values["alpha"] = torch.tensor(change.strength * ranks[0])
            else:
                values["lokr_w1"] = values["lokr_w1"] * change.strength
            if change.core is not None:
                values["lokr_t2"] = change.core
        case Full():
            names = ("w_norm", "b_norm") if change.weight.ndim == 1 else ("diff", "diff_b")
            pairs = zip(names, (change.weight, change.bias), strict=True)
            values = {name: value for name, value in pairs if value is not None}
        case Orthogonal():
            values = {"oft_blocks": change.blocks, "alpha": torch.tensor(change.constraint)}
            values |= {} if change.rescale is None else {"rescale": change.rescale}
        case Scaled(scales_bias=True):
            values = {"ia3_l": change.gain + 1}
        case Scaled():
            values = {"ia3": change.gain.flatten(), "on_input": torch.tensor(float(change.gain.shape[0] == 1))}
        case _:
            raise TypeError(f"{type(change).__name__} is stored by its own layout")
    if isinstance(change, Additive) and change.magnitude is not None:
        rows, ones = change.magnitude.ndim == 1, [1] * (len(change.shape) - 2)
        values["dora_scale"] = change.magnitude.reshape([-1, 1, *ones] if rows else [1, -1, *ones])
    return values


def _factors(values: Values, alpha: Alpha) -> Factors:
    """LoRA and LoCon; LyCORIS's convolution of three factors is made one of two."""
    if len(half := values.keys() & {"down", "up"}) < 2:
        raise MisfitError(
            next(iter(half), "mid"), "the other half of the layer's change is missing; get the whole file again"
        )
    down, up = values["down"], values["up"]
    if (mid := values.get("mid")) is not None:
        if mid.ndim != 4 or down.ndim != 4 or mid.shape[:2] != (len(down), len(down)):
            raise MisfitError("mid", f"its shape {list(mid.shape)} does not fit {list(down.shape)}")
        down = torch.einsum("rsij,scxy->rcij", mid, down)
    sound = down.ndim in (2, 4) and up.ndim in (2, 4) and up.shape[2:] in ((), (1, 1))
    if not sound or up.shape[1] != len(down) or not 0 < len(down) <= MAX_RANK or not up.numel() * down.numel():
        raise MisfitError("down", f"shapes {list(down.shape)} (down) and {list(up.shape)} (up) are of no common rank")
    magnitude = _magnitude(values, (len(up), *down.shape[1:]))
    up = up.reshape(len(up), -1, *[1] * (down.ndim - 2))
    return Factors(down.clone(), up.clone(), alpha(len(down)), magnitude)


def _loha(values: Values, alpha: Alpha) -> LoHa:
    parts = [values[f"hada_{x}"].clone() for x in ("w1_a", "w1_b", "w2_a", "w2_b")]
    cores = (values["hada_t1"].clone(), values["hada_t2"].clone()) if "hada_t1" in values else None
    rank = len(parts[1])
    magnitude = _magnitude(values, None)
    return LoHa((parts[0], parts[1]), (parts[2], parts[3]), cores, alpha(rank), magnitude)


def _lokr(values: Values, alpha: Alpha) -> LoKr:
    def pair(name: str) -> tuple[Tensor, ...]:
        names = [name] if name in values else [f"{name}_a", f"{name}_b"]
        return tuple(values[part].clone() for part in names)

    rank = next((len(values[key]) for key in ("lokr_w1_b", "lokr_w2_b") if key in values), None)
    core = values["lokr_t2"].clone() if "lokr_t2" in values else None
    magnitude = _magnitude(values, None)
    return LoKr(pair("lokr_w1"), pair("lokr_w2"), core, alpha(rank) / (rank or 1), magnitude)


def _full(values: Values, alpha: Alpha) -> Full:
    return Full(values["diff"].clone(), values["diff_b"].clone() if "diff_b" in values else None)


def _norm(values: Values, alpha: Alpha) -> Full:
    return Full(values["w_norm"].clone(), values["b_norm"].clone() if "b_norm" in values else None)


def _orthogonal(values: Values, alpha: Alpha) -> Orthogonal:
    blocks = values["oft_blocks"]
    if blocks.ndim == 4:
        reason = "this is a BOFT, which is not supported; merge it into a model with the tool that made it"
        raise MisfitError("oft_blocks", reason)
    constraint = values["alpha"].item() if "alpha" in values else 0.0
    return Orthogonal(blocks.clone(), constraint, values["rescale"].clone() if "rescale" in values else None)


def _scaled(values: Values, alpha: Alpha) -> Scaled:
    """LyCORIS stores what is added to 1, and on which side; peft stores the factor, and its shape tells the side."""
    if "ia3_l" in values:
        factor = values["ia3_l"].flatten(2).squeeze(-1) if values["ia3_l"].ndim > 2 else values["ia3_l"]
        return Scaled(factor - 1, bias=True)
    gain = values["ia3"].flatten()
    return Scaled((gain[None] if values["on_input"].item() else gain[:, None]).clone())


def _magnitude(values: Values, shape: tuple[int, ...] | None) -> Tensor | None:
    """(out,), or (1, in) for lengths of columns, as older files of LyCORIS have them."""
    role = "magnitude" if "magnitude" in values else "dora_scale"
    if (value := values.get(role)) is None:
        return None
    columns = role == "dora_scale" and value.ndim > 1 and value.numel() > 1 and value.numel() == value.shape[1]
    magnitude = (value.reshape(1, -1) if columns else value.flatten()).clone()
    if shape is not None:
        _check_magnitude(magnitude, shape, role)
    return magnitude


def _check_magnitude(magnitude: Tensor, shape: tuple[int, ...], role: Role) -> None:
    rows = magnitude.ndim == 1
    if len(shape) < 2 or magnitude.numel() != shape[0 if rows else 1]:
        what = f"{shape[0]} outputs" if rows else f"{shape[1]} inputs"
        raise MisfitError(role, f"its {magnitude.numel()} numbers do not give each of {what} a length")
