"""How long it takes to put an adapter on and off, and what a merge of two models needs.

    python benchmarks/adapters.py                # switching at toy width, and a merge of two models of 400 MB
    python benchmarks/adapters.py --megabytes 7000 --folder DISK

Switching is measured plain, by hooks, and in a compiled network, by exchanged weights; compilations are counted. The
merge runs in a process of its own: its peak of own memory (`RssAnon`) and of resident memory, files mapped included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import measure

import daguerre

REPEATS = 20
MERGE = """
import sys, threading, time
from pathlib import Path
from daguerre.checkpoints.merge import Merge, Opened, merge
from daguerre.checkpoints.writer import write_ldm
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
models = [Opened.of(path) for path in sys.argv[2:]]
components, noted = merge(Merge(ratio=0.3), models)
write_ldm(Path(sys.argv[1]), components, models[0].identity, noted)
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


def merging(megabytes: int, folder: Path) -> dict[str, float]:
    """Seconds and MB that a weighted sum of two models of about this size takes."""
    import torch

    from daguerre.checkpoints.identify import Description
    from daguerre.checkpoints.layout import Part
    from daguerre.checkpoints.tables import table
    from daguerre.checkpoints.writer import write_ldm
    from daguerre.files.safetensors_writer import Deferred
    from daguerre.models.unet import UNetConfig

    width = max(32, round((megabytes / 3440) ** 0.5 * 10) * 32)  # SD 1.5's U-Net, 320 wide, has 3,440 MB in float32
    config = UNetConfig((width, 2 * width, 4 * width, 4 * width), (1, 1, 1, 0), 768, heads=8, linear=False)
    shapes = {name: source.shape for name, source in table(Part("unet", "ldm"), config).items()}
    files = [folder / f"{name}.safetensors" for name in "abc"]
    for file in files[:2]:
        state = {name: Deferred(s, torch.float32, lambda s=s: torch.randn(s)) for name, s in shapes.items()}
        write_ldm(file, {"unet": state}, Description(family="sd1", unet=config))
    answer = subprocess.run(
        [sys.executable, "-c", MERGE, files[2], *files[:2]], capture_output=True, text=True, check=True
    )
    seconds, own, resident = map(float, answer.stdout.split())
    largest = 4 * max(torch.Size(shape).numel() for shape in shapes.values()) / 2**20
    size = files[0].stat().st_size / 2**20
    return {"file MB": size, "largest tensor MB": largest, "s": seconds, "own MB": own, "resident MB": resident}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400, help="of each of the two models that are merged")
    parser.add_argument("--folder", type=Path, help="where they are written; three times their size is needed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="daguerre-benchmark-", dir=options.folder) as folder:
        facts = {
            "switching": switching(),
            "merging": merging(options.megabytes, Path(folder)),
            "machine": measure.machine(),
            "versions": measure.versions("daguerre", "torch"),
        }
    if options.json:
        print(json.dumps(facts))
        return
    for name in ("switching", "merging"):
        print(f"{name}: " + ", ".join(f"{key} {value:,.1f}" for key, value in facts[name].items()))


if __name__ == "__main__":
    main()
