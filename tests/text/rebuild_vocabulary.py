"""Rebuilds daguerre/text/clip_vocabulary.txt.xz from the wheel that carries OpenAI's published file.

`pip download --no-deps open_clip_torch==3.3.0`, then `python tests/text/rebuild_vocabulary.py WHEEL`.
"""

import gzip
import hashlib
import lzma
import sys
import zipfile
from pathlib import Path

from daguerre.text.tokenizer import VOCABULARY

MEMBER = "open_clip/bpe_simple_vocab_16e6.txt.gz"
PUBLISHED_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
LINES = 48_895  # CLIP has 49,408 tokens: these merges after a title line, 512 bytes, start and end


def trimmed(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        published = archive.read(MEMBER)
    found = hashlib.sha256(published).hexdigest()
    if found != PUBLISHED_SHA256:
        raise ValueError(f"{wheel}: {MEMBER} has SHA-256 {found}; take a release that has {PUBLISHED_SHA256}")
    return b"".join(gzip.decompress(published).splitlines(keepends=True)[:LINES])


if __name__ == "__main__":
    VOCABULARY.write_bytes(lzma.compress(trimmed(Path(sys.argv[1])), preset=9 | lzma.PRESET_EXTREME))
