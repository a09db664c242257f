"""`daguerre data`: what a training run would see of your pictures, and tables of pictures to train on."""

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .exit import UNUSABLE, Failure
from .kinds import Json, Switch, Texts

if TYPE_CHECKING:
    from ..data.config import Data
    from ..data.manifest import Manifest

SHOWN = 20  # names of each kind before "and N more"


def check(
    *paths: Path,
    size: int = 512,
    captions: Annotated[bool, Parameter(negative="--no-captions")] = True,
    verbose: Switch = False,
    json_lines: Json = False,
) -> None:
    """Open every picture and tell which can be trained on, which cannot, and why.

    Parameters
    ----------
    paths
        Folders of pictures, Parquet files, WebDataset archives.
    size
        The side, in pixels, of the square whose area pictures would be brought to.
    captions
        Whether pictures need captions.
    verbose
        List every name.
    json_lines
        Print one JSON object.
    """
    from ..data.config import Data, Source
    from ..data.manifest import gather

    data = Data(sources=tuple(Source(path=path) for path in paths), size=size, buckets=True)
    with _bar("checking") as bar:
        task = bar.add_task("checking", total=None)
        manifest = gather(
            data, captions=captions, at_least=0, looked_at=lambda count: bar.update(task, completed=count)
        )
    facts = _facts(manifest, data)
    if json_lines:
        print(json.dumps(facts))
    else:
        _print(facts, verbose=verbose)
    if not manifest.entries:
        raise Failure("none of these pictures can be used", UNUSABLE)


def build(
    name: Literal["openmoji", "illustrations"],
    /,
    *,
    out: Path | None = None,
    size: int = 128,
    style: Texts = (),
    workers: int = 1,
) -> None:
    """Make a table of captioned pictures from freely licensed sources; an interrupted build goes on.

    Parameters
    ----------
    name
        openmoji: 1,393 things in one style, CC BY-SA 4.0. illustrations: some 1,450 things in eleven styles, the people
        among them with five skin tones, and their names in 28 languages; MIT, Apache-2.0, CC BY 4.0, public domain.
    out
        The folder for the tables and their card; datasets/NAME by default.
    size
        The side of an illustration in pixels.
    style
        Build illustrations of this style only, without skin tones; may be given several times.
    workers
        Processes that draw illustrations.
    """
    from ..data import openmoji
    from ..data.illustrations.build import Wanted
    from ..data.illustrations.build import build as illustrations

    folder, wanted = out or Path("datasets") / name, Wanted(size=size, keys=style, workers=workers)
    if name == "openmoji" and wanted != Wanted():
        raise Failure("--size, --style and --workers are for illustrations, not for openmoji", UNUSABLE)
    steps = openmoji.build(folder) if name == "openmoji" else illustrations(folder, wanted)
    tables = ("openmoji.parquet",) if name == "openmoji" else wanted.tables()
    with _bar("drawing") as bar:
        task = bar.add_task(f"building {name}", total=None)
        for done, total in steps:
            bar.update(task, completed=done, total=total)
    for table in tables:
        print(folder / table)


def _bar(verb: str) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _facts(manifest: "Manifest", data: "Data") -> dict[str, Any]:
    from ..data.buckets import bucket_of

    sizes = Counter(bucket_of(e.width, e.height, data) for e in manifest.entries)
    same: dict[str, list[str]] = {}
    for entry in manifest.entries:
        same.setdefault(entry.sha256, []).append(entry.name)
    words = [len(e.caption.split()) for e in manifest.entries]
    return {
        **manifest.summary(),
        "buckets": {f"{w}x{h}": count for (w, h), count in sorted(sizes.items())},
        "smaller": [e.name for e in manifest.entries if e.width * e.height < data.size**2],
        "duplicates": [names for names in same.values() if len(names) > 1],
        "words": {"fewest": min(words), "median": median(words), "most": max(words)} if words else {},
    }


def _print(facts: dict[str, Any], *, verbose: bool) -> None:
    words, dropped = facts["words"], facts["dropped"]
    print(f"{facts['kept']:,} pictures can be used, {len(dropped):,} cannot")
    _list([f"{d['name']}: {d['reason']}" for d in dropped], verbose=verbose)
    if not facts["kept"]:
        return
    told = f"{words['fewest']} to {words['most']} words, half have {words['median']:g} or fewer"
    print(f"{facts['captions']:,} different captions of {told}")
    print("sizes " + ", ".join(f"{size}: {count:,}" for size, count in facts["buckets"].items()))
    for title, names in (
        (f"{len(facts['smaller']):,} pictures are smaller than that and would be enlarged", facts["smaller"]),
        (f"{len(facts['duplicates']):,} pictures are there more than once", map(" = ".join, facts["duplicates"])),
    ):
        if not title.startswith("0 "):
            print(title)
            _list(list(names), verbose=verbose)
    print(f"manifest sha256 {facts['sha256']}")


def _list(names: list[str], *, verbose: bool) -> None:
    for name in names if verbose else names[:SHOWN]:
        print(f"  {name}")
    if not verbose and len(names) > SHOWN:
        print(f"  ... and {len(names) - SHOWN:,} more (--verbose lists them)")
