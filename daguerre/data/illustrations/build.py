"""Builds the tables of captioned illustrations, from pinned packages to Parquet."""

import logging
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ...files.durable import durable_text, durable_write
from ..packages import Package, fetched
from ..phrases import with_article
from .card import Made, card
from .clipart import clip_art
from .iconify import IconSet, read_icons
from .names import NAMES, Concept, read_concepts, translations
from .naming import Entry, code_book, entries
from .raster import draw, opacity
from .sets import STYLES, Style, styles_named
from .splits import CONCEPTS, says_held_out, split_of, strictest

SIZE, AT_ONCE = 128, 16  # pixels; drawings that a process takes at a time
SPELLED = ("noto", "twemoji", "fluent_flat")  # the sets whose code points name the drawings of the others
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is to be built: `size` pixels a side, these styles (none: all, and people with skin tones beside them)."""

    size: int = SIZE
    keys: tuple[str, ...] = ()
    workers: int = 1
    styles: tuple[Style, ...] = STYLES
    names: Package = NAMES

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048:
            raise ValueError(f"size is {self.size}; illustrations have 16 to 2048 pixels a side")
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; at least 1 has to draw")
        chosen = styles_named(self.keys, self.styles)
        if coarse := [s.key for s in chosen if self.keys and (s.pixels or self.size) < self.size]:
            raise ValueError(f"{coarse[0]} has fewer pixels than {self.size}; leave it out, or ask for a smaller size")

    def chosen(self) -> tuple[Style, ...]:
        """The styles to draw, without those whose pictures would have to be enlarged."""
        return tuple(s for s in styles_named(self.keys, self.styles) if (s.pixels or self.size) >= self.size)

    def tables(self) -> tuple[str, ...]:
        """The names of the tables: of pictures without skin tones, and of people with them unless styles are named."""
        return tuple(f"{kind}{self.suffix}.parquet" for kind in ("illustrations", "tones")[: 1 if self.keys else 2])

    @property
    def suffix(self) -> str:
        """What tells files of another size or of some styles apart: "-512-noto"."""
        return "".join(f"-{part}" for part in ([self.size] if self.size != SIZE else []) + list(self.keys))


def build(folder: Path, wanted: Wanted = Wanted()) -> Iterator[tuple[int, int]]:
    """Writes the tables and the card into a folder; yields (pictures drawn, of all) as it goes.

    A finished table stays as it is; what was fetched and drawn before an interruption is used again. Without a client
    for the clip art, the rest is built and a warning logged. Raises ModuleNotFoundError or OSError that tells what to
    install, and ValueError if a package is not the pinned one.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import resvg_py  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"building data needs {error.name}: pip install 'daguerre[data,train]'") from error
    names = fetched(wanted.names, folder)
    if not (folder / "names.parquet").is_file():
        _write(folder / "names.parquet", pa.Table.from_pylist(list(translations(names))))
    tables = dict(zip((folder / name for name in wanted.tables()), (False, True), strict=False))
    if all(path.is_file() for path in tables):
        return
    concepts = {concept.code: concept for concept in read_concepts(names)}
    drawings, missing = _drawings(folder, wanted, names, concepts)
    labels = [concepts[code].label for code in sorted(CONCEPTS) if code in concepts]
    drawn = folder / f"drawn-{wanted.size}.partial"
    drawn.mkdir(exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for path, toned in tables.items():
        rows[path.name] = yield from _rows([d for d in drawings if bool(d.tone) is toned], wanted, drawn, labels)
        _write(path, pa.Table.from_pylist(rows[path.name], schema=_schema()))
    text = card(Made(wanted.chosen(), wanted.size, missing, wanted.names), rows)
    durable_text(folder / f"README{wanted.suffix}.md", text)
    shutil.rmtree(drawn)


def _rows(
    drawings: Sequence[Entry], wanted: Wanted, drawn: Path, held_out: Sequence[str]
) -> Generator[tuple[int, int], None, list[dict[str, Any]]]:
    """A table's rows, one for each picture of a style; yields (pictures drawn, of all) as it goes."""
    rows: dict[tuple[str, bytes], dict[str, Any]] = {}
    for number, (entry, picture) in enumerate(zip(drawings, _pictures(drawings, wanted, drawn), strict=True)):
        yield number, len(drawings)
        if picture:
            row, key = _row(entry, picture, held_out), (entry.style.key, picture)
            rows[key] = _merged(rows[key], row) if key in rows else row
    yield len(drawings), len(drawings)
    return list(rows.values())


def _drawings(
    folder: Path, wanted: Wanted, names: Path, concepts: Mapping[str, Concept]
) -> tuple[list[Entry], tuple[str, ...]]:
    """All drawings, style by style, and the keys of the styles that could not be fetched."""
    chosen = wanted.chosen()
    paths, missing = {}, []
    for style in wanted.styles:
        if style in chosen or style.key in SPELLED:
            try:
                paths[style.key] = fetched(style.package, folder)
            except OSError as error:
                if style.package.registry == "npm":
                    raise
                log.warning("%s; the table will be without %s. To add it, remove the table then", error, style.words)
                missing.append(style.key)
    sets = {key: read_icons(path) for key, path in paths.items() if path.suffix == ".tgz"}
    book = code_book([sets.get(key, IconSet({}, {}, {})) for key in SPELLED], concepts.values())
    found: list[Entry] = []
    for style in chosen:
        if style.key in sets:
            found += entries(style, sets[style.key], book, concepts)
        elif style.key in paths:
            found += clip_art(style, paths[style.key], _italian(names, concepts))
    return found, tuple(missing)


def _italian(names: Path, concepts: Mapping[str, Concept]) -> dict[str, str]:
    rows = [row for row in translations(names) if row["locale"] == "it"]
    return {row["label"].lower(): concepts[row["concept"]].label for row in reversed(rows)}


def _pictures(drawings: Sequence[Entry], wanted: Wanted, drawn: Path) -> Iterator[bytes]:
    """Each drawing as WebP, b"" where that fails, in order."""
    tasks = [(entry.data, wanted.size, drawn, _trimmed(entry)) for entry in drawings]
    if wanted.workers == 1:
        yield from map(draw, tasks)
        return
    with ProcessPoolExecutor(wanted.workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(draw, tasks, chunksize=AT_ONCE)
        finally:
            pool.shutdown(cancel_futures=True)


def _trimmed(entry: Entry) -> bool:
    """Emoji fill their squares as their makers meant; clip art lies anywhere on a page."""
    return entry.style.package.registry == "debian"


def _row(entry: Entry, picture: bytes, held_out: Sequence[str]) -> dict[str, Any]:
    style = entry.style
    said = entry.concept is None and says_held_out(entry.words, held_out)
    name = min(CONCEPTS) if said else entry.concept or entry.label
    tone = f", {entry.tone}" if entry.tone else ""
    return {
        "image": {"bytes": picture, "path": f"{style.key}/{entry.name}.webp"},
        "caption": f"{with_article(entry.label)}{tone}, {style.words}",
        "label": f"{entry.label}{tone}",
        "tags": list(entry.tags),
        "style": style.key,
        "style_words": style.words,
        "family": style.family,
        "group": entry.group,
        "subgroup": entry.subgroup,
        "concept": entry.concept,
        "mono": style.mono,
        "coverage": round(opacity(picture), 3),
        "author": entry.author,
        "licence": style.licence,
        "source": str(style.package),
        "split": split_of(name, style.family),
    }


def _merged(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """One drawing of two things: the second's name is one of the keywords, the stricter split counts."""
    tags = [tag for tag in (*row["tags"], other["label"]) if tag != row["label"]]
    return {**row, "tags": list(dict.fromkeys(tags)), "split": strictest((row["split"], other["split"]))}


def _schema() -> Any:
    import pyarrow as pa

    text, words = pa.string(), pa.list_(pa.string())
    kinds = {"tags": words, "mono": pa.bool_(), "coverage": pa.float64()}
    kinds["image"] = pa.struct([("bytes", pa.binary()), ("path", text)])
    names = (
        "image", "caption", "label", "tags", "style", "style_words", "family", "group", "subgroup", "concept", "mono",
        "coverage", "author", "licence", "source", "split",
    )  # fmt: skip
    return pa.schema([(name, kinds.get(name, text)) for name in names])


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    durable_write(path, lambda target: pq.write_table(table, target, row_group_size=256))
