"""Two-point fluxes of finite volumes: Scharfetter-Gummel and its generalization.

Across a face with densities a (left) and b (right), temperature T and the jump dV of
the potential, the flux to the right times the width h is, for every D > 0,

    h J = D (B(q) a - B(-q) b),    q = (dV + phi(b) - phi(a) - (D - T) k) / D,

with B(z) = z/(e^z - 1), k = log(b/a) and phi = U'. Where T log p + U'(p) + V is equal
on both sides, q = -k and the flux vanishes: equilibria are exact whatever D is.
Without U, D = T and this is the flux of Scharfetter and Gummel. As D -> 0 it becomes
upwind transport by the gradient of V + U'. Both limits are monotone: J rises with a and
decreases with b, so that implicit steps exist, are unique, and keep the order and the
sign of densities.

For U, D - T is the logarithmic mean of pi(p) = P(p)/p on the two sides, P = p U' - U.
For a power and dV = 0 the flux is then exactly -(P(b) - P(a)), and for smooth densities
it has order 2. Two things keep it monotone, for m < 1 nearly so. Where P is convex, the
mean is at most c pi of the drier side, c = min(m, 2) for powers; this acts at fronts
only, and lets the flux there become upwind transport. Where P is concave and V drives
the density the way it diffuses anyway, D - T is the mean of P' over p, and q = dV / D.

References
----------
D. L. Scharfetter, H. K. Gummel, IEEE Trans. Electron Devices 16 (1969),
doi:10.1109/T-ED.1969.16566.
M. Bessemoulin-Chatard, A finite volume scheme for convection-diffusion equations with
nonlinear diffusion derived from the Scharfetter-Gummel scheme, Numer. Math. 121 (2012),
doi:10.1007/s00211-012-0448-x (the same family, with D = (phi(b) - phi(a)) / k).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import dtype_name, namespace
from flows.symbolic import PowerFunction

if TYPE_CHECKING:
    from flows.energies import Internal

__all__ = [
    "DRY",
    "Pressure",
    "Profile",
    "bernoulli",
    "linear_rates",
    "pressures",
    "two_point_flux",
]

Array = Any

# Logarithms and negative powers are taken of max(p, DRY).
DRY = {"float64": 1e-100, "float32": 1e-30}
# The nodes theta = s^4 resolve powers of the density at 0.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
THETA = (0.5 * (_NODES + 1.0)) ** 4
THETA_WEIGHTS = 2.0 * _WEIGHTS * (0.5 * (_NODES + 1.0)) ** 3


def bernoulli(z: Array) -> Array:
    """B(z) = z/(e^z - 1) with full relative accuracy for every finite z; B(0) = 1."""
    xp = namespace(z)
    zero = z == 0.0
    safe = xp.where(zero, xp.ones_like(z), z)
    with np.errstate(over="ignore"):
        return xp.where(zero, xp.ones_like(z), safe / xp.expm1(safe))


def bernoulli_slope(z: Array, plus: Array, minus: Array) -> Array:
    """B'(z) from plus = B(z) and minus = B(-z)."""
    small = np.abs(z) < 1e-2
    safe = np.where(small, 1.0, z)
    series = -0.5 + z / 6.0 - z**3 / 180.0 + z**5 / 5040.0
    return np.where(small, series, plus * (1.0 - minus) / safe)


def linear_rates(jump: Array, T: float) -> tuple[Array, Array]:
    """Rates (right, left) of h J = right a - left b; upwind transport for T = 0."""
    if T == 0.0:
        return np.maximum(-jump, 0.0), np.maximum(jump, 0.0)
    q = jump / T
    return T * bernoulli(q), T * bernoulli(-q)


class Profile(NamedTuple):
    """What the fluxes need of densities p > 0, entry by entry.

    ``phi`` = U'(p), ``mean`` = pi(p) = P(p)/p and ``slope`` = P'(p) = p U''(p).
    """

    p: Array
    log: Array
    phi: Array
    mean: Array
    slope: Array


class Weight(NamedTuple):
    """A part of D and of N = q D, with derivatives in log a and log b.

    ``size`` is the size of the terms of N, whose rounding it has.
    """

    D: Array
    N: Array
    D_a: Array
    D_b: Array
    N_a: Array
    N_b: Array
    size: Array


class Face(NamedTuple):
    """h J; its derivatives in a and b; its rounding error in units of eps."""

    flux: Array
    by_a: Array = None
    by_b: Array = None
    noise: Array = None


@dataclass(frozen=True, eq=False)
class Pressure:
    """A sum of internal terms whose pressures are all convex or all concave.

    Attributes
    ----------
    cap : float
        The bound c of the module's text; infinite where P is concave, nan where
        int U'' p dp diverges at 0, as for U = -log p.
    """

    terms: tuple[Internal, ...]

    def profile(self, p: Array, log: Array) -> Profile:
        """Values at densities p > 0."""
        phi = mean = slope = namespace(p).zeros_like(p)
        for term in self.terms:
            function, scale = term.function, term.scale
            rise = scale * function.enthalpy_slope(p)
            slope = slope + rise
            if isinstance(function, PowerFunction):
                phi = phi + (rise / (function.m - 1.0) + scale * function.slope)
                mean = mean + rise / function.m
            else:
                phi = phi + scale * function.first(p)
                mean = mean + scale * _average(function, p)
        return Profile(p, log, phi, mean, slope)

    @cached_property
    def cap(self) -> float:
        p = np.logspace(-8.0, 8.0, 161)
        with np.errstate(all="ignore"):
            sample = self.profile(p, np.log(p))
            ratio = sample.slope / sample.mean
            m = 1.0 + np.log10(sample.slope[10] / sample.slope[0])
        ratio = ratio[np.isfinite(ratio)]
        if m < 0.05 and not all(hasattr(term.function, "m") for term in self.terms):
            return np.nan
        if ratio.size and ratio.max() < 1.0 - 1e-6:
            return np.inf
        return float(np.clip(ratio.min(initial=2.0) - 1e-6, 1.0, 2.0))

    def weight(self, a: Profile, b: Profile, jump: Array) -> Weight:
        """Contribution to D and N on faces."""
        if np.isnan(self.cap):
            return _enthalpy_mean(a, b)
        if np.isinf(self.cap):
            return _parallel(a, b, jump)
        return _capped(a, b, self.cap)


def pressures(terms: tuple[Internal, ...]) -> tuple[Pressure, ...]:
    """The terms in groups of one kind of pressure."""
    groups: dict[str, list[Internal]] = {}
    for term in terms:
        cap = Pressure((term,)).cap
        kind = "capped" if np.isfinite(cap) else str(cap)
        groups.setdefault(kind, []).append(term)
    return tuple(Pressure(tuple(group)) for group in groups.values())


def _average(function: Any, p: Array) -> Array:
    """Mean of P' over (0, p), which is P(p)/p = U'(p) - U(p)/p without cancellation."""
    total = namespace(p).zeros_like(p)
    for theta, weight in zip(THETA, THETA_WEIGHTS, strict=True):
        total = total + float(weight) * function.enthalpy_slope(float(theta) * p)
    return total


def two_point_flux(
    parts: tuple[Pressure, ...],
    u: tuple[Array, Array],
    sides: list[tuple[Profile, ...]],
    jump: Array,
    T: float,
    derivatives: bool,
) -> Face:
    """The flux on faces.

    Parameters
    ----------
    parts : tuple of Pressure
    u : pair of arrays
        Densities >= 0 on the left and on the right.
    sides : list of pairs
        For each part its profiles of max(u, dry) on the left and on the right.
    jump : array
        dV; a drift c enters as -h c.
    T : float
        Temperature, >= 0.
    derivatives : bool
        NumPy only.
    """
    xp = namespace(jump)
    a, b = u
    with np.errstate(all="ignore"):
        weights = [
            part.weight(side[0], side[1], jump)
            for part, side in zip(parts, sides, strict=True)
        ]
        D, N, D_a, D_b, N_a, N_b, size = map(sum, zip(*weights, strict=True))
        D = xp.maximum(T + D, xp.full_like(a, DRY[dtype_name(a)]))
        q = (jump + N) / D
        plus, minus = bernoulli(q), bernoulli(-q)
        there, back = D * plus * a, D * minus * b
        J = there - back
        if not derivatives:
            return Face(J)
        bend = bernoulli_slope(q, plus, minus)
        by_N = bend * a + bernoulli_slope(-q, minus, plus) * b
        by_D = plus * minus * (a - b)
        left, right = sides[0]
        J_a = D * plus + (by_N * N_a + by_D * D_a) / left.p
        J_b = -D * minus + (by_N * N_b + by_D * D_b) / right.p
        noise = there + back + np.abs(by_N) * (np.abs(jump) + size)
    return Face(J, J_a, J_b, noise)


def _exact(a: Profile, b: Profile, D: Array, D_a: Array, D_b: Array) -> Weight:
    """N that makes equilibria exact, for any D."""
    k = b.log - a.log
    N = b.phi - a.phi - D * k
    xp = namespace(k)
    # A relative error of p moves U'(p) by p U''(p).
    size = xp.abs(a.phi) + xp.abs(b.phi) + a.slope + b.slope
    return Weight(D, N, D_a, D_b, D - a.slope - k * D_a, b.slope - D - k * D_b, size)


def _capped(a: Profile, b: Profile, cap: float) -> Weight:
    """The logarithmic mean of pi, capped by its value on the drier side."""
    xp = namespace(a.p)
    D, by_a, by_b = _log_mean(a.mean, b.mean)
    left = b.log > a.log
    limit = cap * xp.where(left, a.mean, b.mean)
    # A dry side with pi = 0 makes the mean 0 or 0/0, and is capped.
    capped = ~(limit > D)
    zero = xp.zeros_like(D)
    rise_a, rise_b = a.slope - a.mean, b.slope - b.mean
    D_a = xp.where(capped, xp.where(left, cap * rise_a, zero), by_a * rise_a)
    D_b = xp.where(capped, xp.where(left, zero, cap * rise_b), by_b * rise_b)
    return _exact(a, b, xp.where(capped, limit, D), D_a, D_b)


def _parallel(a: Profile, b: Profile, jump: Array) -> Weight:
    """The logarithmic mean of pi where V drives against diffusion.

    Where both drive the same way, the mean of P' over p, and no part of N.
    """
    xp = namespace(a.p)
    gap = b.p - a.p
    near = xp.abs(gap) <= 1e-4 * a.p
    safe = xp.where(near, xp.ones_like(gap), gap)
    mean_slope = 0.5 * (a.slope + b.slope)
    D = xp.where(near, mean_slope, (b.p * b.mean - a.p * a.mean) / safe)
    zero = xp.zeros_like(D)
    D_a = xp.where(near, zero, a.p * (D - a.slope) / safe)
    D_b = xp.where(near, zero, b.p * (b.slope - D) / safe)
    along = Weight(D, zero, D_a, D_b, zero, zero, zero)
    D, by_a, by_b = _log_mean(a.mean, b.mean)
    D_a, D_b = by_a * (a.slope - a.mean), by_b * (b.slope - b.mean)
    against = _exact(a, b, D, D_a, D_b)
    same = gap * jump >= 0.0
    return Weight(*(xp.where(same, x, y) for x, y in zip(along, against, strict=True)))


def _enthalpy_mean(a: Profile, b: Profile) -> Weight:
    """The mean of P' over log p, and no part of N: Bessemoulin-Chatard's choice."""
    xp = namespace(a.p)
    k = b.log - a.log
    near = xp.abs(k) < 1e-4
    safe = xp.where(near, xp.ones_like(k), k)
    D = xp.where(near, 0.5 * (a.slope + b.slope), (b.phi - a.phi) / safe)
    zero = xp.zeros_like(D)
    D_a = xp.where(near, zero, (D - a.slope) / safe)
    D_b = xp.where(near, zero, (b.slope - D) / safe)
    return Weight(D, b.phi - a.phi - D * k, D_a, D_b, zero, zero, zero)


def _log_mean(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """(y - x)/log(y/x) for x, y >= 0, and its derivatives in x and in y."""
    xp = namespace(x)
    half = 0.5 * (x + y)
    one = xp.ones_like(half)
    half = xp.where(half > 0.0, half, one)
    z = 0.5 * (y - x) / half
    near = xp.abs(z) < 1e-2
    s = z * z
    g = 1.0 / (1.0 + s * (1.0 / 3.0 + s * (0.2 + s / 7.0)))
    bend = -2.0 * z * (1.0 / 3.0 + s * (0.4 + s * (3.0 / 7.0))) * g * g
    log = xp.where(near, one, xp.log(y / x))
    mean = xp.where(near, half * g, (y - x) / log)
    by_x = xp.where(near, 0.5 * (g - bend * y / half), (mean / x - 1.0) / log)
    by_y = xp.where(near, 0.5 * (g + bend * x / half), (1.0 - mean / y) / log)
    return mean, by_x, by_y
