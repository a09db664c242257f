"""The words of a captioner's tokens: word pieces, as BERT has them, or byte pairs, as GPT-2 has them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..files.checkpoint import CheckpointError
from ..text.tokenizer import byte_letters

Kind = Literal["word pieces", "byte pairs"]
FILES: Mapping[Kind, str] = {"word pieces": "vocab.txt", "byte pairs": "vocab.json"}  # or tokenizer.json
SPECIAL: Mapping[Kind, str] = {"word pieces": r"\[.*\]", "byte pairs": r"<\|.*\|>"}  # such as [PAD], <|endoftext|>
MAX_BYTES = 16_000_000
MAX_TOKENS = 1 << 20


@dataclass(frozen=True)
class Words:
    """What each token of a captioner stands for."""

    tokens: Sequence[str]
    kind: Kind

    def text(self, ids: Sequence[int]) -> str:
        """A sentence of tokens; those that mark its end, and numbers that are no token, are left out."""
        said = [self.tokens[i] for i in ids if i < len(self.tokens)]
        said = [token for token in said if not re.fullmatch(SPECIAL[self.kind], token, re.DOTALL)]
        return _joined(said) if self.kind == "word pieces" else _decoded(said)


def read_words(folder: Path, kind: Kind) -> Words:
    """The words of a captioner, from the vocabulary in its folder. Raises CheckpointError."""
    plain, whole = folder / FILES[kind], folder / "tokenizer.json"
    path = plain if plain.is_file() else whole
    if not path.is_file():
        reason = f"there is no {plain.name} or tokenizer.json in it"
        raise CheckpointError(folder, reason, remedy="Download the whole folder")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(path, f"it is larger than {MAX_BYTES // 1_000_000} MB", remedy="Download it again")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".txt":
            return Words(text.splitlines(), kind)
        told = json.loads(text)
        tokens = _listed(told["model"]["vocab"], told.get("added_tokens", ())) if path == whole else _listed(told)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(path, "it is no vocabulary of a captioner", remedy="Download it again") from error
    return Words(tokens, kind)


def _listed(known: Mapping[str, Any], added: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Tokens in the order of their numbers, of a table word -> number."""
    ids = {int(i): str(word) for word, i in known.items()}
    ids |= {int(one["id"]): str(one["content"]) for one in added}
    if not ids or len(ids) > MAX_TOKENS or not 0 <= min(ids) <= max(ids) < MAX_TOKENS:
        raise ValueError("numbers of tokens")
    return [ids.get(i, "") for i in range(max(ids) + 1)]


def _joined(pieces: Sequence[str]) -> str:
    """Word pieces as a sentence: "##" joins to what is before, and signs stand close."""
    text = " ".join(pieces).replace(" ##", "")
    for sign in (".", ",", "!", "?", "'", ")", ":"):
        text = text.replace(f" {sign}", sign)
    return text.replace("' ", "'").replace("( ", "(").replace(" - ", "-").strip()


def _decoded(pairs: Sequence[str]) -> str:
    """Byte pairs as a sentence on one line: each letter is one byte of UTF-8. A pair of other letters is left out."""
    letters = byte_letters()
    known = (pair if all(letter in letters for letter in pair) else "" for pair in pairs)
    text = bytes(letters[letter] for pair in known for letter in pair).decode("utf-8", "replace")
    return " ".join(text.split())
