"""Guidance: how closely to follow the prompt, and by what.

Look at the surface: without guidance (CFG scale 1) it is pale and vague, at 12 dark patches burn in, and adaptive
projection (apg) takes them out. Perturbed attention (pag) guides without any text. docs/guidance.md lists all guides.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.request import AdaptiveProjection, PerturbedAttention

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
plain = replace(model.defaults, prompt="a strawberry, 3d render", seed=2)
requests = {
    "cfg-1": replace(plain, cfg_scale=1),
    "cfg-4": plain,
    "cfg-12": replace(plain, cfg_scale=12),
    "cfg-12-apg": replace(plain, cfg_scale=12, guides=(AdaptiveProjection(threshold=10),)),
    "cfg-1-pag": replace(plain, cfg_scale=1, guides=(PerturbedAttention(scale=2),)),
}
for name, request in requests.items():
    *_, picture = daguerre.text_to_image(model, request)
    print(picture.save(out / f"guidance-{name}.png"))
