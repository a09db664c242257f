"""A whole CLIP against transformers': both towers, the scale and the preparation of pictures, read from its folders."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from daguerre.files.checkpoint import CheckpointError
from daguerre.generate.clip import load_clip
from daguerre.text.tokenizer import END, START

PHRASES = ["a red apple", "a dog on a skateboard at night, watercolor", ""]


def whole(folder, activation="quick_gelu", seed=0, **vision):
    """A toy CLIPModel with weights that matter, saved as transformers saves it."""
    text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"hidden_act": activation, "bos_token_id": START, "eos_token_id": END}
    vision = {**text, "image_size": 28, "patch_size": 7, **vision}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    torch.manual_seed(seed)
    model = transformers.CLIPModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    model.logit_scale.fill_(3.0)
    model.save_pretrained(folder)
    return model


def picture(width=50, height=37, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width * 3, height * 3), Image.Resampling.BICUBIC)


def ids(clip, phrases):
    rows = [[START, *clip.tokenizer.encode(p), END] for p in phrases]
    return torch.tensor([row + [END] * (77 - len(row)) for row in rows])


@pytest.mark.parametrize(
    ("activation", "vision"),
    [
        ("quick_gelu", {}),
        ("gelu", {"intermediate_size": 100, "hidden_size": 48, "num_attention_heads": 3}),
        ("gelu", {"image_size": 64, "patch_size": 16, "num_hidden_layers": 1}),
    ],
)
def test_a_folder_of_transformers(tmp_path, activation, vision):
    model = whole(tmp_path, activation, **vision)
    clip = load_clip(tmp_path, device="cpu", dtype="float32")
    size = clip.size
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    pictures = [picture(), picture(20, 44, 1), picture(30, 30, 2)]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(torch.stack([clip.pixels(p) for p in pictures]), pixels, rtol=0, atol=1e-6)
    expected = model(input_ids=ids(clip, PHRASES), pixel_values=pixels)
    got = torch.stack([clip.of_picture(p) for p in pictures])
    torch.testing.assert_close(got, expected.image_embeds, rtol=0, atol=1e-6)
    torch.testing.assert_close(clip.of_phrases(PHRASES), expected.text_embeds, rtol=0, atol=1e-6)
    logits = clip.scale * got @ clip.of_phrases(PHRASES).T
    torch.testing.assert_close(logits, expected.logits_per_image, rtol=0, atol=1e-4)
    assert expected.logits_per_image.std() > 0.1


def openclip(state):
    """The names of OpenCLIP, by transformers' own account of them in reverse."""
    made = {"logit_scale": state["logit_scale"]}
    joined = {}
    for name, value in state.items():
        side = "visual." if name.startswith(("vision", "visual")) else ""
        if ".layers." in name:
            _, _, _, k, *rest = name.split(".")
            place, leaf = f"{side}transformer.resblocks.{k}", rest[-1]
            if rest[0] == "self_attn" and rest[1] != "out_proj":
                joined.setdefault(f"{place}.attn.in_proj_{leaf}", {})[rest[1][0]] = value
                continue
            inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn": "attn.out_proj", "mlp": "mlp"}[rest[0]]
            inner = {"fc1": "mlp.c_fc", "fc2": "mlp.c_proj"}[rest[1]] if inner == "mlp" else inner
            made[f"{place}.{inner}.{leaf}"] = value
        elif name.startswith("text_model.embeddings.token"):
            made["token_embedding.weight"] = value
        elif "position_embedding" in name:
            made[f"{side}positional_embedding"] = value
        elif "class_embedding" in name:
            made["visual.class_embedding"] = value
        elif "patch_embedding" in name:
            made["visual.conv1.weight"] = value
        elif name in ("text_projection.weight", "visual_projection.weight"):
            made["visual.proj" if side else "text_projection"] = value.T.contiguous()
        elif "norm" in name:
            kind = {"pre_layrnorm": "ln_pre", "post_layernorm": "ln_post", "final_layer_norm": "ln_final"}
            _, module, leaf = name.split(".")
            made[f"{side}{kind[module]}.{leaf}"] = value
    return made | {key: torch.cat([parts[x] for x in "qkv"]) for key, parts in joined.items()}


@pytest.mark.parametrize(
    ("said", "activation"), [("nothing", "gelu"), ("OpenAI's numbers", "quick_gelu"), ("the user", "quick_gelu")]
)
def test_a_single_file_of_openclip_gives_the_same(tmp_path, said, activation):
    whole(tmp_path / "hf", activation)
    reference = load_clip(tmp_path / "hf", device="cpu", dtype="float32")
    state, path = openclip(load_file(tmp_path / "hf" / "model.safetensors")), tmp_path / "one.safetensors"
    if said == "OpenAI's numbers":
        state["context_length"] = torch.tensor(77)
    save_file(state, path)
    chosen = "quick_gelu" if said == "the user" else None
    clip = load_clip(path, device="cpu", dtype="float32", activation=chosen)
    assert (clip.vision.config, clip.text.config) == (reference.vision.config, reference.text.config)
    assert clip.scale == reference.scale
    torch.testing.assert_close(clip.of_picture(picture()), reference.of_picture(picture()), rtol=0, atol=1e-6)
    torch.testing.assert_close(clip.of_phrases(PHRASES), reference.of_phrases(PHRASES), rtol=0, atol=1e-6)


def test_a_mean_of_its_own(tmp_path):
    whole(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    clip = load_clip(tmp_path, device="cpu")
    assert clip.pixels(Image.new("RGB", (9, 9), "white")).unique().tolist() == [1.0]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, "x", 0]}))
    with pytest.raises(CheckpointError, match=r"image_mean.*three numbers"):
        load_clip(tmp_path, device="cpu")
