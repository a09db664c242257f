"""Our ViT-GPT2 against transformers': what is seen, every logit, the tokens of every search, pictures and words."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers.decoders import ByteLevel

from daguerre.checkpoints.captioners import Writing
from daguerre.files.checkpoint import CheckpointError
from daguerre.generate.beam_search import likeliest
from daguerre.generate.caption import caption, load_captioner
from daguerre.request import RequestError
from daguerre.text.tokenizer import byte_letters
from tests.parity.test_clip import picture

WORDS = ["a man", " with", " a", " red", " caf\u00e9", " cat", ",", " on", " the", " table", "s"]
END = 256 + len(WORDS)


def vocabulary():
    """All bytes, a few words in the letters that stand for their bytes, and the end, as GPT-2's vocab.json has them."""
    letters = {byte: letter for letter, byte in byte_letters().items()}
    tokens = [*byte_letters(), *("".join(letters[byte] for byte in word.encode()) for word in WORDS), "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def made(folder, seed=0, width=64, inner=None):
    """A toy captioner as transformers saves it."""
    encoder = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=80, image_size=32, patch_size=8
    )
    decoder = transformers.GPT2Config(
        n_embd=width, n_layer=2, n_head=4, n_inner=inner, vocab_size=END + 1, n_positions=40, add_cross_attention=True,
        is_decoder=True, bos_token_id=END, eos_token_id=END,
    )  # fmt: skip
    whole = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    whole.update({"decoder_start_token_id": END, "eos_token_id": END, "pad_token_id": END})
    torch.manual_seed(seed)
    model = transformers.VisionEncoderDecoderModel(config=whole).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.15 * torch.randn_like(parameter))
    text = model.decoder.transformer  # the end gets likelier from token to token
    text.wpe.weight.add_(torch.arange(40.0)[:, None] * 0.6 * text.wte.weight[END])
    model.save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("vit-gpt2")
    return path, made(path)


def pixels(pictures, **settings):
    processor = transformers.ViTImageProcessorPil(**{"size": {"height": 32, "width": 32}, **settings})
    return processor(pictures, return_tensors="pt")["pixel_values"]


def copied(folder, target, **configs):
    """The folder with settings of its files changed."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    for name, changes in configs.items():
        file = target / f"{name}.json"
        told = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**told, **changes}))
    return target


@pytest.mark.parametrize(("width", "inner"), [(48, None), (64, 100)])
def test_what_is_seen_and_every_logit(tmp_path, width, inner):
    model = made(tmp_path, 1, width, inner)
    captioner = load_captioner(tmp_path, device="cpu", dtype="float32")
    x = torch.stack([captioner.pixels(p) for p in (picture(), picture(20, 44, 1))])
    torch.testing.assert_close(x, pixels([picture(), picture(20, 44, 1)]), rtol=0, atol=1e-6)
    seen = captioner.network.look(x)
    ids = torch.tensor([[END, 4, 5, 260], [END, 259, 9, 258]])
    expected = model(pixel_values=x, decoder_input_ids=ids).logits
    assert expected.std() > 0.1
    for length in range(1, 5):
        torch.testing.assert_close(captioner.network(ids[:, :length], seen), expected[:, length - 1], rtol=0, atol=2e-5)
    torch.testing.assert_close(captioner.network(ids[:1], seen[:1]), expected[:1, -1], rtol=0, atol=2e-5)


SEARCHES = [
    {"num_beams": 1}, {"num_beams": 3}, {"num_beams": 4, "length_penalty": 2.0},
    {"num_beams": 4, "length_penalty": -1.0}, {"num_beams": 3, "early_stopping": True},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": 0.5},
    {"num_beams": 2, "no_repeat_ngram_size": 2}, {"num_beams": 1, "no_repeat_ngram_size": 2},
]  # fmt: skip


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: "-".join(map(str, s.values())))
def test_the_tokens_of_every_search(folder, search):
    path, model = folder
    captioner = load_captioner(path, device="cpu", dtype="float32")
    names = {"num_beams": "beams", "length_penalty": "penalty", "early_stopping": "early"}
    how = Writing(most=8, **{names.get(name, "repeat"): value for name, value in search.items()})
    lengths = set()
    for seed in range(4):
        x = captioner.pixels(picture(seed=seed))[None]
        seen = captioner.network.look(x)
        for boost in (-2.0, 0.0, 1.0, 2.0):  # so that sentences end at different lengths
            likelier = torch.zeros(END + 1).index_fill(0, torch.tensor([END]), boost)
            hook = model.decoder.lm_head.register_forward_hook(lambda _, __, y, likelier=likelier: y + likelier)
            ids = model.generate(pixel_values=x, max_new_tokens=8, do_sample=False, **search)[0, 1:].tolist()
            hook.remove()
            expected = ids[: ids.index(END)] if END in ids else ids
            own = likeliest(lambda ids, s=seen, b=likelier: captioner.network(ids, s) + b, END, END, how)
            assert own == expected
            lengths.add(len(own))
    assert len(lengths) > 2


def test_the_folder_says_how_it_writes_and_the_caller_may_say_otherwise(folder, tmp_path):
    path, model = folder
    x = pixels([picture(seed=2)])

    def expected(**search):
        ids = model.generate(pixel_values=x, do_sample=False, **search)[0, 1:]
        letters, tokens = byte_letters(), list(vocabulary())
        pairs = "".join(tokens[i] for i in ids.tolist() if i != END)
        return " ".join(bytes(letters[letter] for letter in pairs).decode(errors="replace").split())

    told = copied(path, tmp_path / "beams", generation_config={"num_beams": 4, "max_length": 8})
    older = copied(path, tmp_path / "older", config={"num_beams": 4, "max_length": 8})
    (older / "generation_config.json").unlink()
    said = [caption(load_captioner(f, device="cpu", dtype="float32"), picture(seed=2)) for f in (path, told, older)]
    assert said == [expected(max_new_tokens=30), *[expected(max_new_tokens=7, num_beams=4)] * 2]
    captioner = load_captioner(path, device="cpu", dtype="float32")
    assert caption(captioner, picture(seed=2), most=5, beams=3) == expected(max_new_tokens=5, num_beams=3)
    for wrong in ({"beams": 0}, {"beams": 65}, {"most": 0}):
        with pytest.raises(RequestError, match="it goes from 1 to 64"):
            caption(captioner, picture(), **wrong)
    assert len({caption(captioner, picture(seed=seed)) for seed in range(4)}) > 1


SETTINGS = {"resample": 3, "image_mean": [0.2, 0.3, 0.4], "image_std": [0.3, 0.4, 0.5], "rescale_factor": 0.002}


@pytest.mark.parametrize("settings", [*({k: v} for k, v in SETTINGS.items()), {"do_normalize": False}, SETTINGS])
def test_pictures_are_made_ready_as_the_folder_says(folder, tmp_path, settings):
    path = copied(folder[0], tmp_path / "x", preprocessor_config=settings)
    own, plain = (load_captioner(f, device="cpu", dtype="float32").pixels(picture()) for f in (path, folder[0]))
    torch.testing.assert_close(own, pixels([picture()], **settings)[0], rtol=0, atol=1e-5)
    assert not torch.allclose(own, plain, atol=1e-2)


def test_what_bytes_and_words_say(folder, tmp_path):
    path, _ = folder
    words = load_captioner(path, device="cpu").words
    ids = [256, 258, 259, 256 + 5, END, 257, 260, 0xC3, 32, 600]  # a byte that is not UTF-8, and no token
    tokens = {i: token for token, i in vocabulary().items()}
    told = ByteLevel().decode([tokens[i] for i in ids if i < END])
    assert words.text(ids) == " ".join(told.split())
    assert words.text([256, vocabulary()["\u010a"], 258]) == "a man a"  # a sentence is one line
    assert words.text([256, 257, 258, 259, 256 + 4, 256 + 10]) == "a man with a red caf\u00e9s"
    moved = copied(path, tmp_path / "whole")
    (moved / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match=r"no vocab\.json or tokenizer\.json"):
        load_captioner(moved)
    known = {token: i for token, i in vocabulary().items() if i != END}
    added = [{"id": END, "content": "<|endoftext|>", "special": True}]
    (moved / "tokenizer.json").write_text(json.dumps({"model": {"vocab": known}, "added_tokens": added}))
    assert load_captioner(moved, device="cpu").words == words
    (moved / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": -1, "b": END}}}))
    with pytest.raises(CheckpointError, match="no vocabulary of a captioner"):
        load_captioner(moved)
    (moved / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    with pytest.raises(CheckpointError, match="has 1 words and its network 268"):
        load_captioner(moved)


def test_weights_as_they_were_published_first(folder, tmp_path):
    """A pickle, with the masks that GPT-2 kept in it, and the vectors that tell words beside those that read them."""
    path, _ = folder
    older = copied(path, tmp_path / "older")
    state = load_file(path / "model.safetensors")
    (older / "model.safetensors").unlink()
    for i in range(2):
        for place in ("attn", "crossattention"):
            state[f"decoder.transformer.h.{i}.{place}.bias"] = torch.ones(1, 1, 40, 40).tril().to(torch.uint8)
            state[f"decoder.transformer.h.{i}.{place}.masked_bias"] = torch.tensor(-1e4)
    state["decoder.lm_head.weight"] = state["decoder.transformer.wte.weight"]
    torch.save(state, older / "pytorch_model.bin")
    own, plain = (load_captioner(f, device="cpu", dtype="float32") for f in (older, path))
    assert own.network.head is not None
    assert caption(own, picture()) == caption(plain, picture())
    state["decoder.lm_head.weight"] = state["decoder.lm_head.weight"].flip(0)
    torch.save(state, older / "pytorch_model.bin")
    assert caption(load_captioner(older, device="cpu"), picture()) != caption(plain, picture())


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("config", {"model_type": "git"}, "tells of a 'git'"),
        ("config", {"decoder": {"model_type": "bert"}}, "'vision-encoder-decoder' of 'vit' of 'bert', which is no"),
        ("config", {"model_type": "blip", "encoder": None, "decoder": None}, "belongs to a BLIP"),
        ("config", {"decoder": {"model_type": "gpt2", "n_head": 5}}, "5 attention heads do not divide 64"),
        ("config", {"decoder": {"model_type": "gpt2", "activation_function": "relu"}}, "should be 'gelu_new'"),
        ("config", {"decoder_start_token_id": 999}, "outside its vocabulary"),
        ("generation_config", {"decoder_start_token_id": -1}, "the number of a token, not -1"),
        ("generation_config", {"num_beams": 10**9}, "from 1 to 64"),
        ("preprocessor_config", {"size": 64}, "'height': 32"),
        ("preprocessor_config", {"do_center_crop": True}, "should be False"),
    ],
)
def test_folders_that_are_refused(folder, tmp_path, file, changes, words):
    path = copied(folder[0], tmp_path / "x", **{file: changes})
    if file == "config":
        (path / "generation_config.json").unlink()
    with pytest.raises(CheckpointError, match=words) as told:
        load_captioner(path)
    assert str(path) in str(told.value)


def test_a_folder_without_a_kind_is_told_by_its_tensors(folder, tmp_path):
    path = copied(folder[0], tmp_path / "x", config={"model_type": None, "architectures": None})
    own, plain = (load_captioner(f, device="cpu", dtype="float32") for f in (path, folder[0]))
    assert caption(own, picture()) == caption(plain, picture())
