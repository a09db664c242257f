"""CLIP's towers and the features of whole prompts against transformers, at toy width with random weights.

The limits of 1e-6 are absolute, for features of size 1.
"""

import re

import pytest
import torch
import transformers

from daguerre.models.clip import CLIPText, CLIPTextConfig
from daguerre.models.vision import CLIPVision, CLIPVisionConfig
from daguerre.text.embed import Encoding, embed
from daguerre.text.tokenizer import END, START, VOCABULARY, Tokenizer, read_vocabulary

RENAMES = [
    (r"^(text_model|vision_model)\.", ""),
    (r"^encoder\.", ""),
    (r"^embeddings\.token_embedding\.", "token."),
    (r"^embeddings\.position_embedding\.", "position."),
    (r"^embeddings\.class_embedding$", "summary"),
    (r"^embeddings\.patch_embedding\.", "patches."),
    (r"^pre_layrnorm\.", "norm_in."),
    (r"^(final_layer_norm|post_layernorm)\.", "norm."),
    (r"^(text|visual)_projection\.", "projection."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.self_attn\.(q|k|v|out)_proj\.", r".\1."),
    (r"\.mlp\.fc1\.", ".up."),
    (r"\.mlp\.fc2\.", ".down."),
]


def native(state):
    """transformers' names as ours."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def randomized(module, seed):
    """Weights large enough that every layer matters; a fresh model's are near the identity."""
    source = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.15, generator=source)
    return module.eval().requires_grad_(False)


def text_pair(activation, projection, seed=0, width=32, layers=3):
    config = transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        hidden_act=activation,
        projection_dim=projection or 1,
        vocab_size=49_408,
        bos_token_id=START,
        eos_token_id=END,
    )
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    reference = randomized(kind(config), seed)
    model = CLIPText(CLIPTextConfig(width, layers, 4, activation, projection)).requires_grad_(False)
    model.load_state_dict(native(reference.state_dict()))
    return model, reference


def assert_equal(got, expected):
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("projection", [0, 24])
def test_text_tower(activation, projection):
    model, reference = text_pair(activation, projection)
    ids = torch.randint(1, START, (3, 77), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = START
    for row, end in zip(ids, (9, 40, 76), strict=True):
        row[end:] = END
    ids[1, 41:] = 0
    got, expected = model(ids), reference(ids, output_hidden_states=True)
    assert len(got.hidden) == len(expected.hidden_states) - 1
    for ours, theirs in zip(got.hidden, expected.hidden_states[1:], strict=True):
        assert_equal(ours, theirs)
    assert_equal(got.last, expected.last_hidden_state)
    assert_equal(got.pooled, expected.text_embeds if projection else expected.pooler_output)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_vision_tower(activation):
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=28,
        patch_size=7,
        hidden_act=activation,
        projection_dim=24,
    )
    reference = randomized(transformers.CLIPVisionModelWithProjection(config), 0)
    model = CLIPVision(CLIPVisionConfig(28, 7, 32, 3, 4, activation, 24)).requires_grad_(False)
    model.load_state_dict(native(reference.state_dict()))
    pictures = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    assert_equal(model(pictures), reference(pictures).image_embeds)


@pytest.fixture(scope="module")
def tokenizer():
    tokens, merges = read_vocabulary(VOCABULARY)
    return transformers.CLIPTokenizer(vocab=tokens, merges=merges, model_max_length=77)


def reference_ids(tokenizer, text, pad):
    ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    first_end = (ids[0] == END).nonzero()[0, 0]
    ids[0, first_end + 1 :] = pad
    return ids


# A prompt, and by chunk the words of each weight.
PROMPTS = {
    "a photo of a cat": [[("a photo of a cat", 1.0)]],
    "": [[]],
    "a (red:1.3) cat, [blurry]": [[("a", 1.0), ("red", 1.3), ("cat,", 1.0), ("blurry", 1 / 1.1)]],
    "((sea)) BREAK (boat:-0.5) sky": [[("sea", 1.1 * 1.1)], [("boat", -0.5), ("sky", 1.0)]],
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("emphasis", ["original", "no norm", "ignore"])
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_prompt_features_of_sd1(tokenizer, prompt, emphasis, clip_skip):
    model, reference = text_pair("quick_gelu", 0)
    expected = []
    for words in PROMPTS[prompt]:
        ids = reference_ids(tokenizer, " ".join(text for text, _ in words), END)
        z = reference.final_layer_norm(reference(ids, output_hidden_states=True).hidden_states[-clip_skip])
        weighted, place = z.clone(), 1
        for text, weight in words:
            count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            weighted[:, place : place + count] *= weight
            place += count
        if emphasis == "original":
            weighted *= z.mean() / weighted.mean()
        expected.append(z if emphasis == "ignore" else weighted)
    got = embed([prompt], Tokenizer(), [(model, Encoding())], clip_skip=clip_skip, emphasis=emphasis)[0]
    assert_equal(got.tokens, torch.cat(expected, dim=1))


def test_prompt_features_of_sdxl(tokenizer):
    small, small_reference = text_pair("quick_gelu", 0)
    large, large_reference = text_pair("gelu", 24, seed=1, width=48)
    prompt = "a photo of a cat"
    first = small_reference(reference_ids(tokenizer, prompt, END), output_hidden_states=True)
    second = large_reference(reference_ids(tokenizer, prompt, 0), output_hidden_states=True)
    encoders = [
        (small, Encoding(skip=2, final_norm=False, fixed=True)),
        (large, Encoding(skip=2, final_norm=False, pad=0, fixed=True)),
    ]
    got = embed([prompt], Tokenizer(), encoders, clip_skip=2)[0]
    assert_equal(got.tokens, torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1))
    assert_equal(got.pooled, second.text_embeds)
