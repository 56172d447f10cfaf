"""Implicit steps at many points at once, by damped Newton methods.

The only Newton solvers of the spaces of points: vectors, batches and particles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace
from flows.linear import NewtonFailure, Operator, count_iterations, shifted
from flows.spaces.systems import DenseSystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.spaces.metrics import Metric
    from flows.spaces.systems import System

__all__ = ["along", "minimize_move", "newton_solve", "pointwise_prox", "solve_equation"]

Array = Any
Box = tuple[Array, Array]
MOST_ITERATIONS = 300
MOST_BACKTRACKS = 40
MOST_ESCAPES = 3


def along(h: Any, axes: int) -> Any:
    """Steps (b, 1) for arrays of points with so many axes more (fewer if negative)."""
    if not getattr(h, "ndim", 0):
        return h
    return h[..., None] if axes == 1 else h[..., 0]


def pointwise_prox(
    value: Callable[[Array], Array],
    gradient: Callable[[Array], Array],
    hessian: Callable[[Array], Array],
    u: Array,
    h: Any,
    start: Array,
    minimum: bool = False,
    box: Box | None = None,
) -> tuple[Array, int]:
    """argmin_v V(v) + |v - u|^2 / 2h at every point u (.., d); returns v, iterations.

    ``minimize_move`` in the plain metric with Hessians (.., d, d).
    """
    identity = array_like(np.eye(u.shape[-1]), u)

    def system(v: Array) -> DenseSystem:
        return DenseSystem(identity + along(h, 1) * hessian(v))

    return minimize_move(value, gradient, system, u, h, start, minimum, box=box)


def minimize_move(
    value: Callable[[Array], Array],
    gradient: Callable[[Array], Array],
    system: Callable[[Array], System],
    u: Array,
    h: Any,
    start: Array,
    minimum: bool = False,
    *,
    metric: Metric | None = None,
    box: Box | None = None,
) -> tuple[Array, int]:
    """argmin_v V(v) + (v - u).M (v - u) / 2h at every point u (.., n).

    Newton's method with a backtracking line search of its own at each point. Every
    solution satisfies M (v - u) + h grad V(v) = 0 to rounding, or to the tolerance of
    the system. With ``minimum``, a maximum or a saddle of the objective, where Newton's
    method would rest, is left along a direction of negative curvature.

    Parameters
    ----------
    value, gradient : callable
        V and its gradient at points (.., n).
    system : callable
        ``system(v)``: A = M + h Hess V(v), see ``System``.
    h : float or array
        A number, or (b, 1) for points (b, n) with steps of their own.
    start : array
        First guess.
    metric : Metric, optional
        A constant M; the identity by default.
    box : pair of arrays, optional
        Bounds that v keeps, by a projected Newton method [1]_; M must be diagonal.

    Returns
    -------
    v : array
    iterations : int

    Raises
    ------
    NewtonFailure
        When some point does not converge; with the largest residual of each iteration.

    References
    ----------
    .. [1] D. P. Bertsekas, Projected Newton methods for optimization problems with
       simple constraints, SIAM J. Control Optim. 20 (1982) 221-246,
       doi:10.1137/0320018.
    """
    xp = namespace(u)
    eps = float(np.finfo(dtype_name(u)).eps)
    v = inside(start + xp.zeros_like(u), box)
    weight = 1.0 if metric is None else metric.size(u)
    escapes = MOST_ESCAPES if minimum else 0
    residuals: list[float] = []
    best, stalled, tolerance, hint = np.inf, 0, 8.0, ""
    for iteration in range(MOST_ITERATIONS):
        slope = gradient(v)
        move = v - u if metric is None else metric.apply(u, v - u)
        residual = move + h * slope
        size = weight * (1.0 + xp.abs(u) + xp.abs(v)) + xp.abs(h * slope)
        free = None if box is None else movable(v, residual, box)
        if free is not None:
            residual = xp.where(free, residual, xp.zeros_like(residual))
        with np.errstate(invalid="ignore"):
            error = float(xp.max(xp.abs(residual) / size))
        residuals.append(error)
        if not np.isfinite(error):
            raise NewtonFailure("the gradient is not finite", residuals)
        stalled = 0 if error < 0.5 * best else stalled + 1
        best = min(best, error)
        done = error <= tolerance * eps or (stalled >= 3 and error <= 1e5 * eps)
        if done and escapes == 0:
            return counted(v, iteration)
        model = system(v)
        tolerance, hint = model.tolerance, model.hint
        if done:
            away = model.escape(v)
            if away is None:
                return counted(v, iteration)
            v = inside(v + away, box)
            best, stalled, escapes = np.inf, 0, escapes - 1
            continue
        if stalled >= 3:
            # Rounding of v alone explains the residual, as for steep V and long h.
            rounding = 64 * eps * (size + model.reach(v))
            if bool(xp.all(xp.abs(residual) <= rounding)):
                return counted(v, iteration)
        step = model.direction(residual, free, error)
        v = line_search(value, v, u, h, residual, step, metric, box)
    raise NewtonFailure("Newton's method did not converge" + hint, residuals)


def inside(v: Array, box: Box | None) -> Array:
    """The closest point of the box."""
    if box is None:
        return v
    xp = namespace(v)
    return xp.minimum(xp.maximum(v, box[0]), box[1])


def movable(v: Array, residual: Array, box: Box) -> Array:
    """Coordinates that are not held at a bound by their residual."""
    held = ((v <= box[0]) & (residual > 0.0)) | ((v >= box[1]) & (residual < 0.0))
    return ~held


def counted(v: Array, iterations: int) -> tuple[Array, int]:
    """The solution, its iterations added to the counters of the run."""
    count_iterations(iterations)
    return v, iterations


def row_sums(a: Array, b: Array) -> Array:
    """a.b over the last axis, by columns where it is short: sums of rows are slow."""
    if a.ndim == 1 or a.shape[-1] > 4:
        return namespace(a).sum(a * b, axis=-1)
    total = a[..., 0] * b[..., 0]
    for i in range(1, a.shape[-1]):
        total = total + a[..., i] * b[..., i]
    return total


def line_search(
    value: Callable[[Array], Array],
    v: Array,
    u: Array,
    h: Any,
    residual: Array,
    step: Array,
    metric: Metric | None = None,
    box: Box | None = None,
) -> Array:
    """The point after the largest of step, step/2, .. that does not raise the value.

    Every member has its own fraction. A rise within rounding passes, or Newton could
    not end.
    """
    xp = namespace(u)
    each = along(h, -1)

    def square(x: Array) -> Array:
        return row_sums(x, x if metric is None else metric.apply(u, x))

    def objective(x: Array) -> Array:
        return each * value(x) + 0.5 * square(x - u)

    first = value(v)
    before = each * first + 0.5 * square(v - u)
    eps = float(np.finfo(dtype_name(u)).eps)
    slack = 16 * eps * (xp.abs(before) + xp.abs(each * first) + square(u))
    part = xp.ones_like(before)
    for _ in range(MOST_BACKTRACKS):
        trial = inside(v + part[..., None] * step, box)
        slope = row_sums(residual, trial - v)
        # A NaN compares false and is halved as well.
        good = objective(trial) <= before + 1e-4 * slope + slack
        if bool(xp.all(good)):
            return trial
        part = xp.where(good, part, 0.5 * part)
    return inside(v + part[..., None] * step, box)


def newton_solve(J: Any, h: Any, r: Array) -> Array:
    """(I - h J)^{-1} r, of an operator as exactly as Newton's method needs it."""
    # Six digits a step are enough, and products by differences have few more.
    tol = 1e-6 if isinstance(J, Operator) else None
    return shifted(J, h, r, tol=tol).solve(r)


def solve_equation(
    velocity: Callable[[Array], Array],
    solve: Callable[[Array, Array], Array],
    w: Array,
    h: Any,
    start: Array,
) -> tuple[Array, int]:
    """v with v = w + h velocity(v) at every point w (.., n), for no gradient of w.

    Newton's method with backtracking on the largest residual of each point;
    ``solve(v, r)`` is (I - h J(v))^{-1} r with the Jacobian J of the velocity.

    Raises
    ------
    NewtonFailure
        When some point does not converge; with the largest residual of each iteration.
    """
    xp = namespace(w)
    eps = float(np.finfo(dtype_name(w)).eps)
    v = start + xp.zeros_like(w)

    def equation(x: Array) -> tuple[Array, Array]:
        push = h * velocity(x)
        residual = x - w - push
        size = 1.0 + xp.abs(x) + xp.abs(w) + xp.abs(push)
        return residual, xp.max(xp.abs(residual) / size, axis=-1)

    residuals: list[float] = []
    best, stalled = np.inf, 0
    residual, each = equation(v)
    for iteration in range(MOST_ITERATIONS):
        with np.errstate(invalid="ignore"):
            error = float(xp.max(each))
        residuals.append(error)
        if not np.isfinite(error):
            raise NewtonFailure("the velocity is not finite", residuals)
        stalled = 0 if error < 0.5 * best else stalled + 1
        best = min(best, error)
        # Differences in the Jacobian and Krylov methods leave convergence linear.
        if error <= 8 * eps or (stalled >= 3 and error <= 1e5 * eps):
            return counted(v, iteration)
        if stalled >= 30:
            break
        step = -solve(v, residual)
        part = xp.ones_like(each)
        for _ in range(MOST_BACKTRACKS):
            trial = v + part[..., None] * step
            new, height = equation(trial)
            good = height <= (1.0 - 1e-4 * part) * each + 4 * eps
            if bool(xp.all(good)):
                break
            part = xp.where(good, part, 0.5 * part)
        v, residual, each = trial, new, height
    raise NewtonFailure("Newton's method did not converge", residuals)
