"""The measurements, each of which yields figures and sheets of pictures: accuracy, likeness, free prompts, speed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from PIL import Image

from ..generate.text_to_image import text_to_image
from .bench import Bench, Looked, to_image
from .distances import COMMON, Crowd, Near, nearest, spread, threshold
from .drawings import Asked, to_tensor
from .figures import Figure, mean, ratio, share
from .illustrations import Illustration
from .scenes import composed
from .sheets import Cell, Sheet
from .suite import Group, free_prompts, shuffled

SHOWN = 48  # pictures of a group in the report
PAIRS = 12  # closest pairs
FEW_STEPS = 4


@dataclass(frozen=True)
class Drawn:
    """A group's pictures, the model's and real ones, as the judge sees them."""

    group: Group
    images: tuple[Image.Image, ...]
    looked: Looked


def draw_groups(bench: Bench) -> Iterator[Drawn]:
    """Every group of prompts that has a member."""
    for group in bench.groups():
        if group.items:
            images = bench.drawn(group.name, [Asked(item.caption) for item in group.items])
            yield Drawn(group, tuple(images), bench.look([to_tensor(image) for image in images]))


def accuracy(bench: Bench, drawn: Drawn) -> Iterator[Figure | Sheet]:
    """Concept and style accuracy of one group, against its real pictures, and those through the autoencoder."""
    items, name = drawn.group.items, drawn.group.name
    places = [item.number for item in items]
    back = bench.look(bench.brought_back(name, items))
    everyone = drawn.looked.concept, bench.vectors[places], back.concept
    styled = drawn.looked.style, bench.style_vectors[places], back.style
    section = f"{name}: {drawn.group.why}; {len(bench.concepts.names):,} concepts and {len(bench.styles.names)} styles"
    probed = [bench.concepts.probed(vectors, items) for vectors in everyone]
    near = [bench.concepts.nearest(vectors, items) for vectors in everyone]
    nearer = [bench.concepts.nearest(vectors, items, family=True) for vectors in everyone]
    told = [bench.styles.told(vectors, items) for vectors in styled]
    for what, ranks, best in (
        ("concept, probe, top-1", probed, 1),
        ("concept, probe, top-5", probed, 5),
        ("concept, nearest, top-1", near, 1),
        ("concept, nearest, top-5", near, 5),
        ("concept, nearest, family counts", nearer, 1),
    ):
        yield compared(section, what, *([rank <= best for rank in found] for found in ranks))
    styles = ([a == item.style for a, item in zip(found, items, strict=True)] for found in told)
    yield compared(section, "style, probe", *styles)
    cells = []
    for i, (item, image) in enumerate(zip(items[:SHOWN], drawn.images, strict=False)):
        right = f"rank {probed[0][i]}, {'right' if told[0][i] == item.style else 'wrong'} style"
        cells += [Cell(image, f"{item.caption} ({right})"), Cell(to_image(bench.real.picture(item.number)), "real")]
    says = "Each with the real picture. Rank 1: the judge's first guess is the wanted concept."
    yield Sheet(name.replace(" ", "-"), f"{name}, not picked", says, tuple(cells))


def compared(
    section: str, name: str, model: Sequence[bool], real: Sequence[bool], back: Sequence[bool] | None = None
) -> Figure:
    """Shares of right pictures: the model's, the real ones, and these through the autoencoder."""
    found = None if back is None else share(back)
    return Figure(
        section=section, name=name, model=share(model), real=share(real), ratio=ratio(model, real), decoded=found
    )


def likeness(bench: Bench, drawn: Sequence[Drawn]) -> Iterator[Figure | Sheet]:
    """FD-Lite0 and memorization of the group that was taught."""
    seen = drawn[0]
    own = [item.number for item in seen.group.items]
    taken = set(own)
    others = [i.number for i in bench.real if i.split == "train" and (i.label, i.style) in bench.taught]
    rest = [number for number in others if number not in taken]
    if min(len(rest), len(own)) > 1:
        bench.tell("comparing crowds", 0, 1)
        crowd, real = Crowd(bench.features.top[rest]), bench.features.top[own]
        back = bench.look(bench.brought_back(seen.group.name, seen.group.items))
        yield Figure(
            section="likeness",
            name=f"FD-Lite0 to {len(rest):,} other taught pictures",
            model=crowd.estimate(seen.looked.top),
            real=crowd.estimate(real),
            decoded=crowd.estimate(back.top),
            percent=False,
            note="Less is better; the fewer pictures, the farther they look.",
        )
    yield from memorization(bench, drawn)


def memorization(bench: Bench, drawn: Sequence[Drawn]) -> Iterator[Figure | Sheet]:
    """The share of pictures that are nearer to a training picture than all but a few real held-out ones are.

    The held-out pictures went through the autoencoder, whose softness would else hide copies.
    """
    train = [item for item in bench.real if item.split == "train"]
    known = bench.vectors[[item.number for item in train]]
    most = 2 * bench.plan.amounts.held_out
    styles = {style for _, style in bench.taught}
    apart = shuffled([i for i in bench.real if i.split not in ("", "train") and i.style in styles])[:most]
    if not apart:
        return
    held = nearest(bench.look(bench.brought_back("held-out pictures", apart)).concept, known)
    limit = threshold(held)
    pairs: list[tuple[Near, Image.Image, str]] = []
    for one in drawn:
        found = nearest(one.looked.concept, known)
        yield Figure(
            section="memorization",
            name=f"{one.group.name}: nearer to a training picture than {100 * (1 - COMMON):.0f} % of held-out ones",
            model=share([near.distance < limit for near in found]),
            real=share([near.distance < limit for near in held]),
            note=f"The threshold is a distance of {limit:.3f}, from {len(held)} autoencoded held-out pictures. One "
            "remembered in outline, but roughly painted, can escape it: look at the closest pairs below.",
        )
        captions = [item.caption for item in one.group.items]
        pairs += zip(found, one.images, captions, strict=True)
    cells = []
    for near, image, caption in sorted(pairs, key=lambda pair: pair[0].distance)[:PAIRS]:
        item = train[near.place]
        cells += [
            Cell(image, caption),
            Cell(to_image(bench.real.picture(item.number)), f"{near.distance:.3f}: {item.caption}"),
        ]
    says = f"The {PAIRS} drawn pictures that are nearest to a training picture, which is at their right."
    yield Sheet("closest", "Closest to training pictures", says, tuple(cells))


def diversity(bench: Bench, seen: Group) -> Iterator[Figure | Sheet]:
    """How different the pictures of one prompt are, against real pictures of that concept."""
    amounts, rows, cells = bench.plan.amounts, [], []
    styles = {style for _, style in bench.taught}
    for item in seen.items[: amounts.varied]:
        asked = [Asked(item.caption, seed) for seed in range(1, amounts.seeds + 1)]
        images = bench.drawn(f"{amounts.seeds} x {item.caption}", asked)
        vectors = bench.look([to_tensor(image) for image in images]).concept
        rows.append((spread(vectors), *_real_spreads(bench, item, styles)))
        cells += [Cell(image, item.caption if i == 0 else "") for i, image in enumerate(images)]
    told = (("of all its taught styles", 1), ("of one family", 2))
    for name, place in told:
        both = [(row[0], row[place]) for row in rows if row[place] is not None]
        if both:
            ours, real = zip(*both, strict=True)
            yield Figure(
                section="diversity",
                name=f"mean distance of {amounts.seeds} seeds; real: pictures of the concept {name}",
                model=mean(ours),
                real=mean(real),
                ratio=ratio(ours, real),
                percent=False,
            )
    yield Sheet("seeds", f"{amounts.seeds} seeds of a prompt", "Seeds 1, 2, 3 and so on; none left out.", tuple(cells))


def _real_spreads(bench: Bench, wanted: Illustration, styles: set[str]) -> tuple[float | None, float | None]:
    same = [item for item in bench.real if item.concept == wanted.concept and item.style in styles]
    family = [item for item in same if item.family == wanted.family]
    both = [spread(bench.vectors[[i.number for i in part]]) if len(part) > 1 else None for part in (same, family)]
    return both[0], both[1]


def free(bench: Bench) -> Iterator[Figure | Sheet]:
    """Prompts that newcomers type, to be looked at."""
    prompts = free_prompts()[: bench.plan.amounts.free]
    images = bench.drawn("free prompts", [Asked(one.prompt) for one in prompts])
    told = [f"{one.prompt} ({one.meaning})" if one.meaning else one.prompt for one in prompts]
    says = "What newcomers type, seed 1 each, none picked. Nothing grades these but your eyes."
    yield Sheet("free-prompts", "Free prompts", says, tuple(map(Cell, images, told)))


def speed(bench: Bench) -> Iterator[Figure | Sheet]:
    """Seconds for a picture once the model is loaded, on this machine as it is."""
    side = f"{bench.model.defaults.width} x {bench.model.defaults.height}"
    for steps in (20, FEW_STEPS):
        request = replace(bench.model.defaults, prompt="a red apple", seed=1, steps=steps)
        seconds = []
        for turn in range(bench.plan.amounts.timed + 1):
            begun = time.perf_counter()
            for _ in text_to_image(bench.model, request):
                pass
            if turn:  # the first one warms up
                seconds.append(time.perf_counter() - begun)
        name = f"seconds for {steps} steps at {side}, {torch.get_num_threads()} threads"
        yield Figure(section="speed", name=name, model=mean(seconds), percent=False, note=f"on {bench.model.device}")


def measured(bench: Bench) -> Iterator[list[Figure | Sheet]]:
    """All measurements in the order of the report, part by part."""
    drawn = []
    for one in draw_groups(bench):
        drawn.append(one)
        yield list(accuracy(bench, one))
    yield list(likeness(bench, drawn))
    for measure in (partial(diversity, seen=drawn[0].group), composed, free, speed):
        yield list(measure(bench))
