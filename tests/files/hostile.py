"""A seeded generator of hostile model files, and a judge that opens each of them under audit.

`python -m tests.files.hostile FOLDER` opens every path that it reads from standard input, one a line,
and answers each with a line of JSON: what was raised, and what the interpreter was asked to do meanwhile.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from random import Random

from .hostile_folders import hostile_folders, pipeline
from .hostile_pickles import hostile_pickles, legacy, model, whole, zipped
from .hostile_safetensors import honest, hostile_safetensors, packed
from .hostile_zips import hostile_zips

# Audit events that reading a file never raises, or their beginnings.
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "os.remove",
    "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
    "os.putenv", "subprocess", "socket", "ctypes", "shutil", "pickle", "marshal", "exec", "compile", "import",
    "code.", "function.", "object.__", "sys.set", "urllib", "http", "ftplib", "smtplib", "webbrowser",
    "tempfile", "pty", "signal", "sqlite3",
)  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Sample:
    kind: str  # what is wrong with it
    path: Path
    clues: tuple[str, ...]  # the error holds one of them: a key, a global or a reason


@dataclass(frozen=True)
class Verdict:
    raised: str | None  # the exception's class; None if the file could be opened
    message: str
    seconds: float  # of processor time
    megabytes: float  # above what the process held before, at the highest
    events: list[str]  # that it should not have caused


def generate(folder: Path, seed: int = 0) -> Iterator[Sample]:
    """Writes the hostile files below `folder`, the same ones for a seed."""
    rng = Random(seed)
    safetensors = ((*sample, ".safetensors") for sample in hostile_safetensors(rng))
    pickles = ((*sample, ".ckpt") for sample in hostile_pickles(rng, str(folder / "canary")))
    (folder / "files").mkdir()
    for number, sample in enumerate(chain(safetensors, pickles, hostile_zips(rng))):
        kind, content, clues, suffix = sample
        path = folder / "files" / f"{number:04}{suffix}"
        path.write_bytes(content)
        yield Sample(kind, path, clues)
    for kind, path, clues in hostile_folders(rng, folder / "folders"):
        yield Sample(kind, path, clues)


class Audit:
    """Records what the interpreter is asked to do while it is armed. A hook can never be taken out again."""

    def __init__(self, folder: Path):
        self.folder = str(folder)
        self.events: list[str] | None = None
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.events is None:
            return
        if event == "open":
            path, mode, flags = arguments
            written = isinstance(mode, str) and set(mode) & set("wax+")
            if written or (isinstance(flags, int) and flags & WRITES) or not str(path).startswith(self.folder):
                self.events.append(f"open {path} {mode} {flags}")
        elif event.startswith(FORBIDDEN):
            self.events.append(event)


def peak() -> float:
    """The most memory that the process held since `forget_peak`, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def forget_peak() -> None:
    """Lets the peak begin anew on Linux; elsewhere it only grows, and growth is still seen."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def judge(path: Path, audit: Audit) -> Verdict:
    from daguerre.files.reader import open_checkpoint

    forget_peak()
    before, start = peak(), time.process_time()
    raised, message = None, ""
    audit.events = events = []
    try:
        checkpoint = open_checkpoint(path)
        for key in checkpoint.tensors:
            checkpoint.tensor(key)
    except BaseException as fault:
        raised, message = type(fault).__name__, str(fault)
    finally:
        audit.events = None
    return Verdict(raised, message, time.process_time() - start, peak() - before, events)


def warm_up(folder: Path, audit: Audit) -> None:
    """Opens good files, so that what libraries import at first use is not held against the hostile ones."""
    folder.mkdir()
    contents = {"a.safetensors": packed(*honest(Random(0))), "b.ckpt": legacy(whole(2, model(2)))}
    contents |= {f"{protocol}.ckpt": zipped(whole(protocol, model(protocol))) for protocol in range(6)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for path in (*map(folder.joinpath, contents), pipeline(folder / "folder")):
        verdict = judge(path, audit)
        assert verdict.raised is None, f"{path}: {verdict.message}"


def main() -> None:
    folder = Path(sys.argv[1])
    audit = Audit(folder)
    warm_up(folder / "good", audit)
    for line in sys.stdin:
        print(json.dumps(asdict(judge(Path(json.loads(line)), audit))), flush=True)


if __name__ == "__main__":
    main()
