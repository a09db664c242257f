"""Token ids against transformers' CLIPTokenizer, built offline from the same vocabulary."""

import random

import pytest
from transformers import CLIPTokenizer

from daguerre.text.tokenizer import VOCABULARY, Tokenizer, read_vocabulary

WORDS = ["a", "of", "cat", "Photograph", "l'art", "don't", "I'VE", "we'll", "1girl,", "8k", "(best:1.2)", "it''s"]
EMOJI = ["😀", "👩‍🚀", "🏳️‍🌈", "🇨🇭", "👍🏽", "❤️", "☕", "🧑🏿‍🦰"]
CODE = ["def f(x):", "\treturn x**2", "if (a!=b) {", "}", "std::vector<int>&", "$HOME/.cache", "0x1F", "&amp;"]
BLANKS = [*" \t\n\u00a0\u2003\u200b\u3000\ufeff\x85\u2028\x1c", "  ", "\r\n"]


def letters(*ranges):
    return [chr(code) for first, last in ranges for code in range(first, last)]


KINDS = {
    "words": [f"{word} " for word in WORDS],
    "emoji": [*EMOJI, " ", "\u200d", "\ufe0f"],
    "chinese": [*letters((0x4E00, 0x9FFF)), *"，。！？「」"],
    "scripts": letters((0x0370, 0x0590), (0x05D0, 0x05EB), (0x0620, 0x0650), (0x0900, 0x0980), (0xAC00, 0xAD00)),
    "code": [*CODE, " ", "\n"],
    "blanks": [*BLANKS, "a", "1", "!"],
    "control": [*letters((0, 32), (127, 160)), "a", "é"],
    "combining": [*letters((0x0300, 0x0370)), *"aeioucnſßİıﬁ", "\u212b"],
    "ascii": letters((32, 127)),
    "special": ["<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|", "|>", "<", "a", "'s", "'", " "],
    "numbers": [*"0123456789٣४Ⅷ½²", ".", ",", "e", "-"],
    "anything": letters((0, 0xD800), (0xE000, 0x3000)) + letters((0x1F300, 0x1FAFF), (0x20000, 0x20100)),
}


@pytest.fixture(scope="module")
def reference():
    tokens, merges = read_vocabulary(VOCABULARY)
    tokenizer = CLIPTokenizer(vocab=tokens, merges=merges)
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_300_strings_of_each_kind(kind, reference):
    source = random.Random(kind)
    for _ in range(300):
        text = "".join(source.choices(KINDS[kind], k=source.randrange(60)))
        assert Tokenizer().encode(text) == reference(text), ascii(text)


@pytest.mark.parametrize("text", ["", "a" * 5000, "cat" * 3000, "日本" * 2000, "!" * 3000, "👩‍🚀" * 500, "'" * 999])
def test_long_words(text, reference):
    assert Tokenizer().encode(text) == reference(text)
