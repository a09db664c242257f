"""CLIP's byte-pair tokenizer (arXiv:2103.00020, section 2.4), built in code from its published vocabulary."""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

START, END = 49_406, 49_407
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
VOCABULARY = Path(__file__).with_name("clip_vocabulary.txt.xz")  # a title line, then one merge a line
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Text to CLIP token ids. The vocabulary is read once, when a text is first encoded."""

    whole: tuple[range, ...] = ()  # ids that stand together: a word that is several vectors

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone: no start, end or padding. A lone surrogate counts as U+FFFD."""
        sound = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = byte_pair_encoder().encode(sound, add_special_tokens=False).ids
        return ids


@cache
def byte_pair_encoder() -> "tokenizers.Tokenizer":
    """CLIP's encoder, built once."""
    # imported here: reading a prompt's syntax, or `--help`, should not pay for it
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokens, merges = read_vocabulary(VOCABULARY)
    encoder = Tokenizer(models.BPE(tokens, merges, end_of_word_suffix="</w>"))
    encoder.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    encoder.add_special_tokens(list(SPECIAL))  # a prompt may spell them out
    return encoder


def byte_letters() -> dict[str, int]:
    """The visible letter that stands for each byte in byte-pair vocabularies, GPT-2's and CLIP's, in CLIP's order.

    Printable Latin-1 stands for itself, and letters from U+0100 on for the other bytes.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def read_vocabulary(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids by token and merges by rank. Ids: 256 bytes, the same ending a word, the merges, start, end."""
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    merges = [(left, right) for left, right in (line.split() for line in lines[1:])]
    letters = list(byte_letters())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges)]
    return {token: i for i, token in enumerate([*tokens, *SPECIAL])}, merges


def tokenizer_files() -> dict[str, bytes]:
    """The vocabulary as the files that other programs read, by name."""
    tokens, merges = read_vocabulary(VOCABULARY)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    return {"vocab.json": json.dumps(tokens).encode(), "merges.txt": "\n".join(lines).encode()}
