"""Killed anywhere, a run ends as if it had never stopped."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from daguerre.train.config import Loop
from tests.train.line import LAST, fit_line, journal, newest_step, same, save_once, state
from tests.train.toys import settings, train_slowly

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def begin(forkserver):
    """Begins a process that tells the steps it makes; it is ended with the test."""
    processes = []

    def begin(work, *arguments):
        ours, theirs = forkserver.Pipe()
        process = forkserver.Process(target=work, args=(*arguments, theirs))
        process.start()
        processes.append(process)
        return process, ours

    yield begin
    for process in processes:
        process.kill()
        process.join()


def kill(process, told, life: int, rest: float) -> int:
    """Lets a process make some steps and a part of one; returns the first that it told of, 0 if it told of none."""
    first = told.recv() if life else 0
    for _ in range(life - 1):
        told.recv()
    time.sleep(rest)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return first


def finish(process, told, last: int) -> None:
    while told.recv() < last:
        pass
    process.join()
    assert process.exitcode == 0


def test_a_small_run_killed_at_any_moment(tmp_path, begin):
    rng, begun_at = random.Random(0), []
    for _ in range(5):
        begun_at.append(kill(*begin(fit_line, str(tmp_path / "killed")), rng.randrange(1, 40), rng.uniform(0, 0.01)))
    for name in ("killed", "unbroken"):
        finish(*begin(fit_line, str(tmp_path / name)), LAST)
    assert begun_at == sorted(begun_at)
    assert begun_at[-1] > 5
    same(tmp_path / "killed", tmp_path / "unbroken")
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [
        ".lock",
        "log.jsonl",
        "step-00000395",
        "step-00000400",
    ]


@pytest.mark.timeout(600)
def test_a_whole_run_killed_at_twenty_moments(materials, tmp_path, begin):
    """Random crops, flips, captions, noise and averaged weights; a LoRA of U-Net and text encoder, with dropout."""
    run = settings("lora", materials, lora=replace(settings("lora", materials).lora, text=True, dropout=0.2))
    often = Loop(steps=200, batch=2, ema=0.95, save_every=10, sample_every=1000, validate_every=25, log_every=1)
    run, rng, begun_at = replace(run, loop=often), random.Random(1), []
    for _ in range(20):
        life = rng.choice([0, *range(3, 16)])
        rest = rng.uniform(0, 0.03 if life else 1.0)
        begun_at.append(kill(*begin(train_slowly, replace(run, run=tmp_path / "killed")), life, rest))
    for name in ("killed", "unbroken"):
        finish(*begin(train_slowly, replace(run, run=tmp_path / name)), 200)
    steps = [step for step in begun_at if step]
    assert steps == sorted(steps)
    assert len(set(steps)) > 5
    same(tmp_path / "killed", tmp_path / "unbroken")
    assert len(journal(tmp_path / "killed")) == 200 + 8
    names = {p.name for p in (tmp_path / "killed").rglob("*") if "partial" in p.name}
    assert not names


SYSCALLS = "write,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,chmod,fchmod,link,linkat"
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace counts the system calls to be killed at"
)


def saving(run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A process that resumes a run at step 4, makes one step and saves it, under strace."""
    code = f"from tests.train.line import save_once; save_once({str(run)!r})"
    command = ["strace", "-f", "-qq", *options, sys.executable, "-c", code]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)


@pytest.fixture
def begun(tmp_path):
    """A run with checkpoints of step 2 and step 4."""
    save_once(tmp_path / "begun", steps=4)
    return tmp_path / "begun"


def calls(begun: Path, tmp_path: Path) -> Counter[str]:
    """How many of each system call a save makes, from its beginning on, and all that the process makes."""
    run = shutil.copytree(begun, tmp_path / "counted")
    log = tmp_path / "calls"
    assert saving(run, "-e", f"trace={SYSCALLS}", "-o", str(log)).returncode == 0
    return Counter(line.split("(")[0].split()[-1] for line in log.read_text().splitlines() if "(" in line)


@pytest.mark.slow
@pytest.mark.timeout(0)
@needs_strace
def test_killed_at_every_system_call_of_a_save(begun, tmp_path):
    """What was saved loads every time, nothing is litter after the next start, and the end is the same."""
    whole = shutil.copytree(begun, tmp_path / "whole")
    save_once(whole)
    killed = Counter()
    for call, count in calls(begun, tmp_path).items():
        for when in range(1, count + 1):
            run = shutil.copytree(begun, tmp_path / "run")
            ended = saving(
                run, "-e", f"trace={call}", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={when}"
            )
            assert ended.returncode != 0, (call, when)
            assert newest_step(run) in (4, 5)
            killed[call] += 1
            save_once(run)
            same(run, whole)
            assert sorted(p.name for p in run.iterdir()) == sorted(p.name for p in whole.iterdir()), (call, when)
            shutil.rmtree(run)
    print(f"killed at {sum(killed.values())} places: {dict(killed)}")
    assert killed["fsync"] >= 6
    assert state(whole)["weights"]["weight"].isfinite().all()
