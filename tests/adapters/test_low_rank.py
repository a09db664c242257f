"""What is found of a matrix is what a whole decomposition finds, whichever way it was found."""

import pytest
import torch
from torch import Tensor

from daguerre.adapters import low_rank
from daguerre.adapters.low_rank import leading


def matrix(kind: str, rows: int = 500, columns: int = 400) -> Tensor:
    """Random, of a spectrum as models' differences have them, from easy to hard."""
    random = torch.Generator().manual_seed(3)
    plain = torch.randn(rows, columns, generator=random)
    if kind == "noise":
        return plain
    if kind == "of low rank":
        return plain[:, :5] @ torch.randn(5, columns, generator=random)
    if kind == "trained, in half precision":
        trained = 1e-3 * plain[:, :5] @ torch.randn(5, columns, generator=random)
        weight = 0.02 * torch.randn(rows, columns, generator=random)
        return (weight + trained).half().float() - weight.half().float()
    left, _, right = torch.linalg.svd(plain, full_matrices=False)
    return (left * torch.arange(1, len(right) + 1) ** -0.5) @ right


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["noise", "of low rank", "trained, in half precision", "falling"])
def test_the_leading_triplets(kind: str, turned: bool) -> None:
    whole = matrix(kind).T if turned else matrix(kind)
    left, values, right = leading(whole, 12)
    expected = torch.linalg.svdvals(whole.double())
    assert (left.shape, values.shape, right.shape) == ((len(whole), 12), (12,), (12, whole.shape[1]))
    torch.testing.assert_close(values.double(), expected[:12], rtol=0, atol=2e-5 * float(expected[0]))
    missed, least = (whole - (left * values) @ right).double().norm(), expected[12:].norm()
    assert missed <= (1 + 1e-5) * least + 1e-5 * expected[0]
    for vectors in (left, right.T):
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(12), rtol=0, atol=1e-4)


def test_few_are_found_without_a_whole_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, svd, sizes = matrix("falling"), torch.linalg.svd, []
    monkeypatch.setattr(torch.linalg, "svd", lambda a, **how: (sizes.append(tuple(a.shape)), svd(a, **how))[1])
    leading(whole, 12)
    assert set(sizes) == {(160, 160)}
    sizes.clear()
    leading(whole, 200)
    assert sizes == [(500, 400)]


def test_what_is_not_found_exactly_is_found_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "ROUNDS", 1)
    monkeypatch.setattr(low_rank, "BLOCKS", 2)
    _, values, _ = leading(matrix("noise"), 12)
    torch.testing.assert_close(values, torch.linalg.svd(matrix("noise"), full_matrices=False).S[:12], rtol=1e-6, atol=0)


def test_numbers_whose_squares_vanish() -> None:
    whole, tiny = leading(matrix("falling"), 12), leading(1e-30 * matrix("falling"), 12)
    torch.testing.assert_close(1e30 * tiny[1], whole[1], rtol=1e-4, atol=0)
    assert leading(torch.zeros(500, 400), 12)[1].eq(0).all()


def test_the_same_every_time() -> None:
    one, other = leading(matrix("noise"), 6), leading(matrix("noise"), 6)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
