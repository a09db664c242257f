"""LoRAs cut, taken and added up are those that the arithmetic of matrices says."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.adapters.change import AdapterError, layers_of
from daguerre.adapters.kinds import Full
from daguerre.adapters.lora import Factors, LoRA
from daguerre.adapters.lora_tools import combine, extract, merged, resize
from daguerre.checkpoints.identify import Description
from daguerre.checkpoints.merge import MergeError, Opened
from daguerre.checkpoints.writer import write_ldm
from daguerre.families.model import Model
from daguerre.models.unet import UNet, UNetConfig
from tests.adapters.made import apart, outputs, random_lora
from tests.runtime.memory import peak
from tests.toy import toy, write_toy


def gap(lora: LoRA, other: LoRA) -> float:
    mine, theirs = lora.factors, other.factors
    assert mine.keys() == theirs.keys()
    return max((mine[path].product() - theirs[path].product()).abs().max().item() for path in mine)


def test_resize_is_the_best_that_a_rank_can_do() -> None:
    lora = random_lora(toy("sd1"), rank=6, convolutions=True)
    assert gap(resize(lora, rank=6), lora) <= 1e-5
    assert gap(resize(lora, rank=60), lora) <= 1e-5
    cut = resize(lora, rank=2)
    for path, one in cut.factors.items():
        whole = lora.factors[path].product().flatten(1)
        values = torch.linalg.svdvals(whole)
        assert one.rank == 2
        error = (whole - one.product().flatten(1)).norm()
        assert torch.isclose(error, values[2:].norm(), rtol=1e-3, atol=1e-5)


@given(st.floats(0.05, 1.0), st.integers(0, 100))
@settings(max_examples=20)
def test_resize_by_energy_keeps_the_share_and_not_more(share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one = Factors(torch.randn(5, 12, generator=generator), torch.randn(9, 5, generator=generator))
    cut = resize(LoRA({"unet.conv_out": one}), energy=share).factors["unet.conv_out"]
    energy = torch.linalg.svdvals(one.product()).square()
    shares = energy.cumsum(0) / energy.sum()
    assert shares[cut.rank - 1] >= share - 1e-4
    assert cut.rank == 1 or shares[cut.rank - 2] < share + 1e-4


def opened(model: Model, folder: Path, name: str = "toy") -> Opened:
    """A model as a file."""
    return Opened.of(write_toy(model, folder / f"{name}.safetensors"))


@torch.no_grad()
def test_extract_turns_the_base_into_the_tuned_model(tmp_path: Path) -> None:
    base, tuned = toy("sdxl"), toy("sdxl")
    random_lora(tuned, rank=3, convolutions=True, size=0.05).merge(tuned)
    ours, theirs = opened(base, tmp_path, "base"), opened(tuned, tmp_path, "tuned")
    lora = extract(ours, theirs, 3)
    assert len(lora.factors) < len(layers_of(base)), "layers that do not differ are left out"
    with lora.attach(base):
        assert apart(outputs(base), outputs(tuned)) <= 1e-4
    with extract(ours, theirs, 1).attach(base):
        assert apart(outputs(base), outputs(tuned)) > 1e-3
    assert not any(path.startswith("text") for path in extract(ours, theirs, 1, text=False).factors)
    assert max(one.rank for one in extract(ours, theirs, 10_000).factors.values()) <= 256


@torch.no_grad()
def test_every_layer_that_can_be_adapted_is_compared_and_cut_as_a_decomposition_says(tmp_path: Path) -> None:
    base, tuned = toy("sd2", 0), toy("sd2", 1)
    lora = extract(opened(base, tmp_path, "base"), opened(tuned, tmp_path, "tuned"), 2)
    ours, theirs = layers_of(base), layers_of(tuned)
    zero = {path for path, layer in ours.items() if torch.equal(layer.weight, theirs[path].weight)}
    assert lora.factors.keys() == ours.keys() - zero
    for path, one in lora.factors.items():
        left, values, right = torch.linalg.svd(
            (theirs[path].weight - ours[path].weight).flatten(1), full_matrices=False
        )
        best = (left[:, :2] * values[:2]) @ right[:2]
        torch.testing.assert_close(one.product().flatten(1), best, rtol=0, atol=1e-5 * float(values[0]))


def wide(seed: int, folder: Path) -> Opened:
    """A U-Net whose largest tensor is a small part of it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet(UNetConfig((32, 64, 64), (1, 1, 1), 32, heads=8, linear=False, blocks=2))
    path = folder / f"{seed}.safetensors"
    write_ldm(path, {"unet": unet.state_dict()}, Description(family="sd1", unet=unet.config))
    return Opened.of(path)


def test_little_memory_is_needed(tmp_path: Path) -> None:
    """That of the LoRA and of a few tensors, whatever the models' size."""
    ours, theirs = wide(0, tmp_path), wide(1, tmp_path)
    size = ours.checkpoint.nbytes
    largest = max(info.nbytes for info in ours.checkpoint.tensors.values())
    lora = extract(ours, theirs, 1)
    small = sum(p.nbytes for p in lora.parameters())
    most = peak(lambda: extract(ours, theirs, 1))
    assert largest < most <= small + 8 * largest < size / 2
    grown = merged(ours, [(lora, 1.0, None)])
    most = peak(lambda: write_ldm(tmp_path / "x.safetensors", grown, ours.identity))
    assert largest < most <= 8 * largest < size / 2


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_a_model_with_loras_built_in_is_the_one_that_they_are_merged_into(tmp_path: Path, kind: str) -> None:
    model = toy("sdxl")
    loras = [random_lora(model, 1, dora=kind == "dora"), random_lora(model, 2, convolutions=True)]
    if kind == "full":
        path = "text.layers.0.q"
        loras[0] = LoRA({path: Full(torch.randn(32, 32), torch.randn(32))})
    before = opened(model, tmp_path)
    built = {part: dict(state) for part, state in merged(before, [(loras[0], 0.5, 2.0)]).items()}
    loras[0].merge(model, 0.5, 2.0)
    for part, module in model.parts.items():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(built[part][name].make(), value, rtol=0, atol=1e-6)
    both = merged(before, [(loras[0], 0.5, 2.0), (loras[1], -1.0, None)])
    if kind != "dora":  # the lengths of a DoRA's rows are those of the plain model
        loras[1].merge(model, -1.0)
        weight = both["text"]["layers.0.q.weight"].make()
        torch.testing.assert_close(weight, model.text[0].layers[0].q.weight, rtol=0, atol=1e-6)
    huge = LoRA({"unet.conv_out": Factors(torch.full((1, 64, 3, 3), 1e30), torch.full((4, 1, 1, 1), 1e30))})
    with pytest.raises(MergeError, match=r"unet\.conv_out\.weight"):
        write_ldm(tmp_path / "x.safetensors", merged(before, [(huge, 1.0, None)]), before.identity)
    assert not (tmp_path / "x.safetensors").exists()


@torch.no_grad()
def test_combined_equals_all_at_once() -> None:
    model = toy("sd1")
    loras = [random_lora(model, 1, size=0.05, rank=3, targets=("*attn.q",)), random_lora(model, 2, size=0.05)]
    both = combine([(loras[0], 0.5), (loras[1], -1.5)])
    with loras[0].attach(model, 0.5), loras[1].attach(model, -1.5):
        expected = outputs(model)
    with both.attach(model):
        assert apart(outputs(model), expected) <= 1e-5
    assert {one.rank for one in both.factors.values()} == {4, 7}
    assert {one.rank for one in combine([(loras[0], 0.5), (loras[1], 1)], rank=2).factors.values()} == {2}


def test_a_doras_lengths_stay_when_it_is_cut() -> None:
    lora = random_lora(toy("sd1"), dora=True)
    for path, one in resize(lora, rank=2).factors.items():
        assert torch.equal(one.magnitude, lora.factors[path].magnitude)


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    model, other = toy("sd1"), toy("sdxl")
    ours, theirs, lone = opened(model, tmp_path, "a"), opened(other, tmp_path, "b"), tmp_path / "lone.safetensors"
    write_ldm(lone, {"unet": model.unet.state_dict()}, Description(family="sd1", unet=model.unet.config))
    plain, dora = random_lora(model), random_lora(model, dora=True)
    for arguments, words in [({}, "give a rank"), ({"rank": 0}, "rank is 0"), ({"energy": 1.5}, "1.5")]:
        with pytest.raises(AdapterError, match=words):
            resize(plain, **arguments)
    with pytest.raises(AdapterError, match="DoRA"):
        combine([(plain, 1), (dora, 1)])
    with pytest.raises(AdapterError, match="nothing"):
        combine([])
    with pytest.raises(AdapterError, match=r"\['?64|\[64|in another"):
        combine([(random_lora(other, targets=("unet.mid_attn*attn.k",)), 1), (random_lora(model), 1)])
    with pytest.raises(AdapterError, match="no layer of the two models differs"):
        extract(ours, ours, 2)
    with pytest.raises(AdapterError, match="in the base"):
        extract(ours, theirs, 2)
    with pytest.raises(AdapterError, match="missing in the tuned model"):
        extract(ours, Opened.of(lone), 2)
    with pytest.raises(AdapterError, match="no layer of the two models differs"):
        extract(ours, Opened.of(lone), 2, text=False)
    with pytest.raises(AdapterError, match="rank is 0"):
        extract(ours, ours, 0)
    model.unet.conv_out.weight[0] = torch.nan
    with pytest.raises(AdapterError, match=r"unet\.conv_out.*not finite"):
        extract(ours, opened(model, tmp_path, "nan"), 2)
