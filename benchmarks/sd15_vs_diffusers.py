"""Stable Diffusion 1.5 at full size, random weights: the latents of diffusers, and the time and memory of both.

    python benchmarks/sd15_vs_diffusers.py            # full size, about 15 minutes on two cores, 5 GB of temporary disk
    python benchmarks/sd15_vs_diffusers.py --toy      # the same at toy width, to try it out

Both sides load the same diffusers folder, which our writer makes of our networks, so the shipped key tables are part
of the comparison. Every run is a process of its own, ours and theirs by turns; the median of the runs is reported.
Time: from the prompt to the decoded picture, after a one-step picture that touches every weight; loading not included.
Memory: the most resident memory of the process (ru_maxrss), loading included, memory-mapped pages of the file as well;
`own` is what of it no file holds (RssAnon, Linux), at the end.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np

LIMIT = 1e-3  # largest difference of the latents
PROMPT, OTHER, NEGATIVE = "a red apple on a table, highly detailed", "a blue car in the rain", "blurry, dark"
SIDES = ("daguerre", "diffusers")
SAMPLERS = ("DDIM", "Euler")
SPACING: dict[str, dict[str, Any]] = {  # what our two samplers mean by "automatic"
    "DDIM": {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False},
    "Euler": {"timestep_spacing": "linspace"},
}
BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}


def prepare(folder: Path, *, toy: bool) -> None:
    """Random networks of the shapes of SD 1.5 as a diffusers folder."""
    import torch

    from daguerre.checkpoints.identify import Description
    from daguerre.checkpoints.writer import write_diffusers
    from daguerre.models.clip import VIT_L, CLIPText, CLIPTextConfig
    from daguerre.models.unet import SD1, UNet, UNetConfig
    from daguerre.models.vae import SD, VAE, VAEConfig
    from daguerre.text.tokenizer import tokenizer_files

    torch.manual_seed(0)
    small = UNetConfig((32, 64), (1, 0), 32, heads=4, linear=False, blocks=1)
    text = CLIPText(CLIPTextConfig(width=32, layers=2, heads=4) if toy else VIT_L)
    vae, unet = VAE(VAEConfig((32, 32, 32, 32), blocks=1) if toy else SD), UNet(small if toy else SD1)
    with torch.no_grad():
        unet.conv_out.weight.mul_(2)  # as it is initialized it would predict noise of a third of unit deviation
    states = {"unet": unet.state_dict(), "vae": vae.state_dict(), "text": text.state_dict()}
    description = Description(family="sd1", unet=unet.config, vae=vae.config, text=(text.config,))
    write_diffusers(folder, states, description, tokenizer_files())


def ours(folder: Path, sampler: str) -> Callable[[str, int, int], np.ndarray]:
    """Loads the model; the result draws a picture of (prompt, steps, size) and gives its last latents."""
    from daguerre import TextToImage, text_to_image
    from daguerre.diffusion.denoiser import Step
    from daguerre.families.loading import load_model

    model = load_model(folder, device="cpu", dtype="float32")

    def draw(prompt: str, steps: int, size: int) -> np.ndarray:
        request = TextToImage(
            prompt=prompt, negative_prompt=NEGATIVE, steps=steps, sampler=sampler, cfg_scale=7.0, seed=5,
            width=size, height=size,
        )  # fmt: skip
        events = list(text_to_image(model, request))
        last = [event for event in events if isinstance(event, Step)][-1]
        return last.x.numpy()

    return draw


def theirs(folder: Path, sampler: str) -> Callable[[str, int, int], np.ndarray]:
    import diffusers
    import torch

    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
    name = {"DDIM": "DDIMScheduler", "Euler": "EulerDiscreteScheduler"}[sampler]
    pipe.scheduler = getattr(diffusers, name)(**BETAS, **SPACING[sampler])
    pipe.set_progress_bar_config(disable=True)

    def draw(prompt: str, steps: int, size: int) -> np.ndarray:
        seen: dict[str, torch.Tensor] = {}

        def keep(_: Any, step: int, t: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            seen.update(tensors)
            return tensors

        pipe(
            prompt, negative_prompt=NEGATIVE, num_inference_steps=steps, guidance_scale=7.0, width=size, height=size,
            generator=torch.Generator("cpu").manual_seed(5), callback_on_step_end=keep, output_type="np",
        )  # fmt: skip
        return seen["latents"].numpy()

    return draw


def work(options: argparse.Namespace, side: str, sampler: str, prompt: str) -> dict[str, float]:
    """One measured run, in the process that is made for it; leaves the latents beside the folder."""
    begun = time.perf_counter()
    draw = {"daguerre": ours, "diffusers": theirs}[side](options.folder, sampler)
    loaded = time.perf_counter()
    draw(prompt, 1, options.size)
    warm = time.perf_counter()
    latents = draw(prompt, options.steps, options.size)
    done = time.perf_counter()
    np.save(latents_path(options.folder, side, sampler, prompt), latents)
    unit = 1024 if sys.platform == "linux" else 1  # of ru_maxrss, in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return {"load s": loaded - begun, "picture s": done - warm, "peak MiB": peak, "own MiB": own_memory()}


def own_memory() -> float:
    """Resident memory that no file holds, in MiB; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    rows = status.read_text().splitlines() if status.exists() else []
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith("RssAnon")), float("nan"))


def latents_path(folder: Path, side: str, sampler: str, prompt: str) -> Path:
    return folder.with_name(f"{side} {sampler} {prompt}.npy")


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs by turns, and how far the latents of the two sides are apart.

    This process never holds a model: the ru_maxrss of a process begins at what its parent held.
    """
    here: list[str | Path] = [
        sys.executable,
        __file__,
        "--folder",
        folder,
        "--size",
        str(options.size),
        "--steps",
        str(options.steps),
    ]
    measure.call([*here, "--prepare", *(["--toy"] if options.toy else [])])

    def run(name: str, prompt: str = PROMPT) -> dict[str, float]:
        return dict(json.loads(measure.call([*here, "--work", *name.split(), prompt])))

    names = [f"{side} {sampler}" for sampler in SAMPLERS for side in SIDES]
    runs = measure.take_turns(names, options.repeats, run)
    run("daguerre DDIM", OTHER)

    def distance(one: tuple[str, str, str], other: tuple[str, str, str]) -> float:
        return float(np.abs(np.load(latents_path(folder, *one)) - np.load(latents_path(folder, *other))).max())

    return {
        "what": "toy width" if options.toy else "SD 1.5",
        "size": options.size,
        "steps": options.steps,
        "repeats": options.repeats,
        "runs": runs,
        "medians": {name: measure.medians(figures) for name, figures in runs.items()},
        "latents apart": {s: distance((SIDES[0], s, PROMPT), (SIDES[1], s, PROMPT)) for s in SAMPLERS},
        "another prompt": distance(("daguerre", "DDIM", PROMPT), ("daguerre", "DDIM", OTHER)),
        "machine": measure.machine(),
        "versions": measure.versions("daguerre", "torch", "diffusers", "transformers"),
    }


def markdown(facts: dict[str, Any]) -> str:
    head = ["", "seconds per picture", "peak memory, MiB", "own memory, MiB", "seconds to import and load"]
    keys = ["picture s", "peak MiB", "own MiB", "load s"]
    rows = [
        [name, *(f"{figures[key]:,.{0 if 'MiB' in key else 2}f}" for key in keys)]
        for name, figures in facts["medians"].items()
    ]
    apart = ", ".join(f"{sampler} {distance:.1e}" for sampler, distance in facts["latents apart"].items())
    agreement = f"{apart}, where another prompt moves them by {facts['another prompt']:.1f}"
    settings = f"{facts['what']}, random weights, float32, {facts['size']} px, {facts['steps']} steps, batch of one"
    turns = f"medians of {facts['repeats']} processes each, by turns"
    paragraphs = [
        f"{settings}; {turns}.",
        measure.table(head, rows),
        f"Largest difference of the latents: {agreement}.",
        f"{facts['machine']}.",
        f"{facts['versions']}.",
    ]
    return "\n\n".join(paragraphs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="toy width, to try the benchmark itself")
    parser.add_argument("--json", action="store_true", help="print JSON, with every run")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # these three: of the processes that it starts
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.folder, toy=options.toy)
        return
    if options.work:
        print(json.dumps(work(options, *options.work)))
        return
    with TemporaryDirectory(prefix="daguerre-benchmark-") as scratch:
        facts = compare(options, Path(scratch) / "model")
    measure.report(facts, markdown(facts), as_json=options.json)
    worst = max(facts["latents apart"].values())
    if not worst <= LIMIT:
        raise SystemExit(f"the latents are {worst:.1e} apart; the limit is {LIMIT:.0e}")


if __name__ == "__main__":
    main()
