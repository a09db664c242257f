"""How much each known value counts in a step: integrals of the polynomial through them.

Steps in h = log(sigma / sigma_next) decay towards the clean estimate by exp(-k), where k = h for an ODE and
(1 + eta) * h with new noise; phi functions as in arXiv:2211.01095.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

# k -> the share of a difference of estimates, from here to one step ahead, that counts as the step's estimate
Rule = Callable[[float], float]
Array = NDArray[np.float64]
PLACES, PARTS = np.polynomial.legendre.leggauss(32)  # exact for polynomials, to rounding for what samplers integrate


def midpoint(k: float) -> float:
    """As if all of a step were seen from its middle."""
    return 0.5


def exact(k: float) -> float:
    """The integral of a line times exp(-k): (1 + expm1(-k) / k) / (1 - exp(-k))."""
    return 1.0 if math.isinf(k) else (1 + math.expm1(-k) / k) / -math.expm1(-k)


def integral(function: Callable[[Array], Array], start: float, end: float) -> float:
    """By Gauss and Legendre's rule of 32 points."""
    half = (end - start) / 2
    return half * float(PARTS @ function(start + half * (1 + PLACES)))


def adams(nodes: Sequence[float], end: float, growth: float = 0.0) -> list[float]:
    """Weights of values known at `nodes` in the integral of exp(growth * (t - end)) * value(t) from 0 to `end`.

    Plain Adams at growth 0; exponential otherwise. Nodes may lie before 0, or at the end for a corrector.
    """

    def weighted(j: int, t: Array) -> Array:
        others = [(t - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j]
        product: Array = np.prod([np.exp(growth * (t - end)), *others], axis=0)
        return product

    return [integral(partial(weighted, j), 0.0, end) for j in range(len(nodes))]
