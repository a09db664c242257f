"""Interrogate: a prompt for a picture, by the built-in model's own eyes, and which of some prompts the model believes.

Look at the phrases: the eyes are small and know emoji and clip art. The model itself is asked otherwise: the prompt
under which it finds the noise in the picture best comes first (arXiv:2303.16203). `daguerre interrogate` also takes a
CLIP, a BLIP or a tagger.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.files.built_in import built_in
from daguerre.generate.clip import load_towers
from daguerre.generate.interrogate import interrogate, ranker
from daguerre.generate.likelihood import judge

PROMPTS = ["a strawberry, 3d render", "a sunflower, 3d render", "a penguin, 3d render", "a red heart, 3d render"]
out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
*_, picture = daguerre.text_to_image(model, replace(model.defaults, prompt=PROMPTS[1], seed=1))
print(picture.save(out / "interrogated.png"))

clip, phrases = load_towers(built_in(), built_in("vision"))
found = interrogate(ranker(clip, phrases), picture.image)
print(found.prompt)
for kind, ranked in found.ranked.items():
    print(f"{kind}: {', '.join(f'{one.phrase} ({one.share:.0%})' for one in ranked[:3])}")
for judged in judge(model, picture.image, PROMPTS):
    print(f"{judged.error:.4f}  {judged.prompt}")
