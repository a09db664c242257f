"""diffusers and peft load our LoRAs and words and draw our pictures, at most 1/255 apart; we load theirs."""

from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file

from daguerre.adapters.adapted import AdapterFile, adapted
from daguerre.adapters.formats import load_lora, save_lora
from daguerre.adapters.layer_names import Layout
from daguerre.adapters.lora import LoRA
from daguerre.adapters.textual_inversion import TextualInversion
from daguerre.families.loading import load_model
from daguerre.families.model import Model
from tests.adapters.made import random_lora
from tests.parity.test_pictures import REQUEST, ours, sd1, sdxl, theirs

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks, transformers
__all__ = ["sd1", "sdxl"]  # fixtures
SHORT = replace(REQUEST, steps=2)
SAMPLERS = {"sd1": "DDIM", "sdxl": "Euler"}
TARGETS = ("*attn.*", "*.mlp.*", "*.proj_*", "text*.layers.*")
PARTS = {"unet": "", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}


def far(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a - b).max())


def drawn(model: Model, lora: LoRA, sampler: str, scale: float = 1.0) -> np.ndarray:
    with lora.attach(model, scale):
        return ours(model, SHORT, sampler)


@pytest.fixture(params=["sd1", "sdxl"])
def both(request: pytest.FixtureRequest) -> tuple[diffusers.DiffusionPipeline, Model, str]:
    pipe, folder = request.getfixturevalue(request.param)
    return pipe, load_model(folder, device="cpu", dtype="float32"), SAMPLERS[request.param]


# diffusers leaves out the magnitudes of kohya's files, and says so.
@pytest.mark.parametrize(("layout", "dora"), [("kohya", False), ("diffusers", False), ("diffusers", True)])
def test_diffusers_draws_our_picture(both, layout: Layout, dora: bool, tmp_path: Path) -> None:
    pipe, model, sampler = both
    lora = random_lora(model, size=0.05, targets=TARGETS, convolutions=True, conv_rank=3, dora=dora)
    save_lora(tmp_path / "lora.safetensors", lora, model, layout)
    plain, whole, half = theirs(pipe, SHORT, sampler), drawn(model, lora, sampler), drawn(model, lora, sampler, 0.5)
    assert min(far(whole, plain), far(whole, half)) >= 20, "the LoRA must matter for this to be a test"
    pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors", adapter_name="ours")
    try:
        assert far(theirs(pipe, SHORT, sampler), whole) <= 1
        pipe.set_adapters("ours", 0.5)
        # peft scales a DoRA's factors and leaves its lengths; we, A1111 and ComfyUI scale the whole change
        rest = far(theirs(pipe, SHORT, sampler), half)
        assert rest >= 5 if dora else rest <= 1
    finally:
        pipe.unload_lora_weights()
    assert far(theirs(pipe, SHORT, sampler), plain) == 0


@pytest.mark.parametrize("dora", [False, True])
def test_peft_draws_our_picture(both, dora: bool, tmp_path: Path) -> None:
    pipe, model, sampler = both
    lora = random_lora(model, size=0.05, targets=TARGETS, convolutions=True, conv_rank=3, ranks={"*.q": 2}, dora=dora)
    save_lora(tmp_path / "lora", lora, model, "peft")
    plain, networks = theirs(pipe, SHORT, sampler), {}
    try:
        for part, folder in PARTS.items():
            if getattr(pipe, part, None) is not None:
                networks[part] = peft.PeftModel.from_pretrained(getattr(pipe, part), tmp_path / "lora" / folder)
                setattr(pipe, part, networks[part])
        adapted_picture = theirs(pipe, SHORT, sampler)
    finally:
        for part, network in networks.items():
            setattr(pipe, part, network.unload())
    assert far(adapted_picture, drawn(model, lora, sampler)) <= 1
    assert far(adapted_picture, plain) >= 20
    assert far(theirs(pipe, SHORT, sampler), plain) == 0


@pytest.mark.parametrize("dora", [False, True])
@torch.no_grad()
def test_we_load_what_peft_and_diffusers_save(both, dora: bool, tmp_path: Path) -> None:
    """One LoRA made and saved by peft, as a folder and through diffusers, is for us what peft merges."""
    pipe, model, _ = both
    kind = type(pipe)
    targets = ["to_q", "to_v", "to_out.0", "ff.net.2", "conv1", "proj_in"]
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets, use_dora=dora, alpha_pattern={"to_v": 3})
    pipe.unet.add_adapter(config, "theirs")
    try:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in pipe.unet.named_parameters():
            if "lora_" in name:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        state = peft.get_peft_model_state_dict(pipe.unet, adapter_name="theirs")
        noted = {"r": 4, "lora_alpha": 6, "alpha_pattern": {"to_v": 3}}
        kind.save_lora_weights(tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=noted)
        x, tokens = torch.ones(1, 4, 8, 8), torch.ones(1, 7, model.unet.config.context)
        vector, added = None, {}
        if model.unet.config.vector:
            pooled, sizes = torch.ones(1, 32), torch.ones(1, 6)
            added = {"text_embeds": pooled, "time_ids": sizes}
            vector = torch.cat([pooled, pipe.unet.add_time_proj(sizes.flatten()).reshape(1, -1)], dim=1)
        expected = pipe.unet(x, torch.tensor([500.0]), tokens, added_cond_kwargs=added).sample
    finally:
        pipe.unet.delete_adapters("theirs")
    lora, report = load_lora(tmp_path / "pytorch_lora_weights.safetensors", model)
    assert report.unmatched == ()
    plain = model.unet(x, torch.tensor([500.0]), tokens, vector)
    lora.merge(model)
    merged = model.unet(x, torch.tensor([500.0]), tokens, vector)
    scale = expected.abs().max()
    assert (merged - expected).abs().max() <= 1e-5 * scale
    assert (plain - expected).abs().max() > 1e-2 * scale


@pytest.mark.parametrize("vectors", [1, 3])
def test_diffusers_draws_our_word(both, vectors: int, tmp_path: Path) -> None:
    pipe, model, sampler = both
    word = TextualInversion.new(model, "<zwx>", vectors, "", 0)
    word.save(tmp_path / "word.safetensors")
    with adapted(model, [AdapterFile(kind="embedding", path=tmp_path / "word.safetensors")]) as (knowing, _):
        request = replace(SHORT, prompt="a photo of a <zwx>, highly detailed")
        mine, unknown = ours(knowing, request, sampler), ours(model, request, sampler)
    assert far(mine, unknown) >= 10, "the word must matter for this to be a test"
    encoders, words = [pipe.text_encoder], [pipe.tokenizer]
    tensors = load_file(tmp_path / "word.safetensors")
    if len(model.text) == 2:
        encoders, words = [*encoders, pipe.text_encoder_2], [*words, pipe.tokenizer_2]
        for key, encoder, tokenizer in zip(("clip_l", "clip_g"), encoders, words, strict=True):
            pipe.load_textual_inversion(tensors[key], token="<zwx>", text_encoder=encoder, tokenizer=tokenizer)
    else:
        pipe.load_textual_inversion(tmp_path, weight_name="word.safetensors")
    try:
        assert far(theirs(pipe, request, sampler), mine) <= 1
    finally:
        for tokenizer, encoder in zip(words, encoders, strict=True):
            pipe.unload_textual_inversion(tokenizer=tokenizer, text_encoder=encoder)
