"""docs/gallery.md shows what every example draws, in few bytes."""

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
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
