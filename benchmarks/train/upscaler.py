"""How good are the upscaler and the preview decoder, on held-out pictures?

    python benchmarks/train/upscaler.py --pictures TABLE.parquet --sheet sheet.png

The table has the columns image and split, and drawings of 512 pixels; only rows of other splits than "train" are used.
PSNR, SSIM and the share of sharp edges are means over pictures, with half of a 95 % interval, after

- **reduced**: a picture of 512 pixels reduced to 128 (or 256, for twice) by the mean of squares;
- **redrawn**: what the built-in model's autoencoder makes of that at 128 pixels, so that its softness is in it.

Edges: the mean height of the picture's gradient where the original has its steepest tenth; 1 is as sharp as it.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import measure
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from daguerre.cli.models import BUILT_IN, resolve
from daguerre.data.pictures import load_parquet
from daguerre.families.loading import load_model
from daguerre.families.model import Model
from daguerre.generate.drawing import to_image
from daguerre.generate.preview import linear, preview
from daguerre.generate.upscale import Upscaler, load_upscaler, upscale
from daguerre.train.contact_sheet import contact_sheet, to_tensor

SIDE = 512  # pixels
KINDS = {"reduced, 2x": 2, "reduced, 4x": 4, "redrawn, 4x": 4}


def psnr(made: Tensor, real: Tensor) -> float:
    """Decibels, of pictures in [-1, 1]."""
    return (10 * torch.log10(4 / (made - real).square().mean().clamp_min(1e-10))).item()


def ssim(made: Tensor, real: Tensor) -> float:
    """Structural similarity (Wang 2004) of the gray pictures, in windows of 8 x 8 pixels, a stride of 4 apart."""
    a, b = (F.unfold(p.mean(dim=1, keepdim=True).add(1).div(2), 8, stride=4)[0] for p in (made, real))
    both = ((a - a.mean(0)) * (b - b.mean(0))).mean(0)
    light = (2 * a.mean(0) * b.mean(0) + 1e-4) / (a.mean(0) ** 2 + b.mean(0) ** 2 + 1e-4)
    return (light * (2 * both + 9e-4) / (a.var(0, correction=0) + b.var(0, correction=0) + 9e-4)).mean().item()


def edges(made: Tensor, real: Tensor) -> float:
    """How steep the made picture is where the real one is steepest, as a share of the real one's steepness."""
    steep = [p.diff(dim=-1)[..., :-1, :].abs() + p.diff(dim=-2)[..., :-1].abs() for p in (made, real)]
    most = steep[1] >= steep[1].flatten().kthvalue(int(0.9 * steep[1].numel())).values.clamp_min(0.05)
    return (steep[0][most].mean() / steep[1][most].mean()).item()


def told(values: list[float]) -> str:
    found = torch.tensor(values)
    return f"{found.mean():7.3f} ± {1.96 * found.std() / len(values) ** 0.5:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--upscaler", type=Path)
    parser.add_argument("--sheet", type=Path, help="also write a sheet of pictures: before, bicubic, ours, original")
    given = parser.parse_args()
    pictures = load_parquet(given.pictures, given.split, SIDE)
    chosen = torch.arange(0, len(pictures), max(1, len(pictures) // given.count))[: given.count]
    model, upscaler = load_model(resolve(BUILT_IN), dtype="float32", device="cpu"), load_upscaler(given.upscaler)
    print(f"{measure.machine()}, {measure.versions('torch')}")
    print(f"{len(chosen)} pictures of split {given.split!r}\n{'':24}PSNR, dB        SSIM            edges")
    rows = measure_upscaler(model, upscaler, pictures.batch(chosen))
    measure_previews(model, pictures.batch(chosen))
    if given.sheet:
        contact_sheet(torch.cat(rows), given.sheet, columns=5)


@torch.no_grad()
def measure_upscaler(model: Model, upscaler: Upscaler, real: Tensor) -> list[Tensor]:
    """Prints the scores; returns, for each picture, bicubic and ours of reduced and redrawn, and the original."""
    ways: dict[str, Callable[[Image.Image, int], Image.Image]] = {
        "bicubic": lambda p, s: p.resize((p.width * s, p.height * s), Image.Resampling.BICUBIC),
        "lanczos": lambda p, s: p.resize((p.width * s, p.height * s), Image.Resampling.LANCZOS),
        "upscaler": lambda p, s: upscale(p, s, upscaler.network),
    }
    scores: dict[tuple[str, str], list[tuple[float, ...]]] = {(kind, way): [] for kind in KINDS for way in ways}
    rows, seconds = list[Tensor](), list[float]()
    for picture in torch.split(real, 1):
        small = F.avg_pool2d(picture, 4)
        soft = model.vae.decode(model.vae.encode(small))
        for (kind, scale), low in zip(KINDS.items(), (F.avg_pool2d(picture, 2), small, soft), strict=True):
            for way, enlarge in ways.items():
                image, begun = to_image(low), time.perf_counter()
                made = to_tensor(enlarge(image, scale))
                seconds += [time.perf_counter() - begun] if (way, scale) == ("upscaler", 4) else []
                scores[kind, way].append(tuple(score(made, picture) for score in (psnr, ssim, edges)))
                rows += [made] if scale == 4 and way != "lanczos" else []
        rows.append(picture)
    for (kind, way), found in scores.items():
        print(f"{kind:12} {way:10}", *(told(list(column)) for column in zip(*found, strict=True)))
    print(f"128 -> 512 pixels: {sorted(seconds)[len(seconds) // 2]:.3f} s on {torch.get_num_threads()} threads")
    return rows


@torch.no_grad()
def measure_previews(model: Model, real: Tensor) -> None:
    """The preview decoder and the linear map, against what the autoencoder decodes."""
    vae = model.vae
    found: dict[str, list[float]] = {"preview decoder": [], "linear map": []}
    seconds = []
    for picture in torch.split(real, 1):
        latents = vae.encode(F.avg_pool2d(picture, 4))
        decoded = vae.decode(latents).clamp(-1, 1)
        begun = time.perf_counter()
        made = preview(model, latents)
        seconds.append(time.perf_counter() - begun)
        rough = to_tensor(to_image(linear(latents, vae.config.scale)).resize(made.size, Image.Resampling.BICUBIC))
        found["preview decoder"].append(psnr(to_tensor(made), decoded))
        found["linear map"].append(psnr(rough, decoded))
    for name, values in found.items():
        print(f"{name:24}{told(values)} dB against the decoded picture")
    print(f"preview: {1000 * sorted(seconds)[len(seconds) // 2]:.1f} ms")


if __name__ == "__main__":
    main()
