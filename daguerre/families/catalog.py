"""Every model family that daguerre knows, one row each."""

from dataclasses import replace

from ..text.embed import Encoding
from .family import Family, aesthetic_vector, pooled_vector, size_vector

SD1 = Family(name="sd1", title="Stable Diffusion 1.x", encodings=(Encoding(),))
SD2 = Family(name="sd2", title="Stable Diffusion 2.x", encodings=(Encoding(pad=0),))
SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    encodings=(Encoding(skip=2, final_norm=False, fixed=True), Encoding(skip=2, final_norm=False, pad=0, fixed=True)),
    vector=size_vector,
    zero_empty_negative=True,
    defaults={"width": 1024, "height": 1024},
)
# Distilled to draw in one step without guidance (arXiv:2311.17042).
TURBO = {"steps": 1, "cfg_scale": 1.0, "schedule": "turbo"}
TINTYPE = {"width": 128, "height": 128, "sampler": "DPM++ 2M", "schedule": "karras", "cfg_scale": 4.0}

_ROWS = (
    SD1,
    replace(SD1, name="sd1-inpaint", title="Stable Diffusion 1.x, inpainting"),
    replace(SD1, name="sd1-edit", title="Stable Diffusion 1.x, editing by instruction"),
    SD2,
    replace(SD2, name="sd2-inpaint", title="Stable Diffusion 2.x, inpainting"),
    SDXL,
    replace(
        SDXL,
        name="sdxl-refiner",
        title="Stable Diffusion XL refiner",
        encodings=SDXL.encodings[1:],
        vector=aesthetic_vector,
    ),
    replace(SDXL, name="turbo", title="Stable Diffusion XL Turbo", defaults=TURBO),
    replace(SD1, name="tintype", title="tintype, the built-in model", vector=pooled_vector, defaults=TINTYPE),
)
FAMILIES = {family.name: family for family in _ROWS}
