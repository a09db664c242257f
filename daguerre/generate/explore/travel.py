"""Travels: frames between seeds and between prompts, each a request of its own that can be drawn again alone."""

from collections.abc import Sequence
from dataclasses import replace

from ...request import MAX_SEED, RequestError
from ...text.segments import parts, without_comments
from .job import Job
from .plan import MAX_CELLS, seeded


def plan_travel(
    job: Job, *, seeds: Sequence[int] = (), prompts: Sequence[str] = (), frames: int = 12, loop: bool = False
) -> list[Job]:
    """The frames of a way by the given seeds and prompts, beginning with the job's own.

    `frames` is from one place to the next. At place i are the i-th seed and the i-th prompt, the last of either where
    the other has more. Between two seeds the noise is on the great circle through both, as variation seeds are; between
    two prompts are both, joined by AND with weights that change places. A loop goes back to where it began. Raises
    RequestError for a way without places, seeds or frames out of range, and more than MAX_CELLS frames.
    """
    first = seeded(job.request)
    stops = [first.seed, *seeds] if not seeds or seeds[0] != first.seed else list(seeds)
    texts = [first.prompt, *prompts]
    places = max(len(stops), len(texts))
    stops += stops[-1:] * (places - len(stops))
    texts += texts[-1:] * (places - len(texts))
    if loop:
        stops, texts = [*stops, stops[0]], [*texts, texts[0]]
    legs = len(stops) - 1
    if legs < 1:
        raise RequestError("a travel needs somewhere to go; give another seed or another prompt")
    if not 1 <= frames <= MAX_CELLS or legs * frames >= MAX_CELLS:
        raise RequestError(f"frames is {frames}; all {legs} legs must have from 1 to {MAX_CELLS:,} together")
    if wrong := [seed for seed in stops if not 0 <= seed <= MAX_SEED]:
        raise RequestError(f"seed {wrong[0]} is none; seeds are from 0 to {MAX_SEED}")
    jobs = []
    for leg in range(legs):
        for i in range(frames):
            share = i / frames
            request = replace(first, prompt=between(texts[leg], texts[leg + 1], share), seed=stops[leg])
            if share and stops[leg] != stops[leg + 1]:
                request = replace(request, variation_seed=stops[leg + 1], variation_strength=share)
            jobs.append(replace(job, request=request))
    if not loop:  # else the end is the beginning
        jobs.append(replace(job, request=replace(first, prompt=texts[-1], seed=stops[-1])))
    return jobs


def between(start: str, end: str, share: float) -> str:
    """A prompt that means `share` of the second prompt and the rest of the first."""
    if start == end or share == 0:
        return start
    if share == 1:
        return end
    said = [
        f"{part.text.strip()} :{part.weight * amount:.6f}"
        for prompt, amount in ((start, 1 - share), (end, share))
        for part in parts(without_comments(prompt))
    ]
    return " AND ".join(said)
