"""Checks along a run: gradient, descent, dissipation balance, mass, sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import array_like, dtype_name, is_array, namespace, to_numpy
from flows.theory.convergence import Convergence

__all__ = [
    "Finding",
    "check_descent",
    "check_dissipation",
    "check_gradient",
    "check_mass",
    "check_positive",
]

Array = Any


@dataclass(frozen=True)
class Finding:
    """What a check found: ``value`` against ``bound``. True in a boolean context.

    Attributes
    ----------
    name : str
    value, bound : float
    """

    name: str
    value: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the value is within the bound (NaN is not)."""
        return bool(self.value <= self.bound)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{verdict}  {self.name}: {self.value:.3g} (bound {self.bound:.3g})"


def check_solution(sol: Any) -> None:
    """Refuse what is no result of ``solve``."""
    if not hasattr(sol, "stats"):
        raise TypeError(f"`sol` must be a Solution, got {sol!r}.")


def pairing(flow: Any, u: Array, v: Array, w: Array) -> float:
    """Inner product of two displacements at u in the metric of the flow."""
    if hasattr(flow, "inner"):
        product = flow.inner(u, v, w)
        if np.ndim(to_numpy(product)):
            raise TypeError("Give one state, not a batch.")
        return float(product)
    distance = flow.space.distance
    zero = v - v
    if not np.isscalar(distance(v, zero)):
        raise TypeError("Give one state, not a batch.")
    # Polarization: a flat metric is known through its distance.
    return 0.25 * float(distance(v + w, zero) ** 2 - distance(v - w, zero) ** 2)


def slope_along(flow: Any, t: float, u: Array, w: Array) -> float:
    """Derivative of the energy at u along w, from the flow's own formulas.

    Of a flow with a chart, u and w are in it.
    """
    xp = namespace(u)
    if hasattr(flow, "variation") and hasattr(flow.space, "volume"):
        # Where the density is 0 its logarithm is infinite and nothing is dissipated.
        full = u > 0
        with np.errstate(all="ignore"):
            rate = xp.where(full, flow.variation(t, u) * w, xp.zeros_like(u))
        return float(xp.sum(rate)) * float(flow.space.volume)
    return -pairing(flow, u, flow.velocity(t, u), w)


def check_gradient(
    flow: Any, u: Array, *, t: float = 0.0, direction: Array | None = None
) -> Convergence:
    """Taylor test: |F(u + e w) - F(u) - e dF(u) w| falls with slope 2 in e.

    Parameters
    ----------
    flow : Flow
        With an energy, and a velocity with ``inner`` or in a flat metric, or a
        variation (grid).
    u : array
        One state where the energy is smooth.
    direction : array, optional
        w; by default a fixed smooth pattern of the size of u. Of a flow with a chart
        it is a direction of the chart.

    Returns
    -------
    Convergence
        ``.slope`` is 2 for a right gradient and 1 for a wrong one.

    Raises
    ------
    TypeError
        For a flow without energy, with a drift, and for a batch.
    """
    if not hasattr(flow, "energy") or not getattr(flow, "is_gradient", False):
        raise TypeError(
            "check_gradient needs a gradient flow with an energy, such as "
            f"Euclidean().flow(V), not {type(flow).__name__}."
        )
    if not is_array(u):
        u = np.asarray(u, dtype=float)
    decode = getattr(flow, "decode", lambda z: z)
    retract = getattr(flow, "retract", lambda z: z)
    if hasattr(flow, "encode"):
        u = flow.encode(u)
    if direction is None:
        direction = pattern(u) * (0.1 + float(namespace(u).mean(abs(u))))
        if hasattr(flow.space, "volume"):
            direction = u * pattern(u)
    first = slope_along(flow, t, u, direction)
    start = float(flow.energy(t, decode(u)))
    # Small enough to tell a slightly wrong gradient, with e^2 far above rounding.
    least = 7.0 if dtype_name(u) == "float64" else 3.0
    sizes = 2.0 ** -np.arange(least, least + 6.0)
    errors = [
        abs(
            float(flow.energy(t, decode(retract(u + float(e) * direction))))
            - start
            - float(e) * first
        )
        for e in sizes
    ]
    return Convergence(sizes, np.array(errors), "e")


def pattern(u: Array) -> Array:
    """A smooth wave of the shape of u, with ripples that leave quantiles sorted."""
    n = to_numpy(u).size
    k = np.arange(n)
    wave = np.sin(1.0 + 3.0 * k / n) + np.sin(1.0 + k) / n
    return array_like(wave.reshape(tuple(u.shape)), u)


def check_descent(sol: Any, tol: float | None = None) -> Finding:
    """Largest rise of the energy between saved states.

    The default bound is rounding, 64 units of the largest energy.

    Parameters
    ----------
    sol : Solution
    tol : float, optional
        Largest rise that is allowed.

    Raises
    ------
    TypeError, ValueError
        Without an energy, for a batch, and for a single saved state.
    """
    check_solution(sol)
    if sol.energy is None or sol.energy.ndim != 1:
        raise TypeError("check_descent needs a flow with an energy, and no batch.")
    if "largest_rise" not in sol.stats:
        raise ValueError("check_descent needs at least two saved states.")
    scale = float(np.abs(sol.energy[np.isfinite(sol.energy)]).max(initial=0.0))
    bound = 64 * np.finfo(float).eps * scale if tol is None else tol
    return Finding("largest rise of the energy", sol.stats["largest_rise"], bound)


def check_dissipation(sol: Any, tol: float = 1e-3) -> Finding:
    """Energy-dissipation balance F(u_0) - F(u_T) = int |velocity|^2 dt, relative gap.

    The integral is that of a cubic spline over the saved times, so the gap is of the
    order of the scheme or 4, whichever is lower; it needs a gradient flow whose energy
    does not depend on time.

    Parameters
    ----------
    sol : Solution
    tol : float
        Largest gap, relative to the energy that was lost.

    Raises
    ------
    TypeError
        For other flows, and for a batch.
    """
    check_solution(sol)
    flow = sol.flow
    if sol.energy is None or flow is None or not flow.is_gradient:
        raise TypeError("check_dissipation needs a gradient flow with an energy.")
    if getattr(flow, "functional", None) is not None and (
        flow.functional.depends_on_time
    ):
        raise TypeError("check_dissipation needs an energy that does not depend on t.")
    states = list(map(getattr(flow, "encode", lambda u: u), sol.u))
    rates = np.array(
        [
            -slope_along(flow, t, u, flow.velocity(t, u))
            for t, u in zip(sol.t, states, strict=True)
        ]
    )
    spent = float(np.sum(integrate(sol.t, rates)))
    lost = float(sol.energy[0] - sol.energy[-1])
    scale = max(abs(lost), np.finfo(float).tiny)
    return Finding("energy-dissipation gap", abs(lost - spent) / scale, tol)


def integrate(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Integral of a cubic spline through (t, y)."""
    from scipy.interpolate import CubicSpline

    if len(t) < 2:
        return np.zeros(1)
    return np.asarray(CubicSpline(t, y).integrate(t[0], t[-1]))


def check_mass(sol: Any, tol: float = 1e-12) -> Finding:
    """Largest relative drift of the mass over the saved states.

    Parameters
    ----------
    sol : Solution
    tol : float
        Largest relative drift.
    """
    return Finding("mass drift", grid_statistic(sol, "mass_drift"), tol)


def check_positive(sol: Any, tol: float = 0.0) -> Finding:
    """Minus the smallest density over the saved states.

    Parameters
    ----------
    sol : Solution
    tol : float
        How far below 0 a state may be.
    """
    return Finding("minus the minimum", -grid_statistic(sol, "minimum"), tol)


def grid_statistic(sol: Any, name: str) -> float:
    """Entry of ``sol.stats`` that only densities have; TypeError without it."""
    check_solution(sol)
    if name not in sol.stats:
        raise TypeError(
            f"{sol.space!r} has no densities whose mass and sign can change."
        )
    return float(sol.stats[name])
