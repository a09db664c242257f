"""docs/samplers.md tells what the code does."""

import re

import draw_samplers

from daguerre.diffusion.samplers import SAMPLERS
from daguerre.diffusion.schedule import SCHEDULES


def test_its_tables_are_those_of_the_code() -> None:
    page = draw_samplers.PAGE.read_text(encoding="utf-8")
    assert draw_samplers.write(page) == page, "run: python docs/draw_samplers.py tables"
    rows = re.findall(r"^\| `?([^`|]+?)`? \|", page, re.MULTILINE)
    assert {*SAMPLERS, *SCHEDULES} <= set(rows)
    assert draw_samplers.write(page.replace("| Euler a | 1 |", "| Euler a | 2 |")) == page
    assert 10_000 < draw_samplers.SHEET.stat().st_size < 400_000
