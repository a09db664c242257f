import pytest
import torch
from torch import nn

from daguerre.runtime.precision import NumericError, decode_checked, pick_dtype, require_finite

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_runs_bfloat16_only_in_matrix_units(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert pick_dtype(CPU) == dtype


def test_a_torch_that_does_not_know_means_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_dtype(CPU) == torch.float32


@pytest.mark.parametrize(("capability", "dtype"), [((6, 1), torch.float32), ((8, 0), torch.float16)])
def test_cuda_runs_float16_where_it_is_fast(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_dtype(CUDA) == dtype


def test_a_named_dtype_is_taken_and_an_unknown_one_refused():
    assert pick_dtype(CPU, "bfloat16") == torch.bfloat16
    with pytest.raises(ValueError, match="no dtype 'fp8'; choose one of float32, float16, bfloat16"):
        pick_dtype(CPU, "fp8")


class Overflowing(nn.Module):
    """A decoder whose values are too large for float16, or for any format."""

    def __init__(self, size: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(size), requires_grad=False)

    def decode(self, z):
        return (z * self.weight).square().sqrt() / self.weight - 0.5


def test_a_decoder_that_overflows_in_half_precision_is_run_in_float32():
    vae, z = Overflowing(1000.0).half(), torch.ones(2, 3, 4, 4, dtype=torch.float16)
    assert not vae.decode(z).isfinite().any()
    assert torch.equal(decode_checked(vae, vae.decode, z), torch.full((2, 3, 4, 4), 0.5))
    assert vae.weight.dtype == torch.float16


def test_a_decoder_that_works_is_run_once_and_as_it_is():
    vae, z = Overflowing(1.0).half(), torch.ones(1, 3, 4, 4, dtype=torch.float16)
    assert decode_checked(vae, vae.decode, z).dtype == torch.float16


def test_a_decoder_that_overflows_in_float32_too_is_an_error():
    vae, z = Overflowing(1e30), torch.ones(1, 3, 4, 4)
    with pytest.raises(NumericError, match="at the decoding of the latents; try --dtype float32"):
        decode_checked(vae, vae.decode, z)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_without_numbers_name_the_step(bad):
    x = torch.ones(1, 4, 8, 8)
    require_finite(x, "step 3 of 20")
    x[0, 1, 2, 3] = bad
    with pytest.raises(NumericError, match="at step 3 of 20; try --dtype float32"):
        require_finite(x, "step 3 of 20")
    with pytest.raises(NumericError, match="at the end of sampling"):
        decode_checked(Overflowing(1.0), lambda z: z, x)


def test_one_black_picture_of_a_batch_is_an_error_and_a_dark_one_is_not():
    pixels = torch.full((2, 3, 4, 4), -1.0)
    pixels[:, 0, 1, 1] = -0.9
    assert decode_checked(Overflowing(1.0), lambda z: z, pixels) is pixels
    pixels[1] = -1.2
    with pytest.raises(NumericError, match="picture 1 of the batch is all black"):
        decode_checked(Overflowing(1.0), lambda z: z, pixels)
