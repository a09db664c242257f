"""What LoRA files call a model's layers: derived from the tables that name its parameters in checkpoints."""

from collections.abc import Iterator, Mapping
from typing import Literal

from ..checkpoints.layout import THIRD, Part
from ..checkpoints.tables import table
from ..families.model import Model
from .change import changeable

Layout = Literal["native", "kohya", "diffusers", "peft"]
Role = str  # what a tensor is of a layer's change: down, up, mid, alpha, magnitude, or one of LYCORIS
LYCORIS = (  # kinds of change but LoRA: LyCORIS's names, which all programs use
    *(f"hada_{x}" for x in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f"lokr_{x}" for x in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
    *("diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "rescale", "on_input"),
)
FOLDERS = {"unet": "unet", "text": "text_encoder", "text2": "text_encoder_2"}  # by part, as diffusers calls them
PEFT = "base_model.model."
UNET_PREFIXES = ["lora_unet", "oft_unet", "lycoris"]  # kohya's; kohya's for OFT; LyCORIS's own
SUFFIXES: Mapping[Layout, Mapping[Role, str]] = {  # behind a layer's name, as we write them
    "native": {"down": ".down", "up": ".up", "alpha": ".alpha", "magnitude": ".magnitude"},
    "kohya": {"down": ".lora_down.weight", "up": ".lora_up.weight", "alpha": ".alpha", "magnitude": ".dora_scale"},
    "diffusers": {"down": ".lora_A.weight", "up": ".lora_B.weight", "magnitude": ".lora_magnitude_vector.weight"},
    "peft": {"down": ".lora_A.weight", "up": ".lora_B.weight", "magnitude": ".lora_magnitude_vector"},
}
MORE_SUFFIXES: Mapping[str, Role] = {  # that others write or wrote; the longest that fits counts
    ".lora_mid.weight": "mid",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_magnitude_vector.default.weight": "magnitude",
    ".dora_scale": "dora_scale",  # which LyCORIS gave each input, at first
    ".ia3_l": "ia3_l",
}
_SUFFIXES = {
    **{f".{role}": role for role in LYCORIS},
    **{suffix: role for suffixes in SUFFIXES.values() for role, suffix in suffixes.items()},
    **MORE_SUFFIXES,
}
_BY_LENGTH = sorted(_SUFFIXES, key=len, reverse=True)


def split_key(key: str) -> tuple[str, Role] | None:
    """A tensor's key as the layer's name and what it is of its change; None for other tensors."""
    suffix = next((suffix for suffix in _BY_LENGTH if key.endswith(suffix)), None)
    return None if suffix is None else (key.removesuffix(suffix), _SUFFIXES[suffix])


def suffix_of(layout: Layout, role: Role) -> str:
    """What is written behind a layer's name for this."""
    return SUFFIXES[layout].get(role) or {"dora_scale": ".dora_scale", "ia3": ".weight"}.get(role, f".{role}")


def written_names(model: Model, layout: Layout) -> dict[str, str]:
    """Native path -> the layer's name in a file that we write; in a peft folder, that of the part's own file."""
    if layout == "native":
        return {path: path for path in changeable(model)}
    names = {}
    for part, folder in folders_of(model).items():
        # transformers 5 dropped the first word of names, but not from the encoder with a projection
        text = "hf_bare" if layout == "peft" and folder == "text_encoder" else "hf"
        for path, (name, _) in _places(model, part, "diffusers" if part == "unet" else text).items():
            kohya = f"{_kohya_prefix(model, part)}_{name.replace('.', '_')}"
            names[path] = {"kohya": kohya, "diffusers": f"{folder}.{name}", "peft": PEFT + name}[layout]
    return names


def folders_of(model: Model) -> dict[str, str]:
    """By part, what diffusers calls it; the refiner has the second of SDXL's text encoders only."""
    second = bool(model.unet.config.vector) and len(model.text) == 1
    return {
        part: FOLDERS["text2" if second and part == "text" else part] for part in FOLDERS.keys() & model.parts.keys()
    }


def known_names(model: Model) -> dict[str, tuple[str, ...]]:
    """The layer's name in a file of any program -> native path; three paths where one matrix holds q, k and v."""
    known: dict[str, tuple[str, ...]] = {path: (path,) for path in changeable(model)}
    for part in folders_of(model):
        for layout in ("diffusers", "ldm") if part == "unet" else ("hf", "hf_bare", "openclip"):
            whole: dict[str, dict[int, str]] = {}
            for path, (name, third) in _places(model, part, layout).items():
                whole.setdefault(name, {})[third] = path
            for name, paths in whole.items():
                natives = tuple(paths[third] for third in sorted(paths))
                known |= dict.fromkeys(_spellings(model, part, layout, name), natives)
    return known


def _places(model: Model, part: str, layout: str) -> dict[str, tuple[str, int]]:
    """Native path -> the layer's name in a checkpoint, and which third of a matrix of three it is."""
    sources = table(Part(part, layout), model.parts[part].config)
    layers = (path for path in changeable(model) if path.partition(".")[0] == part)
    found = {path: sources[f"{path.partition('.')[2]}.weight"] for path in layers}
    return {
        path: (source.key.removesuffix("weight").rstrip("._"), THIRD.get(source.reshape, 0))
        for path, source in found.items()
    }


def _kohya_prefix(model: Model, part: str) -> str:
    number = "" if len(model.text) == 1 else "1" if part == "text" else "2"
    return "lora_unet" if part == "unet" else f"lora_te{number}"


def _spellings(model: Model, part: str, layout: str, name: str) -> Iterator[str]:
    """How files call the layer of this part that checkpoints of this layout call so."""
    lone = len(model.text) == 1 and part == "text"
    folders = ("text_encoder", "text_encoder_2") if lone else (FOLDERS[part],)
    prefixes = {"unet": UNET_PREFIXES, "text": ["lora_te", "lora_te1"], "text2": ["lora_te2"]}[part]
    yield from (f"{prefix}_{name.replace('.', '_')}" for prefix in prefixes)
    block, _, projection = name.removesuffix(".0").rpartition(".")
    for folder in folders:
        yield from (f"{folder}.{name}", f"{folder}.{PEFT}{name}")
        if projection.startswith("to_"):  # diffusers before 0.22: `_lora.down.weight` follows
            yield f"{folder}.{block}.processor.{projection}"
    if layout == "ldm":
        yield f"diffusion_model.{name}"
    if part != "unet":  # ComfyUI
        whole = {"text": "clip_l", "text2": "clip_g"}[part]
        yield from (f"{root}{whole}.transformer.{name}" for root in ("", "text_encoders."))
    if part != "text2":
        yield PEFT + name
