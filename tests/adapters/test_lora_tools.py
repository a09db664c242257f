"""LoRAs cut, taken and added up are those that the arithmetic of matrices says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.adapters.change import AdapterError, layers_of
from daguerre.adapters.lora import Factors, LoRA
from daguerre.adapters.lora_tools import combine, extract, resize
from tests.adapters.made import apart, outputs, random_lora
from tests.toy import toy


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


@torch.no_grad()
def test_extract_turns_the_base_into_the_tuned_model() -> None:
    base, tuned = toy("sdxl"), toy("sdxl")
    random_lora(tuned, rank=3, convolutions=True, size=0.05).merge(tuned)
    lora = extract(base, tuned, 3)
    assert len(lora.factors) < len(layers_of(base)), "layers that do not differ are left out"
    with lora.attach(base):
        assert apart(outputs(base), outputs(tuned)) <= 1e-4
    with extract(base, tuned, 1).attach(base):
        assert apart(outputs(base), outputs(tuned)) > 1e-3
    assert not any(path.startswith("text") for path in extract(base, tuned, 1, text=False).factors)
    assert max(one.rank for one in extract(base, tuned, 10_000).factors.values()) <= 256


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


def test_what_cannot_be_done_is_said() -> None:
    model, other = toy("sd1"), toy("sdxl")
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
        extract(model, model, 2)
    with pytest.raises(AdapterError, match="in the base"):
        extract(model, other, 2)
    with pytest.raises(AdapterError, match="rank is 0"):
        extract(model, model, 0)
