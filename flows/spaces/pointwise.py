"""Implicit steps at many points at once, by damped Newton methods.

The only Newton solvers of the spaces of points: vectors, batches and particles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, detach, dtype_name, namespace
from flows.linear import NewtonFailure, Operator, count_iterations, shifted
from flows.spaces.solved_points import Quiet, divides, part, part_of, placed
from flows.spaces.systems import DenseSystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.spaces.metrics import Metric
    from flows.spaces.systems import System

__all__ = [
    "Functions",
    "along",
    "minimize_move",
    "newton_solve",
    "pointwise_prox",
    "solve_equation",
]

Array = Any
Box = tuple[Array, Array]
MOST_ITERATIONS = 300
MOST_BACKTRACKS = 40
MOST_ESCAPES = 3
MOST_STUCK = 3
NO_FALL = (
    "Newton's method did not converge: V does not fall along minus its gradient (at a "
    "kink of V give `prox`, or write V as a formula, or take an explicit scheme)"
)


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

    def system(v: Array, slope: Array) -> DenseSystem:
        return DenseSystem(identity + along(h, 1) * hessian(v))

    functions = Functions(value, gradient, system)
    return minimize_move(functions, u, h, start, minimum, box=box)


@dataclass(frozen=True, eq=False)
class Functions:
    """V, its gradient, and the Newton systems at points (.., n).

    ``system(v, slope)`` is A = M + h Hess V(v), see ``System``, with slope =
    grad V(v). ``members(rows)`` gives the functions of some points of a batch; without
    it, all points iterate until the last one is solved.
    """

    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]
    system: Callable[[Array, Array], System]
    members: Callable[[np.ndarray], Functions] | None = None


def minimize_move(
    functions: Functions,
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
    functions : Functions
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
    first = inside(start + namespace(u).zeros_like(u), box)
    v, iterations = solved(functions, u, h, first, metric, box)
    for _ in range(MOST_ESCAPES if minimum else 0):
        away = functions.system(v, functions.gradient(v)).escape(v)
        if away is None:
            break
        v, more = solved(functions, u, h, inside(v + away, box), metric, box)
        iterations += more
    count_iterations(iterations)
    return v, iterations


def solved(
    functions: Functions,
    u: Array,
    h: Any,
    v: Array,
    metric: Metric | None,
    box: Box | None,
) -> tuple[Array, int]:
    """A stationary point of the objective from v, and the iterations that it took."""
    xp = namespace(u)
    eps = float(np.finfo(dtype_name(u)).eps)
    weight = 1.0 if metric is None else metric.size(u)
    base = weight * (1.0 + xp.abs(u))
    residuals: list[float] = []
    best, stalled, stuck, tolerance, hint = np.inf, 0, 0, 8.0, ""
    model: System | None = None
    height = None
    quiet = Quiet() if divides(functions, u) else None
    for iteration in range(MOST_ITERATIONS):
        slope = functions.gradient(v)
        push = h * slope
        residual = (v - u if metric is None else metric.apply(u, v - u)) + push
        size = base + weight * xp.abs(v) + xp.abs(push)
        free = None if box is None else movable(v, residual, box)
        if free is not None:
            residual = xp.where(free, residual, xp.zeros_like(residual))
        with np.errstate(invalid="ignore"):
            each = detach(xp.max(xp.abs(residual) / size, axis=-1))
            error = float(xp.max(each))
        residuals.append(error)
        if not np.isfinite(error):
            raise NewtonFailure("the gradient is not finite", residuals)
        stalled = 0 if error < 0.5 * best else stalled + 1
        best = min(best, error)
        if error <= tolerance * eps or (stalled >= 3 and error <= 1e5 * eps):
            return v, iteration
        if model is not None and stalled >= 1:
            # Rounding of v alone explains the residual, as for steep V and long h.
            rounding = 64 * eps * (size + model.reach(v))
            if bool(xp.all(xp.abs(residual) <= rounding)):
                return v, iteration
        if quiet is not None:
            rows = quiet.unsolved(each, residual, size, v, tolerance, eps, model)
            if not len(rows):
                return v, iteration
            if 2 * len(rows) <= each.shape[0]:
                some = part_of(functions, rows)
                few = [part(a, rows, u) for a in (u, h, v)]
                rest = None if box is None else tuple(part(a, rows, u) for a in box)
                w, more = solved(some, few[0], few[1], few[2], metric, rest)
                return placed(v, rows, w), iteration + more
        if model is None or not nearly(residuals, tolerance * eps):
            model = functions.system(v, slope)
        tolerance, hint = model.tolerance, model.hint
        step = model.direction(residual, free, error)
        height = functions.value(v) if height is None else height
        v, height, lower = line_search(
            functions, v, height, u, h, residual, step, metric, box
        )
        stuck = 0 if lower else stuck + 1
        # So near a solution, Newton's method is quick where V is smooth.
        if stuck == MOST_STUCK or (stalled >= 30 and error < 1e-6):
            raise NewtonFailure(NO_FALL + hint, residuals)
    raise NewtonFailure("Newton's method did not converge" + hint, residuals)


def nearly(residuals: list[float], target: float) -> bool:
    """Whether two more steps with the present matrix reach the target.

    The last step took the residual down by the factor that is to be expected again,
    with the same matrix, as often as it is used.
    """
    if len(residuals) < 2:
        return False
    factor = 4.0 * residuals[-1] / residuals[-2]
    return factor**2 * residuals[-1] <= target


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


def row_sums(a: Array, b: Array) -> Array:
    """a.b over the last axis, by columns where it is short: sums of rows are slow."""
    if a.ndim == 1 or a.shape[-1] > 4:
        return namespace(a).sum(a * b, axis=-1)
    total = a[..., 0] * b[..., 0]
    for i in range(1, a.shape[-1]):
        total = total + a[..., i] * b[..., i]
    return total


def line_search(
    functions: Functions,
    v: Array,
    first: Array,
    u: Array,
    h: Any,
    residual: Array,
    step: Array,
    metric: Metric | None = None,
    box: Box | None = None,
) -> tuple[Array, Array, bool]:
    """The point after the largest of step, step/2, .. that does not raise the value.

    Every member has its own fraction. A rise within rounding passes, or Newton could
    not end; where the promised fall is less, V is not asked. ``first`` is V(v); V at
    the new point is returned with it, and whether no member rises.
    """
    xp = namespace(u)
    each = along(h, -1)

    def square(x: Array) -> Array:
        return row_sums(x, x if metric is None else metric.apply(u, x))

    before = each * first + 0.5 * square(v - u)
    eps = float(np.finfo(dtype_name(u)).eps)
    slack = 16 * eps * (xp.abs(before) + xp.abs(each * first) + square(u))
    trial, height = inside(v + step, box), first
    slope = row_sums(residual, trial - v)
    if bool(xp.all(xp.abs(slope) <= 0.01 * slack)):
        return trial, first, True
    part = xp.ones_like(before)
    for _ in range(MOST_BACKTRACKS):
        height = functions.value(trial)
        after = each * height + 0.5 * square(trial - u)
        # A NaN compares false and is halved as well.
        good = after <= before + 1e-4 * slope + slack
        if bool(xp.all(good)):
            return trial, height, True
        part = xp.where(good, part, 0.5 * part)
        trial = inside(v + part[..., None] * step, box)
        slope = row_sums(residual, trial - v)
    return trial, height, False


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
            count_iterations(iteration)
            return v, iteration
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
