"""From key press to answer: whole processes, interpreter start and imports included.

    python benchmarks/startup.py                      # with the built-in model
    python benchmarks/startup.py --model FILE         # with another one

Every command is run once unmeasured, so that files are in the system's cache, and then by turns.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import measure

PROMPT = "a red apple, 3d render"
DRAWING = "daguerre generate, from key press to file"
DAGUERRE = Path(sys.executable).with_name("daguerre")


def commands(model: str, size: str | None, out: str) -> dict[str, list[str | Path]]:
    drawing: list[str | Path] = [DAGUERRE, "generate", PROMPT, "--seed", "1", "--model", model, "--out", out, "--json"]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import daguerre'": [sys.executable, "-c", "import daguerre"],
        "daguerre --help": [DAGUERRE, "--help"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        DRAWING: [*drawing, *(["--size", size] if size else [])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tintype", help="as in `daguerre generate`")
    parser.add_argument("--size", help="WIDTHxHEIGHT; the model's own size by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON, with every run")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="daguerre-benchmark-") as out:
        every = commands(options.model, options.size, out)

        def run(name: str) -> dict[str, float]:
            begun = time.perf_counter()
            answer = measure.call(every[name])
            seconds = {"s": time.perf_counter() - begun}
            return {**seconds, "drawing s": json.loads(answer)["seconds"]} if name == DRAWING else seconds

        for name in every:
            run(name)
        runs = measure.take_turns(list(every), options.repeats, run)
    medians = {name: measure.medians(figures) for name, figures in runs.items()}
    facts = {
        "runs": runs,
        "medians": medians,
        "machine": measure.machine(),
        "versions": measure.versions("daguerre", "torch"),
    }
    rows = [[name, f"{figures['s']:.2f}"] for name, figures in medians.items()]
    rows.append(["of which from the first step to the pixels", f"{medians[DRAWING]['drawing s']:.2f}"])
    lines = [f"Medians of {options.repeats} processes each, by turns.", measure.table(["", "seconds"], rows)]
    text = "\n\n".join([*lines, f"{facts['machine']}.", f"{facts['versions']}."])
    measure.report(facts, text, as_json=options.json)


if __name__ == "__main__":
    main()
