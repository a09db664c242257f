"""Which objective teaches a small U-Net fastest: the same pictures, steps and network, one choice changed at a time.

    python benchmarks/train/objectives.py runs/tintype illustrations.parquet --steps 2000 --out runs/objectives

A U-Net of a quarter of tintype's weights learns 120 things in two styles from scratch, on the latents and captions of
a run whose autoencoder and text encoder are trained. Judged by 240 pictures it draws at fixed seeds: the share whose
nearest real picture of that style, by EfficientNet-Lite0, is of the thing that was asked for, the share among the
nearest five, and the mean distance to the very picture. Finished choices are not trained again.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lite0 import network
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daguerre.generate.drawing import Picture
from daguerre.generate.text_to_image import text_to_image
from daguerre.models.unet import UNet
from daguerre.train import checkpoint, loop, tintype
from daguerre.train.config import Loop, Objective, Optimizer
from daguerre.train.contact_sheet import contact_sheet, to_tensor
from daguerre.train.denoising import DenoisingRecipe
from daguerre.train.illustrations import Illustrations, Lessons, Source, latents
from daguerre.train.objective import DenoisingObjective

CHOICES: dict[str, Objective] = {
    "v, plain": Objective(),
    "v, min-SNR 5": Objective(weighting="min_snr"),
    "v, plain, 8 draws of noise": Objective(immiscible=8),
    "v, logit-normal": Objective(timesteps="logit_normal", mean=0.5),
    "flow, plain": Objective(prediction="flow"),
    "epsilon, plain": Objective(prediction="epsilon"),
}
THINGS, STYLES, SEED = 120, ("3d render", "flat modern"), 0


def main() -> None:
    """Trains and judges every choice, one line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", nargs="*", help="of the choices")
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    options = parser.parse_args()
    plan = tintype.Plan(pictures=options.pictures, run=options.run, seed=SEED)
    table = [row for row in tintype._pictures(plan, "train").rows if Lessons(styles=STYLES, words=1).taught(row)]
    both = sorted({row["label"] for row in table if row["style_words"] == STYLES[0]} & {r["label"] for r in table})
    things = set(both[:: max(1, len(both) // THINGS)][:THINGS])
    for name, objective in CHOICES.items():
        if not options.only or name in options.only:
            print(json.dumps({"choice": name, **trial(plan, things, name, objective, options)}), flush=True)


def trial(
    plan: tintype.Plan, things: set[str], name: str, objective: Objective, options: argparse.Namespace
) -> dict[str, Any]:
    """Trains one choice and returns its figures."""
    torch.manual_seed(SEED)
    vae, text = tintype.trained_vae(plan), tintype.trained_text(plan)
    unet = UNet(replace(plan.architecture.unet, channels=(64, 96, 96)))
    tintype._silence_outputs(unet)
    model = replace(tintype.assemble(unet, vae, text), prediction=objective.prediction or "v")
    pictures = tintype._pictures(plan, "train")
    kept = [i for i, row in enumerate(pictures.rows) if row["label"] in things]
    some = replace(pictures, pixels=pictures.pixels[kept], rows=[pictures.rows[i] for i in kept])
    lessons = Lessons(styles=STYLES, words=1, scenes=0, mirrored=False)
    source = Source(plan.pictures, "", SEED, plan.architecture.size)
    data = latents(vae, some, lessons, source, options.out / "latents.safetensors")
    batches = Illustrations(data=data, text=text, batch=16, seed=SEED, dropout=0.1, lessons=lessons)
    recipe = DenoisingRecipe(
        trained=unet, denoise=model.denoiser(), batches=batches, batch=16, seed=SEED, draw=lambda path: None,
        objective=DenoisingObjective(objective, model.prediction, model.levels),
    )  # fmt: skip
    loop_ = Loop(steps=options.steps, batch=16, ema=0.998, save_every=500, sample_every=10**9)
    stage = loop.Stage(loop=loop_, optimizer=Optimizer(learning_rate=8e-4, warmup=100, decay=options.steps // 3))
    folder, begun = options.out / name.replace(",", "").replace(" ", "-"), time.process_time()
    for _ in loop.train(recipe, stage, folder):
        pass
    spent = time.process_time() - begun
    found = checkpoint.newest(folder)
    assert found is not None, "the loop saves when it ends"
    unet.load_state_dict(found[1]["averaged"])
    asked = [row for row in data.rows if row["style_words"] in STYLES]
    drawn = torch.cat([draw(model, row, seed) for seed, row in enumerate(asked)])
    contact_sheet(drawn[:96], folder / "drawn.png", 12)
    return {**judged(drawn, some, asked), "pictures": len(asked), "processor seconds": round(spent)}


def draw(model: Any, row: Any, seed: int) -> Tensor:
    """A picture (1, 3, H, W) for the caption of a row."""
    request = replace(model.defaults, prompt=row["caption"], seed=seed, sampler="Euler a", cfg_scale=3.0)
    return next(to_tensor(p.image) for p in text_to_image(model, request) if isinstance(p, Picture))


def judged(drawn: Tensor, pictures: Any, asked: list[Any]) -> dict[str, float]:
    """Shares and the distance, by Lite0's last features, against the real pictures of the same style."""
    lite = network()
    real, made = (F.normalize(lite(x).top, dim=1) for x in (pictures.batch(torch.arange(len(pictures))), drawn))
    first = five = 0
    distance = 0.0
    for feature, row in zip(made, asked, strict=True):
        same = [i for i, other in enumerate(pictures.rows) if other["style_words"] == row["style_words"]]
        alike = real[same] @ feature
        order = [pictures.rows[same[int(i)]]["label"] for i in alike.argsort(descending=True)]
        first += order[0] == row["label"]
        five += row["label"] in order[:5]
        distance += 1 - alike[[pictures.rows[i]["label"] for i in same].index(row["label"])].item()
    n = len(asked)
    return {"first": round(first / n, 3), "five": round(five / n, 3), "distance": round(distance / n, 4)}


if __name__ == "__main__":
    main()
