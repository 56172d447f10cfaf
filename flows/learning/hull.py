"""The point of least norm in a convex hull."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["min_norm_weights"]

Array = Any


def min_norm_weights(gram: Array) -> np.ndarray:
    """Weights of the point of least norm in the convex hull of vectors g_i.

        argmin |sum_i a_i g_i|^2    over a_i >= 0, sum_i a_i = 1

    The point itself is unique; the weights need not be.

    Parameters
    ----------
    gram : (m, m) array
        Inner products <g_i, g_j>: the vectors themselves are not needed.

    Returns
    -------
    (m,) array

    Raises
    ------
    ValueError
        For a matrix that is not square, symmetric and finite.

    Notes
    -----
    Wolfe's algorithm: finite, exact up to rounding. Two vectors have
    a_1 = clip(<g_2 - g_1, g_2> / |g_1 - g_2|^2, 0, 1).

    References
    ----------
    P. Wolfe, Finding the nearest point in a polytope, Math. Program. 11 (1976)
    128-149, doi:10.1007/BF01580381.

    Examples
    --------
    >>> g = np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, 3.0]])
    >>> min_norm_weights(g @ g.T)
    array([0.5, 0.5, 0. ])
    """
    G = np.asarray(gram, dtype=float)
    if G.ndim != 2 or G.shape[0] != G.shape[1] or G.size == 0:
        raise ValueError(f"`gram` must have shape (m, m), got {G.shape}.")
    scale = float(np.abs(G).max())
    if not np.isfinite(scale) or np.abs(G - G.T).max() > 1e-9 * scale:
        raise ValueError("`gram` must be finite and symmetric.")
    m = len(G)
    active = [int(np.argmin(np.diag(G)))]
    a = np.zeros(m)
    a[active] = 1.0
    for _ in range(50 * m):
        slopes = G @ a
        best = int(np.argmin(slopes))
        # No vertex lies behind the hyperplane through the point: it is the nearest.
        if slopes[best] >= a @ slopes - 1e-14 * scale or best in active:
            break
        active.append(best)
        while True:
            b = np.zeros(m)
            b[active] = affine_weights(G[np.ix_(active, active)])
            if (b[active] >= 0.0).all():
                a = b
                break
            falling = [i for i in active if b[i] < 0.0]
            steps = {i: a[i] / (a[i] - b[i]) for i in falling}
            first = min(steps, key=steps.__getitem__)
            a = a + steps[first] * (b - a)
            a[first] = 0.0
            active = [i for i in active if i != first and a[i] > 0.0]
    weights: np.ndarray = np.maximum(a, 0.0) / np.maximum(a, 0.0).sum()
    return weights


def affine_weights(G: np.ndarray) -> np.ndarray:
    """Weights of the point of least norm in the affine hull; least squares at ties."""
    m = len(G)
    system = np.zeros((m + 1, m + 1))
    scale = max(float(np.abs(G).max()), 1e-300)
    system[:m, :m], system[:m, m], system[m, :m] = G / scale, 1.0, 1.0
    side = np.append(np.zeros(m), 1.0)
    weights: np.ndarray = np.linalg.lstsq(system, side, rcond=1e-14)[0][:m]
    return weights
