"""One page for all figures, with the pictures inside it: it can be sent to someone as it is."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template

from PIL import Image

from ..files.durable import durable_text, durable_write
from .figures import Estimate, Figure
from .sheets import SIDE, Sheet, sheet

COLUMNS = 10
WEBP = 82  # quality of the pictures inside the page
HEAD = ("", "model", "real pictures", "these through the autoencoder", "model to real", "n")


def write(folder: Path, facts: Mapping[str, str], figures: Sequence[Figure], sheets: Sequence[Sheet]) -> None:
    """Writes FOLDER/figures.json, FOLDER/report.html and FOLDER/NAME.png for every sheet."""
    told = json.dumps({"facts": dict(facts), "figures": [figure.told() for figure in figures]}, indent=1)
    durable_text(folder / "figures.json", told + "\n")
    images = {one.name: sheet(one.cells, COLUMNS) for one in sheets if one.cells}
    for name, image in images.items():
        durable_write(folder / f"{name}.png", lambda target, image=image: image.save(target, "PNG"))  # type: ignore[misc]
    body = "\n".join([*_tables(figures), *_sheets(sheets, images)])
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    template = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    page = template.substitute(title=escape(facts.get("model", "a model")), facts=rows, body=body)
    durable_text(folder / "report.html", page)


def shown(estimate: Estimate | None, *, percent: bool = True) -> str:
    """An estimate with its interval in brackets."""
    if estimate is None:
        return ""
    if percent:
        value, low, high = (f"{100 * part:.0f}" for part in estimate[:3])
        return f"{value} % ({low} to {high})"
    value, low, high = (f"{part:.3g}" for part in estimate[:3])
    return value if low == high else f"{value} ({low} to {high})"


def row(figure: Figure) -> tuple[str, ...]:
    """A figure as the table has it, under HEAD."""
    values = (shown(part, percent=figure.percent) for part in (figure.model, figure.real, figure.decoded))
    share = "" if figure.ratio is None else "{:.2f} ({:.2f} to {:.2f})".format(*figure.ratio[:3])
    n = figure.model or figure.real
    return figure.name, *values, share, f"{n.n:,}" if n else ""


def _tables(figures: Sequence[Figure]) -> Iterator[str]:
    for section, group in groupby(figures, key=lambda figure: figure.section):
        yield f"<h2>{escape(section.partition(':')[0])}</h2>"
        if ":" in section:
            yield f"<p>{escape(section.partition(':')[2].strip())}</p>"
        members = list(group)
        head = "".join(f"<th>{name}</th>" for name in HEAD)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row(one))}</tr>" for one in members)
        yield f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        yield from (f"<p>{escape(note)}</p>" for note in dict.fromkeys(one.note for one in members if one.note))


def _sheets(sheets: Sequence[Sheet], images: Mapping[str, Image.Image]) -> Iterator[str]:
    for one in sheets:
        if one.name in images:
            buffer = io.BytesIO()
            images[one.name].save(buffer, "WEBP", quality=WEBP)
            source = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
            yield f"<h2>{escape(one.title)}</h2><p>{escape(one.says)}</p>"
            yield f'<div class=wide><img src="{source}" alt="{escape(one.title)}" width="{COLUMNS * SIDE}"></div>'
            listed = "".join(f"<li>{escape(cell.caption)}</li>" for cell in one.cells if cell.caption)
            yield f"<details><summary>Captions, row by row</summary><ol>{listed}</ol></details>"
