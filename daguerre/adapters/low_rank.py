"""The best approximation of a matrix by one of low rank (Eckart-Young): its leading singular values and vectors."""

import torch
from torch import Tensor

EXTRA = 8  # vectors beyond those that are wanted, which let the last of these be found as soon as the first
BLOCKS = 8  # powers of the matrix that are searched at once
ROUNDS, EXACT = 4, 3e-5  # as often at most, and until what is found is singular up to this share


def leading(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first singular triplets of a matrix (m, n): (m, k), (k,), (k, n) with k = min(rank, m, n), float32.

    Few of many are found in a block Krylov space (arXiv:1504.05477, algorithm 2), which is several times as fast as to
    find all. What it finds is checked, and all are found where it does not get there.
    """
    if matrix.shape[0] < matrix.shape[1]:  # several times as fast as a wide one, too
        left, values, right = leading(matrix.T, rank)
        return right.T, values, left.T
    scale = matrix.abs().max().clamp(min=torch.finfo(matrix.dtype).tiny)  # of tiny numbers, squares would vanish
    small = 3 * BLOCKS * (rank + EXTRA) <= 2 * matrix.shape[1]  # or all are found as fast
    found = _krylov(matrix / scale, rank) if small else None
    left, values, right = found or torch.linalg.svd(matrix / scale, full_matrices=False)
    return left[:, :rank], scale * values[:rank], right[:rank]


def _krylov(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Rank and some more triplets of a tall matrix; None if they are not exact."""
    generator = torch.Generator().manual_seed(0)
    begun = torch.randn(matrix.shape[1], rank + EXTRA, generator=generator).to(matrix)
    for _ in range(ROUNDS):
        blocks = [torch.linalg.qr(begun).Q]
        for _ in range(BLOCKS - 1):
            power, before = matrix.T @ (matrix @ blocks[-1]), torch.cat(blocks, dim=1)
            for _ in range(2):  # once is not enough in float32
                power = power - before @ (before.T @ power)
            blocks.append(torch.linalg.qr(power).Q)
        space = torch.linalg.qr(torch.cat(blocks, dim=1)).Q
        image, triangle = torch.linalg.qr(matrix @ space)
        left, values, right = torch.linalg.svd(triangle)
        left, begun = image @ left[:, : rank + EXTRA], space @ right[: rank + EXTRA].T
        missed = matrix.T @ left[:, :rank] - begun[:, :rank] * values[:rank]
        if missed.norm() <= EXACT * values[:rank].norm():
            return left, values, begun.T
    return None
