"""CLIP's vocabulary as files that other programs read."""

import json

from ..text.tokenizer import VOCABULARY, read_vocabulary


def tokenizer_files() -> dict[str, bytes]:
    """The vocabulary as the files that other programs read, by name."""
    tokens, merges = read_vocabulary(VOCABULARY)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    return {"vocab.json": json.dumps(tokens).encode(), "merges.txt": "\n".join(lines).encode()}
