"""Wildcards and styles: a prompt with choices in it, and words that are added to every prompt.

`__fruit__` is a line of fruit.txt, {a|b} one of its choices, and "mine" a style, such as a row of A1111's styles.csv.
Look at the prompts that are printed: the seed decides, so that the same seed always says the same prompt.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.text.styles import Style
from daguerre.text.template import resolved
from daguerre.text.wildcards import Wildcards

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
words = out / "words"
words.mkdir(parents=True, exist_ok=True)
(words / "fruit.txt").write_text("strawberry\nlemon\npineapple\n")
(words / "animal.txt").write_text("frog\npenguin\nlion\n")

asked = replace(model.defaults, prompt="a {__fruit__|__animal__}", seed=1, count=4)
for request in resolved(asked, {"mine": Style("{prompt}, 3d render")}, ["mine"], Wildcards(words)):
    *_, picture = daguerre.text_to_image(model, request)
    print(request.prompt)
    print(picture.save(out / f"wildcards-{request.seed}.png"))
