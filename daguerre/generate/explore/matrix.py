"""Prompt matrices: "a cat|with a hat|blue" drawn with and without each of its parts, as A1111's script does."""

from dataclasses import replace
from typing import Any, Literal

from ...request import MAX_SEED, RequestError
from .job import Job
from .plan import Label, Plan, Words, seeded

MOST = 10  # parts: they are drawn in all combinations
OPEN, CLOSE = "([{<", ")]}>"


def parts(text: str) -> list[str]:
    """A text cut at each | outside of brackets: [a|b] stays whole, which means another thing in a prompt."""
    found, depth = [""], 0
    for letter in text:
        depth = max(0, depth + (letter in OPEN) - (letter in CLOSE))
        if letter == "|" and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [found[0].strip(), *(part.strip().strip(",").strip() for part in found[1:])]


def plan_matrix(
    job: Job,
    *,
    of: Literal["prompt", "negative_prompt"] = "prompt",
    at_start: bool = False,
    different_seeds: bool = False,
) -> Plan:
    """A grid of all combinations of a prompt's parts, half of them along each side.

    The parts follow the text that all have, or stand before it. Raises RequestError for a prompt without parts, or
    with too many.
    """
    base = replace(job, request=seeded(job.request))
    always, *options = parts(getattr(base.request, of))
    if not options or not all(options):
        raise RequestError(f'{of} has no parts; write them behind |, such as "a cat|with a hat|blue"')
    if len(options) > MOST:
        raise RequestError(f"{of} has {len(options)} parts; the limit is {MOST}, which is {2**MOST:,} pictures")
    across = (len(options) + 1) // 2
    jobs = []
    for choice in range(2 ** len(options)):
        chosen = [part for bit, part in enumerate(options) if choice >> bit & 1]
        text = ", ".join(filter(None, [*chosen, always] if at_start else [always, *chosen]))
        seed = (base.request.seed + choice * different_seeds) % (MAX_SEED + 1)
        changed: dict[str, Any] = {of: text, "seed": seed}
        jobs.append(replace(base, request=replace(base.request, **changed)))
    columns, rows = _labels(options[:across]), _labels(options[across:])
    return Plan(columns, rows, ((),), tuple(jobs), {"Script": "Prompt matrix"})


def _labels(options: list[str]) -> tuple[Label, ...]:
    """For each combination all parts, a line each, those struck out that it lacks."""
    return tuple(
        tuple(Words(part, bool(choice >> bit & 1)) for bit, part in enumerate(options))
        for choice in range(2 ** len(options))
    )
