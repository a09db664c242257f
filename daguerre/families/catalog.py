"""Every model family that daguerre knows, one row each."""

from ..text.embed import Encoding
from .family import Family, aesthetic_vector, pooled_vector, size_vector

VIT_L = Encoding()
OPEN_CLIP = Encoding(pad=0)
XL = (Encoding(skip=2, final_norm=False, fixed=True), Encoding(skip=2, final_norm=False, pad=0, fixed=True))
LARGE = {"width": 1024, "height": 1024}

_ROWS = (
    Family(name="sd1", title="Stable Diffusion 1.x", encodings=(VIT_L,)),
    Family(name="sd1-inpaint", title="Stable Diffusion 1.x, inpainting", encodings=(VIT_L,)),
    Family(name="sd1-edit", title="Stable Diffusion 1.x, editing by instruction", encodings=(VIT_L,)),
    Family(name="sd2", title="Stable Diffusion 2.x", encodings=(OPEN_CLIP,)),
    Family(name="sd2-inpaint", title="Stable Diffusion 2.x, inpainting", encodings=(OPEN_CLIP,)),
    Family(
        name="sdxl",
        title="Stable Diffusion XL",
        encodings=XL,
        vector=size_vector,
        zero_empty_negative=True,
        defaults=LARGE,
    ),
    Family(
        name="sdxl-refiner",
        title="Stable Diffusion XL refiner",
        encodings=XL[1:],
        vector=aesthetic_vector,
        zero_empty_negative=True,
        defaults=LARGE,
    ),
    Family(
        name="turbo",
        title="Stable Diffusion XL Turbo",
        encodings=XL,
        vector=size_vector,
        zero_empty_negative=True,
        # Distilled to draw in one step without guidance (arXiv:2311.17042).
        defaults={"steps": 1, "cfg_scale": 1.0, "schedule": "turbo"},
    ),
    Family(
        name="tintype",
        title="tintype, the built-in model",
        encodings=(VIT_L,),
        vector=pooled_vector,
        defaults={"width": 128, "height": 128, "sampler": "DPM++ 2M", "schedule": "karras", "cfg_scale": 4.0},
    ),
)
FAMILIES = {family.name: family for family in _ROWS}
