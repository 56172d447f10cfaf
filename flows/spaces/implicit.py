"""Implicit steps of points that feel potentials and each other.

All functions solve v = w + h velocity(t, v) for w (n, d); where the energy is not
convex they find a local minimum of n E(v) + |v - w|^2 / 2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import all_finite, array_like, dtype_name, namespace, to_numpy
from flows.energies import Sum
from flows.linear import NewtonFailure, newton
from flows.spaces.formulas import Kinked, split_potentials
from flows.spaces.kinks import kink_prox
from flows.spaces.pairs import Pairs, ranks
from flows.spaces.pointwise import pointwise_prox
from flows.spaces.systems import positive_definite

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Potential

__all__ = [
    "LARGEST_DENSE",
    "NOT_FINITE",
    "NO_DERIVATIVE",
    "decrement_tolerance",
    "obstacle",
    "solve_points",
    "solve_positive",
    "total_potential",
]

Array = Any
Potentials = tuple["Potential", ...]

NO_DERIVATIVE = (
    "implicit steps need the derivative of the drift, which is not known; use an "
    "explicit scheme such as DormandPrince()"
)
NOT_FINITE = "the second derivatives of the energy are not finite"
LARGEST_DENSE = 2000
"""Unknowns beyond which a dense Newton matrix is refused."""


def obstacle(potentials: Potentials, pairs: Pairs, d: int) -> str | None:
    """Why implicit steps of points in R^d are not possible, or None."""
    rough = [part.term for part in pairs.rest if not part.smooth]
    if rough:
        return (
            f"implicit steps need a smooth W, and {rough[0]!r} has a kink or a "
            "singularity; use an explicit scheme such as DormandPrince()"
        )
    if pairs.rest and pairs.kink > 0.0:
        return (
            "no implicit step is known for an attracting kink abs(x) in W together "
            "with other than quadratic parts; use an explicit scheme"
        )
    if not any(kinked(term) for term in potentials):
        return None
    if pairs.rest or (pairs.matrix is not None and d > 1):
        return (
            "no implicit step is known for a V with a kink together with this W; use "
            "an explicit scheme such as DormandPrince()"
        )
    try:
        if split_potentials(potentials, d) is None:
            known_prox(potentials)
    except TypeError as error:
        return str(error)
    return None


def kinked(potential: Potential) -> bool:
    """Whether a potential needs a proximal map of its own."""
    return potential.prox is not None or not potential.function.smooth


@lru_cache(maxsize=256)
def known_prox(potentials: Potentials) -> Callable[..., tuple[Array, Any]]:
    """The proximal map of potentials with kinks, found once."""
    return kink_prox(Sum(potentials))


def solve_points(
    potentials: Potentials, pairs: Pairs, t: float, w: Array, h: float, start: Array
) -> Array:
    """v = w + h velocity(t, v) for points w (n, d), started from ``start``.

    An attracting kink of W merges points: v is then the minimizer over all points in
    the order of w, which is the proximal step of V after the isotonic regression of
    w - h c (rank) [1]_.

    Raises
    ------
    NewtonFailure
        When the equation is not solved.
    ValueError
        When the system is dense and has more than ``LARGEST_DENSE`` unknowns.

    References
    ----------
    .. [1] R. E. Barlow, H. D. Brunk, The isotonic regression problem and its dual,
       J. Amer. Statist. Assoc. 67 (1972), doi:10.1080/01621459.1972.10481216.
    """
    if pairs.kink != 0.0:
        level = ranks(w[:, 0])
        pushed = w[:, 0] - (h * pairs.kink) * level
        if pairs.kink > 0.0:
            pushed = isotonic(pushed, level)
            # Merged points stay merged when Newton starts from one point for all.
            start = pushed[:, None]
        w = pushed[:, None]
    if pairs.rest:
        return solve_dense(potentials, pairs, t, w, h, start)
    prox = proximal_map(potentials, pairs.matrix, w.shape[1], t, h)
    if pairs.matrix is None:
        return prox(w, start)
    return solve_through_mean(prox, potentials, pairs.matrix, t, w, h, start)


def isotonic(x: Array, order: Array) -> Array:
    """Closest point to x (n,) whose entries increase as those of ``order`` do."""
    from scipy.optimize import isotonic_regression

    place = np.argsort(to_numpy(order), kind="stable")
    values = to_numpy(x)
    result = np.empty_like(values)
    result[place] = isotonic_regression(values[place].astype(np.float64)).x
    return array_like(result, x)


def total_potential(name: str, potentials: Potentials, t: float, x: Array) -> Array:
    """Sum of ``value_at``, ``gradient_at`` or ``hessian_at``; at least one term."""
    first, *others = potentials
    total = getattr(first, name)(x, t)
    for term in others:
        total = total + getattr(term, name)(x, t)
    return total


def proximal_map(
    potentials: Potentials, matrix: Array | None, d: int, t: float, h: float
) -> Callable[[Array, Array], Array]:
    """Map (y, start) to v with v + h (grad V(v) + A v) = y at every point."""
    if not potentials:
        if matrix is None:
            return lambda y, start: y
        factor = _inverse(np.eye(len(matrix)) + h * matrix, h)
        return lambda y, start: namespace(y).matmul(y, array_like(factor, y))
    if any(kinked(term) for term in potentials):
        a = 0.0 if matrix is None else float(matrix[0, 0])
        return kinked_map(potentials, a, d, t, h)

    def smooth(y: Array, start: Array) -> Array:
        xp = namespace(y)
        A = None if matrix is None else array_like(matrix, y)

        def value(x: Array) -> Array:
            V = total_potential("value_at", potentials, t, x)
            return V if A is None else V + 0.5 * xp.sum(x * xp.matmul(x, A), axis=-1)

        def gradient(x: Array) -> Array:
            g = total_potential("gradient_at", potentials, t, x)
            return g if A is None else g + xp.matmul(x, A)

        def hessian(x: Array) -> Array:
            H = total_potential("hessian_at", potentials, t, x)
            return H if A is None else H + A

        return pointwise_prox(value, gradient, hessian, y, h, start)[0]

    return smooth


def kinked_map(
    potentials: Potentials, a: float, d: int, t: float, h: float
) -> Callable[[Array, Array], Array]:
    """The proximal map of potentials with kinks plus a |x|^2 / 2."""
    split = split_potentials(potentials, d)
    if split is None or split.weight < 0.0:
        prox = known_prox(potentials)
        # V + a |x|^2/2 with step h is V with step h/(1 + h a) at y/(1 + h a).
        return lambda y, start: prox(t, y / (1.0 + h * a), h / (1.0 + h * a), ())[0]
    return lambda y, start: soft_step(split, a, t, y, h)


def soft_step(split: Kinked, a: float, t: float, y: Array, h: float) -> Array:
    """v with v + h (c sign(v - p) + S'(v) + a v) = y for points (n, 1).

    Points that the kink holds are at p. On either side of it the equation is smooth,
    and its solution for the sign of y - p - h (S'(p) + a p) stays on that side.
    """
    xp = namespace(y)
    c, p, terms = split.weight, split.location, split.smooth

    def gradient(x: Array) -> Array:
        g = c * sign + a * x
        return g + total_potential("gradient_at", terms, t, x) if terms else g

    def value(x: Array) -> Array:
        line = (c * sign * x + 0.5 * a * x * x)[..., 0]
        return line + total_potential("value_at", terms, t, x) if terms else line

    def hessian(x: Array) -> Array:
        H = xp.full_like(x, a)[..., None]
        return H + total_potential("hessian_at", terms, t, x) if terms else H

    corner = xp.full_like(y, p)
    sign = xp.zeros_like(y)
    pull = y - corner - h * gradient(corner)
    rests = xp.abs(pull) <= h * c
    sign = xp.where(rests, sign, xp.sign(pull))
    start = corner + xp.where(rests, xp.zeros_like(y), pull - h * c * sign)
    v = pointwise_prox(value, gradient, hessian, y, h, start)[0]
    return xp.where(rests, corner, v)


def _inverse(matrix: Array, h: float) -> Array:
    """Inverse of a symmetric matrix, which must be positive definite."""
    if np.linalg.eigvalsh(matrix)[0] <= 0.0:
        raise NewtonFailure(f"the repulsion of W has no minimum at step {h:g}")
    return np.linalg.inv(matrix)


def solve_through_mean(
    prox: Callable[[Array, Array], Array],
    potentials: Potentials,
    A: Array,
    t: float,
    w: Array,
    h: float,
    start: Array,
) -> Array:
    """v + h (grad V(v) + A (v - mean v)) = w: a Newton method for the mean alone.

    Given the mean m, v = prox(w + h A m) at every point; the mean of that is m again
    for the solution.
    """
    xp = namespace(w)
    hA = array_like(h * A, w)
    if not potentials:
        mean = xp.mean(w, axis=0)
        return mean + prox(w - mean, start)
    state = {"v": start}

    def residual(m: Array) -> Array:
        state["v"] = prox(w + xp.matmul(hA, m), state["v"])
        return m - xp.mean(state["v"], axis=0)

    def solve(m: Array, r: Array) -> Array:
        identity = array_like(np.eye(len(A)), w)
        H = identity + hA + h * total_potential("hessian_at", potentials, t, state["v"])
        response = xp.mean(xp.linalg.inv(H), axis=0)
        return xp.linalg.solve(identity - xp.matmul(response, hA), r[:, None])[:, 0]

    eps = float(np.finfo(dtype_name(w)).eps)
    size = 1.0 + float(xp.max(xp.abs(w)))
    m = xp.mean(start, axis=0)
    if any(map(kinked, potentials)):
        m = increasing_root(residual, m, 1.0 + max(float(hA[0, 0]), 0.0), eps * size)
        return prox(w + xp.matmul(hA, m), state["v"])
    result = newton(residual, solve, m, tol=4 * eps * size, floor=256 * eps * size)
    return prox(w + xp.matmul(hA, result.x), state["v"])


def increasing_root(
    f: Callable[[Array], Array], x: Array, slack: float, tolerance: float
) -> Array:
    """Root of f (1,) -> (1,), which increases at least as fast as x / ``slack``."""
    from scipy.optimize import brentq

    value = float(f(x)[0])
    if abs(value) <= tolerance:
        return x

    def shifted(s: float) -> float:
        return float(f(x + s)[0])

    far = -1.01 * slack * value
    try:
        s = brentq(shifted, min(0.0, far), max(0.0, far), xtol=tolerance)
    except ValueError as error:
        raise NewtonFailure(f"the mean of the points was not found: {error}") from error
    return x + s


def solve_dense(
    potentials: Potentials, pairs: Pairs, t: float, w: Array, h: float, start: Array
) -> Array:
    """argmin_v n E(v) + |v - w|^2 / 2h, with the full Hessian."""
    xp = namespace(w)
    n, d = w.shape
    if n * d > LARGEST_DENSE:
        raise ValueError(
            f"An implicit step of {n} points in R^{d} with this W needs a dense matrix "
            f"of {n * d} unknowns, at most {LARGEST_DENSE} are allowed; use fewer "
            "points or an explicit scheme."
        )
    smooth_pairs = Pairs(pairs.matrix, rest=pairs.rest)

    def value(z: Array) -> Array:
        x = xp.reshape(z, (n, d))
        W = array_like(n * smooth_pairs.energy(t, x), w)
        if not potentials:
            return W
        return W + xp.sum(total_potential("value_at", potentials, t, x))

    def gradient(z: Array) -> Array:
        x = xp.reshape(z, (n, d))
        force = smooth_pairs.force(t, x)
        g = xp.zeros_like(x) if force is None else -force
        if potentials:
            g = g + total_potential("gradient_at", potentials, t, x)
        return xp.reshape(g, (-1,))

    def hessian(z: Array) -> Array:
        return dense_hessian(potentials, smooth_pairs, t, xp.reshape(z, (n, d)))

    flat = xp.reshape(w, (-1,))
    first = xp.reshape(start, (-1,))
    return xp.reshape(
        pointwise_prox(value, gradient, hessian, flat, h, first)[0], (n, d)
    )


def dense_hessian(potentials: Potentials, pairs: Pairs, t: float, x: Array) -> Array:
    """n Hess E at points (n, d), as a matrix (nd, nd)."""
    xp = namespace(x)
    n, d = x.shape
    blocks = array_like(np.zeros((n, n, d, d)), x)
    for part in pairs.rest:
        blocks = blocks - part.hessian(t, x) / n
    if pairs.matrix is not None:
        blocks = blocks - array_like(pairs.matrix, x) / n
    own = -xp.sum(blocks, axis=1)
    if potentials:
        own = own + total_potential("hessian_at", potentials, t, x)
    diagonal = array_like(np.eye(n), x)[:, :, None, None]
    H = xp.permute_dims(blocks + diagonal * own[:, None], (0, 2, 1, 3))
    return xp.reshape(H, (n * d, n * d))


def solve_positive(H: Array, g: Array) -> Array:
    """H^{-1} g, with a multiple of the identity added until H is positive definite."""
    xp = namespace(H)
    if not all_finite(H):
        raise NewtonFailure(NOT_FINITE)
    identity = array_like(np.eye(H.shape[0]), H)
    shift = 0.0
    while not positive_definite(H + shift * identity):
        lowest = float(xp.min(xp.linalg.diagonal(H)))
        shift = max(2.0 * shift, 0.1 - lowest, 0.1)
    return xp.linalg.solve(H + shift * identity, g[:, None])[:, 0]


def decrement_tolerance(w: Array) -> float:
    """Newton decrement below which a step moves the points by rounding only."""
    xp = namespace(w)
    eps = float(np.finfo(dtype_name(w)).eps)
    size = float(xp.max(xp.abs(w)))
    return (64.0 * eps * max(size, eps)) ** 2 * float(np.prod(w.shape))
