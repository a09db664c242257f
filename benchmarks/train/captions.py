"""Does a U-Net listen? The error of v with the right caption, with none and with a wrong one, by noise level.

    python benchmarks/train/captions.py --pictures illustrations.parquet MODEL.safetensors ...

At high noise the layout of a picture is decided: a U-Net that hears its caption has a much smaller error with the
right one there, and a larger one with a wrong one than with none. The pictures are those that the list beside the
built-in model says were taught, every sixth.
"""

import argparse
from pathlib import Path

import torch

from daguerre.cli.models import BUILT_IN, resolve
from daguerre.data.pictures import load_parquet
from daguerre.diffusion.denoiser import Cond
from daguerre.evaluate.suite import read_taught
from daguerre.families.loading import load_model
from daguerre.families.model import Model
from daguerre.train.illustrations import tokenize

SIGMAS, EVERY, BATCH = (8.0, 3.0, 1.0), 6, 32


@torch.no_grad()
def error(model: Model, x0: torch.Tensor, captions: list[str], sigma: float) -> float:
    """The mean squared error of v, with the same noise every time."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    states, denoise, total = model.text[0](tokenize(captions)), model.denoiser(), 0.0
    for i in range(0, len(x0), BATCH):
        part, level = slice(i, i + BATCH), torch.full((len(x0[i : i + BATCH]),), sigma)
        found = denoise(x0[part] + sigma * noise[part], level, Cond(states.last[part], states.pooled[part]))
        total += (found - x0[part]).square().mean(dim=(1, 2, 3)).sum().item() * (sigma**2 + 1) / sigma**2
    return total / len(x0)


def main() -> None:
    """Prints a line for each model and noise level."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("models", nargs="+", type=Path)
    options = parser.parse_args()
    taught = read_taught(Path(resolve(BUILT_IN)).with_suffix(".taught.tsv"))
    pictures = load_parquet(options.pictures, "train", 128, ("label", "style_words", "caption"))
    wanted = [i for i, row in enumerate(pictures.rows) if (row["label"], row["style_words"]) in taught][::EVERY]
    captions = [str(pictures.rows[i]["caption"]) for i in wanted]
    wrong = captions[len(captions) // 3 :] + captions[: len(captions) // 3]
    print("model, sigma: right, none, wrong caption")
    for path in options.models:
        model = load_model(path, device="cpu", dtype="float32")
        with torch.no_grad():
            x0 = torch.cat([model.vae.encode(pictures.batch(p)) for p in torch.split(torch.tensor(wanted), BATCH)])
        for sigma in SIGMAS:
            errors = [error(model, x0, said, sigma) for said in (captions, [""] * len(captions), wrong)]
            print(f"{path.stem}, {sigma:g}:", ", ".join(f"{value:.3f}" for value in errors), flush=True)


if __name__ == "__main__":
    main()
