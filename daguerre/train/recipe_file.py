"""Recipe files: TOML to a typed config and back, with errors that name the key and what may stand there."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..request import RequestError

C = TypeVar("C")
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}


def read(path: Path) -> dict[str, Any]:
    """The values of a TOML file; raises RequestError that names it."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (ValueError, IsADirectoryError) as error:
        raise RequestError(f"{path} is not a TOML file: {error}") from error


def override(values: dict[str, Any], changes: Sequence[str]) -> None:
    """Applies changes such as "loop.steps=100" or 'samples.prompts=["a cat"]' to the values of a recipe file."""
    for change in changes:
        name, equals, text = change.removeprefix("--").partition("=")
        if not equals:
            raise RequestError(f"{change!r} is no change of a setting; write NAME=VALUE, such as loop.steps=100")
        table = values
        *tables, key = name.split(".")
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise RequestError(f"{change!r}: {part!r} is not a table of settings")
        try:
            table[key] = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            table[key] = text  # a bare word


def filled(kind: type[C], values: Mapping[str, Any], where: str, standard: C | None = None) -> C:
    """A config of `kind`, a dataclass, from the values of a table, the rest from `standard` or else by default.

    `where` begins every error.
    """
    hints, made = get_type_hints(kind), {}
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise RequestError(f"{where}: unknown setting {key!r}{_hint(key, list(known))}")
        before = _default(known[key]) if standard is None else getattr(standard, key)
        made[key] = _converted(hints[key], value, f"{where}: {key}", before)
    if standard is not None:
        return replace(standard, **made)  # type: ignore[type-var]
    for name, f in known.items():
        if name not in made and _default(f) is MISSING:
            raise RequestError(f"{where}: {name!r} is missing")
    return kind(**made)


def _default(f: Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default


def _converted(hint: Any, value: Any, where: str, before: Any = None) -> Any:
    origin, options = get_origin(hint), get_args(hint)
    if origin is UnionType or NoneType in options:
        return _converted(next(o for o in options if o is not NoneType), value, where)
    if origin is Literal:
        if value not in options:
            hint_text = _hint(str(value), [str(o) for o in options if o != ""])
            raise RequestError(f"{where} is {value!r}{hint_text}")
        return value
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise RequestError(f"{where} is {value!r}; it should be a table of settings")
        return filled(hint, value, where, before if is_dataclass(before) else None)  # type: ignore[arg-type]
    if origin is tuple:
        return _converted_list(options, value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise RequestError(f"{where} is {value!r}; it should be a table")
        return {k: _converted(options[1], v, f"{where}.{k}") for k, v in value.items()}
    return _plain(hint, value, where)


def _converted_list(options: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise RequestError(f"{where} is {value!r}; it should be a list")
    if options[-1] is Ellipsis:
        return tuple(_converted(options[0], item, f"{where}, item {i}") for i, item in enumerate(value, 1))
    if len(value) != len(options):
        raise RequestError(f"{where} is {value!r}; it should have {len(options)} items")
    return tuple(_converted(o, item, where) for o, item in zip(options, value, strict=True))


def _plain(kind: Any, value: Any, where: str) -> Any:
    given = type(value)
    if kind is Any or given is kind:
        return value
    if kind is float and given is int:
        return float(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise RequestError(f"{where} is {value!r}; it should be {NAMES[kind]}")


def require(kind: str, name: str, options: Sequence[str]) -> None:
    """Raises RequestError, with the nearest of the options, for a name that is none of them."""
    if name not in options:
        raise RequestError(f"unknown {kind} {name!r}{_hint(name, list(options))}")


def _hint(name: str, options: list[str]) -> str:
    near = get_close_matches(name, options, n=1)
    told = f"; did you mean {near[0]!r}?" if near else "."
    return f"{told} There are: {', '.join(options)}"


def changed(config: Any, standard: Any = None) -> dict[str, Any]:
    """The settings of a config that differ from `standard`, or else the defaults, as plain values in nested tables."""
    found = {}
    for f in fields(config):
        value, default = getattr(config, f.name), _default(f) if standard is None else getattr(standard, f.name)
        if is_dataclass(value) and not isinstance(value, type):
            if table := changed(value, default):
                found[f.name] = table
        elif value != default:
            found[f.name] = plain(value)
    return found


def plain(value: Any) -> Any:
    """A setting as TOML and JSON know it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) is not None}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def text_of(values: Mapping[str, Any]) -> str:
    """TOML of nested tables of plain values; `filled(kind, tomllib.loads(text_of(v)))` gives them back."""
    return "\n".join(_lines(values, ())) + "\n"


def _lines(values: Mapping[str, Any], place: tuple[str, ...]) -> list[str]:
    tables = {k: v for k, v in values.items() if isinstance(v, Mapping)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in values.items() if k not in tables]
    if place and (lines or not tables):
        lines.insert(0, f"\n[{'.'.join(map(_key, place))}]")
    for key, table in tables.items():
        lines += _lines(table, (*place, key))
    return lines


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are written alike in TOML
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
