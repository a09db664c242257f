"""Files that are no models at all, as users name them by mistake: told of as what they are."""

import io
import os

import pytest
from PIL import Image

from daguerre.files.checkpoint import CheckpointError
from daguerre.files.reader import open_checkpoint


def picture(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (picture("PNG"), "a PNG picture"),
        (picture("JPEG"), "a JPEG picture"),
        (picture("WEBP"), "a WebP picture"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a sound or a film"),
        (b"<!DOCTYPE html><html>404 not found</html>", "a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a pointer to a file in Git LFS",
        ),
        (b'{"a": 1}', "a text"),
        (b'{"abcd":{"a": 1}}', "a text"),
        (b"a cat\n", "a text"),
        ("# A model\r\n\tof red apples: 日本語の説明 あいうえおかきくけこ".encode(), "a text"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, data, kind):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"it is {kind}"):
        open_checkpoint(path)


def test_what_is_no_file_is_told_apart_from_what_is_not_there(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        ("/dev/zero", "no regular file"),
        (tmp_path / "pipe", "no regular file"),
        ("no", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=words):
            open_checkpoint(path)
