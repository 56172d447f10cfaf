"""Wasserstein distance between equally weighted samples by optimal assignment."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["LARGEST", "assignment"]

Array = Any
LARGEST = 8000
"""Points beyond which the cubic cost and the cost matrix are refused."""


def assignment(x: Array, y: Array, p: float) -> float:
    """W_p of two samples (n, d) with equal weights, exact.

    The cost is cubic in n: about a second for n = 2000.

    Raises
    ------
    ValueError
        For more than 8000 points.

    References
    ----------
    D. F. Crouse, IEEE Trans. Aerosp. Electron. Syst. 52 (2016),
    doi:10.1109/TAES.2016.140952.
    """
    from scipy.optimize import linear_sum_assignment

    n = x.shape[0]
    if n > LARGEST:
        raise ValueError(
            f"An optimal assignment of {n} points is too large (at most {LARGEST}); "
            "compare subsamples of equal size, or one-dimensional marginals."
        )
    squares = np.zeros((n, n))
    for a, b in zip(x.T, y.T, strict=True):
        squares += (a[:, None] - b) ** 2
    largest = float(squares.max())
    if largest == 0.0:
        return 0.0
    cost = squares / largest if p == 2 else (squares / largest) ** (0.5 * p)
    rows, columns = linear_sum_assignment(cost)
    mean = float(np.mean(cost[rows, columns]))
    return float(np.sqrt(largest) * mean ** (1.0 / p))
