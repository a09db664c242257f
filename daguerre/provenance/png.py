"""A PNG with what made it inside: an infotext for other programs, and our own complete record."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from . import infotext
from .record import Record, RecordError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
INFOTEXT, RECORD = "parameters", "daguerre"  # keywords of the text chunks
MAX_TEXT = 4 * 2**20  # bytes of one text
MAX_CHUNKS = 1_000_000


class PNGError(ValueError):
    """A file that is no PNG or a damaged one; the message names the file and what is wrong."""


def encode(picture: Image.Image, record: Record, *, is_whole: bool = True) -> bytes:
    """The bytes of a PNG of an RGB picture, with its infotext and, if the record is of all of it, the record."""
    return encode_said(picture, infotext.write(record), record if is_whole else None)


def encode_said(picture: Image.Image, said: str, record: Record | None = None) -> bytes:
    """The bytes of a PNG with an infotext of any program and, where there is one, a record."""
    texts = PngInfo()
    words = said.replace("\0", "")  # a PNG text ends at NUL; the record keeps it
    texts.add_text(INFOTEXT, words.encode("utf-8", "replace").decode())  # Latin-1 where that does, else UTF-8
    if record:
        texts.add_itxt(RECORD, record.to_json())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def read(path: Path) -> tuple[Record | None, str | None]:
    """The record and the infotext in a PNG, each None where it has none. Decodes no pixels.

    Raises PNGError for a file that is not a PNG, is cut off or damaged, or has a text that is too long, and
    for a record that cannot be read.
    """
    with path.open("rb") as file:
        try:
            texts = _texts(file)
            record = texts.get(RECORD)
            return None if record is None else Record.from_json(record), texts.get(INFOTEXT)
        except (PNGError, RecordError) as error:
            raise PNGError(f"{path}: {error}") from error


def _texts(file: BinaryIO) -> dict[str, str]:
    """The two texts that matter, by keyword; the other chunks are stepped over unread."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise PNGError("this is not a PNG")
    size, found = os.fstat(file.fileno()).st_size, dict[str, str]()
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (size, b"")
        if file.tell() + length + 4 > size:  # 4 bytes of checksum follow
            raise PNGError("the file is cut off or damaged")
        if kind == b"IEND":
            return found
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            file.seek(length + 4, os.SEEK_CUR)
            continue
        if length > MAX_TEXT:
            raise PNGError(f"a text in it is {length} bytes long; the limit is {MAX_TEXT}")
        data, checksum = file.read(length), file.read(4)
        keyword = data[:80].partition(b"\0")[0].decode("latin-1")
        if keyword in (INFOTEXT, RECORD) and keyword not in found:
            if zlib.crc32(kind + data).to_bytes(4) != checksum:
                raise PNGError(f"its text {keyword!r} is damaged (wrong checksum)")
            found[keyword] = _text(kind, data.partition(b"\0")[2], keyword)
    raise PNGError(f"it has more than {MAX_CHUNKS} chunks")


def _text(kind: bytes, data: bytes, keyword: str) -> str:
    """The text of a chunk, given what follows its keyword (PNG specification, section 11.3.3)."""
    try:
        if kind == b"tEXt":
            return data.decode("latin-1")
        compressed = kind == b"zTXt" or data[0] == 1
        # Before the text: its compression method, and in iTXt a flag, a language and a translated keyword.
        data = data[1:] if kind == b"zTXt" else data[2:].split(b"\0", 2)[2]
        if compressed:
            stream = zlib.decompressobj()
            data = stream.decompress(data, MAX_TEXT)
            if not stream.eof:
                raise PNGError(f"its text {keyword!r} is cut off or longer than {MAX_TEXT} bytes")
        return data.decode("latin-1" if kind == b"zTXt" else "utf-8")
    except (IndexError, UnicodeDecodeError, zlib.error) as error:
        raise PNGError(f"its text {keyword!r} is damaged: {error}") from error
