r"""Prompts that change while a picture is drawn, in the grammar of A1111.

    [to:when]   [from::when]   [from:to:when]     another text after step `when`
    [a|b|c]                                       one after the other, a step each, and from the first again

A `when` with a decimal point is a share of the steps, without one the number of a step. All of it nests.
Square brackets that are none of these stay as they are, for they weigh a text less; so does a bracket that is
never closed, with all the brackets round it. As in A1111, a "|" outside of such brackets, or a backslash that
ends a line, leaves the whole prompt as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

PIECE = re.compile(r"(?:[^\\()\[\]:|]|\\.)+|[\\()\[\]:|]")
WHEN = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


class Entry(NamedTuple):
    """What a prompt says up to a step."""

    last: int  # 1-based
    text: str


class Change(NamedTuple):
    before: "Item"
    after: "Item"
    when: int  # the last step of `before`


@dataclass(frozen=True, slots=True)
class Turns:
    options: Sequence["Item"]


Item = str | Change | Turns | list["Item"]


@dataclass
class Bracket:
    """An open bracket, or the prompt itself."""

    opening: str = ""
    parts: list[list[Item]] = field(default_factory=lambda: [[]])
    separators: str = ""  # the ":" and "|" between the parts

    def literal(self) -> list[Item]:
        """The bracket as mere characters."""
        return [self.opening, *chain.from_iterable(zip(["", *self.separators], self.parts, strict=True))]


def schedule(prompt: str, steps: int, *, after: int = 0) -> list[Entry]:
    """What a prompt says in each part of a pass of `steps` steps; the last entry ends with the last step.

    In a second pass, such as that of a hires fix, `after` is the number of steps of the first: whole numbers count
    on from it, and shares from 1.0. Any text is a prompt: nothing is raised.
    """
    items = parse(prompt, steps, after)
    if items is None:
        return [Entry(steps, prompt)]
    ends, todo = {steps}, [items]
    while todo:  # not recursive: thousands of brackets may lie in each other
        match todo.pop():
            case Change(before, to, when):
                ends |= {when} if when >= 1 else set()
                todo += [before, to]
            case Turns(options):
                ends.update(range(1, steps + 1))
                todo += options
            case list(inner):
                todo += inner
    return [Entry(end, text_at(end, items)) for end in sorted(ends)]


def text_at(step: int, items: Item) -> str:
    """What is said at a step, from 1."""
    said: list[str] = []
    todo = [items]
    while todo:
        match todo.pop():
            case str(text):
                said.append(text)
            case Change(before, to, when):
                todo.append(before if step <= when else to)
            case Turns(options):
                todo.append(options[(step - 1) % len(options)])
            case list(inner):
                todo += reversed(inner)
    return "".join(said)


def parse(prompt: str, steps: int, after: int) -> Item | None:
    """The prompt with its changes and turns; None if it is to be left as it is."""
    whole, opened = Bracket(), list[Bracket]()
    for match in PIECE.finditer(prompt):
        piece, inmost = match[0], opened[-1] if opened else whole
        if piece in ("(", "["):
            opened.append(Bracket(piece))
        elif piece == "\\" or (piece == "|" and not opened):
            return None
        elif opened and piece in (":", "|"):
            inmost.separators += piece
            inmost.parts.append([])
        elif opened and piece in (")", "]"):
            if item := meaning(opened[-1], piece, steps, after):
                opened.pop()
                (opened[-1] if opened else whole).parts[-1].append(item)
            elif not give_up(opened, whole):
                return None
            else:
                whole.parts[-1].append(piece)
        else:
            inmost.parts[-1].append(piece)
    return whole.parts[0] if give_up(opened, whole) else None


def give_up(opened: list[Bracket], whole: Bracket) -> bool:
    """Takes all open brackets for mere characters; False if a "|" forbids it."""
    literal = [bracket.literal() for bracket in opened]
    allowed = not any("|" in bracket.separators for bracket in opened)
    whole.parts[0] += literal
    opened.clear()
    return allowed


def meaning(bracket: Bracket, closing: str, steps: int, after: int) -> Item | None:
    """What a bracket means once it is closed; None if nothing, and it is mere characters."""
    *others, last = bracket.parts
    pair, separators = bracket.opening + closing, bracket.separators
    if (pair == "()" and separators in ("", ":")) or (pair == "[]" and not separators):
        return [*bracket.literal(), closing]
    if pair == "[]" and set(separators) == {"|"}:
        return Turns(bracket.parts)
    number = WHEN.fullmatch(last[0]) if len(last) == 1 and isinstance(last[0], str) else None
    if pair == "[]" and separators in (":", "::") and number:
        return Change(others[0] if len(others) == 2 else [], others[-1], moment(number[1], steps, after))
    return None


def moment(number: str, steps: int, after: int) -> int:
    """The step that the last part of a bracket names, at most `steps`; below 1 is before the first."""
    value = float(number)
    step = (value - (after > 0)) * steps if "." in number else value - after
    return int(max(0, min(step, steps)))  # first to the limits: a number may be infinite
