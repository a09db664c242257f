"""LoRA: a file that makes a model draw penguins where frogs are asked for, and how to weigh it.

Look at the pictures from weight 0 to 1: the prompt stays the same but for its tag. The LoRA is not trained but solved
for (arXiv:2308.14761): in each layer that reads the prompt, what gives for "a frog" the values of "a penguin".
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

import daguerre
from daguerre.adapters.change import layers_of
from daguerre.adapters.formats import save_lora
from daguerre.adapters.lora import Factors, LoRA
from daguerre.adapters.lora_tools import resize
from daguerre.adapters.named import networks_of

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
texts = ("a frog, 3d render", "a penguin, 3d render")
frog, penguin = (model.encode(replace(model.defaults, prompt=text))[0] for text in texts)
changes = {}
for path, layer in layers_of(model).items():
    if path.endswith((".cross_attn.k", ".cross_attn.v", ".vector_mlp.0")):
        asked, meant = ((c.vector if "vector" in path else c.tokens[0]).float() for c in (frog, penguin))  # (T, D)
        changes[path] = Factors(torch.linalg.pinv(asked.T, rtol=0.05), layer.weight.float() @ (meant - asked).T)
out.mkdir(parents=True, exist_ok=True)
save_lora(out / "penguin.safetensors", resize(LoRA(changes), rank=16), model, "kohya")

for weight in (0, 0.5, 1):
    request = replace(model.defaults, prompt=f"a frog, 3d render <lora:penguin:{weight}>", seed=1)
    with daguerre.adapted(model, networks_of(request, loras=out, hypernetworks=out)) as (changed, _):
        *_, picture = daguerre.text_to_image(changed, request)
    print(picture.save(out / f"lora-{weight}.png"))
