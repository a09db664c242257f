"""LoHa, LoKr, whole differences, OFT and IA3: each file does to a layer what its published formula says.

The formulas are written out here in NumPy, from the papers and LyCORIS's documentation. Outputs of layers agree with
LyCORIS 4.1's to 4e-7; its merging counts alpha twice for LoHa and LoKr, its drawing once, and so do we.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from daguerre.adapters.change import AdapterError, changeable
from daguerre.adapters.formats import load_lora, save_lora
from daguerre.adapters.kinds import Full, LoHa, LoKr, Orthogonal, Scaled
from daguerre.adapters.layer_names import LYCORIS, SUFFIXES, Layout, split_key, suffix_of
from daguerre.adapters.lora import Factors
from tests.adapters.made import apart, outputs
from tests.toy import toy

Arrays = dict[str, np.ndarray]
LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", "unet.mid_attn.blocks.0.cross_attn.k"
CONV = "lora_unet_mid_block_resnets_0_conv1", "unet.mid_in.conv1"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1", "text.layers.0.up"
NORM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_norm2", "unet.mid_attn.blocks.0.norm2"
LARGEST = 0.5


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return (LARGEST * np.random.default_rng([seed, *shape]).standard_normal(shape)).astype(np.float32)


def loha(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    out, r, alpha = len(w), 3, 1.5
    t = {"hada_w1_a": normal(out, r), "hada_w1_b": normal(r, w[0].size), "hada_w2_a": normal(out, r, seed=1)}
    t |= {"hada_w2_b": normal(r, w[0].size, seed=1), "alpha": np.float32(alpha)}
    product = (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])
    return t, w + (alpha / r * product).reshape(w.shape)


def loha_with_cores(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    (out, cin, *kernel), r = w.shape, 2
    t = {f"hada_t{i}": normal(r, r, *kernel, seed=i) for i in (1, 2)}
    t |= {f"hada_w{i}_a": normal(r, out, seed=i) for i in (1, 2)} | {
        f"hada_w{i}_b": normal(r, cin, seed=i) for i in (1, 2)
    }
    whole = []
    for i in (1, 2):
        cube = np.zeros(w.shape, np.float32)
        for a in range(r):
            for b in range(r):
                outer = np.outer(t[f"hada_w{i}_a"][a], t[f"hada_w{i}_b"][b])
                cube += outer[:, :, None, None] * t[f"hada_t{i}"][a, b]
        whole.append(cube)
    return t, w + whole[0] * whole[1]


def lokr(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    out, cin, *kernel = w.shape
    t = {"lokr_w1": normal(4, 2), "lokr_w2": normal(out // 4, cin // 2, *kernel), "alpha": np.float32(123)}
    small = t["lokr_w1"].reshape(4, 2, *[1] * len(kernel))
    return t, w + np.kron(small, t["lokr_w2"])  # alpha is for factors, and here are none


def lokr_of_factors(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    out, r = len(w), 2
    t = {"lokr_w1_a": normal(4, r), "lokr_w1_b": normal(r, 4), "lokr_w2_a": normal(out // 4, r)}
    t |= {"lokr_w2_b": normal(r, w[0].size // 4), "alpha": np.float32(1)}
    product = np.kron(t["lokr_w1_a"] @ t["lokr_w1_b"], t["lokr_w2_a"] @ t["lokr_w2_b"])
    return t, w + 0.5 * product.reshape(w.shape)


def lokr_with_core(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    (out, cin, *kernel), r = w.shape, 2
    t = {"lokr_w1": normal(2, 2), "lokr_t2": normal(r, r, *kernel), "lokr_w2_a": normal(r, out // 2)}
    t |= {"lokr_w2_b": normal(r, cin // 2), "alpha": np.float32(4)}
    second = np.einsum("abxy,ao,bc->ocxy", t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    return t, w + 2 * np.kron(t["lokr_w1"][:, :, None, None], second)


def difference(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    t = {"diff": normal(*w.shape)}
    return t, w + t["diff"]


def norm(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    t = {"w_norm": normal(*w.shape)}
    return t, w + t["w_norm"]


def rotated(w: np.ndarray, constraint: float = 0.0) -> tuple[Arrays, np.ndarray]:
    count, size = 4, len(w) // 4
    t = {"oft_blocks": normal(count, size, size), "alpha": np.float32(constraint)}
    skew = t["oft_blocks"] - t["oft_blocks"].transpose(0, 2, 1)
    if constraint:
        skew *= min(1, constraint * len(w) / np.linalg.norm(skew))
    one, new = np.eye(size), w.copy()
    for k in range(count):
        turn = (one + skew[k]) @ np.linalg.inv(one - skew[k])
        assert np.allclose(turn @ turn.T, one, atol=1e-4)
        rows = slice(k * size, (k + 1) * size)
        new[rows] = np.tensordot(turn.T, w[rows], 1)
    return t, new


def held_back(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    tensors, new = rotated(w, 0.02)
    assert not np.allclose(new, rotated(w)[1], atol=1e-2)
    return tensors, new


def rescaled(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    tensors, new = rotated(w)
    tensors["rescale"] = 1 + normal(len(w), *[1] * (w.ndim - 1))
    return tensors, new * tensors["rescale"]


def scaled_outputs(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    gain = normal(len(w), *[1] * (w.ndim - 1))
    return {"weight": gain.flatten(), "on_input": np.float32(0)}, w * (1 + gain)


def scaled_inputs(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    gain = normal(1, w.shape[1], *[1] * (w.ndim - 2))
    return {"weight": gain, "on_input": np.float32(1)}, w * (1 + gain)


def with_lengths(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    """DoRA upon LoHa: each output's row gets a new length."""
    tensors, new = loha(w)
    tensors["dora_scale"] = 1 + np.abs(normal(len(w), *[1] * (w.ndim - 1)))
    return tensors, new * tensors["dora_scale"] / np.sqrt((new**2).sum(axis=tuple(range(1, w.ndim)), keepdims=True))


def with_lengths_of_columns(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    """As LyCORIS did it before version 3: each input's column gets a new length."""
    tensors, new = lokr_of_factors(w)
    tensors["dora_scale"] = 1 + np.abs(normal(1, w.shape[1], *[1] * (w.ndim - 2)))
    axes = (0, *range(2, w.ndim))
    return tensors, new * tensors["dora_scale"] / np.sqrt((new**2).sum(axis=axes, keepdims=True))


def lora_with_lengths_of_columns(w: np.ndarray) -> tuple[Arrays, np.ndarray]:
    down, up = normal(2, *w.shape[1:]), normal(len(w), 2, *[1] * (w.ndim - 2))
    new = w + np.tensordot(up.reshape(len(w), 2), down, 1)
    lengths = 1 + np.abs(normal(1, w.shape[1], *[1] * (w.ndim - 2)))
    norms = np.sqrt((new**2).sum(axis=(0, *range(2, w.ndim)), keepdims=True))
    return {"lora_down.weight": down, "lora_up.weight": up, "dora_scale": lengths}, new * lengths / norms


Formula = Callable[[np.ndarray], tuple[Arrays, np.ndarray]]
EVERYWHERE: list[Formula] = [
    loha, lokr, lokr_of_factors, difference, rotated, held_back, rescaled, scaled_outputs, scaled_inputs, with_lengths,
    with_lengths_of_columns, lora_with_lengths_of_columns,
]  # fmt: skip
CASES = [(formula, place) for formula in EVERYWHERE for place in (LINEAR, CONV, TEXT)]
CASES += [(loha_with_cores, CONV), (lokr_with_core, CONV), (norm, NORM)]
KINDS = {"hada": LoHa, "lokr": LoKr, "diff": Full, "w_norm": Full, "oft": Orthogonal, "weight": Scaled, "lora": Factors}


def written(path: Path, name: str, tensors: Arrays) -> Path:
    save_file({f"{name}.{role}": torch.tensor(value) for role, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize(("formula", "place"), CASES, ids=[f"{f.__name__}-{p[0].split('_')[-1]}" for f, p in CASES])
@torch.no_grad()
def test_a_layer_becomes_what_the_formula_says(formula: Formula, place: tuple[str, str], tmp_path: Path) -> None:
    model, (name, native) = toy("sd1"), place
    layer = changeable(model)[native]
    old, plain = layer.weight.data, outputs(model)
    tensors, expected = formula(old.numpy())
    file = written(tmp_path / "one.safetensors", name, tensors)
    adapter, report = load_lora(file, model)
    assert report.unmatched == ()
    kind = next(kind for word, kind in KINDS.items() if any(role.startswith(word) for role in tensors))
    assert type(adapter.changes[native]) is kind

    with adapter.attach(model):
        attached = outputs(model)
        assert layer.weight.data_ptr() == old.data_ptr()
    with adapter.attach(model, 0.5, 0.25):
        weakly = outputs(model)
    assert apart(outputs(model), plain) == 0
    layer.weight.data = torch.tensor(expected, dtype=torch.float32)
    by_hand = outputs(model)
    assert apart(by_hand, plain) > 1e-3, "the change must matter for this to be a test"
    assert apart(attached, by_hand) <= 3e-5
    share = 0.25 if native.startswith("text") else 0.5
    layer.weight.data = old + share * (torch.tensor(expected, dtype=torch.float32) - old)
    assert apart(weakly, outputs(model)) <= 3e-5
    layer.weight.data = old
    adapter.merge(model)
    assert apart(outputs(model), by_hand) <= 3e-5

    for layout in ("kohya", "native"):
        save_lora(tmp_path / f"{layout}.safetensors", adapter, toy("sd1"), layout)
        again, report = load_lora(tmp_path / f"{layout}.safetensors", toy("sd1"))
        assert report.unmatched == ()
        (_, mine), (_, theirs) = *adapter.deltas(toy("sd1")), *again.deltas(toy("sd1"))
        assert (mine - theirs).abs().max() <= 1e-6
    kept = load_file(tmp_path / "kohya.safetensors")
    for role, value in tensors.items():
        if not (formula is lokr and role == "alpha"):
            assert np.allclose(kept[f"{name}.{role}"].numpy().flatten(), value.flatten(), atol=1e-6), role


@torch.no_grad()
def test_biases_are_changed_and_left_as_they_were(tmp_path: Path) -> None:
    model = toy("sd1")
    plain, conv, scale = outputs(model), changeable(model)[CONV[1]], changeable(model)[NORM[1]]
    tensors = {f"{CONV[0]}.diff": torch.zeros(64, 64, 3, 3), f"{CONV[0]}.diff_b": torch.tensor(normal(64))}
    tensors |= {f"{NORM[0]}.w_norm": torch.zeros(64), f"{NORM[0]}.b_norm": torch.tensor(normal(64, seed=1))}
    save_file(tensors, tmp_path / "biases.safetensors")
    adapter, _ = load_lora(tmp_path / "biases.safetensors", model)
    with adapter.attach(model, 0.5):
        attached = outputs(model)
    for layer, key in ((conv, f"{CONV[0]}.diff_b"), (scale, f"{NORM[0]}.b_norm")):
        layer.bias.data = layer.bias.data + 0.5 * tensors[key]
    assert apart(attached, outputs(model)) <= 1e-5
    assert apart(attached, plain) > 1e-2
    nowhere = {f"{LINEAR[0]}.diff": torch.zeros(64, 32), f"{LINEAR[0]}.diff_b": torch.ones(64)}
    save_file(nowhere, tmp_path / "no-bias.safetensors")
    with pytest.raises(AdapterError, match=r"cross_attn\.k.*changes a bias"):
        load_lora(tmp_path / "no-bias.safetensors", model)[0].merge(model)


@torch.no_grad()
def test_kinds_are_mixed_and_add_up(tmp_path: Path) -> None:
    """One file with a kind for each layer, and two files upon one layer."""
    model = toy("sd1")
    layers = changeable(model)
    tensors, expected = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for (name, native), formula in {LINEAR: rotated, CONV: lokr, TEXT: loha, NORM: norm}.items():
        made, new = formula(layers[native].weight.numpy())
        tensors |= {f"{name}.{role}": torch.tensor(value) for role, value in made.items()}
        expected[native] = torch.tensor(new, dtype=torch.float32)
    save_file(tensors, tmp_path / "mixed.safetensors")
    mixed, report = load_lora(tmp_path / "mixed.safetensors", model)
    assert len(report.matched) == len(tensors)
    other, _ = load_lora(
        written(tmp_path / "two.safetensors", CONV[0], difference(layers[CONV[1]].weight.numpy())[0]), model
    )
    with mixed.attach(model), other.attach(model, -0.5):
        both = outputs(model)
    for native, new in expected.items():
        layers[native].weight.data = new
    layers[CONV[1]].weight.data = layers[CONV[1]].weight.data - 0.5 * torch.tensor(normal(64, 64, 3, 3))
    assert apart(outputs(model), both) <= 3e-5


@pytest.mark.parametrize("layout", list(SUFFIXES))
def test_suffixes_are_one_to_one(layout: Layout) -> None:
    """What is written behind a layer's name is read as what it was; with peft's one exception, alpha, not written."""
    roles = [*SUFFIXES[layout], *(LYCORIS if layout in ("native", "kohya") else ())]
    suffixes = [suffix_of(layout, role) for role in roles]
    assert len(set(suffixes)) == len(roles)
    for role, suffix in zip(roles, suffixes, strict=True):
        found = split_key(f"lora_unet_x{suffix}")
        expected = "dora_scale" if (layout, role) == ("kohya", "magnitude") else role
        assert found == ("lora_unet_x", expected)


PREFIXED = {
    "oft_unet_mid_block_resnets_0_conv1": "unet.mid_in.conv1",  # kohya's OFT
    "lycoris_mid_block_resnets_0_conv1": "unet.mid_in.conv1",  # LyCORIS without kohya's scripts
    "unet.mid_block.resnets.0.conv1": "unet.mid_in.conv1",  # diffusers
    "base_model.model.mid_block.resnets.0.conv1": "unet.mid_in.conv1",  # peft
    "diffusion_model.middle_block.0.in_layers.2": "unet.mid_in.conv1",  # ComfyUI
    "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1": "text.layers.0.up",
    "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1": "text.layers.0.up",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1": "text.layers.0.up",
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": "text.layers.0.up",  # OneTrainer
}


@pytest.mark.parametrize("name", PREFIXED)
def test_names_of_other_programs(name: str, tmp_path: Path) -> None:
    model = toy("sd1")
    weight = changeable(model)[PREFIXED[name]].weight.detach().numpy()
    file = written(tmp_path / "a.safetensors", name, loha(weight)[0])
    adapter, report = load_lora(file, model)
    assert list(adapter.changes) == [PREFIXED[name]]
    assert report.unmatched == ()


@torch.no_grad()
def test_a_matrix_for_q_k_and_v_is_divided(tmp_path: Path) -> None:
    model, name = toy("sdxl"), "lora_te2_transformer_resblocks_1_attn_in_proj"
    tensors, delta = lokr(np.zeros((96, 32), np.float32))
    adapter, _ = load_lora(written(tmp_path / "a.safetensors", name, tensors), model)
    for n, (path, gain) in enumerate(sorted(adapter.deltas(model), key=lambda item: "qkv".index(item[0][-1]))):
        assert path == f"text2.layers.1.{'qkv'[n]}"
        assert np.allclose(gain.numpy(), delta[32 * n : 32 * n + 32], atol=1e-6)
    file = written(tmp_path / "b.safetensors", name, rotated(np.zeros((96, 32), np.float32))[0])
    with pytest.raises(AdapterError, match="cannot be divided"):
        load_lora(file, model)


WEIGHT = np.zeros((64, 32), np.float32)
BROKEN = {
    "half a LoHa": ({"hada_w1_a": normal(64, 2), "hada_w1_b": normal(2, 32)}, "hada_w1_a.*hada_w2_a"),
    "a LoKr without its second": ({"lokr_w1": normal(4, 4)}, "lokr_w1.*lokr_w2_a"),
    "LoHa's ranks": ({**loha(WEIGHT)[0], "hada_w1_b": normal(4, 32)}, "do not fit together.*hada_w1_b"),
    "LoHa of vectors": ({**loha(WEIGHT)[0], "hada_w1_b": normal(3)}, "do not fit together|is for weights"),
    "for wider text": (loha(np.zeros((64, 2048), np.float32))[0], r"\[64, 2048\].*\[64, 32\].*Stable Diffusion XL"),
    "LoKr for SD 2": (lokr(np.zeros((64, 1024), np.float32))[0], r"\[64, 1024\].*\[64, 32\].*Stable Diffusion 2.x"),
    "a difference for SDXL": ({"diff": normal(64, 2048)}, r"\[64, 2048\].*Stable Diffusion XL"),
    "OFT of another width": (rotated(np.zeros((320, 8), np.float32))[0], "320 outputs.*Stable Diffusion 1.x.*64"),
    "OFT that is not square": ({"oft_blocks": normal(4, 16, 8)}, "do not fit together"),
    "scales for other outputs": ({**rotated(WEIGHT)[0], "rescale": normal(32, 1)}, "do not fit together"),
    "BOFT": ({"oft_blocks": normal(2, 4, 16, 16)}, "BOFT"),
    "IA3 of another width": ({"weight": normal(320), "on_input": np.float32(0)}, "320 outputs"),
    "NaN": ({**lokr(WEIGHT)[0], "lokr_w1": np.full((4, 2), np.nan, np.float32)}, "lokr_w1.*not finite"),
    "two kinds": ({**lokr(WEIGHT)[0], **loha(WEIGHT)[0]}, "different kinds"),
    "lengths": ({**loha(WEIGHT)[0], "dora_scale": normal(7, 1)}, "dora_scale.*7 numbers"),
    "only an alpha": ({"alpha": np.float32(1)}, "no LoRA is in it"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_named(fault: str, tmp_path: Path) -> None:
    tensors, words = BROKEN[fault]
    path = written(tmp_path / "broken.safetensors", LINEAR[0], tensors)
    with pytest.raises(AdapterError, match=words) as caught:
        load_lora(path, toy("sd1"))
    assert str(path) in str(caught.value)


def test_other_layouts_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    model = toy("sd1")
    adapter, _ = load_lora(written(tmp_path / "a.safetensors", LINEAR[0], loha(WEIGHT)[0]), model)
    for layout in ("diffusers", "peft"):
        with pytest.raises(AdapterError, match=r"cross_attn\.k.*LoHa.*kohya"):
            save_lora(tmp_path / "b", adapter, model, layout)
    assert not (tmp_path / "b").exists()


def test_a_kronecker_product_too_large_for_memory_is_only_counted(tmp_path: Path) -> None:
    huge = {"lokr_w1": normal(3000, 2000), "lokr_w2": normal(3000, 2000)}  # 144 terabytes
    with pytest.raises(AdapterError, match=r"\[9000000, 4000000\]"):
        load_lora(written(tmp_path / "a.safetensors", LINEAR[0], huge), toy("sd1"))


@torch.no_grad()
def test_a_compiled_network_is_adapted_without_compiling_again(tmp_path: Path) -> None:
    from torch._dynamo.testing import CompileCounter

    model, counter = toy("sd1"), CompileCounter()
    weight = changeable(model)[CONV[1]].weight
    made = {"a": loha(weight.numpy())[0], "b": rotated(weight.numpy())[0]}
    adapters = {
        name: load_lora(written(tmp_path / f"{name}.safetensors", CONV[0], tensors), model)[0]
        for name, tensors in made.items()
    }
    plain, data = outputs(model), weight.data_ptr()
    expected = {}
    for name, adapter in adapters.items():
        with adapter.attach(model):
            expected[name] = outputs(model)
    model.unet.compile(backend=counter)
    assert apart(outputs(model), plain) == 0
    compiled = counter.frame_count
    assert compiled
    for name in ("a", "b", "a"):
        with adapters[name].attach(model):
            assert apart(outputs(model), expected[name]) <= 1e-5
            assert apart(outputs(model), plain) > 1e-3
        assert weight.data_ptr() == data
        assert apart(outputs(model), plain) == 0
    assert counter.frame_count == compiled
