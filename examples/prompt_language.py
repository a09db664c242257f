"""Prompt language: words that weigh more, prompts that change while they are drawn, and two prompts at once.

Look at how `[a:b:0.1]` begins as the first and ends as the second, `[a|b]` changes at each call of the
network, and AND looks for a picture of both. All have one seed.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre

PROMPTS = {
    "plain": "a red apple, 3d render",
    "weighted": "a (green:1.5) apple, 3d render",
    "scheduled": "[a red apple:a green apple:0.1], 3d render",
    "changed": "[a red apple:a sunflower:0.3], 3d render",
    "alternating": "[a red apple|a sunflower], 3d render",
    "joined": "a red apple, 3d render AND a sunflower, 3d render :0.6",
}
out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()

for name, prompt in PROMPTS.items():
    *_, picture = daguerre.text_to_image(model, replace(model.defaults, prompt=prompt, seed=1))
    print(picture.save(out / f"language-{name}.png"))
