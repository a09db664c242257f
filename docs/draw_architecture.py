"""Draws architecture.svg: the rooms of daguerre, the files in them, and who imports whom.

    python docs/draw_architecture.py

Plain geometry; all lengths are in pixels.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from rooms import ROOT, files_of, layers, room_imports

PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH, MARGIN = 1540, 36
BOX, CHANNEL = 262, 62  # box width, height between rows
LETTER, LINE = 6.65, 17  # advance of the small monospaced text, line height
COLORS = ("#b3261e", "#b25e00", "#6b6b00", "#2a7a1f", "#00707a", "#2456b8", "#6f3aa8")

PURPOSE = {
    "cli": "flags to requests, progress, exit codes",
    "train": "one loop, a recipe per network",
    "evaluate": "figures with intervals, beside real ones",
    "generate": "each task one short function",
    "data": "pictures and captions to batches",
    "adapters": "LoRA and new words, attached from outside",
    "families": "each model family as data",
    "text": "prompt to token features",
    "checkpoints": "files to state dicts and back, by tables",
    "diffusion": "the mathematics of noise",
    "models": "the networks, one config each",
    "runtime": "where and how modules run",
    "files": "bytes: read warily, written whole",
    "provenance": "what made a picture, inside it",
    "request": "what a user can ask for",
}


class Box(NamedTuple):
    room: str
    row: int
    x: float
    y: float
    lines: tuple[str, ...]
    height: float


class Edge(NamedTuple):
    start: Box
    end: Box


def wrapped(names: list[str]) -> tuple[str, ...]:
    """Names set in lines that fit a box."""
    lines, most = [""], int((BOX - 28) / LETTER)
    for name in names:
        if lines[-1] and len(lines[-1]) + 2 + len(name) > most:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + name
    return tuple(line for line in lines if line)


def boxes() -> dict[str, Box]:
    """Every room at its place: rows as in the import contract, each row centered."""
    placed, y = {}, float(MARGIN)
    for row, rooms in enumerate(layers()):
        texts = {room: wrapped(files_of(room)) for room in rooms}
        height = 52 + LINE * max(map(len, texts.values()))
        gap = min(150, (WIDTH - 2 * MARGIN - len(rooms) * BOX) / max(1, len(rooms) - 1))
        x = (WIDTH - len(rooms) * BOX - (len(rooms) - 1) * gap) / 2
        for room in rooms:
            placed[room] = Box(room, row, x, y, texts[room], height)
            x += BOX + gap
        y += height + CHANNEL
    return placed


def spread(wanted: list[float], low: float, high: float, distance: float) -> list[float]:
    """Positions near the wanted ones, in their order, at least `distance` apart and inside [low, high]."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    distance = min(distance, (high - low) / max(1, len(wanted)))
    placed, least = [0.0] * len(wanted), low
    for rank, i in enumerate(order):
        most = high - (len(order) - 1 - rank) * distance
        placed[i] = min(max(wanted[i], least), most)
        least = placed[i] + distance
    return placed


def free_lanes(row: int, placed: dict[str, Box]) -> list[tuple[float, float]]:
    """The stretches of x where a line can pass a row without touching a box."""
    inside = sorted(box.x for box in placed.values() if box.row == row)
    starts = [MARGIN / 2] + [x + BOX + 8 for x in inside]
    ends = [x - 8 for x in inside] + [WIDTH - MARGIN / 2]
    return list(zip(starts, ends, strict=True))


def crossings(edges: list[Edge], placed: dict[str, Box]) -> dict[tuple[Edge, int], float]:
    """Where an edge that skips rows passes each of them: as straight as the boxes in its way allow."""
    found: dict[tuple[Edge, int], float] = {}
    for row in range(len(layers())):
        lanes: dict[tuple[float, float], list[tuple[Edge, float]]] = defaultdict(list)
        for edge in edges:
            if not edge.start.row < row < edge.end.row:
                continue
            share = (row - edge.start.row) / (edge.end.row - edge.start.row)
            wish = edge.start.x + share * (edge.end.x - edge.start.x) + BOX / 2
            lane = min(free_lanes(row, placed), key=lambda lane: max(lane[0] - wish, wish - lane[1], 0))
            lanes[lane].append((edge, wish))
        for (low, high), passing in lanes.items():
            positions = spread([wish for _, wish in passing], low, high, 9)
            found |= {(edge, row): x for (edge, _), x in zip(passing, positions, strict=True)}
    return found


def ports(edges: list[Edge], passed: dict[tuple[Edge, int], float]) -> dict[tuple[Edge, str], float]:
    """Where each edge leaves its importer's lower side and enters the imported room's upper side."""
    found: dict[tuple[Edge, str], float] = {}
    for side in ("start", "end"):
        groups: dict[str, list[Edge]] = defaultdict(list)
        for edge in edges:
            groups[getattr(edge, side).room].append(edge)
        for group in groups.values():
            box: Box = getattr(group[0], side)
            next_row = {edge: edge.start.row + 1 if side == "start" else edge.end.row - 1 for edge in group}
            other = "end" if side == "start" else "start"
            wishes = [passed.get((edge, next_row[edge]), getattr(edge, other).x + BOX / 2) for edge in group]
            positions = spread(wishes, box.x + 24, box.x + BOX - 24, 15)
            found |= {(edge, side): x for edge, x in zip(group, positions, strict=True)}
    return found


def route(edge: Edge, found: dict[tuple[Edge, str], float], passed: dict[tuple[Edge, int], float]) -> str:
    """The path of one edge: curves between rows, straight past them, an arrow's length left at the end."""
    tops = {box.row: (box.y, box.height) for box in boxes().values()}
    x, y = found[edge, "start"], edge.start.y + edge.start.height
    parts = [f"M{x:.0f} {y:.0f}"]
    for row in range(edge.start.row + 1, edge.end.row + 1):
        last = row == edge.end.row
        to_x = found[edge, "end"] if last else passed[edge, row]
        to_y = tops[row][0] - (7 if last else 0)
        bend = (to_y - y) * 0.55
        parts.append(f"C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} {to_x:.0f} {to_y:.0f}")
        x, y = to_x, to_y
        if not last:
            y += tops[row][1]
            parts.append(f"V{y:.0f}")
    return "".join(parts)


def drawn_box(box: Box) -> Iterator[str]:
    """A room: its name, its purpose, its files."""
    color = COLORS[box.row % len(COLORS)]
    yield (
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{BOX}" height="{box.height:.0f}" rx="8" '
        f'fill="#fff" stroke="{color}" stroke-width="1.6"/>'
    )
    yield f'<text x="{box.x + 14:.0f}" y="{box.y + 23:.0f}" class="room" fill="{color}">{box.room}</text>'
    yield f'<text x="{box.x + 14:.0f}" y="{box.y + 40:.0f}" class="why">{PURPOSE[box.room]}</text>'
    for i, line in enumerate(box.lines):
        y = box.y + 58 + i * LINE
        yield f'<text x="{box.x + 14:.0f}" y="{y:.0f}" class="file" xml:space="preserve">{line}</text>'


def draw() -> str:
    """The whole picture as SVG text; the same source gives the same bytes."""
    placed = boxes()
    edges = [
        Edge(placed[room], placed[target])
        for room, targets in sorted(room_imports().items())
        for target in sorted(targets)
    ]
    passed = crossings(edges, placed)
    found = ports(edges, passed)
    height = max(box.y + box.height for box in placed.values()) + MARGIN
    arrows = (
        f'<marker id="a{i}" markerWidth="8" markerHeight="8" refX="1" refY="4" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" fill="{color}"/></marker>'
        for i, color in enumerate(COLORS)
    )
    lines = (
        f'<path d="{route(edge, found, passed)}" stroke="{COLORS[edge.start.row]}" '
        f'marker-end="url(#a{edge.start.row})"/>'
        for edge in edges
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
            "<title>The rooms of daguerre; an arrow points from a room to one that it imports</title>",
            "<style>text{font-family:'DejaVu Sans',Verdana,sans-serif}.room{font-size:16px;font-weight:bold}"
            ".why{font-size:11.5px;fill:#555}"
            ".file{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:11px;fill:#222}</style>",
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fafaf7"/>',
            f'<text x="{MARGIN}" y="{MARGIN + 12}" class="why">An arrow points from a room</text>',
            f'<text x="{MARGIN}" y="{MARGIN + 28}" class="why">to one that it imports.</text>',
            "<defs>",
            *arrows,
            "</defs>",
            '<g fill="none" stroke-width="1.5" stroke-opacity="0.75">',
            *lines,
            "</g>",
            *(line for box in placed.values() for line in drawn_box(box)),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {sum(map(len, room_imports().values()))} imports between rooms")
