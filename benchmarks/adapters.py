"""How long it takes to put an adapter on and off, and what making models and LoRAs of two models needs.

    python benchmarks/adapters.py                            # two models of 0.7 GB
    python benchmarks/adapters.py --model sdxl --folder DISK # of 6.9 GB; three times as much is written there

Switching is measured plain, by hooks, and in a compiled network, by exchanged weights; compilations are counted. Each
command runs in a process of its own: seconds, its peak of own memory (`RssAnon`) beyond what Python and torch take, and
of resident memory, files mapped included. The models are random, the second one the first and a change of rank 16 with
noise beside it, in half precision.
"""

import argparse
import json
import statistics
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import measure

import daguerre

if TYPE_CHECKING:
    from torch import Tensor

REPEATS = 20
WATCHED = """
import sys, threading, time
from pathlib import Path
import torch
from daguerre.cli.main import app
import daguerre.adapters.formats, daguerre.adapters.lora_tools, daguerre.checkpoints.writer, daguerre.families.loading
def memory(name):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))
    return int(line.split()[1]) / 1024
most, done = {"RssAnon": 0.0, "VmRSS": 0.0}, False
def watch():
    while not done:
        most.update({name: max(most[name], memory(name)) for name in most})
        time.sleep(0.01)
before = memory("RssAnon")
threading.Thread(target=watch, daemon=True).start()
begun = time.perf_counter()
app(sys.argv[1:], result_action="return_value")
done = True
print(time.perf_counter() - begun, most["RssAnon"] - before, most["VmRSS"])
"""


def switching() -> dict[str, float]:
    """Milliseconds of CPU time to attach and detach, median, and compilations after the first."""
    import torch
    from torch._dynamo.testing import CompileCounter

    from daguerre.adapters.config import LoRAConfig
    from daguerre.adapters.lora import LoRA
    from daguerre.families.loading import load_model

    model = load_model(
        Path(daguerre.__file__).parent / "weights" / "tintype.safetensors", device="cpu", dtype="float32"
    )
    loras = [LoRA.new(model, LoRAConfig(rank=8, text=True, convolutions=True), seed) for seed in (0, 1)]
    for lora in loras:
        lora.requires_grad_(requires_grad=False)
    latents, t = torch.zeros(1, model.unet.config.channels_in, 16, 16), torch.tensor([500.0])
    tokens = torch.zeros(1, 77, model.unet.config.context)
    vector = torch.zeros(1, model.unet.config.vector) if model.unet.config.vector else None

    def switch() -> float:
        """Of this process alone, so that what else runs does not count."""
        seconds = []
        for i in range(REPEATS):
            with torch.no_grad():
                begun = time.process_time()
                with loras[i % 2].attach(model):
                    pass
                seconds.append(time.process_time() - begun)
        return 1000 * statistics.median(seconds)

    found, counter = {"layers": float(len(loras[0].factors)), "plain ms": switch()}, CompileCounter()
    model.unet.compile(backend=counter)
    with torch.no_grad():
        model.unet(latents, t, tokens, vector)
        first = counter.frame_count
        found["compiled ms"] = switch()
        for lora in loras:
            with lora.attach(model):
                model.unet(latents, t, tokens, vector)
    return {**found, "compilations": float(counter.frame_count - first)}


def write_pair(model: str, folder: Path) -> list[Path]:
    """Two whole models of this size in half precision."""
    import torch

    from daguerre.checkpoints.identify import Description
    from daguerre.checkpoints.tables import blank
    from daguerre.checkpoints.writer import write_ldm
    from daguerre.files.safetensors_writer import Deferred
    from daguerre.models import unet, vae
    from daguerre.models.clip import VIT_BIG_G, VIT_L

    narrow = unet.UNetConfig((128, 256, 512, 512), unet.SD1.depth, 768, heads=8, linear=False)
    described = {
        "small": Description(family="sd1", unet=narrow, vae=vae.SD, text=(VIT_L,)),
        "sd1": Description(family="sd1", unet=unet.SD1, vae=vae.SD, text=(VIT_L,)),
        "sdxl": Description(family="sdxl", unet=unet.SDXL, vae=vae.SDXL, text=(VIT_L, VIT_BIG_G)),
    }[model]
    shapes = {part: blank(config).state_dict() for part, config in described.configs.items()}
    files = [folder / "base.safetensors", folder / "tuned.safetensors"]
    for file in files:
        make = partial(weight, tuned=file == files[1])
        components = {
            part: {
                name: Deferred(tuple(v.shape), torch.float16, partial(make, f"{part}.{name}", v.shape))
                for name, v in state.items()
            }
            for part, state in shapes.items()
        }
        write_ldm(file, components, described)
    return files


def weight(name: str, shape: Sequence[int], *, tuned: bool) -> "Tensor":
    """Random numbers that depend on the name alone; with `tuned`, as if they had learned something since."""
    import torch

    random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    value = 0.02 * torch.randn(shape, generator=random)
    if tuned and len(shape) > 1:
        up, down = torch.randn(shape[0], 16, generator=random), torch.randn(16, value[0].numel(), generator=random)
        value += 2e-4 * (up @ down).reshape(shape) + 5e-5 * torch.randn(shape, generator=random)
    return value.half()


def working(command: Sequence[str | Path], made: Path) -> dict[str, float]:
    """Seconds and MB of a command of `daguerre` that makes this file."""
    answer = measure.call([sys.executable, "-c", WATCHED, *command])
    seconds, own, resident = map(float, answer.splitlines()[-1].split())
    return {"s": seconds, "own MB": own, "resident MB": resident, "made MB": made.stat().st_size / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("small", "sd1", "sdxl"), default="small", help="the size of both models")
    parser.add_argument("--folder", type=Path, help="where they are written")
    parser.add_argument("--rank", type=int, default=32, help="of the LoRA that is extracted")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    facts: dict[str, Mapping[str, float] | str] = {"switching": switching()}
    with TemporaryDirectory(prefix="daguerre-benchmark-", dir=options.folder) as folder:
        made, lora = Path(folder) / "made.safetensors", Path(folder) / "lora.safetensors"
        base, tuned = write_pair(options.model, Path(folder))
        facts["each model"] = {"MB": base.stat().st_size / 2**20}
        facts["checkpoint merge"] = working(("checkpoint", "merge", made, base, tuned, "--ratio", "0.3"), made)
        made.unlink()
        facts["lora extract"] = working(("lora", "extract", base, tuned, lora, "--rank", str(options.rank)), lora)
        facts["lora merge"] = working(("lora", "merge", made, lora, "--model", base), made)
    facts |= {"machine": measure.machine(), "versions": measure.versions("daguerre", "torch")}
    if options.json:
        print(json.dumps(facts))
        return
    for name, found in facts.items():
        if isinstance(found, Mapping):
            print(f"{name}: " + ", ".join(f"{key} {value:,.1f}" for key, value in found.items()))


if __name__ == "__main__":
    main()
