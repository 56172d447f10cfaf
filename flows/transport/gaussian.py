"""Bures-Wasserstein distance between Gaussian measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from flows.measures import Gaussian

__all__ = ["bures"]

Array = Any


def bures(mu: Gaussian, nu: Gaussian) -> float:
    r"""W_2 of two Gaussian measures in any dimension, singular ones included.

    .. math:: W_2^2 = |m - n|^2 + \min_{U \ \text{orthogonal}} |A - B U|_F^2

    with roots A A^T = S, B B^T = T. This equals |m - n|^2 + tr(S + T -
    2 (S^1/2 T S^1/2)^1/2), but is a sum of squares of differences, so nearly equal
    laws have a distance at rounding level instead of its square root.

    References
    ----------
    R. Bhatia, T. Jain, Y. Lim, Expo. Math. 37 (2019), doi:10.1016/j.exmath.2018.01.002.
    """
    shift = mu.center - nu.center
    # With a polar factor U of B^T A the product A^T B U is symmetric, hence optimal.
    left, _, right = np.linalg.svd(nu.root.T @ mu.root)
    gap = mu.root - nu.root @ (left @ right)
    largest = max(float(np.max(np.abs(shift))), float(np.max(np.abs(gap))))
    if largest == 0.0:
        return 0.0
    squares = np.sum((shift / largest) ** 2) + np.sum((gap / largest) ** 2)
    return largest * float(np.sqrt(squares))
