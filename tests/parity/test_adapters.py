"""LoHa, LoKr and IA3 that peft made and saved are for us what peft merges."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn

from daguerre.adapters.change import changeable
from daguerre.adapters.formats import load_lora
from tests.toy import toy

BLOCK = "mid_block.attentions.0.transformer_blocks.0"
LAYERS = {  # diffusers' name -> native path
    f"{BLOCK}.attn2.to_k": "unet.mid_attn.blocks.0.cross_attn.k",
    f"{BLOCK}.attn1.to_out.0": "unet.mid_attn.blocks.0.self_attn.out",
    "mid_block.resnets.0.conv1": "unet.mid_in.conv1",
    "mid_block.attentions.0.proj_in": "unet.mid_attn.proj_in",
}
LINEAR = [name for name in LAYERS if BLOCK in name]
CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "loha": (peft.LoHaConfig, {"r": 3, "alpha": 5}),
    "loha of cores": (peft.LoHaConfig, {"r": 3, "alpha": 5, "use_effective_conv2d": True}),
    "lokr": (peft.LoKrConfig, {"r": 2, "alpha": 5}),
    "lokr decomposed": (peft.LoKrConfig, {"r": 2, "alpha": 5, "decompose_both": True, "decompose_factor": 8}),
    "lokr of cores": (peft.LoKrConfig, {"r": 2, "alpha": 5, "use_effective_conv2d": True}),
    "lokr of whole matrices": (peft.LoKrConfig, {"r": 64, "alpha": 5}),
    "ia3": (peft.IA3Config, {"target_modules": LINEAR, "feedforward_modules": LINEAR[:1]}),
}


def named(**layers: nn.Module) -> nn.Module:
    """A module with these inside, at paths with dots."""
    root = nn.Module()
    root.forward = lambda x: x
    for path, layer in layers.items():
        place, (*folders, leaf) = root, path.split(".")
        for folder in folders:
            if folder not in place._modules:
                place.add_module(folder, nn.Module())
            place = place.get_submodule(folder)
        place.add_module(leaf, layer)
    return root


@pytest.mark.filterwarnings("ignore:Could not find a config file")
@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_what_peft_merges(kind: str, tmp_path: Path) -> None:
    model, (config, settings) = toy("sd1"), CONFIGS[kind]
    layers = changeable(model)
    before = {path: (layers[path].weight.clone(), layers[path].bias) for path in LAYERS.values()}
    targets = settings.get("target_modules", list(LAYERS))
    net = named(**{name: layers[path] for name, path in LAYERS.items()})
    theirs = peft.get_peft_model(net, config(**{**settings, "target_modules": targets}))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if any(word in name for word in ("hada", "lokr", "ia3")):
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    theirs.save_pretrained(tmp_path)
    merged = theirs.merge_and_unload()
    clean = toy("sd1")
    adapter, report = load_lora(tmp_path, clean)
    assert report.unmatched == ()
    assert len(adapter.changes) == len(targets)
    adapter.merge(clean)
    ours = changeable(clean)
    for name in targets:
        path, expected = LAYERS[name], merged.get_submodule(name)
        assert torch.allclose(ours[path].weight, expected.weight, atol=1e-5), name
        assert not torch.allclose(before[path][0], expected.weight, atol=1e-3), "it must matter to be a test"
        if expected.bias is not None:
            assert torch.allclose(ours[path].bias, expected.bias, atol=1e-5), name
