"""Every example runs as a user runs it, with fewer steps, and writes the pictures that examples/README.md promises."""

import re
import runpy
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from daguerre.families.catalog import FAMILIES
from daguerre.provenance import png

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ROW = re.compile(r"\| \[([\w.]+)\]\(([\w.]+)\) \| .+? \| (.+) \|")
STEPS = 6
PICTURES = (".png", ".webp")


def promised() -> dict[str, list[str]]:
    """By the file's name, the patterns of the pictures that it writes."""
    rows = ROW.findall((ROOT / "examples" / "README.md").read_text())
    return {name: re.findall(r"`(.+?)`", patterns) for name, link, patterns in rows if name == link}


def test_the_list_names_every_example() -> None:
    assert sorted(promised()) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FAMILIES["tintype"].defaults, "steps", STEPS)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path / "new")])
    runpy.run_path(str(path), run_name="__main__")

    written = {file for file in (tmp_path / "new").rglob("*") if file.suffix in PICTURES}
    told = {Path(line) for line in capsys.readouterr().out.splitlines() if line.endswith(PICTURES)}
    assert told == written
    for pattern in promised()[path.name]:
        assert any(fnmatchcase(str(file.relative_to(tmp_path / "new")), pattern) for file in written), pattern
    seen = [pixels for file in sorted(written) for pixels in frames(file)]
    assert all(pixels.std() > 5 for pixels in seen), "a picture is blank"
    assert len({pixels.tobytes() for pixels in seen}) == len(seen), "two pictures are the same"


def test_the_program_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES["tintype"].defaults, "steps", STEPS)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(program, {})
    assert png.read(tmp_path / "lighthouse.png")[0] is not None


def frames(file: Path) -> list[np.ndarray]:
    """The pixels of a picture, or of each different frame of an animation that goes there and back."""
    with Image.open(file) as image:
        each = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    if file.suffix == ".webp":
        assert len(each) >= STEPS
    return list({pixels.tobytes(): pixels for pixels in each}.values())
