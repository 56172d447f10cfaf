"""Second-order flows on quadratics: the heavy ball and Nesterov's equation.

Exact solutions are states (2n,) or (b, 2n), positions followed by velocities, as
``HeavyBall`` and ``Nesterov`` have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows import energies
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, square, start, time, vector
from flows.problems.base import Problem
from flows.problems.modes import Modes
from flows.problems.vectors import number_or_array
from flows.spaces.oscillator import responses

__all__ = ["heavy_ball", "nesterov"]

Array = Any


@dataclass(frozen=True, eq=False)
class Path:
    """Positions and velocities over the modes of a quadratic with its center."""

    modes: Modes
    x0: Array
    v0: Array
    center: Array
    damping: float

    def parts(self, t: float) -> tuple[Array, Array]:
        """Position minus center, and velocity, in the eigenbasis."""
        raise NotImplementedError

    def __call__(self, t: float) -> Array:
        y, w = self.parts(t)
        x = self.center + self.modes.back(y)
        return np.concatenate([x, self.modes.back(w)], axis=-1)

    def energy(self, t: float) -> Any:
        """V at the position, which need not fall."""
        y, _ = self.parts(t)
        return number_or_array(0.5 * np.sum(self.modes.values * y * y, -1))


class HeavyBallPath(Path):
    """Damped oscillators in closed form."""

    def parts(self, t: float) -> tuple[Array, Array]:
        rates = self.modes.values
        p, s, q = responses(rates, self.damping, time(t, 0.0))
        y, w = self.modes.to(self.x0 - self.center), self.modes.to(self.v0)
        return (1.0 - rates * p) * y + s * w, q * w - rates * s * y


class NesterovPath(Path):
    """Bessel functions: y = y0 0F1(; (r + 1)/2; -l t^2/4) for a mode of curvature l."""

    def parts(self, t: float) -> tuple[Array, Array]:
        from scipy.special import hyp0f1

        rates, s = self.modes.values, time(t, 0.0)
        c = 0.5 * (self.damping + 1.0)
        y = self.modes.to(self.x0 - self.center)
        z = -0.25 * rates * s * s
        slope = -0.5 * rates * s / c
        return hyp0f1(c, z) * y, slope * hyp0f1(c + 1.0, z) * y


def heavy_ball(
    A: Any = 1.0,
    x0: Any = 1.0,
    v0: Any = 0.0,
    friction: float = 1.0,
    center: Any = None,
    *,
    t: tuple[float, float] = (0.0, 10.0),
) -> Problem:
    """Heavy ball x'' + friction x' + A (x - c) = 0 with any symmetric A.

    A mode of curvature l oscillates for friction^2 < 4 l, is critically damped for
    friction^2 = 4 l and creeps beyond; l may be 0 or negative.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
    x0, v0 : float, (n,) or (b, n) array
        Positions and velocities at time 0.
    friction : float
        At least 0.
    center : float or (n,) array, optional
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constants: ``friction``, ``L``, and ``decay``, the exponent with which the
        slowest mode of positive curvature decays (positions, not energies).
    """
    damping = number(friction, "friction", least=0.0)
    modes, x, c = quadratic_data(A, x0, center)
    v = real_array(v0, "v0")
    if v.shape not in ((), x.shape, x.shape[-1:]):
        raise ValueError(f"`v0` has shape {v.shape}, expected {x.shape} as `x0`.")
    exact = HeavyBallPath(modes, x, np.broadcast_to(v, x.shape).copy(), c, damping)
    constants: dict[str, Any] = {
        "friction": damping,
        "L": float(np.abs(modes.values).max()),
    }
    mu = modes.smallest_positive
    if mu is not None:
        gap = max(0.25 * damping**2 - mu, 0.0)
        constants["decay"] = (
            mu / (0.5 * damping + math.sqrt(gap)) if gap else damping / 2
        )
    return Problem(
        "heavy_ball",
        quadratic_energy(A, x, center),
        exact,
        interval(t, 0.0),
        limit=rest(modes, c, x) if damping > 0.0 else None,
        spaces=("HeavyBall",),
        exact_energy=exact.energy,
        constants=constants,
        reference="Polyak (1964), doi:10.1016/0041-5553(64)90137-5",
    )


def nesterov(
    A: Any = 1.0,
    x0: Any = 1.0,
    r: float = 3.0,
    center: Any = None,
    *,
    t: tuple[float, float] = (0.0, 10.0),
) -> Problem:
    """Nesterov's equation x'' + (r/t) x' + A (x - c) = 0 from rest at t = 0, any r > 0.

    A mode of curvature l is Gamma(n + 1) (2/z)^n J_n(z) with n = (r - 1)/2 and
    z = sqrt(l) t: 2 J_1(z)/z for r = 3. V ripples and falls like t^-r.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
        Symmetric, of any sign.
    x0 : float, (n,) or (b, n) array
    r : float
    center : float or (n,) array, optional
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constants: ``r``, ``L``.

    References
    ----------
    W. Su, S. Boyd, E. J. Candes, J. Mach. Learn. Res. 17 (2016) 1-43, arXiv:1503.01243.
    """
    damping = number(r, "r", above=0.0)
    modes, x, c = quadratic_data(A, x0, center)
    exact = NesterovPath(modes, x, np.zeros_like(x), c, damping)
    return Problem(
        "nesterov",
        quadratic_energy(A, x, center),
        exact,
        interval(t, 0.0),
        limit=rest(modes, c, x),
        spaces=("Nesterov",),
        exact_energy=exact.energy,
        constants={"r": damping, "L": float(np.abs(modes.values).max())},
        reference="Su, Boyd, Candes (2016), arXiv:1503.01243",
    )


def quadratic_data(A: Any, x0: Any, center: Any) -> tuple[Modes, Array, Array]:
    """Modes of A, positions at the start, and the center (n,)."""
    x = start(x0)
    return (
        Modes.of(coefficients(A, x)),
        x,
        vector(0.0 if center is None else center, x.shape[-1], "center"),
    )


def coefficients(A: Any, x: Array) -> Array:
    """A as its diagonal (n,) or as a symmetric matrix (n, n)."""
    n = x.shape[-1]
    raw = real_array(A, "A")
    diagonal = np.broadcast_to(raw, (n,)) if raw.ndim == 0 else raw
    return diagonal if diagonal.shape == (n,) else square(raw, n, "A")


def quadratic_energy(A: Any, x: Array, center: Any) -> Any:
    """(x - c).A(x - c)/2."""
    where = None if center is None else vector(center, x.shape[-1], "center")
    return energies.quadratic(coefficients(A, x), center=where)


def rest(modes: Modes, center: Array, x: Array) -> Array | None:
    """The state at rest in the minimum, None where there is none."""
    if not (modes.values > 0.0).all():
        return None
    return np.concatenate([np.broadcast_to(center, x.shape), np.zeros_like(x)], axis=-1)
