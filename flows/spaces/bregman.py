"""Bregman proximal steps argmin_v V(v) + D(v, u)/h, by Newton's method in the chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace
from flows.linear import NewtonFailure, count_iterations
from flows.spaces.euclidean_flows import total
from flows.spaces.systems import positive_definite

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy

__all__ = ["bregman_step"]

Array = Any
MOST_ITERATIONS = 200
MOST_BACKTRACKS = 40
MOST_ESCAPES = 3


def bregman_step(
    functional: Energy,
    map: Any,
    t: Any,
    w: Array,
    h: Any,
    start: Array,
    minimum: bool = False,
) -> Array:
    """z with z + h grad V(grad phi*(z)) = w, at every point of a batch.

    Newton's method in z on the convex objective h V(x) + phi(x) - w.x of x =
    grad phi*(z): with Hess phi* = L L^T its direction is -(I + h Hess V L L^T)^{-1} r,
    solved with the symmetric I + h L^T Hess V L, whose eigenvalues are made positive
    where V is concave. Steps are halved until the objective falls.

    Raises
    ------
    NewtonFailure
        When some point does not converge; with the largest residual of each iteration.
    """
    xp = namespace(w)
    eps = float(np.finfo(dtype_name(w)).eps)
    z = map.center(start) + xp.zeros_like(w)
    w = map.center(w)
    history: list[float] = []
    best, stalled, escapes = np.inf, 0, MOST_ESCAPES if minimum else 0
    for _ in range(MOST_ITERATIONS):
        push = h * map.center(total(functional, "gradient_at", t, map.inverse(z)))
        r = z - w + push
        size = 1.0 + xp.abs(w) + xp.abs(z) + xp.abs(push)
        error = float(xp.max(xp.abs(r) / size))
        history.append(error)
        if not np.isfinite(error):
            raise NewtonFailure("the gradient is not finite", history)
        stalled = 0 if error < 0.5 * best else stalled + 1
        best = min(best, error)
        done = error <= 8 * eps or (stalled >= 3 and error <= 1e5 * eps)
        if done and not escapes:
            break
        L = map.root(z)
        scale = h[..., None] if getattr(h, "ndim", 0) else h
        H = total(functional, "hessian_at", t, map.inverse(z))
        HL = scale * xp.matmul(H, L)
        M = xp.matmul(xp.matrix_transpose(L), HL)
        M = 0.5 * (M + xp.matrix_transpose(M)) + array_like(np.eye(w.shape[-1]), w)
        if done:
            away = downhill(M, L)
            if away is None:
                break
            z, best, stalled, escapes = z + away, np.inf, 0, escapes - 1
            continue
        if stalled >= 3 and rounded(r, size, scale * H, L, z, map.inverse(z), eps):
            break
        y = xp.matmul(xp.matrix_transpose(L), r[..., None])
        step = -(r - map.center(xp.matmul(HL, solve_definite(M, y))[..., 0]))
        z = searched(functional, map, t, z, w, h, r, step)
    else:
        raise NewtonFailure("Newton's method did not converge", history)
    count_iterations(len(history) - 1)
    return z


def rounded(
    r: Array, size: Array, hH: Array, L: Array, z: Array, x: Array, eps: float
) -> bool:
    """Whether rounding of z and x alone explains the residual: steep V or long h."""
    xp = namespace(r)
    left, right = xp.abs(L), xp.abs(xp.matrix_transpose(L))
    # An error eps |z| of z moves x by Hess phi* eps |z|.
    moved = xp.matmul(left, xp.matmul(right, xp.abs(z)[..., None]))
    reach = xp.matmul(xp.abs(hH), xp.abs(x)[..., None] + moved)[..., 0]
    reach = xp.max(reach, axis=-1, keepdims=True)
    return bool(xp.all(xp.abs(r) <= 64 * eps * (size + reach)))


def solve_definite(M: Array, y: Array) -> Array:
    """M^{-1} y (.., n, 1), with |eigenvalues| where M is not positive."""
    xp = namespace(y)
    if positive_definite(M):
        return xp.linalg.solve(M, y)
    values, vectors = xp.linalg.eigh(M)
    values = xp.clip(xp.abs(values), min=1e-3)
    inner = xp.matmul(xp.matrix_transpose(vectors), y)
    return xp.matmul(vectors, inner / values[..., None])


def downhill(M: Array, L: Array) -> Array | None:
    """Small displacement of z away from maxima and saddles, None without them."""
    xp = namespace(M)
    if positive_definite(M):
        return None
    values, vectors = xp.linalg.eigh(M)
    saddle = values[..., :1] < -1e-6
    if not bool(xp.any(saddle)):
        return None
    lift = xp.linalg.pinv(xp.matrix_transpose(L))
    away = xp.matmul(lift, vectors[..., :1])[..., 0]
    reach = xp.max(xp.abs(away), axis=-1, keepdims=True)
    return xp.where(saddle, 1e-3 * away / reach, xp.zeros_like(away))


def searched(
    functional: Energy,
    map: Any,
    t: Any,
    z: Array,
    w: Array,
    h: Any,
    r: Array,
    step: Array,
) -> Array:
    """The point at each place that a Newton step leads to, shortened where necessary.

    The objective is h V(x) + D(x, grad phi*(w)) up to a constant; a rise within
    rounding passes, or Newton could not end. Straight lines of z are tried first; where
    these are too short, straight lines of x as well, which follow narrow valleys of V.
    """
    xp = namespace(z)
    eps = float(np.finfo(dtype_name(z)).eps)
    factor = h[..., 0] if getattr(h, "ndim", 0) else h

    def parts(point: Array) -> tuple[Array, Array, Array]:
        x = map.inverse(point)
        V = factor * total(functional, "value_at", t, x)
        return V, map.value(x), xp.sum(w * x, axis=-1)

    first = parts(z)
    before = first[0] + first[1] - first[2]
    slack = 64 * eps * sum(xp.abs(p) for p in first)
    # The slope along z is that of x, which moves by Hess phi* step.
    x, move = map.inverse(z), map.applied(z, step)
    slope = xp.sum(r * move, axis=-1)

    def search(along: Callable[[Array], Array]) -> tuple[Array, Array, Array]:
        """Fraction, point and value of the first good half along a line."""
        part = xp.ones_like(before)
        for _ in range(MOST_BACKTRACKS):
            point = along(part[..., None])
            V, phi, pull = parts(point)
            after = V + phi - pull
            # A NaN compares false and is halved as well.
            good = after <= before + 1e-4 * part * slope + slack
            if bool(xp.all(good)):
                break
            part = xp.where(good, part, 0.5 * part)
        return part, point, xp.where(good, after, xp.full_like(after, np.inf))

    def inside(part: Array) -> Array:
        y = x + part * move
        point = map.gradient(y)
        back = map.inverse(point)
        # Outside of the domain the chart does not lead back.
        same = xp.abs(back - y) <= 1e-6 * xp.abs(y)
        return xp.where(same, point, xp.full_like(point, np.nan))

    part, point, value = search(lambda part: z + part * step)
    if bool(xp.all(part == 1.0)):
        return point
    _, other, lower = search(inside)
    return xp.where((lower < value)[..., None], other, point)
