"""Saved styles: a table of prompts to add to others, in the file that A1111 keeps them in, styles.csv."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ..request import RequestError

PLACE = "{prompt}"  # where a style takes the prompt in; without it, it is added at the end
LARGEST = 16 << 20  # bytes of a file


@dataclass(frozen=True)
class Style:
    """What is added to a prompt and to a negative prompt."""

    prompt: str = ""
    negative_prompt: str = ""


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a file, by name. Raises RequestError, naming the file, for one that is no such table."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise RequestError(f"{path}: a table of styles of more than {LARGEST >> 20} MiB; cut it into several")
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path}: this is no table in UTF-8 with commas ({error})") from error
    columns = rows[0].keys() if rows else {"name", "prompt"}
    said = "prompt" if "prompt" in columns else "text"  # its first versions called it so
    if not {"name", said} <= columns:
        raise RequestError(f"{path}: the first line must name the columns: name,prompt,negative_prompt")
    return {
        row["name"]: Style(row[said] or "", row.get("negative_prompt") or "")
        for row in rows
        if row["name"] and not row["name"].startswith("#")
    }


def styled(prompt: str, negative_prompt: str, names: Sequence[str], styles: Mapping[str, Style]) -> tuple[str, str]:
    """The two prompts with styles on them, one after the other. Raises RequestError for a name that is not there."""
    for name in names:
        if name not in styles:
            near = get_close_matches(name, styles, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {len(styles)} others"
            raise RequestError(f"no style {name!r}; {hint}")
        prompt = added(prompt, styles[name].prompt)
        negative_prompt = added(negative_prompt, styles[name].negative_prompt)
    return prompt, negative_prompt


def added(prompt: str, style: str) -> str:
    """One prompt with one style on it."""
    if PLACE in style:
        return style.replace(PLACE, prompt)
    return ", ".join(filter(None, (prompt.strip(), style.strip()))) if style else prompt
