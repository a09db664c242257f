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

from ..runtime.durable import durable_write

log = logging.getLogger(__name__)
KEEP = 2


def save(run: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], notes: Mapping[str, Any]) -> Path:
    """Writes `parts` (file stem -> tensors) as RUN/step-N, then removes all but the newest checkpoints."""
    folder = run / f"step-{step:08d}"
    if folder.exists():
        return folder

    def write(target: Path) -> None:
        target.mkdir()
        for name, tensors in parts.items():
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, target / f"{name}.safetensors")
        sums = {f.name: _sha256(f) for f in sorted(target.iterdir())}
        (target / "manifest.json").write_text(json.dumps({"step": step, "sha256": sums, **notes}, indent=1))

    durable_write(folder, write)
    for old in sorted(run.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)
    return folder


def newest(run: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]] | None:
    """The notes and tensors of the newest whole checkpoint, or None when the run has none."""
    for folder in sorted(run.glob("step-*"), reverse=True):
        try:
            notes = json.loads((folder / "manifest.json").read_text())
            if all(_sha256(folder / name) == digest for name, digest in notes["sha256"].items()):
                return notes, {Path(name).stem: load_file(folder / name) for name in notes["sha256"]}
            log.warning("%s: a file does not match its checksum; using an older checkpoint", folder)
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s: unreadable (%s); using an older checkpoint", folder, error)
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, slots in state.items() for k, v in slots.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, slot = key.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
