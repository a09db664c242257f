"""Trains tintype's U-Net on a GPU in one call, from one folder of less than 64 MB, into files of at most 16 MB.

    python benchmarks/gpu/train_tintype.py pack runs/tintype datasets/illustrations runs/kit
    python benchmarks/gpu/train_tintype.py train runs/kit OUT --minutes 9
    python benchmarks/gpu/train_tintype.py join OUT runs/kit daguerre/weights/tintype.safetensors

`pack` takes a run whose autoencoder and text encoder are trained, which a CPU does in an hour, and of the table those
pictures and columns that the U-Net learns from. `train` needs nothing else and no network: it composes the scenes in
all processors, times some steps, and plans so many that the rate has fallen to zero when the minutes are over. Called
again with the same folders it goes on where a stopped call was; `--steps` sets the number instead. `join` puts the
parts together, as a model file.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pyarrow.compute
import pyarrow.parquet
from safetensors.torch import load, save

from daguerre.train import checkpoint, tintype
from daguerre.train.config import Loop, Optimizer
from daguerre.train.illustrations import Lessons
from daguerre.train.tintype import Pace, Plan

TEXT_RATE = 2e-4  # of the text encoder, which learns along: held still, the U-Net stops to listen
PART = 15_000_000  # bytes of one file of the result
COLUMNS = (
    "image",
    "caption",
    "label",
    "tags",
    "style",
    "style_words",
    "group",
    "subgroup",
    "concept",
    "coverage",
    "mono",
)
WIDE = Lessons(words=4)  # twice as many things as there is time for on a CPU
TIMED = 60  # steps that tell how many fit


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("pack", help="make the folder that travels")
    one.add_argument("run", type=Path)
    one.add_argument("pictures", type=Path, help="the folder of `daguerre data build illustrations`")
    one.add_argument("kit", type=Path)
    one.set_defaults(do=lambda o: pack(o.run, o.pictures, o.kit))
    two = commands.add_parser("train", help="train the U-Net from that folder alone")
    two.add_argument("kit", type=Path)
    two.add_argument("out", type=Path)
    two.add_argument("--minutes", type=float, default=9.0, help="of the whole call")
    two.add_argument("--steps", type=int, help="instead of as many as fit")
    two.add_argument("--batch", type=int, default=256)
    two.add_argument("--scenes", type=int, default=60_000)
    two.add_argument("--rate", type=float, default=1e-3)
    two.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    two.add_argument("--eager", action="store_true", help="without torch.compile")
    two.set_defaults(do=train)
    three = commands.add_parser("join", help="make a model file of the parts")
    three.add_argument("out", type=Path)
    three.add_argument("kit", type=Path)
    three.add_argument("model", type=Path)
    three.set_defaults(do=lambda o: join(o.out, o.kit, o.model))
    options = parser.parse_args()
    options.do(options)


def pack(run: Path, pictures: Path, kit: Path) -> None:
    """Writes the kit: the table's taught rows, the names in other languages, two trained networks in half precision."""
    kit.mkdir(parents=True, exist_ok=True)
    table = pyarrow.parquet.read_table(pictures / "illustrations.parquet")
    columns = [name for name in COLUMNS if name in table.column_names]
    table = table.filter(pyarrow.compute.equal(table["split"], "train"))
    table = table.filter([WIDE.taught(row) for row in table.select(["label", "style_words", "subgroup"]).to_pylist()])
    pyarrow.parquet.write_table(table.select([*columns, "split"]), kit / "pictures.parquet", row_group_size=256)
    shutil.copy(pictures / "names.parquet", kit / "names.parquet")
    for stage, needed in (("autoencoder", ""), ("clip", "text.")):
        found = checkpoint.newest(run / stage)
        if found is None:
            sys.exit(f"{run / stage} holds no checkpoint; train that stage first")
        averaged = found[1]["averaged"].items()
        halves = {name: value.half() for name, value in averaged if name.startswith(needed)}
        checkpoint.save(kit / stage, found[0]["step"], {"averaged": halves}, {})
    size = sum(file.stat().st_size for file in kit.rglob("*") if file.is_file())
    print(f"{kit}: {len(table):,} pictures, {size / 1e6:.1f} MB")


def planned(options: argparse.Namespace, run: Path, steps: int) -> Plan:
    """The run of the kit's networks and pictures."""
    loop = Loop(
        steps=steps, batch=options.batch, ema=0.9995, precision=options.precision, compile=not options.eager,
        save_every=1000, sample_every=2000, log_every=50,
    )  # fmt: skip
    lessons = replace(WIDE, scenes=options.scenes, workers=os.cpu_count() or 1)
    rate = Optimizer(learning_rate=options.rate, warmup=min(500, steps // 10), decay=steps // 3)
    kit = options.kit
    return Plan(
        text_rate=TEXT_RATE,
        pictures=kit / "pictures.parquet", run=run, names=kit / "names.parquet", lessons=lessons,
        unet=Pace(loop=loop, optimizer=rate),
    )  # fmt: skip


def train(options: argparse.Namespace) -> None:
    """Trains until the steps or the minutes are over and writes what has become of the averaged weights."""
    stop = time.time() + options.minutes * 60
    options.out.mkdir(parents=True, exist_ok=True)
    run = options.kit
    noted = run / "steps.txt"
    steps = options.steps or (int(noted.read_text()) if noted.is_file() else fitting(options, stop))
    noted.write_text(str(steps))
    begun = time.time()
    for record in tintype.train(planned(options, run, steps), ("unet",), (stop - begun) / 60):
        if record["step"] % 200 == 0:
            print(
                f"step {record['step']} of {steps}, loss {record['loss']:.4f}, {time.time() - begun:.0f} s", flush=True
            )
    found = checkpoint.newest(run / "unet")
    assert found is not None, "the loop saves when it ends"
    data = save({name: value.half().contiguous() for name, value in found[1]["averaged"].items()})
    for number, start in enumerate(range(0, len(data), PART)):
        (options.out / f"unet.{number}").write_bytes(data[start : start + PART])
    shutil.copy(run / "unet" / "log.jsonl", options.out / "log.jsonl")
    for sheet in sorted((run / "unet").rglob("*.png"))[-1:]:
        shutil.copy(sheet, options.out / "samples.png")
    print(
        f"{found[0]['step']} of {steps} steps, {options.batch} pictures each; {len(data) / 1e6:.1f} MB in {options.out}"
    )


def fitting(options: argparse.Namespace, stop: float) -> int:
    """How many steps fit until `stop`, by timing some in a folder of their own; their latents are kept."""
    with tempfile.TemporaryDirectory() as folder:
        for stage in ("autoencoder", "clip"):
            (Path(folder) / stage).symlink_to((options.kit / stage).resolve())
        plan = planned(options, Path(folder), TIMED)
        seconds = [record["seconds"] for record in tintype.train(plan, ("unet",), (stop - time.time()) / 60)]
        shutil.move(Path(folder) / "latents.safetensors", options.kit / "latents.safetensors")
    each = median(seconds[TIMED // 2 :])
    left = stop - time.time() - 45  # for compiling again, samples and the result
    print(f"{each * 1000:.1f} ms a step of {options.batch}: {int(left / each)} steps fit", flush=True)
    return max(TIMED, int(left / each))


def join(out: Path, kit: Path, model: Path) -> None:
    """Writes the model file of the kit's networks and the trained U-Net."""
    parts = sorted(out.glob("unet.*"), key=lambda path: int(path.suffix[1:]))
    unet = load(b"".join(part.read_bytes() for part in parts))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for stage in ("autoencoder", "clip"):
            (run / stage).symlink_to((kit / stage).resolve())
        checkpoint.save(run / "unet", 0, {"averaged": unet}, {})
        tintype.export(Plan(pictures=kit / "pictures.parquet", run=run, text_rate=TEXT_RATE), model)
    print(model)


if __name__ == "__main__":
    main()
