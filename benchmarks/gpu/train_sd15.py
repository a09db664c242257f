"""Training speed on a GPU: pictures per second, FLOPs and the share of the card's peak (MFU), without a network.

    python benchmarks/gpu/train_sd15.py                          # SD 1.5 at full size, 512 px, bfloat16, compiled
    python benchmarks/gpu/train_sd15.py --pictures FOLDER        # the same on real pictures, through the caches
    python benchmarks/gpu/train_sd15.py --model tintype          # the built-in model's U-Net from scratch
    python benchmarks/gpu/train_sd15.py --model toy --eager      # to try it out, on the CPU too

Weights are random, and so are latents and text features unless `--pictures` names a folder. The steps are those of
`daguerre train`: its loop, objective, fused AdamW in float32, clipping and, with `--ema`, averaged weights. Time is the
wall clock's from step to step, so drawing noise and copying batches count. FLOPs are those of the U-Net's matrix
products and convolutions, forward, counted by PyTorch on the meta device, and twice as many backward; what is computed
again for checkpointing does not count.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import measure

from daguerre.data.cache import Cache
from daguerre.data.config import Captions, Data, Source
from daguerre.data.manifest import gather
from daguerre.diffusion.denoiser import Cond
from daguerre.families.catalog import FAMILIES
from daguerre.families.model import Model, Prediction
from daguerre.models.clip import VIT_L, CLIPText, CLIPTextConfig
from daguerre.models.unet import SD1, UNet, UNetConfig
from daguerre.models.vae import SD, VAE, VAEConfig
from daguerre.runtime.device import pick_device
from daguerre.train import loop
from daguerre.train.batch import Batch, Batches
from daguerre.train.batches import PictureBatches, Sight
from daguerre.train.config import Loop, Objective, Optimizer
from daguerre.train.denoising import DenoisingRecipe
from daguerre.train.objective import DenoisingObjective
from daguerre.train.randomness import normal
from daguerre.train.tintype import TINTYPE

# Dense bfloat16 TFLOP/s by the makers' data sheets; the first that the card's name contains.
PEAKS = {
    "B200": 2250, "GH200": 989, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "L40S": 362,
    "L4": 121, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
TOKENS, DISTINCT = 77, 64  # text tokens; different pictures among the synthetic ones


@dataclass(frozen=True, kw_only=True)
class Shape:
    family: str
    prediction: Prediction
    unet: UNetConfig
    vae: VAEConfig
    text: CLIPTextConfig
    size: int  # pixels
    batch: int


SHAPES = {
    "sd15": Shape(family="sd1", prediction="epsilon", unet=SD1, vae=SD, text=VIT_L, size=512, batch=32),
    "tintype": Shape(
        family="tintype", prediction="v", unet=TINTYPE.unet, vae=TINTYPE.vae, text=TINTYPE.text, size=128, batch=256
    ),
    "toy": Shape(
        family="sd1",
        prediction="epsilon",
        unet=UNetConfig((32, 64), (1, 0), 32, heads=4, linear=False, blocks=1),
        vae=VAEConfig((8, 8, 16, 16), blocks=1, groups=8),
        text=CLIPTextConfig(width=32, layers=2, heads=4),
        size=64,
        batch=2,
    ),
}


def random_model(shape: Shape, device: torch.device) -> Model:
    """Random networks, in float32 and on the device."""
    torch.manual_seed(0)
    with device:
        unet, vae, text = UNet(shape.unet), VAE(shape.vae), CLIPText(shape.text)
    for network in (vae, text):
        network.requires_grad_(False).eval()
    networks: dict[str, Any] = {"unet": unet, "vae": vae, "text": (text,)}
    return Model(
        family=FAMILIES[shape.family], prediction=shape.prediction, name=shape.family, device=device, **networks
    )


class Synthetic:
    """Batches of random latents and text features, kept in memory as cached ones are."""

    def __init__(self, shape: Shape, device: torch.device):
        side = shape.size // shape.vae.factor
        self.x0 = normal(0, "latents", 0, range(DISTINCT), (shape.unet.channels_out, side, side))
        self.tokens = normal(0, "tokens", 0, range(DISTINCT), (TOKENS, shape.unet.context))
        self.vectors = normal(0, "vectors", 0, range(DISTINCT), (shape.unet.vector,)) if shape.unet.vector else None
        self.device = device

    def __call__(self, step: int, part: range) -> Batch:
        index = [(step + i) % DISTINCT for i in part]
        x0 = self.x0[index].to(self.device)
        weight = torch.ones(len(index), device=self.device)
        return Batch(x0=x0, cond=self._cond(index), weight=weight, captions=[""] * len(index))

    def empty(self, count: int) -> Cond:
        return self._cond([0] * count)

    def _cond(self, index: list[int]) -> Cond:
        vectors = None if self.vectors is None else self.vectors[index].to(self.device)
        return Cond(self.tokens[index].to(self.device), vectors)


def from_folder(model: Model, shape: Shape, folder: Path, scratch: Path) -> tuple[Batches, float]:
    """Batches of a folder's pictures and captions, and the seconds that it took to fill their caches."""
    begun = time.perf_counter()
    data = Data(sources=(Source(path=folder),), size=shape.size, captions=Captions(dropout=0.0))
    entries = gather(data).entries
    batches = PictureBatches(model, entries, Sight(data=data, batch=shape.batch, seed=0), Cache(scratch, "random"))
    for _ in batches.prepare():
        pass
    return batches, time.perf_counter() - begun


def flops(shape: Shape) -> int:
    """FLOPs of one picture's training step: one pass forward, counted, and as much as two backward."""
    side, c = shape.size // shape.vae.factor, shape.unet
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        x, t = torch.empty(1, c.channels_in, side, side), torch.empty(1)
        UNet(c)(x, t, torch.empty(1, TOKENS, c.context), torch.empty(1, c.vector) if c.vector else None)
    return 3 * counter.get_total_flops()


class Measured(Exception):  # noqa: N818, it is no error
    """Leaves the loop without the checkpoint that closing it would save."""


def step_seconds(recipe: DenoisingRecipe, stage: loop.Stage, run: Path, warm: int) -> Iterator[tuple[float, float]]:
    """The seconds and the loss of each step after the first `warm` ones."""
    steps = loop.train(recipe, stage, run)
    before = time.perf_counter()
    for record in steps:
        now = time.perf_counter()
        if record["step"] > warm:
            yield now - before, record["loss"]
        if record["step"] == stage.loop.steps - 1:
            break
        before = time.perf_counter()
    with suppress(Measured):
        steps.throw(Measured())  # type: ignore[attr-defined]


def recipe_of(model: Model, batches: Batches, batch: int) -> DenoisingRecipe:
    return DenoisingRecipe(
        trained=model.unet,
        denoise=model.denoiser(),
        batches=batches,
        objective=DenoisingObjective(Objective(), model.prediction, model.levels),
        batch=batch,
        seed=0,
        draw=lambda path: None,
    )


def trained(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Trains as the options say; returns the figures."""
    device, shape = pick_device(options.device), SHAPES[options.model]
    shape = replace(shape, batch=options.batch or shape.batch, size=options.size or shape.size)
    model, filling = random_model(shape, device), 0.0
    batches: Batches = Synthetic(shape, device)
    if options.pictures:
        batches, filling = from_folder(model, shape, options.pictures, scratch / "cache")
    if options.channels_last:
        model.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not options.eager:
        model.unet.compile()
    settings = Loop(
        steps=options.warm + options.steps + 1,  # the last one, after which the loop saves, is not taken
        batch=shape.batch,
        accumulate=options.accumulate,
        ema=options.ema,
        precision=options.precision,
        save_every=10**9,
        sample_every=10**9,
        validate_every=10**9,
    )
    stage = loop.Stage(loop=settings, optimizer=Optimizer())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    told = list(step_seconds(recipe_of(model, batches, shape.batch), stage, scratch / "run", options.warm))
    seconds = median(s for s, _ in told)
    rate, each = shape.batch / seconds, flops(shape)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = options.peak or (next((tf for card, tf in PEAKS.items() if card in name), None) if name != "CPU" else None)
    return {
        "model": options.model,
        "device": name,
        "batch": shape.batch,
        "size": shape.size,
        "precision": options.precision,
        "compiled": not options.eager,
        "parameters": sum(p.numel() for p in model.unet.parameters()),
        "seconds per step": seconds,
        "images/s": rate,
        "GFLOP per image": each / 1e9,
        "TFLOP/s": each * rate / 1e12,
        "peak TFLOP/s": peak,
        "MFU": each * rate / 1e12 / peak if peak else None,
        "peak memory, MiB": peak_memory(device),
        "seconds to fill the caches": filling,
        "last loss": told[-1][1],
    }


def peak_memory(device: torch.device) -> float:
    """The most memory that tensors took on the GPU, or that the process took without one, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1024 if sys.platform == "linux" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def told_as_markdown(facts: dict[str, Any]) -> str:
    rows = [[key, f"{value:,.4g}" if isinstance(value, float) else str(value)] for key, value in facts.items()]
    return "\n\n".join(
        [measure.table(["", ""], rows), f"{measure.machine()}.", f"{measure.versions('daguerre', 'torch')}."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="sd15")
    parser.add_argument("--batch", type=int, help="pictures of a step")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches of a step")
    parser.add_argument("--size", type=int, help="pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm", type=int, default=5, help="steps before those that are measured")
    parser.add_argument("--precision", choices=loop.DTYPES, default="bfloat16")
    parser.add_argument("--ema", type=float, default=0.0, help="decay of averaged weights")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="weights in the layout of NHWC")
    parser.add_argument("--pictures", type=Path, help="folder of pictures with captions in text files")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the card, for one that is not known")
    parser.add_argument("--device", help="cuda, mps, cpu; the best there is")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="daguerre-benchmark-") as scratch:
        facts = trained(options, Path(scratch))
    measure.report(facts, told_as_markdown(facts), as_json=options.json)


if __name__ == "__main__":
    main()
