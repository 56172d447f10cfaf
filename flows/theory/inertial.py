"""Lyapunov functions of second-order flows, and the iterates of discrete methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.arrays import to_numpy
from flows.problems.modes import Modes

__all__ = ["lyapunov", "nesterov_iterate", "polyak_iterate"]

Array = Any


def lyapunov(sol: Any, minimizer: Any = None, minimum: float | None = None) -> Array:
    """The flow's Lyapunov function at the saved times, (k,) or (k, b).

    ``HeavyBall``: V - V* + |v|^2/2, or with a minimizer V - V* + |v + g (x - x*)/2|^2/2
    for the friction g. ``Nesterov``: t^2 (V - V*) + |(r - 1)(x - x*) + t v|^2/2; its
    value at t = 0 over t^2 bounds V - V*. They do not rise, while V ripples.

    Parameters
    ----------
    sol : Solution
        Of a second-order flow.
    minimizer : (n,) array, optional
        x*; for ``Nesterov`` 0 by default.
    minimum : float, optional
        V*; by default V(x*), or 0 without a minimizer.

    Raises
    ------
    TypeError
        For a flow of first order.
    """
    if not hasattr(sol.flow, "lyapunov"):
        raise TypeError(
            f"`sol` runs {type(sol.flow).__name__}, which has no Lyapunov function but "
            "its energy, `sol.energy`; HeavyBall and Nesterov have one."
        )
    pairs = zip(sol.t, sol.u, strict=True)
    values = [sol.flow.lyapunov(float(t), u, minimizer, minimum) for t, u in pairs]
    return np.array([to_numpy(value) for value in values], dtype=float)


def polyak_iterate(A: Any, x0: Any, rate: float, momentum: float, k: int) -> Array:
    """x_k of x_{k+1} = x_k - rate A x_k + momentum (x_k - x_{k-1}), x_{-1} = x_0.

    By the k-th power of the companion matrix of each mode.

    Parameters
    ----------
    A : (n,) or (n, n) array
        Diagonal, or symmetric matrix.
    x0 : (n,) array
    rate, momentum : float
    k : int

    Returns
    -------
    (n,) array
    """
    modes = Modes.of(np.asarray(A, dtype=float))
    M = np.zeros((modes.d, 2, 2))
    M[:, 0, 0] = 1.0 + momentum - rate * modes.values
    M[:, 0, 1], M[:, 1, 0] = -momentum, 1.0
    power = np.linalg.matrix_power(M, k)
    return modes.back(power[:, 0].sum(axis=1) * modes.to(np.asarray(x0, dtype=float)))


def nesterov_iterate(A: Any, x0: Any, rate: float, r: float, k: int) -> Array:
    """x_k of Nesterov's method x_{j+1} = (I - rate A) y_j from x_0 on x.A x/2.

    y_j = x_j + (j - 1)/(j + r - 1) (x_j - x_{j-1}) and y_0 = x_0; by the product of the
    companion matrices of each mode.

    Parameters
    ----------
    A : (n,) or (n, n) array
        Diagonal, or symmetric matrix.
    x0 : (n,) array
    rate, r : float
    k : int

    Returns
    -------
    (n,) array
    """
    modes = Modes.of(np.asarray(A, dtype=float))
    shrink = 1.0 - rate * modes.values
    product = np.broadcast_to(np.eye(2), (modes.d, 2, 2))
    for j in range(k):
        beta = (j - 1.0) / (j + r - 1.0) if j else 0.0
        M = np.zeros((modes.d, 2, 2))
        M[:, 0, 0], M[:, 0, 1] = (1.0 + beta) * shrink, -beta * shrink
        M[:, 1, 0] = 1.0
        product = M @ product
    return modes.back(product[:, 0].sum(axis=1) * modes.to(np.asarray(x0, dtype=float)))
