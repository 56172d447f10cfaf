"""Implicit steps of quantiles that a density term keeps in strict order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.linear import NewtonFailure, minimize_newton
from flows.spaces.implicit import (
    NOT_FINITE,
    decrement_tolerance,
    solve_positive,
    total_potential,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Entropy, Internal, Potential
    from flows.spaces.formulas import Kinked
    from flows.spaces.pairs import Pairs

__all__ = [
    "Chain",
    "Terms",
    "curvatures",
    "densities",
    "laplacian",
    "minimize",
    "minimize_with_kink",
    "spread",
]

Array = Any
Terms = tuple["Entropy | Internal", ...]

# The part of the way to the first collision that a Newton step may go.
NEAREST = 0.95
MOST_ITERATIONS = 300


def densities(x: Array) -> Array:
    """Density 1/(n gap) between neighbours, (n - 1,)."""
    return 1.0 / (x.shape[0] * (x[1:] - x[:-1]))


def curvatures(terms: Terms, rho: Array, n: int) -> Array:
    """Second derivatives of n sum gap U(1/(n gap)) by the gaps: n^2 rho^3 U''(rho)."""
    total = 0.0 * rho
    for term in terms:
        # The product rho U'' first: rho^3 alone overflows float32 early.
        total = total + (n * rho) * ((n * rho) * (rho * term.second_at(rho)))
    return total


@dataclass(frozen=True, eq=False)
class Chain:
    """The function of an implicit step, h n E(v) + |v - w|^2 / 2 + tilt.v.

    Everything is NumPy. The kinks of V and W are linear in ``tilt`` once the signs and
    the order of v are given; ``pinned`` is the index of a quantile that stays where it
    starts.
    """

    potentials: tuple[Potential, ...]
    terms: Terms
    pairs: Pairs
    t: float
    w: Array
    h: float
    tilt: Array
    pinned: int | None = None

    def parts(self, v: Array) -> list[float]:
        """The summands of ``value``; infinite out of order."""
        n, x = v.shape[0], v[:, None]
        gaps = v[1:] - v[:-1]
        if gaps.size and not gaps.min() > 0.0:
            return [np.inf]
        move = v - self.w
        values = [0.5 * float(move @ move), float(self.tilt @ move)]
        if self.potentials:
            V = total_potential("value_at", self.potentials, self.t, x)
            values.append(self.h * float(np.sum(V)))
        rho = densities(v)
        for term in self.terms:
            values.append(self.h * n * float(gaps @ term.value_at(rho)))
        values.append(self.h * n * self.pairs.energy(self.t, x))
        return values

    def value(self, v: Array) -> float:
        """The function of the step."""
        return sum(self.parts(v))

    def rounding(self, v: Array) -> float:
        """Rounding error of ``value``, whose terms may cancel."""
        return 8.0 * float(np.finfo(v.dtype).eps) * sum(map(abs, self.parts(v)))

    def gradient(self, v: Array) -> Array:
        """Its gradient: v - w + tilt - h velocity(v)."""
        x = v[:, None]
        g = v - self.w + self.tilt
        if self.potentials:
            slopes = total_potential("gradient_at", self.potentials, self.t, x)
            g = g + self.h * slopes[:, 0]
        if self.terms:
            rho = densities(v)
            pressure = self.h * v.shape[0] * sum(c.pressure_at(rho) for c in self.terms)
            g[:-1] += pressure
            g[1:] -= pressure
        force = self.pairs.force(self.t, x)
        if force is not None:
            g = g - self.h * force[:, 0]
        if self.pinned is not None:
            g[self.pinned] = 0.0
        return g

    def solve(self, v: Array, g: Array) -> Array:
        """H^{-1} g with the Hessian made positive where the energy is concave."""
        n, x, h = v.shape[0], v[:, None], self.h
        own = np.ones_like(v)
        if self.potentials:
            second = total_potential("hessian_at", self.potentials, self.t, x)
            own = own + h * second[:, 0, 0]
        a = 0.0 if self.pairs.matrix is None else h * float(self.pairs.matrix[0, 0])
        links = h * curvatures(self.terms, densities(v), n)
        if self.pairs.rest:
            H = laplacian(links, own + a) - a / n
            for part in self.pairs.rest:
                second = (h / n) * part.hessian(self.t, x)[:, :, 0, 0]
                H = H + np.diag(second.sum(axis=1)) - second
            return solve_positive(pin(H, self.pinned), g)
        return self.solve_links(own + a, links, a / n, g)

    def solve_links(self, own: Array, links: Array, rank_one: float, g: Array) -> Array:
        """(diag(own) + Laplacian of links - rank_one 1 1^T)^{-1} g in O(n)."""
        n = own.shape[0]
        factor = tridiagonal_factor(own, links, self.pinned)
        if factor is None:
            # The links are convex, so ``own`` is to blame, or its loss by rounding.
            eps = float(np.finfo(own.dtype).eps)
            rounding = 8 * n * eps * float(links.max(initial=0.0))
            own = np.maximum(np.abs(own), max(0.1, rounding))
            factor = tridiagonal_factor(own, links, self.pinned)
        if factor is None:
            raise NewtonFailure(NOT_FINITE)
        y = factor(g)
        if rank_one == 0.0:
            return y
        ones = np.ones_like(g)
        if self.pinned is not None:
            ones[self.pinned] = 0.0
        z = factor(ones)
        scale = 1.0 - rank_one * float(ones @ z)
        if scale <= 1e-3:
            # Without the mean field's own response the matrix stays positive.
            return y
        return y + (rank_one * float(ones @ y) / scale) * z

    def step_limit(self, v: Array, step: Array) -> float:
        """Largest part of a step that keeps the order, with a margin."""
        gaps, closing = v[1:] - v[:-1], step[:-1] - step[1:]
        near = closing > 0.0
        if not near.any():
            return np.inf
        return NEAREST * float(np.min(gaps[near] / closing[near]))


def tridiagonal_factor(
    own: Array, links: Array, pinned: int | None
) -> Callable[[Array], Array] | None:
    """Solver of diag(own) + Laplacian of links, or None where it is not positive."""
    from scipy.linalg.lapack import get_lapack_funcs

    diagonal, off = own.copy(), -links
    diagonal[:-1] += links
    diagonal[1:] += links
    if pinned is not None:
        diagonal[pinned] = 1.0
        off = off.copy()
        off[max(pinned - 1, 0) : pinned + 1] = 0.0
    if diagonal.size == 1:
        return (lambda g: g / diagonal) if diagonal[0] > 0.0 else None
    pttrf, pttrs = get_lapack_funcs(("pttrf", "pttrs"), (diagonal,))
    d, e, info = pttrf(diagonal, off)
    if info != 0 or not np.isfinite(d).all():
        return None
    return lambda g: np.asarray(pttrs(d, e, g)[0])


def laplacian(links: Array, own: Array) -> Array:
    """diag(own) + Laplacian of links as a full matrix."""
    diagonal = own.copy()
    diagonal[:-1] += links
    diagonal[1:] += links
    return np.diag(diagonal) - np.diag(links, 1) - np.diag(links, -1)


def pin(H: Array, index: int | None) -> Array:
    """The matrix with one unknown held: its row and column of the identity."""
    if index is not None:
        H[index, :] = 0.0
        H[:, index] = 0.0
        H[index, index] = 1.0
    return H


def minimize(chain: Chain, start: Array) -> Array:
    """The quantiles where the function of the step is least, from ordered ``start``."""
    result = minimize_newton(
        chain.value,
        chain.gradient,
        chain.solve,
        start,
        tol=decrement_tolerance(chain.w),
        floor=chain.rounding(start),
        max_iterations=MOST_ITERATIONS,
        step_limit=chain.step_limit,
    )
    return np.asarray(result.x)


def minimize_with_kink(
    make: Callable[[Array, int | None], Chain],
    kink: Kinked,
    h: float,
    start: Array,
) -> Array:
    """The same for a potential c |x - p| + smooth, c > 0.

    The quantiles left of p are the first k, and one may sit in the kink. For a given k
    the kink is linear, and its minimizer increases with k, so that k is found by
    bisection: it is the least for which the quantile k is not left of p.

    Parameters
    ----------
    make : callable
        ``make(tilt, pinned)`` is the chain with the kink's tilt.

    Raises
    ------
    NewtonFailure
        Also when a wrong k led so far away that rounding spoiled the step.
    """
    n, p = start.shape[0], kink.location
    found: dict[int, Array] = {}
    last = start

    def tilt(k: int) -> Array:
        slopes = np.full_like(start, h * kink.weight)
        slopes[:k] *= -1.0
        return slopes

    def split(k: int) -> Array:
        nonlocal last
        if k not in found:
            found[k] = last = minimize(make(tilt(k), None), last)
        return found[k]

    k = least_true(lambda k: bool(split(k)[k] >= p), n, int(np.sum(start < p)))
    v = split(k)
    if k > 0 and v[k - 1] > p:
        # Left of p with a force to the right, and right of it with one to the left.
        i, before = k - 1, split(k - 1)
        part = (p - before[i]) / (v[i] - before[i])
        between = before + part * (v - before)
        between[i] = p
        v = minimize(make(tilt(i), i), between)
    smooth = make(np.zeros_like(start), None)

    def in_kink(x: Array) -> float:
        return h * kink.weight * float(np.sum(np.abs(x - p)))

    rise = smooth.value(v) - smooth.value(start) + in_kink(v) - in_kink(start)
    eps = float(np.finfo(start.dtype).eps)
    if rise > 32.0 * (smooth.rounding(start) + 8.0 * eps * in_kink(start)):
        raise NewtonFailure("the kink of V was not found to rounding")
    return v


def least_true(test: Callable[[int], bool], n: int, guess: int) -> int:
    """Least k in [0, n] with test(k), which is false then true; n needs no test."""
    low, high, stride = -1, n, 1
    while high - low > 1:
        if guess == n or test(guess):
            high = guess
        else:
            low = guess
        if low == -1:
            guess = max(high - stride, 0)
        elif high == n:
            guess = min(low + stride, n - 1)
        else:
            guess = (low + high) // 2
        stride *= 2
    return high


def spread(x: Array, h: float) -> Array:
    """Strictly increasing points near x, where Newton's method can start.

    Coincident points are spread to sqrt(h), about as diffusion would.
    """
    ordered = np.sort(x)
    gaps = np.diff(ordered)
    if not gaps.size:
        return ordered
    width = math.sqrt(h)
    least = 1e-6 * max(float(ordered[-1] - ordered[0]), width) / x.shape[0]
    if gaps.min() >= least:
        return ordered
    wide = np.where(gaps >= least, gaps, max(width / x.shape[0], least))
    moved = np.concatenate([[0.0], np.cumsum(wide)])
    return (moved + (np.mean(ordered) - np.mean(moved))).astype(x.dtype)
