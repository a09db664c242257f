from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daguerre.models.clip import CLIPText, CLIPTextConfig
from daguerre.request import RequestError
from daguerre.text.embed import Chunk, Encoding, embed, emphasize, encode, pad_to, tokenize
from daguerre.text.tokenizer import END, START, Tokenizer

TOKENIZER = Tokenizer()
CAT, DOG, BREAK, COMMA = 2368, 1929, 2568, 267
EMPTY = Chunk((START, *[END] * 76), (1.0,) * 77)
CONFIG = CLIPTextConfig(width=16, layers=3, heads=2)


def encoder(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    model = CLIPText(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    return encoder()


def chunked(prompt, **options):
    """The prompt's own tokens, chunk by chunk."""
    return [list(chunk.ids[1 : chunk.ids.index(END)]) for chunk in tokenize(prompt, TOKENIZER, **options)]


def cats(n):
    return " ".join(["cat"] * n)


def test_an_empty_prompt_is_one_chunk():
    assert tokenize("", TOKENIZER) == [EMPTY]
    assert tokenize("()", TOKENIZER) == [EMPTY]


def test_a_chunk_is_start_tokens_end_padding():
    assert tokenize("cat (dog:1.5)", TOKENIZER) == [Chunk((START, CAT, DOG, *[END] * 74), (1.0, 1.0, 1.5, *[1.0] * 74))]


@pytest.mark.parametrize(("count", "lengths"), [(75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])])
def test_75_tokens_fill_a_chunk(count, lengths):
    chunks = tokenize(cats(count), TOKENIZER)
    assert [chunk.ids.index(END) - 1 for chunk in chunks] == lengths
    assert all(len(chunk.ids) == len(chunk.weights) == 77 for chunk in chunks)


@pytest.mark.parametrize(
    ("before", "after", "backtrack", "first"),
    [
        (60, 20, 20, 61),  # 14 tokens follow the comma and move with it
        (54, 30, 20, 75),  # the comma is the 21st from the end: too far
        (55, 30, 20, 56),  # the 20th: near enough
        (54, 30, 21, 55),
        (74, 5, 20, 75),  # the chunk's last token is the comma
        (75, 5, 20, 75),  # the comma itself is what no longer fits
        (60, 20, 0, 75),
        (60, 14, 20, 75),  # full, but nothing follows
    ],
)
def test_a_full_chunk_ends_after_its_last_comma(before, after, backtrack, first):
    tokens = [CAT] * before + [COMMA] + [DOG] * after
    prompt = f"{cats(before)}, " + "dog " * after
    got = chunked(prompt, backtrack=backtrack)
    assert got == [part for part in (tokens[:first], tokens[first:]) if part]


def test_the_last_of_several_commas_counts():
    assert [len(ids) for ids in chunked(f"{cats(58)}, {cats(5)}, {cats(40)}")] == [65, 40]


def test_a_comma_that_does_not_fit_opens_the_next_chunk_though_an_earlier_one_is_near():
    assert chunked(f"{cats(70)}, {cats(4)}, dog") == [[CAT] * 70 + [COMMA] + [CAT] * 4, [COMMA, DOG]]


class Trained(Tokenizer):
    """Knows the word zwx as three tokens."""

    ids = range(60_000, 60_003)
    whole = (ids,)

    def encode(self, text):
        found = []
        for word in text.split():
            found += self.ids if word == "zwx" else super().encode(word)
        return found


@pytest.mark.parametrize(
    ("before", "lengths"),
    [(72, [75]), (73, [73, 3]), (74, [74, 3]), (75, [75, 3]), (147, [75, 75]), (148, [75, 73, 3])],
)
def test_a_word_of_several_tokens_is_not_cut(before, lengths):
    chunks = tokenize(f"{cats(before)} zwx", Trained())
    assert [chunk.ids.index(END) - 1 for chunk in chunks] == lengths
    assert chunks[-1].ids[lengths[-1] - 2 : lengths[-1] + 1] == tuple(Trained.ids)


def test_a_word_longer_than_a_chunk_is_cut():
    chunks = tokenize("cat zwx", Trained(), context=4)
    assert [chunk.ids.index(END) - 1 for chunk in chunks] == [1, 2, 1]


def test_weights_move_with_their_tokens():
    first, second = tokenize(f"{cats(60)}, (" + "dog " * 20 + ":1.5)", TOKENIZER)
    assert first.weights == (1.0,) * 77
    assert second.weights == (1.0, *[1.5] * 20, *[1.0] * 56)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("cat BREAK dog", [[CAT], [DOG]]),
        ("cat BREAK", [[CAT]]),
        ("BREAK cat", [[], [CAT]]),
        ("BREAK BREAK", [[], []]),
        ("(cat BREAK dog:1.2)", [[CAT, BREAK, DOG]]),
    ],
)
def test_break_ends_a_chunk(prompt, expected):
    assert chunked(prompt) == expected


def test_emphasis_none_takes_the_syntax_as_text():
    ids, weights = tokenize("(cat:1.5) BREAK", TOKENIZER, emphasis="none")[0]
    assert list(ids[1 : ids.index(END)]) == TOKENIZER.encode("(cat:1.5) BREAK")
    assert set(weights) == {1.0}


def test_emphasis_ignore_reads_the_syntax_and_weighs_all_alike():
    assert tokenize("(cat:1.5) BREAK [dog]", TOKENIZER, emphasis="ignore") == tokenize("cat BREAK dog", TOKENIZER)


def test_pad_to_appends_empty_chunks():
    cat = tokenize("cat", TOKENIZER)
    assert pad_to(cat, 3) == [*cat, EMPTY, EMPTY]
    assert pad_to(cat, 1) == cat


@given(st.lists(st.sampled_from(["cat", ",", "dog", "(", ")", "BREAK", "\N{GRINNING FACE}"]), max_size=400))
def test_chunks_hold_the_prompt_in_order(words):
    prompt = " ".join(words)
    chunks = tokenize(prompt, TOKENIZER)
    assert all(len(chunk.ids) == len(chunk.weights) == 77 for chunk in chunks)
    if "(" not in words:  # no bracket scales a BREAK
        expected = [token for part in prompt.split("BREAK") for token in TOKENIZER.encode(part)]
        assert [token for ids in chunked(prompt) for token in ids] == expected


def test_features_are_those_of_each_chunk_joined_along_the_tokens(small):
    chunks = tokenize(f"{cats(80)} BREAK dog", TOKENIZER)
    whole = encode(chunks, small, Encoding())
    assert whole.tokens.shape == (1, 3 * 77, 16)
    for i, chunk in enumerate(chunks):
        states = small(torch.tensor([chunk.ids]))
        assert torch.equal(whole.tokens[:, 77 * i : 77 * (i + 1)], states.last)
        if i == 0:
            assert torch.equal(whole.pooled, states.pooled)


def test_what_follows_the_first_end_is_padded_as_the_encoder_was_trained(small):
    chunks = tokenize("cat", TOKENIZER)
    for pad in (END, 0):
        ids = [START, CAT, END, *[pad] * 74]
        expected = small(torch.tensor([ids])).last
        assert torch.equal(encode(chunks, small, Encoding(pad=pad)).tokens, expected)


@pytest.mark.parametrize(
    ("encoding", "clip_skip", "layer"),
    [
        (Encoding(), 1, -1),
        (Encoding(), 2, -2),
        (Encoding(skip=2), 1, -2),
        (Encoding(skip=2), 2, -3),
        (Encoding(skip=2, final_norm=False), 1, -2),
        (Encoding(skip=2, final_norm=False, fixed=True), 2, -2),
    ],
)
def test_clip_skip_counts_from_the_familys_own_layer(small, encoding, clip_skip, layer):
    chunks = tokenize("cat", TOKENIZER)
    states = small(torch.tensor([chunks[0].ids]))
    expected = states.hidden[layer]
    if encoding.final_norm:
        expected = small.norm(expected)
    result = encode(chunks, small, encoding, clip_skip=clip_skip)
    assert torch.equal(result.tokens, expected)
    assert torch.equal(result.pooled, states.pooled)


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_clip_skip_means_the_same_whether_a_file_has_the_unused_layer_or_not(small, clip_skip):
    # SD 2: 24 layers in single files, 23 in folders
    shorter = CLIPText(replace(CONFIG, layers=2))
    shorter.load_state_dict({k: v for k, v in small.state_dict().items() if "layers.2." not in k})
    chunks = tokenize("cat", TOKENIZER)
    long = encode(chunks, small, Encoding(skip=2), clip_skip=clip_skip)
    assert torch.equal(long.tokens, encode(chunks, shorter, Encoding(), clip_skip=clip_skip).tokens)


def test_a_clip_skip_beyond_the_first_layer_is_refused(small):
    with pytest.raises(RequestError, match="clip_skip is 3; this model's text encoder allows at most 2"):
        encode(tokenize("cat", TOKENIZER), small, Encoding(skip=2), clip_skip=3)


def test_original_emphasis_restores_the_chunks_mean(small):
    plain = encode(tokenize("cat dog", TOKENIZER), small, Encoding()).tokens
    chunks = tokenize("cat (dog:1.5)", TOKENIZER)
    original = encode(chunks, small, Encoding()).tokens
    bare = encode(chunks, small, Encoding(), emphasis="no norm").tokens
    assert torch.equal(bare[:, 2], plain[:, 2] * 1.5)
    assert torch.equal(bare[:, [0, 1, *range(3, 77)]], plain[:, [0, 1, *range(3, 77)]])
    torch.testing.assert_close(original.mean(), plain.mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(original, bare * plain.mean() / bare.mean(), rtol=1e-6, atol=0)


def test_a_negative_weight_turns_a_word_round(small):
    plain = encode(tokenize("cat", TOKENIZER), small, Encoding()).tokens
    turned = encode(tokenize("(cat:-1)", TOKENIZER), small, Encoding(), emphasis="no norm").tokens
    assert torch.equal(turned[:, 1], -plain[:, 1])


def test_every_chunk_keeps_its_own_mean(small):
    chunks = tokenize("(cat:1.5) BREAK (dog:0.2)", TOKENIZER)
    tokens = encode(chunks, small, Encoding()).tokens
    for i, word in enumerate(("(cat:1.5)", "(dog:0.2)")):
        alone = encode(tokenize(word, TOKENIZER), small, Encoding()).tokens
        assert torch.equal(tokens[:, 77 * i : 77 * (i + 1)], alone)


def test_pooled_features_carry_no_emphasis(small):
    weighed, plain = (encode(tokenize(p, TOKENIZER), small, Encoding()).pooled for p in ("(cat:1.5)", "cat"))
    assert torch.equal(weighed, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_emphasis_keeps_the_dtype_and_works_in_float32_at_least(dtype):
    z = torch.randn(1, 77, 8, generator=torch.manual_seed(0)).add(1).to(dtype)
    weights = [1.0, 1.3, *[1.0] * 75]
    result = emphasize(z, weights, "original")
    exact = z.double() * torch.tensor(weights, dtype=torch.float64)[:, None]
    exact = exact * z.double().mean() / exact.mean()
    assert result.dtype == dtype
    torch.testing.assert_close(result, exact.to(dtype), rtol=max(torch.finfo(dtype).eps, 1e-6), atol=0)


def test_prompts_are_padded_to_equal_chunk_counts(small):
    long, short = embed([cats(80), "dog"], TOKENIZER, [(small, Encoding())])
    assert long.tokens.shape == short.tokens.shape == (1, 154, 16)
    assert torch.equal(short.tokens[:, 77:], encode([EMPTY], small, Encoding()).tokens)


def test_a_prompts_features_do_not_depend_on_the_others(small):
    encoders = [(small, Encoding())]
    alone = embed(["(cat:1.2) dog"], TOKENIZER, encoders)[0]
    for others in (["cat"], ["(a:3)", "b"], [cats(200)]):
        together = embed([*others, "(cat:1.2) dog"], TOKENIZER, encoders)[-1]
        assert torch.equal(together.tokens[:, :77], alone.tokens)
        assert torch.equal(together.pooled, alone.pooled)


def test_two_encoders_lie_side_by_side_and_the_second_gives_the_pooled_features(small):
    second = encoder(replace(CONFIG, width=24, activation="gelu", projection=20), seed=1)
    pairs = [
        (small, Encoding(skip=2, final_norm=False, fixed=True)),
        (second, Encoding(skip=2, final_norm=False, pad=0, fixed=True)),
    ]
    both = embed(["a (cat:1.2)"], TOKENIZER, pairs)[0]
    parts = [encode(tokenize("a (cat:1.2)", TOKENIZER), *pair) for pair in pairs]
    assert both.tokens.shape == (1, 77, 40)
    assert torch.equal(both.tokens[..., :16], parts[0].tokens)
    assert torch.equal(both.tokens[..., 16:], parts[1].tokens)
    assert torch.equal(both.pooled, parts[1].pooled)
    assert both.pooled.shape == (1, 20)


def test_chunks_have_the_encoders_own_length():
    short = encoder(replace(CONFIG, context=12))
    assert embed([cats(25)], TOKENIZER, [(short, Encoding())])[0].tokens.shape == (1, 36, 16)


def test_gradients_reach_the_encoder():
    model = encoder().requires_grad_(True)
    embed(["(cat:1.2)"], TOKENIZER, [(model, Encoding())])[0].tokens.square().mean().backward()
    assert model.token.weight.grad is not None
    assert model.token.weight.grad[CAT].abs().sum() > 0
