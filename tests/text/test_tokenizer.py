import hashlib
import lzma
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.text.tokenizer import END, START, VOCABULARY, Tokenizer, read_vocabulary

ANY_CHARACTER = st.characters(codec=None)  # lone surrogates too


def test_vocabulary_is_the_published_one():
    text = lzma.decompress(VOCABULARY.read_bytes())
    assert text.count(b"\n") == 48_895
    digest = hashlib.sha256(text).hexdigest()
    assert digest == "685491abbdad36159d094ecdc23bebc0dd53f8d1df35c4d74ef6036db2ba7572"


def test_every_token_has_its_own_id():
    tokens, merges = read_vocabulary(VOCABULARY)
    assert len(tokens) == 49_408
    assert len(merges) == 48_894
    assert (tokens["<|startoftext|>"], tokens["<|endoftext|>"]) == (START, END)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        (" \t\n", []),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A  PHOTO\nof a Cat", [320, 1125, 539, 320, 2368]),
        (",", [267]),
        ("!", [256]),
        ("a<|endoftext|>b", [320, END, 321]),
    ],
)
def test_known_ids(text, ids):
    assert Tokenizer().encode(text) == ids


@pytest.mark.parametrize(
    ("broken", "sound"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("a\udfff", "a\ufffd"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),  # a pair is the character that it stands for
    ],
)
def test_lone_surrogates_are_replaced(broken, sound):
    assert Tokenizer().encode(broken) == Tokenizer().encode(sound)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["a" * 20_000, "ab" * 10_000, "日本" * 10_000, "!" * 20_000, "\u0301" * 20_000])
def test_very_long_words_take_no_time(text):
    assert 0 < len(Tokenizer().encode(text)) <= 3 * len(text)


@given(st.text(ANY_CHARACTER))
def test_any_text_has_ids(text):
    assert all(0 <= token <= END for token in Tokenizer().encode(text))


@given(st.text(ANY_CHARACTER), st.text(ANY_CHARACTER))
def test_words_do_not_depend_on_their_neighbors(left, right):
    encode = Tokenizer().encode
    assert encode(f"{left} a {right}") == [*encode(f"{left} "), *encode("a"), *encode(f" {right}")]


def test_importing_loads_neither_tokenizers_nor_torch():
    code = "import sys, daguerre.text.tokenizer; print({'tokenizers', 'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
