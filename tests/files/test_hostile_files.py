"""No hostile file runs code, writes, connects or takes much time or memory; each is refused with a reason."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .hostile import Sample, Verdict, generate
from .hostile_folders import SECRET, harmless_folders

SECONDS, MEGABYTES = 2.0, 64.0
ROOT = Path(__file__).parents[2]


def judged(folder: Path, paths: list[Path]) -> list[Verdict]:
    """Opens the paths in a process of its own, whose audit hook and memory are nobody else's."""
    lines = "".join(json.dumps(str(path)) + "\n" for path in paths)
    command = [sys.executable, "-W", "error", "-m", "tests.files.hostile", str(folder)]
    run = subprocess.run(command, cwd=ROOT, input=lines, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    return [Verdict(**json.loads(line)) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile")
    (path / "canary").write_text("alive")
    return path


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> list[tuple[Sample, Verdict]]:
    """Of every hostile file, then of the harmless folders, which have no clues."""
    harmless = harmless_folders(folder / "harmless", str(folder / "canary"))
    samples = [*generate(folder), *(Sample(kind, path, ()) for kind, path in harmless)]
    return list(zip(samples, judged(folder, [sample.path for sample in samples]), strict=True))


@pytest.fixture(scope="module")
def verdicts(outcomes: list[tuple[Sample, Verdict]]) -> list[tuple[Sample, Verdict]]:
    return [(sample, verdict) for sample, verdict in outcomes if sample.clues]


def test_there_are_enough_of_every_class(verdicts: list[tuple[Sample, Verdict]]) -> None:
    groups = Counter(group(sample.path) for sample, _ in verdicts)
    assert groups["safetensors"] >= 600
    assert groups["pickle or zip"] >= 500
    assert groups["folder"] >= 100
    assert len({sample.kind for sample, _ in verdicts}) >= 150


def group(path: Path) -> str:
    return "folder" if path.is_dir() else "safetensors" if path.suffix == ".safetensors" else "pickle or zip"


def test_each_is_refused_with_its_reason(verdicts: list[tuple[Sample, Verdict]]) -> None:
    wrong = [
        f"{sample.kind} {sample.path.name}: {verdict.raised}: {verdict.message[:300]}"
        for sample, verdict in verdicts
        if verdict.raised != "CheckpointError"
        or str(sample.path) not in verdict.message
        or not any(clue in verdict.message for clue in sample.clues)
    ]
    assert not wrong


def test_none_does_anything_else(outcomes: list[tuple[Sample, Verdict]], folder: Path) -> None:
    assert not [f"{sample.kind}: {verdict.events}" for sample, verdict in outcomes if verdict.events]
    assert (folder / "canary").read_text() == "alive"
    assert {path.name for path in folder.iterdir()} == {"canary", "files", "folders", "good", "harmless"}
    assert not [sample.kind for sample, verdict in outcomes if SECRET in verdict.message]


def test_none_takes_long_or_much(outcomes: list[tuple[Sample, Verdict]]) -> None:
    slow = [f"{sample.kind}: {v.seconds:.1f} s" for sample, v in outcomes if v.seconds > SECONDS]
    large = [f"{sample.kind}: {v.megabytes:.0f} MB" for sample, v in outcomes if v.megabytes > MEGABYTES]
    assert not slow + large


def test_errors_are_short_and_printable(verdicts: list[tuple[Sample, Verdict]]) -> None:
    messages = [verdict.message for _, verdict in verdicts]
    assert not [message for message in messages if len(message) > 1_000 or not message.isprintable()]


def test_code_beside_a_model_is_not_looked_at(outcomes: list[tuple[Sample, Verdict]]) -> None:
    harmless = [(sample, verdict) for sample, verdict in outcomes if not sample.clues]
    assert len(harmless) >= 10
    assert not [f"{sample.kind}: {verdict.message}" for sample, verdict in harmless if verdict.raised]


def test_the_audit_hears_what_a_pickle_does(tmp_path: Path) -> None:
    """The audit is worth something: Python's own pickle module falls for the same kind of file."""
    source = (
        "import pickle, sys\n"
        "from pathlib import Path\n"
        "from tests.files.hostile import Audit\n"
        "from tests.files.hostile_pickles import text, together, whole, word\n"
        "audit = Audit(Path(sys.argv[1]))\n"
        "payload = word(2, 'os system') + together(text(2, 'true')) + b'R'\n"
        "audit.events = events = []\n"
        "pickle.loads(whole(2, payload))\n"
        "audit.events = None\n"
        "assert {'pickle.find_class', 'os.system'} <= set(events), events\n"
    )
    subprocess.run([sys.executable, "-c", source, str(tmp_path)], cwd=ROOT, check=True)
