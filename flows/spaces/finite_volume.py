"""Two-point fluxes of finite volumes: Scharfetter-Gummel and its generalization.

Across a face with densities a (left) and b (right), temperature T and the jump dV of
the potential, the flux to the right times the width h is, for every D > 0,

    h J = D (B(q) a - B(-q) b),    q = (dV + phi(b) - phi(a) - (D - T) k) / D,

with B(z) = z/(e^z - 1), k = log(b/a) and phi = U'. Where T log p + U'(p) + V is equal
on both sides, q = -k and the flux vanishes: equilibria are exact whatever D is.
Without U, D = T and this is the flux of Scharfetter and Gummel. As D -> 0 it becomes
upwind transport by the gradient of V + U'. Both are monotone: J increases with a and
decreases with b, so that implicit steps exist, are unique, and keep the order and the
sign of densities.

For U, D - T is the logarithmic mean of p -> pi(p) = U'(p) - U(p)/p on the two sides.
For a power and dV = 0 the flux is then exactly -(P(b) - P(a)), P = p U' - U, and for
smooth densities it has order 2. Two things keep it monotone. Where P is convex (m > 1),
D - T is at most P' or 2 pi of the drier side: this acts at fronts only, where the flux
becomes upwind transport. Where P is concave (m < 1) and V drives the density the way it
diffuses anyway, P' enters by its mean over p, and q = dV / D.

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

from flows.arrays import array_like, dtype_name, namespace
from flows.symbolic import PowerFunction

if TYPE_CHECKING:
    from flows.energies import Internal

__all__ = ["InternalSum", "Profile", "bernoulli", "linear_rates", "two_point_flux"]

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
    """A density u and what the fluxes need of it, entry by entry.

    ``p`` = max(u, dry), its ``log``, ``phi`` = U'(p), ``mean`` = pi(p) and ``slope`` =
    P'(p) = p U''(p).
    """

    u: Array
    p: Array
    log: Array
    phi: Array
    mean: Array
    slope: Array


@dataclass(frozen=True, eq=False)
class InternalSum:
    """The sum U of the internal terms of an energy, entropy left out."""

    terms: tuple[Internal, ...]

    def profile(self, u: Array) -> Profile:
        """Values at densities u >= 0."""
        xp = namespace(u)
        p = xp.maximum(u, xp.full_like(u, DRY[dtype_name(u)]))
        phi, mean, slope = xp.zeros_like(u), xp.zeros_like(u), xp.zeros_like(u)
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
        return Profile(u, p, xp.log(p), phi, mean, slope)

    @cached_property
    def concave(self) -> bool:
        """Whether the pressure is concave, as for fast diffusion (powers m < 1)."""
        with np.errstate(all="ignore"):
            mean = self.profile(np.logspace(-8.0, 8.0, 161)).mean
            mean = mean[np.isfinite(mean)]
            return bool(np.all(np.diff(mean) <= 0.0) and mean[0] > mean[-1])


def _average(function: Any, p: Array) -> Array:
    """Mean of P' over (0, p), which is P(p)/p = U'(p) - U(p)/p without cancellation."""
    total = namespace(p).zeros_like(p)
    for theta, weight in zip(THETA, THETA_WEIGHTS, strict=True):
        total = total + float(weight) * function.enthalpy_slope(float(theta) * p)
    return total


class _Weight(NamedTuple):
    """D - T, the numerator N of q, and their derivatives in log a and log b."""

    D: Array
    N: Array
    D_a: Array
    D_b: Array
    N_a: Array
    N_b: Array


def two_point_flux(
    a: Profile, b: Profile, jump: Array, T: float, concave: bool, derivatives: bool
) -> tuple[Array, Array | None, Array | None]:
    """h J on faces, and its derivatives in a and b (NumPy only) when asked for.

    Parameters
    ----------
    a, b : Profile
        Densities >= 0 on the left and on the right.
    jump : array
        dV; a drift c enters as -h c.
    T : float
        Temperature, >= 0.
    concave : bool
        ``InternalSum.concave``.
    """
    xp = namespace(a.u)
    with np.errstate(all="ignore"):
        weight = _capped(a, b, jump)
        if concave:
            weight = _parallel(a, b, jump, weight)
        tiny = DRY[dtype_name(a.u)]
        D = xp.maximum(T + weight.D, xp.full_like(a.u, tiny))
        q = weight.N / D
        plus, minus = bernoulli(q), bernoulli(-q)
        J = D * (plus * a.u - minus * b.u)
        if not derivatives:
            return J, None, None
        bend = bernoulli_slope(q, plus, minus)
        by_N = bend * a.u - (1.0 + bend) * b.u
        by_D = plus * minus * (a.u - b.u)
        J_a = D * plus + (by_N * weight.N_a + by_D * weight.D_a) / a.p
        J_b = -D * minus + (by_N * weight.N_b + by_D * weight.D_b) / b.p
    return J, J_a, J_b


def _capped(a: Profile, b: Profile, jump: Array) -> _Weight:
    """The logarithmic mean of pi, capped by its value on the drier side."""
    xp = namespace(a.u)
    k = b.log - a.log
    D, by_a, by_b = _log_mean(a.mean, b.mean)
    left = k > 0.0
    mean, slope = xp.where(left, a.mean, b.mean), xp.where(left, a.slope, b.slope)
    # For powers the factor min(max(m, 1), 2) is constant; it is treated so always.
    factor = xp.clip(slope / mean, min=1.0, max=2.0)
    capped = ~(factor * mean > D)
    D = xp.where(capped, factor * mean, D)
    # An average P/p of 0 leaves 0/0: the dry limit is 0.
    D = xp.where(mean > 0.0, D, xp.zeros_like(D))
    zero = xp.zeros_like(D)
    rise_a, rise_b = a.slope - a.mean, b.slope - b.mean
    D_a = xp.where(capped, xp.where(left, factor * rise_a, zero), by_a * rise_a)
    D_b = xp.where(capped, xp.where(left, zero, factor * rise_b), by_b * rise_b)
    D_a, D_b = (xp.where(mean > 0.0, x, zero) for x in (D_a, D_b))
    N = jump + (b.phi - a.phi) - D * k
    return _Weight(D, N, D_a, D_b, D - a.slope - k * D_a, b.slope - D - k * D_b)


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


def _parallel(a: Profile, b: Profile, jump: Array, other: _Weight) -> _Weight:
    """Where V drives the way of diffusion: the mean of P' over p, and N = dV."""
    xp = namespace(a.u)
    gap = b.p - a.p
    near = xp.abs(gap) <= 1e-4 * a.p
    safe = xp.where(near, xp.ones_like(gap), gap)
    mean_slope = 0.5 * (a.slope + b.slope)
    D = xp.where(near, mean_slope, (b.p * b.mean - a.p * a.mean) / safe)
    zero = xp.zeros_like(D)
    mine = _Weight(
        D,
        jump + zero,
        xp.where(near, zero, a.p * (D - a.slope) / safe),
        xp.where(near, zero, b.p * (b.slope - D) / safe),
        zero,
        zero,
    )
    same = gap * jump >= 0.0
    return _Weight(*(xp.where(same, x, y) for x, y in zip(mine, other, strict=True)))


def place(x: Array, u: Array) -> Array:
    """NumPy coefficients where ``u`` lives (the same object for NumPy float64)."""
    same = isinstance(u, np.ndarray) and u.dtype == np.float64
    return x if same else array_like(x, u)
