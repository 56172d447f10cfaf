"""Proximal steps of a smooth potential at many points at once, by damped Newton."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace
from flows.linear import NewtonFailure, count_iterations

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["pointwise_prox"]

Array = Any
MOST_ITERATIONS = 300
MOST_BACKTRACKS = 40
MOST_ESCAPES = 3


def pointwise_prox(
    value: Callable[[Array], Array],
    gradient: Callable[[Array], Array],
    hessian: Callable[[Array], Array],
    u: Array,
    h: float,
    start: Array,
    minimum: bool = False,
) -> tuple[Array, int]:
    """argmin_v V(v) + |v - u|^2 / 2h at every point u (.., d); returns v, iterations.

    Newton's method on the Hessian, made positive where V is concave, with a
    backtracking line search of its own at each point. Every solution satisfies
    v + h grad V(v) = u to rounding. With ``minimum``, a maximum or a saddle of the
    objective, where Newton's method would rest, is left along its steepest descent.

    Raises
    ------
    NewtonFailure
        When some point does not converge; with the largest residual of each iteration.
    """
    xp = namespace(u)
    eps = float(np.finfo(dtype_name(u)).eps)
    identity = array_like(np.eye(u.shape[-1]), u)
    v = start + xp.zeros_like(u)
    escapes = MOST_ESCAPES if minimum else 0
    residuals: list[float] = []
    best, stalled = np.inf, 0
    for iteration in range(MOST_ITERATIONS):
        slope = gradient(v)
        residual = v - u + h * slope
        size = 1.0 + xp.abs(u) + xp.abs(v) + xp.abs(h * slope)
        with np.errstate(invalid="ignore"):
            error = float(xp.max(xp.abs(residual) / size))
        residuals.append(error)
        if not np.isfinite(error):
            raise NewtonFailure("the gradient is not finite", residuals)
        stalled = 0 if error < 0.5 * best else stalled + 1
        best = min(best, error)
        done = error <= 8 * eps or (stalled >= 3 and error <= 1e5 * eps)
        if done and escapes == 0:
            return counted(v, iteration)
        matrix = identity + h * hessian(v)
        if done:
            away = escape(matrix, v)
            if away is None:
                return counted(v, iteration)
            v, best, stalled, escapes = v + away, np.inf, 0, escapes - 1
            continue
        if stalled >= 3 and rounded(matrix, v, residual, size, eps):
            return counted(v, iteration)
        v = v + line_search(
            value, v, u, h, residual, newton_direction(matrix, residual)
        )
    raise NewtonFailure("Newton's method did not converge", residuals)


def rounded(matrix: Array, v: Array, residual: Array, size: Array, eps: float) -> bool:
    """Whether rounding of v alone explains the residual, as for steep V and long h."""
    xp = namespace(v)
    reach = xp.matmul(xp.abs(matrix), xp.abs(v)[..., None])[..., 0]
    return bool(xp.all(xp.abs(residual) <= 64 * eps * (size + reach)))


def escape(matrix: Array, v: Array) -> Array | None:
    """Small displacement from saddles along their steepest descent, None without."""
    xp = namespace(v)
    if positive_definite(matrix):
        return None
    values, vectors = xp.linalg.eigh(matrix)
    saddle = values[..., :1] < -1e-6
    if not bool(xp.any(saddle)):
        return None
    step = 1e-3 * (1.0 + xp.max(xp.abs(v), axis=-1, keepdims=True))
    return xp.where(saddle, step * vectors[..., 0], xp.zeros_like(v))


def counted(v: Array, iterations: int) -> tuple[Array, int]:
    """The solution, its iterations added to the counters of the run."""
    count_iterations(iterations)
    return v, iterations


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
