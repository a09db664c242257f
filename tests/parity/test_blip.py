"""Our BLIP against transformers': what is seen, every logit, the caption and the preparation of pictures."""

import json

import pytest
import torch
import transformers

from daguerre.files.checkpoint import CheckpointError
from daguerre.generate.caption import caption, load_captioner
from daguerre.request import RequestError
from tests.parity.test_clip import picture

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "apple", "##s", "on", "table", ",", "[DEC]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A toy captioner as transformers saves it, and the model."""
    path = tmp_path_factory.mktemp("blip")
    text = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    text |= {"encoder_hidden_size": 48, "vocab_size": len(WORDS), "bos_token_id": 11, "sep_token_id": 3}
    text |= {"max_position_embeddings": 40}
    vision = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 80}
    vision |= {"image_size": 32, "patch_size": 8}
    config = transformers.BlipConfig(text_config=text, vision_config=vision)
    torch.manual_seed(0)
    model = transformers.BlipForConditionalGeneration(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return path, model


def pixels(pictures):
    processor = transformers.BlipImageProcessorPil(size={"height": 32, "width": 32})
    return processor(pictures, return_tensors="pt")["pixel_values"]


def test_what_is_seen_and_every_logit(folder):
    path, model = folder
    captioner = load_captioner(path, device="cpu", dtype="float32")
    x = pixels([picture(), picture(20, 44, 1)])
    seen, expected = captioner.network.look(x), model.vision_model(pixel_values=x).last_hidden_state
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)
    ids = torch.tensor([[11, 4, 5, 6], [11, 9, 9, 4]])
    logits = model.text_decoder(input_ids=ids, encoder_hidden_states=expected).logits[:, -1]
    assert logits.std() > 0.1
    torch.testing.assert_close(captioner.network(ids, seen), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_caption(folder, seed):
    path, model = folder
    image = picture(seed=seed)
    ids = model.generate(pixel_values=pixels([image]), max_new_tokens=12, num_beams=1, do_sample=False)[0]
    words = [WORDS[i] for i in ids.tolist()[1:]]
    words = words[: words.index("[SEP]")] if "[SEP]" in words else words
    expected = " ".join(w for w in words if not w.startswith("[")).replace(" ##", "").replace(" ,", ",")
    assert caption(load_captioner(path, device="cpu", dtype="float32"), image, most=12) == expected


def test_captions_of_different_pictures_differ(folder):
    captioner = load_captioner(folder[0], device="cpu", dtype="float32")
    assert len({caption(captioner, picture(seed=seed)) for seed in range(6)}) > 1


def test_a_vocabulary_as_tokenizer_json(folder):
    path, _ = folder
    before = load_captioner(path, device="cpu").words
    (path / "vocab.txt").rename(path / "kept.txt")
    try:
        with pytest.raises(CheckpointError, match=r"no vocab\.txt or tokenizer\.json"):
            load_captioner(path)
        vocabulary = {word: i for i, word in enumerate(WORDS[:-1])}
        told = {"model": {"vocab": vocabulary}, "added_tokens": [{"id": 11, "content": "[DEC]"}]}
        (path / "tokenizer.json").write_text(json.dumps(told))
        assert load_captioner(path, device="cpu").words == before
        (path / "tokenizer.json").write_text('{"model": 3}')
        with pytest.raises(CheckpointError, match="it is no vocabulary"):
            load_captioner(path)
    finally:
        (path / "tokenizer.json").unlink(missing_ok=True)
        (path / "kept.txt").rename(path / "vocab.txt")


def test_what_is_no_captioner(tmp_path, folder):
    with pytest.raises(RequestError, match="there is no such folder"):
        load_captioner(tmp_path / "none")
    config = transformers.CLIPVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28)
    transformers.CLIPVisionModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="tells of a 'clip_vision_model', which is no captioner"):
        load_captioner(tmp_path)
