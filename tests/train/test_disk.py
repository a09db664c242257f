"""Disks that are full or fail: old checkpoints stay, the run waits, and goes on to the same bits."""

import errno
import logging
import os
import shutil
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daguerre.train import checkpoint, loop
from daguerre.train.checkpoint import NonFiniteError
from tests.train.line import QUICK, Line, finish, newest_step, quick, same, save_once, state
from tests.train.test_kill import calls, needs_strace, saving

PATIENT = replace(QUICK, patience=60.0)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(loop, "PAUSE", 0.01)


def full(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", loop.FULL)
def test_a_run_waits_for_the_disk_and_goes_on_to_the_same_bits(tmp_path, monkeypatch, caplog, code):
    finish(Line(), QUICK, tmp_path / "unbroken")
    tries, seen = [], []
    inner = checkpoint.save_file

    def failing(tensors, path):
        tries.append(path)
        if 4 <= len(tries) < 9:  # of the second save, whose first file it is
            seen.append(sorted(p.name for p in (tmp_path / "full").glob("step-*")))
            raise full(code)
        inner(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with caplog.at_level(logging.ERROR):
        finish(Line(), PATIENT, tmp_path / "full")
    assert seen == [["step-00000002"]] * 5
    assert caplog.text.count("paused, nothing is lost") == 5
    assert os.strerror(code) in caplog.text
    same(tmp_path / "full", tmp_path / "unbroken")


def test_the_log_waits_for_the_disk_too(tmp_path, monkeypatch):
    finish(Line(), QUICK, tmp_path / "unbroken")
    failures = iter([0, 0, errno.ENOSPC, errno.ENOSPC, *[0] * 50])
    inner = loop.patiently

    def patiently(write, patience):
        def failing():
            if code := next(failures):
                raise full(code)
            return write()

        return inner(failing, patience)

    monkeypatch.setattr(loop, "patiently", patiently)
    finish(Line(), PATIENT, tmp_path / "full")
    same(tmp_path / "full", tmp_path / "unbroken")


def test_patience_ends(tmp_path, monkeypatch):
    def failing(tensors, path):
        raise full(errno.ENOSPC)

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with pytest.raises(OSError, match="No space left"):
        finish(Line(), replace(QUICK, patience=0.05), tmp_path)
    assert not list(tmp_path.glob("step-*"))


def test_an_error_that_no_waiting_mends_is_told_at_once(tmp_path, monkeypatch):
    def failing(tensors, path):
        raise full(errno.EROFS)

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with pytest.raises(OSError, match="Read-only"):
        finish(Line(), PATIENT, tmp_path)


def test_nothing_is_pruned_after_a_failed_save(tmp_path, monkeypatch):
    finish(Line(), quick(steps=4), tmp_path)
    removed = []
    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda path, **options: removed.append(path))
    monkeypatch.setattr(Path, "rename", lambda *of: (_ for _ in ()).throw(full(errno.ENOSPC)))
    with pytest.raises(OSError, match="No space left"):
        finish(Line(), QUICK, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000002", "step-00000004"]
    assert not [path for path in removed if path.name.startswith("step-")]


@pytest.mark.parametrize("part", ["weights", "averaged", "optimizer"])
def test_no_file_with_nan_is_ever_written(tmp_path, part):
    state_ = loop._State(Line(), replace(QUICK, loop=replace(QUICK.loop, ema=0.5)))
    state_.advance()
    tensors = {
        "weights": state_.module.weight.data,
        "averaged": state_.average["weight"],
        "optimizer": next(iter(state_.optimizer.state.values()))["exp_avg"],
    }[part]
    tensors[0, 1] = torch.nan
    with pytest.raises(NonFiniteError, match=rf"of {part} is not finite; nothing was saved"):
        state_.save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(0)
@needs_strace
@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
def test_every_failing_write_of_a_save(tmp_path, code):
    """A failure of each call at each place: the run tells it or mends it, and goes on to the same bits."""
    begun = tmp_path / "begun"
    save_once(begun, steps=4)
    whole = shutil.copytree(begun, tmp_path / "whole")
    save_once(whole)
    told = Counter()
    for call, count in calls(begun, tmp_path).items():
        for when in range(1, count + 1):
            run = shutil.copytree(begun, tmp_path / "run")
            ended = saving(
                run, "-e", f"trace={call}", "-o", "/dev/null", "-e", f"inject={call}:error={code}:when={when}"
            )
            assert newest_step(run) in (4, 5), (call, when)
            told["ended well" if ended.returncode == 0 else "told"] += 1
            assert ended.returncode == 0 or "Error" in ended.stderr, (call, when)
            save_once(run)
            same(run, whole)
            shutil.rmtree(run)
    print(f"{code} at {sum(told.values())} places: {dict(told)}")


@contextmanager
def small_disk(folder: Path, megabytes: int):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Wide(Line):
    """A line with a megabyte of weights: four of them are a checkpoint."""

    def __init__(self):
        super().__init__()
        self.trained = torch.nn.Linear(4, 1 << 16)


@pytest.mark.slow
def test_a_really_full_disk(tmp_path, caplog, monkeypatch):
    finish(Wide(), QUICK, tmp_path / "unbroken")
    with small_disk(tmp_path / "disk", 16) as disk:
        run, filler = disk / "run", disk / "filler"
        finish(Wide(), quick(steps=2), run)
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True)  # to the last byte
        pauses = []

        def make_room(seconds):
            pauses.append(sorted(p.name for p in run.glob("step-*")))
            if len(pauses) == 3:
                filler.unlink()

        monkeypatch.setattr(loop.time, "sleep", make_room)
        with caplog.at_level(logging.ERROR):
            finish(Wide(), PATIENT, run)
        assert pauses == [["step-00000002"]] * 3
        assert "paused, nothing is lost" in caplog.text
        same(run, tmp_path / "unbroken")
        assert state(run)["weights"]["weight"].isfinite().all()
