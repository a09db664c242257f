"""Commands in this process, as a shell runs them in a new one: much faster, with exit code and both streams."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from daguerre.cli.main import main


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `daguerre ARGUMENTS` to its end, whatever it is."""

    def ended(*arguments: object) -> Done:
        capsys.readouterr()  # what was printed while the test made ready
        code = 0
        try:
            main(list(map(str, arguments)))
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Done(code, *capsys.readouterr())

    return ended


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where models are found by name; a module may have its own."""
    return tmp_path


@pytest.fixture
def run(ended: Callable[..., Done], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs a command in an empty folder, which has to end with exit code `code`."""
    for name, folder in {"HOME": home, "DAGUERRE_MODELS": home, "HF_HOME": home / "hub"}.items():
        monkeypatch.setenv(name, str(folder))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0) -> Done:
        done = ended(*arguments)
        assert done.code == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def said(run: Callable[..., Done]) -> Callable[..., str]:
    """As `run`, for what is printed, or for the error of another exit code than 0."""

    def said(*arguments: object, code: int = 0) -> str:
        done = run(*arguments, code=code)
        return done.stderr if code else done.stdout

    return said
