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
from typing import Any

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
        return np.linspace(*ends, 1025)
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


@lru_cache(maxsize=1)
def _running() -> tuple[Array, Array]:
    """Integrals over [0, u_i] of an interpolant, and its Legendre coefficients."""
    u, w = quadrature.gauss_legendre(ORDER)
    basis = np.polynomial.legendre.legvander(2.0 * u - 1.0, ORDER)
    k = np.arange(ORDER)
    analysis = (2 * k + 1)[:, None] * basis[:, :ORDER].T * w
    primitive = np.empty((ORDER, ORDER))
    primitive[:, 0] = u
    primitive[:, 1:] = 0.5 * (basis[:, 2:] - basis[:, : ORDER - 1]) / (2 * k[1:] + 1)
    return primitive @ analysis, analysis


def _solve(potential: Potential, T: float, edges: Array) -> SlowMode:
    from scipy.sparse.linalg import eigs

    nodes, weights = quadrature.panel_nodes(edges, ORDER)
    V = values_at(potential, nodes)
    lowest = float(V.min())
    q = np.exp(-(V - lowest) / T)
    mass = float(weights @ q)
    q = q / mass
    below, above = _integrators(edges, weights)
    Q, R = below @ q, above @ q
    kernel = (R[:, None] * below * Q + Q[:, None] * above * R) / (T * q)[:, None]
    value, vector = eigs(kernel, k=1, which="LM", v0=np.ones(nodes.size), tol=1e-14)
    slope = np.abs(vector[:, 0].real)
    f = below @ slope
    f -= float((weights * q) @ f)
    f /= np.abs(f).max()
    coefficients = f.reshape(-1, ORDER) @ _running()[1].T
    return SlowMode(
        1.0 / float(value[0].real),
        edges,
        coefficients,
        nodes,
        weights * q,
        float(np.log(mass)),
        lowest,
    )


def _integrators(edges: Array, weights: Array) -> tuple[Array, Array]:
    """Matrices of the integrals from the left end to each node, and from it on."""
    panels = edges.size - 1
    inner = _running()[0]
    width = np.diff(edges)
    panel = np.repeat(np.arange(panels), ORDER)
    below = np.where(panel[:, None] > panel, weights, 0.0)
    above = np.where(panel[:, None] < panel, weights, 0.0)
    rest = quadrature.gauss_legendre(ORDER)[1] - inner
    for p in range(panels):
        own = slice(p * ORDER, (p + 1) * ORDER)
        below[own, own] = width[p] * inner
        above[own, own] = width[p] * rest
    return below, above
