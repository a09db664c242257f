"""Training checkpoints: a folder of safetensors with a manifest of SHA-256 sums, written last.

A folder without a whole manifest does not exist for the reader; the newest whole one is what a run resumes from.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files.durable import durable_write

log = logging.getLogger(__name__)
KEEP = 2  # checkpoints; at least so many, so that one damaged file costs no run
DAMAGE = OSError, ValueError, KeyError, TypeError, AttributeError  # what reading a damaged checkpoint may raise
Parts = Mapping[str, Mapping[str, Tensor]]  # file stem -> tensors by name


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or a weight is NaN or infinite; what was saved before is untouched."""


def save(run: Path, step: int, parts: Parts, notes: Mapping[str, Any], keep: int = KEEP) -> Path:
    """Writes `parts` as RUN/step-N unless it is there already, then removes older ones but for the newest.

    Raises NonFiniteError rather than save a NaN, and OSError when the disk fails; both leave older checkpoints alone.
    """
    folder = run / f"step-{step:08d}"
    if folder.exists():
        try:
            _manifest(folder)
        except DAMAGE:
            shutil.rmtree(folder)
        else:
            _prune(folder, keep)  # a process that was killed right after it wrote did not come to this
            return folder
    for part, tensors in parts.items():
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise NonFiniteError(f"step {step}: {key} of {part} is not finite; nothing was saved")

    def write(target: Path) -> None:
        target.mkdir()
        for name, tensors in parts.items():
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, target / f"{name}.safetensors")
        sums = {f.name: _sha256(f) for f in sorted(target.iterdir())}
        (target / "manifest.json").write_text(json.dumps({"step": step, "sha256": sums, **notes}, indent=1))

    durable_write(folder, write)
    _prune(folder, keep)
    return folder


def tidy(run: Path) -> None:
    """Removes what a process left that was killed while it wrote; none may be writing now."""
    for litter in list(run.rglob(".partial-*")):
        shutil.rmtree(litter)


def _prune(folder: Path, keep: int) -> None:
    """Removes the oldest of the checkpoints before `folder`, so that `keep` are left with it."""
    older = sorted(other for other in folder.parent.glob("step-*") if other.name < folder.name)
    for old in older[: 1 - max(keep, KEEP)]:
        shutil.rmtree(old)


def newest(run: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]] | None:
    """The notes and tensors of the newest whole checkpoint, or None when the run has none.

    Raises ValueError when there are checkpoints and all are damaged: nobody wants to begin anew by accident.
    """
    folders = sorted(run.glob("step-*"), reverse=True)
    for folder in folders:
        try:
            notes = _manifest(folder)
            return notes, {Path(name).stem: load_file(folder / name) for name in notes["sha256"]}
        except DAMAGE as error:
            log.warning("%s is damaged (%s: %s); looking for an older one", folder, type(error).__name__, error)
    if folders:
        raise ValueError(f"{run}: each of its {len(folders)} checkpoints is damaged; move the folder to begin anew")
    return None


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint; raises one of DAMAGE for any other."""
    notes: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    if folder.name != f"step-{notes['step']:08d}":
        raise ValueError(f"its manifest speaks of step {notes['step']}")
    if notes["sha256"].keys() != {file.name for file in folder.glob("*.safetensors")}:
        raise ValueError("its manifest names other files than there are")
    for name, digest in notes["sha256"].items():
        if _sha256(folder / name) != digest:
            raise ValueError(f"{name} does not match its checksum")
    return notes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
