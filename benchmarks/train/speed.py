"""Fine-tuning speed and memory beside diffusers' training loop: the same weights, pictures, batch and optimizer.

    python benchmarks/train/speed.py          # 9 minutes on two busy cores
    python benchmarks/train/speed.py --toy    # the same at toy width, to try it out

A model of the shape of SD 1.5 at a fifth of its width, random weights, is fine-tuned whole and by a LoRA on generated
PNGs with captions. Ours is the path of `daguerre train`: a recipe, its caches, its loop. Theirs is written in the
manner of diffusers' examples for text to image: pictures decoded, encoded by the VAE and captions by the text encoder
in every step; "precomputed" is the same loop with latents and text features made before it begins, so that what
caching saves and what the loop saves are told apart.

Each is a process of its own. They stand still but for one, which takes a step or some and then gives way to the next,
so that whatever else the machine does meets all alike; a ratio is the median of the turns' ratios. CPU seconds, of all
threads, say the same on a busy machine as on an idle one. Steps before the first turn warm up. What is computed ahead
(our caches, the precomputed tensors) is done by then and told by itself; the second recipe finds it done. Peak memory
is the process's ru_maxrss, from its start.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import measure

KINDS = ("full", "lora")
SIDES = ("daguerre", "diffusers", "diffusers, precomputed")
SIZE, TOY_SIZE = 256, 64  # pixels
RATE, RANK, CLIP = 1e-5, 8, 1.0
BETAS, DECAY = (0.9, 0.999), 1e-2
Told = tuple[float, float]  # a step's loss, and the CPU seconds that went into computing ahead, before the first step
Turns = dict[str, list[dict[str, float]]]  # by side
COLORS, SHAPES = ("red", "green", "blue", "yellow", "purple", "black"), ("ellipse", "rectangle")


def prepare(folder: Path, pictures: int, *, toy: bool) -> None:
    """A random model as a diffusers folder, and PNGs with captions in text files."""
    import torch
    from PIL import Image, ImageDraw

    from daguerre.checkpoints.identify import Description
    from daguerre.checkpoints.writer import write_diffusers
    from daguerre.models.clip import CLIPText, CLIPTextConfig
    from daguerre.models.unet import UNet, UNetConfig
    from daguerre.models.vae import VAE, VAEConfig
    from daguerre.text.tokenizer import tokenizer_files

    torch.manual_seed(0)
    text = CLIPText(CLIPTextConfig(width=32, layers=2, heads=4) if toy else CLIPTextConfig(width=128, heads=4))
    vae = VAE(VAEConfig((8, 8, 16, 16), blocks=1, groups=8) if toy else VAEConfig((24, 48, 96, 96), groups=8))
    small = UNetConfig((32, 64), (1, 0), 32, heads=4, linear=False, blocks=1)
    unet = UNet(small if toy else UNetConfig((64, 128, 256, 256), (1, 1, 1, 0), 128, heads=2, linear=False))
    states = {"unet": unet.state_dict(), "vae": vae.state_dict(), "text": text.state_dict()}
    description = Description(family="sd1", unet=unet.config, vae=vae.config, text=(text.config,))
    write_diffusers(folder / "model", states, description, tokenizer_files())
    (folder / "pictures").mkdir()
    rng, size = random.Random(0), TOY_SIZE if toy else SIZE
    for i in range(pictures):
        color, ground, shape = rng.choice(COLORS), rng.choice(COLORS), rng.choice(SHAPES)
        # Grainy, as photographs are: a flat PNG would be decoded in no time.
        grain = Image.effect_noise((size, size), 40).convert("RGB")
        picture = Image.blend(Image.new("RGB", (size, size), ground), grain, 0.3)
        corner = rng.randrange(size // 4), rng.randrange(size // 4)
        getattr(ImageDraw.Draw(picture), shape)((*corner, corner[0] + size // 2, corner[1] + size // 2), fill=color)
        picture.save(folder / "pictures" / f"{i:04d}.png")
        caption = f"a {color} {shape} on {ground} ground, picture {i}"
        (folder / "pictures" / f"{i:04d}.txt").write_text(caption)


def ours(options: argparse.Namespace) -> Iterator[Told]:
    """The steps of a recipe."""
    from daguerre.adapters.config import LoRAConfig
    from daguerre.data.config import Captions, Data, Source
    from daguerre.train import runs
    from daguerre.train.config import Loop, Optimizer, Run

    never = 10**9
    run = Run(
        recipe=options.kind,
        run=options.folder / f"run-{options.kind}",
        base=str(options.folder / "model"),
        device="cpu",
        data=Data(
            sources=(Source(path=options.folder / "pictures"),),
            size=TOY_SIZE if options.toy else SIZE,
            captions=Captions(dropout=0.0),
            cache=options.folder / "cache",
        ),
        optimizer=Optimizer(learning_rate=RATE, betas=BETAS, weight_decay=DECAY),
        loop=Loop(
            steps=never, batch=options.batch, clip=CLIP, save_every=never, sample_every=never, validate_every=never
        ),
        lora=LoRAConfig(rank=RANK),
    )
    marks = []
    for record in runs.train(run):
        if record.get("doing") == "latents":
            marks.append(time.process_time())
        elif "loss" in record:
            yield record["loss"], marks[-1] - marks[0]


def theirs(options: argparse.Namespace) -> Iterator[Told]:
    """The steps of a loop in the manner of diffusers' `train_text_to_image.py` and `train_text_to_image_lora.py`."""
    import diffusers
    import torch
    from diffusers.optimization import get_scheduler
    from torch.nn import functional as F
    from torch.utils.data import DataLoader
    from transformers import CLIPTextModel, CLIPTokenizer

    from_folder: dict[str, Any] = {"pretrained_model_name_or_path": options.folder / "model", "local_files_only": True}
    tokenizer = CLIPTokenizer.from_pretrained(subfolder="tokenizer", **from_folder)
    text_encoder = CLIPTextModel.from_pretrained(subfolder="text_encoder", **from_folder).requires_grad_(False)
    vae = diffusers.AutoencoderKL.from_pretrained(subfolder="vae", **from_folder).requires_grad_(False)
    unet = diffusers.UNet2DConditionModel.from_pretrained(subfolder="unet", **from_folder)
    scheduler = diffusers.DDPMScheduler.from_pretrained(subfolder="scheduler", **from_folder)
    if options.kind == "lora":
        from peft import LoraConfig

        unet.requires_grad_(False)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
    unet.train()
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=BETAS, weight_decay=DECAY)
    rates = get_scheduler("constant", optimizer=optimizer)

    def latents_of(pixels: torch.Tensor) -> torch.Tensor:
        return vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor

    data: Any = Pictures(options.folder / "pictures", tokenizer)
    begun = time.process_time()
    if "precomputed" in options.side:
        kept = options.folder / "precomputed.pt"
        if not kept.exists():
            with torch.no_grad():
                made = [(latents_of(row["pixels"][None])[0], text_encoder(row["ids"][None])[0][0]) for row in data]
            torch.save([{"latents": latents, "text": text} for latents, text in made], kept)
        data = torch.load(kept)
    ahead = time.process_time() - begun
    while True:
        for rows in DataLoader(data, batch_size=options.batch, shuffle=True, drop_last=True):
            if "latents" in rows:
                latents, text = rows["latents"], rows["text"]
            else:
                latents, text = latents_of(rows["pixels"]), text_encoder(rows["ids"])[0]
            noise = torch.randn_like(latents)
            timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
            output = unet(scheduler.add_noise(latents, noise, timesteps), timesteps, text).sample
            loss = F.mse_loss(output.float(), noise.float(), reduction="mean")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, CLIP)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
            yield loss.item(), ahead


class Pictures:
    """The folder as a map-style dataset: pixels (3, H, W) in [-1, 1] and token ids (77,)."""

    def __init__(self, folder: Path, tokenizer: Any):
        self.paths, self.tokenizer = sorted(folder.glob("*.png")), tokenizer

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, Any]:
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(self.paths[i]) as picture:
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
        caption = self.paths[i].with_suffix(".txt").read_text()
        ids = self.tokenizer(caption, max_length=77, padding="max_length", truncation=True).input_ids
        return {"pixels": pixels, "ids": torch.tensor(ids)}


def work(options: argparse.Namespace) -> None:
    """The process of one side: for every number that it reads it takes so many steps and tells how long they took."""
    steps = ours(options) if options.side == "daguerre" else theirs(options)
    for line in sys.stdin:
        start, worked = time.perf_counter(), time.process_time()
        told = [next(steps) for _ in range(int(line))]
        seconds, cpu = time.perf_counter() - start, time.process_time() - worked
        unit = 1024 if sys.platform == "linux" else 1  # of ru_maxrss, in bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        loss = sum(loss for loss, _ in told) / len(told)
        figures = {"seconds": seconds, "cpu": cpu, "peak MiB": peak, "loss": loss, "ahead": told[-1][1]}
        print(json.dumps(figures), flush=True)


class Worker:
    """A process that takes steps when it is told to."""

    def __init__(self, options: argparse.Namespace, folder: Path, kind: str, side: str):
        command = [sys.executable, __file__, "--folder", str(folder), "--kind", kind, "--side", side]
        command += ["--batch", str(options.batch), *(["--toy"] if options.toy else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def steps(self, count: int) -> dict[str, float]:
        assert self.process.stdin
        assert self.process.stdout
        print(count, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended with {self.process.wait()}")
        return dict(json.loads(line))


def compare(options: argparse.Namespace, folder: Path, kind: str) -> Turns:
    """The three sides by turns: every turn's figures."""
    workers = {}
    try:
        for side in SIDES:
            workers[side] = Worker(options, folder, kind, side)
            workers[side].steps(options.warm)
        turns: Turns = {side: [] for side in SIDES}
        for turn in range(options.turns):
            for side in SIDES[turn % 3 :] + SIDES[: turn % 3]:
                turns[side].append(workers[side].steps(options.steps))
            told = ", ".join(f"{side} {turns[side][-1]['seconds']:.2f} s" for side in SIDES)
            print(f"{kind}, turn {turn + 1} of {options.turns}: {told}", file=sys.stderr, flush=True)
    finally:
        for worker in workers.values():
            worker.process.kill()
    return turns


def rows_of(options: argparse.Namespace, kind: str, facts: Turns) -> list[list[str]]:
    rows = []
    for side in SIDES:
        turns, ours = facts[side], facts[SIDES[0]]
        seconds, peak = median(turn["seconds"] for turn in turns), max(turn["peak MiB"] for turn in turns)
        ratios = [median(b[key] / a[key] for a, b in zip(ours, turns, strict=True)) for key in ("seconds", "cpu")]
        figures = [options.steps * options.batch / seconds, *ratios]
        rows.append([f"{kind}: {side}", *(f"{x:.2f}" for x in figures), f"{peak:,.0f}", f"{turns[0]['ahead']:.1f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="of a turn")
    parser.add_argument("--warm", type=int, default=2, help="steps before the first turn")
    parser.add_argument("--toy", action="store_true", help="toy width and 64 px, to try the benchmark itself")
    parser.add_argument("--json", action="store_true", help="print JSON, with every turn")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # these four: of the processes that it starts
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.folder, options.pictures, toy=options.toy)
        return
    if options.side:
        work(options)
        return
    with TemporaryDirectory(prefix="daguerre-benchmark-") as scratch:
        toy = ["--toy"] if options.toy else []
        here = [sys.executable, __file__, "--folder", scratch, "--pictures", str(options.pictures), *toy]
        measure.call([*here, "--prepare"])
        facts = {kind: compare(options, Path(scratch), kind) for kind in KINDS}
    head = ["", "samples/s", "seconds / ours", "CPU seconds / ours", "peak memory, MiB", "CPU seconds ahead"]
    rows = [row for kind in KINDS for row in rows_of(options, kind, facts[kind])]
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    settings = f"{options.pictures} pictures, batch {options.batch}, {options.turns} turns of {options.steps} steps"
    packages = measure.versions("daguerre", "torch", "diffusers", "transformers", "peft")
    paragraphs = [
        f"{settings}, threads: {threads}.",
        measure.table(head, rows),
        f"{measure.machine()}.",
        f"{packages}.",
    ]
    measure.report(facts, "\n\n".join(paragraphs), as_json=options.json)


if __name__ == "__main__":
    main()
