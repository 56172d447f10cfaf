"""Proximal steps of a smooth potential at many points at once, by damped Newton."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace
from flows.linear import NewtonFailure

__all__ = ["pointwise_prox"]

Array = Any
MOST_ITERATIONS = 100
MOST_BACKTRACKS = 40


def pointwise_prox(
    value: Callable[[Array], Array],
    gradient: Callable[[Array], Array],
    hessian: Callable[[Array], Array],
    u: Array,
    h: float,
    start: Array,
) -> tuple[Array, int]:
    """argmin_v V(v) + |v - u|^2 / 2h at every point u (.., d); returns v, iterations.

    Newton's method on the Hessian, made positive where V is concave, with a
    backtracking line search of its own at each point. Every solution satisfies
    v + h grad V(v) = u to rounding.

    Raises
    ------
    NewtonFailure
        When some point does not converge; with the largest residual of each iteration.
    """
    xp = namespace(u)
    eps = float(np.finfo(dtype_name(u)).eps)
    identity = array_like(np.eye(u.shape[-1]), u)
    v = start + xp.zeros_like(u)
    residuals: list[float] = []
    best, stalled = np.inf, 0
    for iteration in range(MOST_ITERATIONS):
        slope = gradient(v)
        residual = v - u + h * slope
        size = 1.0 + xp.abs(u) + xp.abs(v) + xp.abs(h * slope)
        error = float(xp.max(xp.abs(residual) / size))
        residuals.append(error)
        if not np.isfinite(error):
            raise NewtonFailure("the gradient is not finite", residuals)
        stalled = 0 if error < 0.5 * best else stalled + 1
        best = min(best, error)
        if error <= 8 * eps or (stalled >= 3 and error <= 1e5 * eps):
            return v, iteration
        matrix = identity + h * hessian(v)
        v = v + line_search(value, v, u, h, residual, newton_direction(matrix, residual))
    raise NewtonFailure("Newton's method did not converge", residuals)


def newton_direction(matrix: Array, residual: Array) -> Array:
    """-matrix^{-1} residual, with |eigenvalues| where the matrix is not positive."""
    xp = namespace(residual)
    if matrix.shape[-1] == 1:
        a = xp.abs(matrix[..., 0])
        return -residual / xp.where(a < 1e-3, xp.ones_like(a), a)
    if positive_definite(matrix):
        return -xp.linalg.solve(matrix, residual[..., None])[..., 0]
    values, vectors = xp.linalg.eigh(matrix)
    values = xp.maximum(xp.abs(values), 1e-3 * xp.ones_like(values))
    inner = xp.matmul(xp.matrix_transpose(vectors), residual[..., None])
    return -xp.matmul(vectors, inner / values[..., None])[..., 0]


def positive_definite(matrix: Array) -> bool:
    """Whether every matrix of the batch has a Cholesky factor."""
    try:
        namespace(matrix).linalg.cholesky(matrix)
    except Exception as error:
        # NumPy's and torch's LinAlgError have no common base.
        if type(error).__name__ not in ("LinAlgError", "_LinAlgError"):
            raise
        return False
    return True


def line_search(
    value: Callable[[Array], Array],
    v: Array,
    u: Array,
    h: float,
    residual: Array,
    step: Array,
) -> Array:
    """The largest of step, step/2, ... at each point that does not raise the value.

    A rise within rounding passes, or Newton could not end.
    """
    xp = namespace(u)

    def objective(x: Array) -> Array:
        return h * value(x) + 0.5 * xp.sum((x - u) ** 2, axis=-1)

    before = objective(v)
    eps = float(np.finfo(dtype_name(u)).eps)
    slack = 16 * eps * (xp.abs(before) + xp.abs(h * value(v)) + xp.sum(u * u, axis=-1))
    slope = xp.sum(residual * step, axis=-1)
    part = xp.ones_like(before)
    for _ in range(MOST_BACKTRACKS):
        after = objective(v + part[..., None] * step)
        # A NaN compares false and is halved as well.
        good = after <= before + 1e-4 * part * slope + slack
        if bool(xp.all(good)):
            break
        part = xp.where(good, part, 0.5 * part)
    return part[..., None] * step
