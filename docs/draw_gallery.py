"""Runs every file in examples/ and draws docs/gallery/: the pictures of each side by side, none left out or picked."""

import contextlib
import io
import runpy
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageSequence

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "gallery"
GAP, HEIGHT = 4, 128  # pixels between pictures, and of a row of small ones
WHOLE = {"grid": "grid.png", "prompt_matrix": "matrix.png"}  # of these one picture says it all


def written(example: Path, folder: Path) -> list[Path]:
    """Runs an example; gives the pictures that it names, in its order."""
    told = io.StringIO()
    before, sys.argv = sys.argv, [str(example), str(folder)]
    try:
        with contextlib.redirect_stdout(told):
            runpy.run_path(str(example), run_name="__main__")
    finally:
        sys.argv = before
    paths = [Path(line) for line in told.getvalue().splitlines() if line.endswith((".png", ".webp"))]
    return [path for path in paths if path.name == WHOLE.get(example.stem, path.name)]


def side_by_side(paths: list[Path]) -> Image.Image:
    """Pictures in a row, each at its own size but for tall ones, which are brought to twice a small one's height."""
    pictures = [Image.open(path).convert("RGB") for path in paths]
    if len(pictures) > 1:
        most = min(2 * HEIGHT, max(picture.height for picture in pictures))
        pictures = [
            p.resize((p.width * most // p.height, most), Image.Resampling.LANCZOS) if p.height > most else p
            for p in pictures
        ]
    width = sum(picture.width + GAP for picture in pictures) - GAP
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    x = 0
    for picture in pictures:
        row.paste(picture, (x, 0))
        x += picture.width + GAP
    return row


def smaller(animation: Path, target: Path) -> None:
    """The same frames and times in fewer bytes, for a page that shows many pictures."""
    with Image.open(animation) as image:
        frames = [frame.copy() for frame in ImageSequence.Iterator(image)]
        times = [frame.info["duration"] for frame in frames]
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=60, method=6)


def draw(example: Path) -> Path:
    """The gallery's picture of an example: its animation, or its pictures in a row."""
    with tempfile.TemporaryDirectory() as folder:
        paths = written(example, Path(folder))
        animations = [path for path in paths if path.suffix == ".webp"]
        target = TARGET / f"{example.stem}.webp"
        if animations:
            smaller(animations[0], target)
        else:
            side_by_side(paths).save(target, quality=88, method=6)
    return target


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for name in sys.argv[1:] or sorted(path.stem for path in (ROOT / "examples").glob("*.py")):
        print(draw(ROOT / "examples" / f"{name}.py"), flush=True)
