import io
import struct
import time
import zlib

import pytest
from hypothesis import example, given
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from daguerre.provenance import infotext, png
from daguerre.provenance.png import MAX_TEXT, SIGNATURE, PNGError, encode, read
from daguerre.request import TextToImage

from .records import ANY_TEXT, TRAPS, record, requests

PICTURE = Image.frombytes("RGB", (16, 8), bytes(range(128)) * 3)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def file_of(*chunks: bytes, width: int = 1, height: int = 1) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"".join([SIGNATURE, header, *chunks, chunk(b"IEND")])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("png") / "picture.png"


def save(path, content: bytes):
    path.write_bytes(content)
    return path


@given(requests(ANY_TEXT))
@example(TextToImage(prompt=TRAPS[4], negative_prompt=TRAPS[7]))
def test_a_picture_gives_its_record_back(path, request):
    made = record(request=request)
    assert read(save(path, encode(PICTURE, made)))[0] == made


@pytest.mark.parametrize("prompt", TRAPS)
def test_no_prompt_can_be_taken_for_settings(path, prompt):
    made = record(request=TextToImage(prompt=prompt, negative_prompt=prompt))
    found, text = read(save(path, encode(PICTURE, made)))
    assert found == made
    assert infotext.read(text)["Seed"] == "123"


@pytest.mark.parametrize(("prompt", "kind"), [("a café", b"tEXt"), ("a \U0001f431", b"iTXt")])
def test_pillow_reads_the_pixels_and_the_infotext(prompt, kind):
    made = record(request=TextToImage(prompt=prompt))
    content = encode(PICTURE, made)
    assert kind + b"parameters\0" in content
    with Image.open(io.BytesIO(content)) as image:
        assert image.text == {"parameters": infotext.write(made), "daguerre": made.to_json()}
        assert image.tobytes() == PICTURE.tobytes()


def test_a_picture_of_others_gives_what_it_has(path):
    texts = PngInfo()
    texts.add_text("parameters", "a cat \U0001f431", zip=True)
    texts.add_text("parameters", "a second text is not read")
    texts.add_text("workflow", "{}")
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG", pnginfo=texts)
    assert read(save(path, buffer.getvalue())) == (None, "a cat \U0001f431")
    late = file_of(chunk(b"IDAT"), chunk(b"zTXt", b"parameters\0\0" + zlib.compress("café".encode("latin-1"))))
    assert read(save(path, late)) == (None, "café")
    assert read(save(path, file_of())) == (None, None)


WHOLE = encode(PICTURE, record())
BOMB = zlib.compress(bytes(200 * 2**20))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a PNG"),
        (b"GIF89a", "not a PNG"),
        (SIGNATURE, "cut off or damaged"),
        (SIGNATURE + b"\xff\xff\xff\xffIDAT", "cut off or damaged"),
        (WHOLE.replace(b"a red apple", b"a bad apple"), "text 'parameters' is damaged .wrong checksum"),
        (file_of(chunk(b"tEXt", b"daguerre\0{}")), "the record has no field 'created'"),
        (file_of(chunk(b"iTXt", b"daguerre\0\0\0\0\0\xff")), "text 'daguerre' is damaged"),
        (file_of(chunk(b"iTXt", b"daguerre\0")), "text 'daguerre' is damaged"),
        (file_of(chunk(b"iTXt", b"daguerre\0\0\0")), "text 'daguerre' is damaged"),
        (file_of(chunk(b"iTXt", b"parameters\0\1\0\0\0junk")), "text 'parameters' is damaged"),
        (file_of(chunk(b"zTXt", b"parameters\0\0" + BOMB[:100])), "cut off or longer than"),
        (file_of(chunk(b"zTXt", b"parameters\0\0" + BOMB)), "cut off or longer than"),
        (file_of(chunk(b"iTXt", b"daguerre\0\1\0\0\0" + BOMB)), "cut off or longer than"),
        (file_of(chunk(b"tEXt", b"parameters\0" + bytes(MAX_TEXT))), "a text in it is .* bytes long"),
    ],
)
def test_a_hostile_file_is_a_quick_error_that_names_it(path, content, reason):
    start = time.process_time()
    with pytest.raises(PNGError, match=f"picture.png: .*{reason}"):
        read(save(path, content))
    assert time.process_time() - start < 0.5


def test_a_file_cut_anywhere_is_an_error(path):
    for length in [*range(100), *range(100, len(WHOLE), 17)]:
        with pytest.raises(PNGError, match=r"not a PNG|cut off"):
            read(save(path, WHOLE[:length]))


def test_a_huge_picture_and_bombs_in_other_texts_cost_nothing(path):
    bombs = [chunk(b"zTXt", b"workflow\0\0" + BOMB)] * 20
    content = file_of(*bombs, chunk(b"tEXt", b"parameters\0x"), width=2**31 - 1, height=2**31 - 1)
    start = time.process_time()
    assert read(save(path, content)) == (None, "x")
    assert time.process_time() - start < 0.5


def test_too_many_chunks_are_an_error(path, monkeypatch):
    monkeypatch.setattr(png, "MAX_CHUNKS", 100)
    with pytest.raises(PNGError, match="more than 100 chunks"):
        read(save(path, file_of(*[chunk(b"noIS")] * 100)))


def test_a_missing_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.png")
