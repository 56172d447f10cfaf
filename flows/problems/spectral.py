"""The spectral gap of a potential on the line, with relative accuracy.

The generator L f = T f'' - V' f' has the stationary law q = exp(-V/T)/Z. With the
distribution function Q of q, the derivative f' of an eigenfunction L f = -lam f solves

    f'(x)/lam = int Q(min(x, y)) (1 - Q(max(x, y))) f'(y) dy / (T q(x)),

a positive kernel, whose largest eigenvalue 1/lam is found without cancellation however
small lam is; discretized differential operators lose lam in rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from flows.energies import Potential
from flows.measures import quadrature
from flows.problems.arguments import number

__all__ = ["SlowMode", "as_potential", "slow_mode", "spectral_gap"]

Array = Any
ORDER = 16
ROUNDS = ((60.0, 16), (75.0, 24), (90.0, 36), (105.0, 54), (120.0, 72))
"""Depth (V - min V)/T at which the line is cut, and number of panels."""
DEEPEST = 600.0


@dataclass(frozen=True, eq=False)
class SlowMode:
    """The eigenfunction f with the smallest positive eigenvalue ``gap``, on panels.

    ``coefficients`` (panels, ORDER) are of Legendre polynomials; f is increasing, has
    mean 0 under q and largest absolute value 1. ``nodes`` and ``weights`` integrate
    against q.
    """

    gap: float
    edges: Array
    coefficients: Array
    nodes: Array
    weights: Array
    log_mass: float
    lowest: float

    def __call__(self, x: Array) -> Array:
        """f at numbers x of any shape, constant beyond the panels."""
        y = np.clip(x, self.edges[0], self.edges[-1])
        i = np.clip(np.searchsorted(self.edges, y, "right") - 1, 0, len(self.edges) - 2)
        width = self.edges[i + 1] - self.edges[i]
        u = 2.0 * (y - self.edges[i]) / width - 1.0
        basis = np.polynomial.legendre.legvander(u, ORDER - 1)
        return np.sum(basis * self.coefficients[i], axis=-1)


def as_potential(V: Any) -> Potential:
    """V as a Potential of one or more coordinates."""
    return V if isinstance(V, Potential) else Potential(V)


def spectral_gap(V: Any, T: float = 1.0, *, box: Any = None) -> float:
    """Smallest positive eigenvalue of -T f'' + V' f' on the line.

    It is the rate at which the slowest part of the law forgets its start: for two wells
    about exp(-barrier/T).

    Parameters
    ----------
    V : str, sympy expression, callable or Potential
        Of one coordinate, growing faster than abs(x) at both ends.
    T : float
        Temperature, T > 0.
    box : (lo, hi), optional
        Reflecting walls.

    Returns
    -------
    float
        With a relative error of about 1e-10, also where the gap is tiny.

    Raises
    ------
    ValueError
        When V does not confine, varies too fast, or T is below 1/600 of a barrier.

    Examples
    --------
    >>> round(spectral_gap("x**2/2", T=0.3), 9)
    1.0
    """
    return slow_mode(as_potential(V), number(T, "T", above=0.0), box).gap


def slow_mode(potential: Potential, T: float, box: Any = None) -> SlowMode:
    """The slowest eigenfunction; see ``spectral_gap``."""
    previous = np.inf
    for depth, panels in ROUNDS:
        lo, hi = _domain(potential, T, depth, box)
        mode = _solve(potential, T, np.linspace(lo, hi, panels + 1))
        if abs(mode.gap - previous) <= 1e-11 * mode.gap:
            return mode
        change, previous = abs(mode.gap - previous), mode.gap
        if panels > 30 and change > 1e-3 * mode.gap:
            break
    if change <= 1e-9 * mode.gap:
        return mode
    raise ValueError(
        f"The spectral gap of {potential!r} at T = {T:g} did not settle (last change "
        f"{change / mode.gap:.1g}, relative): V must be smooth and grow faster than "
        "abs(x); give `box=` for walls."
    )


def values_at(potential: Potential, x: Array) -> Array:
    """V at numbers x."""
    return np.asarray(potential.value_at(x[..., None]), dtype=np.float64)


def probes(box: Any) -> Array:
    """Numbers at all scales, or in the box, at which V is looked at first."""
    if box is not None:
        ends = np.asarray(box, dtype=float)
        if ends.shape != (2,) or not (np.isfinite(ends).all() and ends[0] < ends[1]):
            raise ValueError(f"`box` must be (lo, hi) with lo < hi, got {box!r}.")
        return np.linspace(ends[0], ends[1], 1025)
    scales = np.multiply.outer(2.0 ** np.arange(-10, 17), 1.0 + np.arange(64) / 64)
    right = scales.ravel()
    return np.concatenate([-right[::-1], [0.0], right])


def _domain(
    potential: Potential, T: float, depth: float, box: Any
) -> tuple[float, float]:
    """Interval outside which V is more than ``depth`` T above its minimum."""
    x = probes(box)
    with np.errstate(over="ignore", invalid="ignore"):
        V = values_at(potential, x)
    V = np.where(np.isnan(V), np.inf, V)
    height = (V - V.min()) / T
    deep = np.flatnonzero(height <= depth)
    first, last = deep[0], deep[-1]
    if box is None and (first == 0 or last == x.size - 1):
        raise ValueError(
            f"{potential!r} does not confine at T = {T:g}: it is less than {depth:g} T "
            f"above its minimum at x = {x[0 if first == 0 else -1]:g}; give `box=` for "
            "walls."
        )
    if height[first : last + 1].max() > DEEPEST:
        raise ValueError(
            f"The temperature T = {T:g} is too low: a barrier of {potential!r} is "
            f"{height[first : last + 1].max():.4g} T high, the limit is {DEEPEST:g} T."
        )
    ends = []
    for inside, outside in ((first, first - 1), (last, last + 1)):
        if not 0 <= outside < x.size:
            ends.append(float(x[inside]))
            continue
        a, b = float(x[inside]), float(x[outside])
        for _ in range(30):
            middle = 0.5 * (a + b)
            value = float(values_at(potential, np.array([middle]))[0])
            a, b = (middle, b) if (value - V.min()) / T <= depth else (a, middle)
        ends.append(b)
    return ends[0], ends[1]


class _Rule(NamedTuple):
    """Gauss nodes u on [0, 1], and interpolants there in Lagrange form.

    ``analysis`` takes values at u to Legendre coefficients, ``running`` to integrals
    over [0, u_i]; ``lower[i, k]`` interpolates at u_i u_k, ``upper[i, k]`` at
    u_i + (1 - u_i) u_k.
    """

    u: Array
    w: Array
    analysis: Array
    running: Array
    lower: Array
    upper: Array


@lru_cache(maxsize=1)
def _rule() -> _Rule:
    u, w = quadrature.gauss_legendre(ORDER)
    basis = np.polynomial.legendre.legvander(2.0 * u - 1.0, ORDER)
    k = np.arange(ORDER)
    analysis = (2 * k + 1)[:, None] * basis[:, :ORDER].T * w
    primitive = np.empty((ORDER, ORDER))
    primitive[:, 0] = u
    primitive[:, 1:] = 0.5 * (basis[:, 2:] - basis[:, : ORDER - 1]) / (2 * k[1:] + 1)

    def interpolate(x: Array) -> Array:
        values = np.polynomial.legendre.legvander(2.0 * x - 1.0, ORDER - 1)
        return values @ analysis

    lower = interpolate(np.multiply.outer(u, u))
    upper = interpolate(u[:, None] + np.multiply.outer(1.0 - u, u))
    return _Rule(u, w, analysis, primitive @ analysis, lower, upper)


class _Weight:
    """q = exp(-(V - lowest)/T)/mass on panels, with its integrals from either end."""

    def __init__(self, potential: Potential, T: float, edges: Array) -> None:
        self.potential, self.T, self.edges = potential, T, edges
        self.nodes, self.weights = quadrature.panel_nodes(edges, ORDER)
        V = values_at(potential, self.nodes)
        self.lowest = float(V.min())
        self.mass = 1.0
        q = self.at(self.nodes)
        self.mass = float(self.weights @ q)
        self.q = q / self.mass
        parts = (self.weights * self.q).reshape(-1, ORDER).sum(axis=1)
        self.left = np.concatenate([[0.0], np.cumsum(parts)[:-1]])
        self.right = np.concatenate([np.cumsum(parts[::-1])[::-1][1:], [0.0]])

    def at(self, x: Array) -> Array:
        """q at numbers x."""
        height = values_at(self.potential, x) - self.lowest
        return np.exp(-height / self.T) / self.mass

    def below(self, x: Array) -> Array:
        """Mass left of x (panels, ..), each x in its own panel."""
        return self._beyond(x, self.edges[:-1], self.left)

    def above(self, x: Array) -> Array:
        """Mass right of x (panels, ..)."""
        return self._beyond(x, self.edges[1:], self.right)

    def _beyond(self, x: Array, ends: Array, outer: Array) -> Array:
        rule = _rule()
        shape = (-1,) + (1,) * (x.ndim - 1)
        start, outer = ends.reshape(shape), outer.reshape(shape)
        z = start[..., None] + (x - start)[..., None] * rule.u
        return outer + np.abs(x - start) * (self.at(z) @ rule.w)


def _solve(potential: Potential, T: float, edges: Array) -> SlowMode:
    from scipy.sparse.linalg import eigs

    weight = _Weight(potential, T, edges)
    q, weights = weight.q, weight.weights
    kernel = _kernel(weight) / T
    value, vector = eigs(kernel, k=1, which="LM", v0=np.ones(q.size), tol=1e-14)
    slope = np.abs(vector[:, 0].real)
    rule = _rule()
    steps = np.diff(edges)[:, None] * slope.reshape(-1, ORDER)
    reached = np.concatenate([[0.0], np.cumsum(steps @ rule.w)])
    f = reached[:-1, None] + steps @ rule.running.T
    mean = float((weights * q) @ f.ravel())
    # f increases, so it is largest in size at an end.
    f = (f - mean) / max(mean, reached[-1] - mean)
    return SlowMode(
        1.0 / float(value[0].real),
        edges,
        f @ rule.analysis.T,
        weight.nodes,
        weights * q,
        float(np.log(weight.mass)),
        weight.lowest,
    )


def _kernel(weight: _Weight) -> Array:
    """Matrix of f' -> (R int_{y<x} Q f' + Q int_{y>x} R f') / q, where R = 1 - Q.

    Inside a panel the integrals stop at x: rules over the whole panel would see masses
    that exceed those beyond x by many powers of ten.
    """
    rule, edges = _rule(), weight.edges
    panels = edges.size - 1
    x = weight.nodes.reshape(panels, ORDER)
    a, b = edges[:-1, None], edges[1:, None]
    Q, R = weight.below(x).ravel(), weight.above(x).ravel()
    panel = np.repeat(np.arange(panels), ORDER)
    before = panel[:, None] > panel
    after = panel[:, None] < panel
    to_left, to_right = (R / weight.q)[:, None], (Q / weight.q)[:, None]
    kernel = np.where(before, to_left * (weight.weights * Q), 0.0)
    kernel += np.where(after, to_right * (weight.weights * R), 0.0)
    y = a[..., None] + (x - a)[..., None] * rule.u
    z = x[..., None] + (b - x)[..., None] * rule.u
    lower = (x - a)[..., None] * rule.w * weight.below(y)
    upper = (b - x)[..., None] * rule.w * weight.above(z)
    own = np.einsum("pik,ikj->pij", lower, rule.lower) * to_left.reshape(panels, -1, 1)
    own += np.einsum("pik,ikj->pij", upper, rule.upper) * to_right.reshape(
        panels, -1, 1
    )
    for p in range(panels):
        part = slice(p * ORDER, (p + 1) * ORDER)
        kernel[part, part] = own[p]
    return kernel
