"""Embedding: a word of your own that prompts can use, from a file of one vector.

Look at the last picture: "frenguin" lies halfway between the two words before. Such files are what textual inversion
trains (recipes/inversion.toml).
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.adapters.textual_inversion import TextualInversion

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
out.mkdir(parents=True, exist_ok=True)
model = daguerre.load_model()
ids = [model.tokenizer.encode(word)[0] for word in ("frog", "penguin")]
middle = model.text[0].token.weight[ids].mean(dim=0, keepdim=True)  # (1, width)
TextualInversion("frenguin", {"text": middle}).save(out / "frenguin.safetensors")

file = daguerre.AdapterFile(kind="embedding", path=out / "frenguin.safetensors")
with daguerre.adapted(model, [file]) as (taught, _):
    for word in ("frog", "penguin", "frenguin"):
        *_, picture = daguerre.text_to_image(taught, replace(model.defaults, prompt=f"a {word}, 3d render", seed=1))
        print(picture.save(out / f"word-{word}.png"))
