"""docs/gallery.md shows what every example draws, in few bytes; command lines of all pages can be typed."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from daguerre.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCKS = [
    block for page in PAGES for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]
COMMANDS = sorted({line for block in BLOCKS for line in re.findall(r"^daguerre .+$", block, re.MULTILINE)})
MOST, MOST_IN_ALL = 60_000, 900_000  # bytes


def test_the_gallery_shows_every_example() -> None:
    text = (DOCS / "gallery.md").read_text()
    shown = re.findall(r"\]\(gallery/([\w.-]+)\)", text)
    assert sorted(Path(name).stem for name in shown) == sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
    assert sorted(shown) == sorted(path.name for path in (DOCS / "gallery").iterdir())


def test_its_pictures_are_small_and_whole() -> None:
    files = sorted((DOCS / "gallery").iterdir())
    assert all(file.stat().st_size <= MOST for file in files)
    assert sum(file.stat().st_size for file in files) <= MOST_IN_ALL
    for file in files:
        with Image.open(file) as image:
            image.load()


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line.split()[1:3]))
def test_command_lines_can_be_read(line: str) -> None:
    app.parse_args(shlex.split(line, comments=True)[1:], exit_on_error=False, print_error=False)
