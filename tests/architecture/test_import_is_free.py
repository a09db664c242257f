"""`import daguerre` costs nothing, and `daguerre --help` nearly nothing."""

import resource
import subprocess
import sys

from rooms import ROOT

# Runs in a fresh interpreter. Modules themselves are read from .py and .pyc files; that is no side effect.
WATCHED = """
import sys
import threading
events = []
threading.Thread.start = lambda thread: events.append(f"start {thread}")
def watch(event, arguments):
    if event == "open" and ".py" not in str(arguments[0]):
        events.append(f"open {arguments[0]}")
    elif event.startswith(("socket.", "subprocess.", "os.mkdir")):
        events.append(event)
sys.addaudithook(watch)
import daguerre
assert events == [], events
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
HELP = """
import sys
from daguerre.cli.main import main
sys.argv = ["daguerre", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules
"""


def run(source: str) -> str:
    """The output of Python source in a new interpreter, which must succeed."""
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def processor_seconds() -> float:
    """Processor time of the children that have ended: unlike wall time, other programs hardly change it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_importing_has_no_side_effect() -> None:
    run(WATCHED)


def test_help_needs_no_torch() -> None:
    assert "generate" in run(HELP)


def test_help_is_instant() -> None:
    times = []
    for _ in range(5):
        before = processor_seconds()
        run(HELP)
        times.append(processor_seconds() - before)
    assert min(times) <= 0.3, times
