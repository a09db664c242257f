"""Merge: one model of two.

Look at the picture in the middle, by a model halfway between the two others. So that there are two, the second is
made here: the built-in one, with the word "frog" taught to mean "penguin". The file tells how it was merged.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.checkpoints.identify import read_component
from daguerre.checkpoints.merge import Merge, Opened, merge
from daguerre.checkpoints.writer import write_ldm
from daguerre.files.built_in import built_in
from daguerre.text.tokenizer import Tokenizer

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
out.mkdir(parents=True, exist_ok=True)
first = Opened.of(built_in())
text = read_component(first.checkpoint, first.identity, "text")
frog, penguin = (Tokenizer().encode(word)[0] for word in ("frog", "penguin"))
words = text["token.weight"].clone()
words[frog] = words[penguin]
write_ldm(out / "second.safetensors", {**first.components(), "text": {**text, "token.weight": words}}, first.identity)

components, recipe = merge(Merge(ratio=0.5), [first, Opened.of(out / "second.safetensors")])
write_ldm(out / "merged.safetensors", components, first.identity, recipe)

for path in (built_in(), out / "merged.safetensors", out / "second.safetensors"):
    model = daguerre.load_model(path)
    *_, picture = daguerre.text_to_image(model, replace(model.defaults, prompt="a frog, 3d render", seed=1))
    print(picture.save(out / f"merge-{path.stem}.png"))
