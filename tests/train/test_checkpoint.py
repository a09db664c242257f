import errno
import json
import logging
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from daguerre.train import checkpoint


def parts(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {"weights": {"a": torch.full((3, 4), float(step))}, "optimizer": {"0.step": torch.tensor(float(step))}}


def save(run: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(run, step, parts(step), {"settings": {"steps": 9}})


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint, by its manifest and by its tensors."""
    notes, found = checkpoint.newest(run)
    assert found["weights"]["a"].eq(notes["step"]).all()
    assert found["optimizer"]["0.step"] == notes["step"]
    return notes["step"]


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def test_what_was_saved_is_read(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "not there") is None
    folder = checkpoint.save(tmp_path, 7, parts(7), {"settings": {"steps": 9}})
    assert folder == tmp_path / "step-00000007"
    notes, found = checkpoint.newest(tmp_path)
    assert notes["settings"] == {"steps": 9}
    assert found.keys() == {"weights", "optimizer"}
    assert newest_step(tmp_path) == 7


def test_two_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 10)
    assert names(tmp_path) == ["step-00000003", "step-00000010"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path, at: int = -5, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


DAMAGE = {
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "manifest cut": lambda folder: cut(folder / "manifest.json"),
    "manifest empty": lambda folder: (folder / "manifest.json").write_text(""),
    "manifest of nothing": lambda folder: (folder / "manifest.json").write_text("null"),
    "manifest of another kind": lambda folder: (folder / "manifest.json").write_text('{"step": 2, "sha256": []}'),
    "manifest of another step": lambda folder: shutil.copy(folder.parent / "step-00000001/manifest.json", folder),
    "file gone": lambda folder: (folder / "weights.safetensors").unlink(),
    "file more": lambda folder: (folder / "more.safetensors").write_text(""),
    "file cut": lambda folder: cut(folder / "weights.safetensors"),
    "file empty": lambda folder: (folder / "weights.safetensors").write_text(""),
    "bit flipped": lambda folder: flip(folder / "weights.safetensors"),
    "all gone": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path, caplog, damage):
    save(tmp_path, 1, 2)
    damage(tmp_path / "step-00000002")
    with caplog.at_level(logging.WARNING):
        assert newest_step(tmp_path) == 1
    assert "step-00000002 is damaged" in caplog.text


def test_any_flipped_bit_is_seen(tmp_path):
    save(tmp_path, 1, 2)
    rng = random.Random(0)
    for file in (tmp_path / "step-00000002").glob("*.safetensors"):
        whole = file.read_bytes()
        for _ in range(20):
            flip(file, rng.randrange(len(whole)), rng.randrange(8))
            assert newest_step(tmp_path) == 1
            file.write_bytes(whole)
    assert newest_step(tmp_path) == 2


def test_when_all_are_damaged_nothing_begins_anew(tmp_path):
    save(tmp_path, 1, 2)
    for step in (1, 2):
        cut(tmp_path / f"step-0000000{step}" / "weights.safetensors")
    with pytest.raises(ValueError, match="2 checkpoints is damaged; move the folder"):
        checkpoint.newest(tmp_path)


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path):
    save(tmp_path, 1, 2)
    cut(tmp_path / "step-00000002" / "weights.safetensors")
    save(tmp_path, 2)
    assert newest_step(tmp_path) == 2


def test_whole_checkpoints_are_not_removed_for_newer_damaged_ones(tmp_path):
    save(tmp_path, 1, 2, 8, 9)
    for step in (8, 9):
        cut(tmp_path / f"step-0000000{step}" / "weights.safetensors")
    save(tmp_path, 3)
    assert newest_step(tmp_path) == 3


def test_a_full_disk_at_any_moment_leaves_the_old_checkpoints_alone(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)
    before = names(tmp_path)
    calls = {"left": 0}

    def failing(function):
        def call(*arguments, **options):
            calls["left"] -= 1
            if calls["left"] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(checkpoint, "save_file", failing(checkpoint.save_file))
    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(Path, "rename", failing(Path.rename))
    monkeypatch.setattr(Path, "write_text", failing(Path.write_text))
    failures = 0
    while True:
        calls["left"] = failures
        try:
            save(tmp_path, 3)
        except OSError:
            failures += 1
        else:
            break
        if not (tmp_path / "step-00000003").exists():  # it may be, whole, if the last sync of all failed
            assert names(tmp_path) == before
            assert newest_step(tmp_path) == 2
    assert failures >= 8  # two files, the manifest, a sync of each and of two folders, the move
    assert newest_step(tmp_path) == 3


def test_nan_is_not_saved(tmp_path):
    save(tmp_path, 1)
    bad = parts(2)
    bad["weights"]["a"][1, 2] = float("nan")
    with pytest.raises(checkpoint.NonFiniteError, match="a of weights"):
        checkpoint.save(tmp_path, 2, bad, {})
    assert names(tmp_path) == ["step-00000001"]


def test_the_litter_of_killed_processes_goes(tmp_path):
    save(tmp_path, 1)
    for litter in (".partial-a/step-00000001", "samples/.partial-b/inner"):
        (tmp_path / litter).mkdir(parents=True)
    checkpoint.tidy(tmp_path)
    assert names(tmp_path) == ["samples", "step-00000001"]
    assert not list((tmp_path / "samples").iterdir())


def test_who_was_killed_before_old_ones_went_makes_up_for_it(tmp_path):
    save(tmp_path, 1, 2)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000000")
    save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_the_manifest_is_for_people_too(tmp_path):
    save(tmp_path, 4)
    manifest = json.loads((tmp_path / "step-00000004" / "manifest.json").read_text())
    assert manifest["step"] == 4
    assert manifest["sha256"].keys() == {"weights.safetensors", "optimizer.safetensors"}
