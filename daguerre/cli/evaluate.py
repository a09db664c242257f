"""`daguerre evaluate`: what a model can do, in figures with their intervals, and in pictures that nobody picked."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .exit import UNUSABLE, Failure
from .flags import BUILT_IN_MODEL, ModelFlags
from .kinds import Json, Switch

if TYPE_CHECKING:
    from ..evaluate.bench import Bench, Tell
    from ..evaluate.figures import Figure

PICTURES, OUT = Path("datasets/illustrations/illustrations.parquet"), Path("runs/evaluate")


def tintype(
    *,
    pictures: Path = PICTURES,
    taught: Path | None = None,
    out: Path = OUT,
    quick: Switch = False,
    steps: int = 0,
    model: ModelFlags = BUILT_IN_MODEL,
    json_lines: Json = False,
) -> None:
    """Judge the built-in model, or one trained like it: what it draws right, how various, how near to its teachers.

    What is drawn stays in the folder, and an interrupted run goes on from there.

    Parameters
    ----------
    pictures
        The table of illustrations, with its held-out splits: `daguerre data build illustrations` makes it.
    taught
        What the model learned to draw: lines of LABEL, a tab, STYLE WORDS. By default the list beside the model's
        file (NAME.taught.tsv) or, without one, all training pictures of the table.
    out
        The folder for figures.json, report.html, free-prompts.png and all pictures.
    quick
        A tenth of the pictures: wide intervals in a few minutes.
    steps
        0: as the model likes it.
    json_lines
        Print figures.json.
    """
    from ..evaluate.bench import Bench, Plan
    from ..evaluate.lite0 import load_lite0
    from ..evaluate.measures import measured
    from ..evaluate.report import write
    from ..evaluate.sheets import Sheet
    from ..evaluate.suite import FULL, QUICK, read_taught
    from .models import find

    _require(pictures)
    network, loaded = load_lite0(), model.load()
    beside = find(model.model).path.with_suffix(".taught.tsv")
    listed = taught or (beside if beside.is_file() else None)
    known, amounts = read_taught(listed) if listed else None, QUICK if quick else FULL
    plan = Plan(pictures=pictures, out=out, taught=known, amounts=amounts, steps=steps)
    figures, sheets = list["Figure"](), list[Sheet]()
    with _bar() as bar:
        bench = Bench(loaded, plan, network, _teller(bar))
        facts = _facts(bench, listed.name if listed else "all training pictures of the table")
        for part in measured(bench):
            figures += [one for one in part if not isinstance(one, Sheet)]
            sheets += [one for one in part if isinstance(one, Sheet)]
            write(out, facts, figures, sheets)
    if json_lines:
        print((out / "figures.json").read_text(encoding="utf-8"), end="")
    else:
        _print(figures)
        print(out / "report.html")


def _require(pictures: Path) -> None:
    if not pictures.is_file():
        told = "`daguerre data build illustrations` makes it, or --pictures names another"
        raise Failure(f"{pictures}: no such table; {told}", UNUSABLE)


def _facts(bench: "Bench", listed: str) -> dict[str, str]:
    groups = ", ".join(f"{len(group.items):,} {group.name}" for group in bench.groups())
    return {
        "model": f"{bench.model.name} (sha256 {bench.model.sha256[:10]})",
        "taught": f"{len(bench.taught):,} pictures ({listed})",
        "real pictures": f"{len(bench.real):,} (sha256 {bench.real.sha256[:10]})",
        "prompts with a real counterpart": groups,
        "versions": ", ".join(f"{name} {_version(name)}" for name in ("daguerre", "torch")),
    }


def _teller(bar: Progress) -> "Tell":
    task = bar.add_task("", total=None)
    return lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _print(figures: "list[Figure]") -> None:
    from ..evaluate.report import HEAD, row

    table = Table(*HEAD, box=None, header_style="bold", pad_edge=False)
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
        table.add_row(*row(figure))
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table, highlight=False)
