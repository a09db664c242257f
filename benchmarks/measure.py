"""What the benchmarks share: fresh processes taken in turns, medians, the machine, Markdown."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any


def take_turns(
    names: Sequence[str], repeats: int, run: Callable[[str], dict[str, float]]
) -> dict[str, list[dict[str, float]]]:
    """`run(name)` for every name, again and again, so that a change in the machine's mood meets all alike."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(repeats):
        for name in names:
            results[name].append(run(name))
            figures = ", ".join(f"{key} {value:,.2f}" for key, value in results[name][-1].items())
            print(f"{turn + 1} of {repeats}, {name}: {figures}", file=sys.stderr, flush=True)
    return results


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: median(run[key] for run in runs) for key in runs[0]}


def call(command: Sequence[str | Path], **environment: str) -> str:
    """The standard output of a process; its standard error is shown if it fails."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stderr}")
    return done.stdout


def machine() -> str:
    """Processor, cores that this process may use, memory, system."""
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(row.split(":")[1].strip() for row in rows if row.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {cores} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.release()}"


def versions(*packages: str) -> str:
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(facts: Mapping[str, Any], markdown: str, *, as_json: bool) -> None:
    print(json.dumps(facts) if as_json else markdown)
