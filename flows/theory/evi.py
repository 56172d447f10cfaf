"""Identities that characterize gradient flows and minimizing movements."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.arrays import dtype_name, is_array, namespace, to_numpy
from flows.flow import offers
from flows.measures import Measure
from flows.schemes import ImplicitEuler, MinimizingMovement
from flows.theory.checks import Finding, check_solution

__all__ = [
    "check_de_giorgi",
    "check_evi",
    "check_run",
    "cost",
    "evi_gap",
    "has_divergence",
    "point",
    "spread",
]

Array = Any
PROXIMAL = (repr(ImplicitEuler()), repr(MinimizingMovement()))


def check_run(sol: Any) -> None:
    """Refuse runs without an energy that should fall."""
    check_solution(sol)
    if hasattr(sol.flow, "lyapunov"):
        raise TypeError(
            "Rates are those of gradient flows, and a second-order flow need not lower "
            "its energy; `fl.theory.lyapunov(sol)` is what falls along it."
        )
    if sol.flow is None:
        raise TypeError("A loaded solution has no flow; rates need the run itself.")
    if sol.energy is None or not sol.flow.is_gradient:
        raise TypeError(
            "Rates need a gradient flow with an energy, which "
            f"{type(sol.flow).__name__} is not."
        )
    functional = getattr(sol.flow, "functional", None)
    if functional is not None and functional.depends_on_time:
        raise TypeError("Rates need an energy that does not depend on time.")


def point(sol: Any, z: Any) -> Array:
    """A minimizer as a state of the run's space."""
    if isinstance(z, Measure):
        return sol.space.project(z)
    if not is_array(z):
        try:
            z = np.atleast_1d(np.asarray(z, dtype=float))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"`minimizer` must be an array or a Measure, got {z!r}."
            ) from error
    u = sol.u[0]
    if z.shape not in (u.shape, u.shape[-1:]):
        raise ValueError(
            f"`minimizer` has shape {tuple(z.shape)}, the states {tuple(u.shape)}."
        )
    # A minimizer of a batch is the same for all members.
    return z if z.shape == u.shape else 0.0 * u + z


def spread(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Numbers (k,) against curves (k, ..)."""
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def has_divergence(space: Any) -> bool:
    """Whether steps cost a Bregman divergence, as in ``Mirror``."""
    return hasattr(space, "divergence")


def cost(space: Any, v: Any, u: Any) -> np.ndarray:
    """D(v, u) where steps cost a Bregman divergence, else d(v, u)^2/2."""
    if has_divergence(space):
        with np.errstate(divide="ignore"):
            return np.asarray(to_numpy(space.divergence(v, u)), dtype=float)
    return 0.5 * np.asarray(to_numpy(space.distance(v, u)), dtype=float) ** 2


def evi_gap(sol: Any, z: Any, convexity: float) -> np.ndarray:
    """1/2 d/dt d(x, z)^2 + lambda/2 d(x, z)^2 - (f(z) - f(x)) at the saved states.

    Nowhere positive for every z along the flow of a lambda-convex energy, and zero for
    lambda d(x, z)^2/2. The derivative is <velocity, x - z> where the space is flat and
    offers its product; else the inequality is taken in its integrated form,

        e^(lambda s) d(x', z)^2/2 - d(x, z)^2/2
            - (e^(lambda s) - 1)/lambda (f(z) - f(x'))

    between neighboring states x, x' at the times t, t + s, divided by s. In a
    ``Mirror`` space D(z, x) is in the place of d(x, z)^2/2, and f - lambda phi is what
    should be convex.

    Parameters
    ----------
    sol : Solution
    z : array or Measure
        Any state.
    convexity : float

    Returns
    -------
    array (k,) or (k - 1,), with (.., b) for a batch
    """
    check_run(sol)
    if not isinstance(convexity, (int, float, np.floating)):
        raise TypeError(f"`convexity` must be a number, got {convexity!r}.")
    flow = sol.flow
    z = point(sol, z)
    value = np.asarray(to_numpy(flow.energy(float(sol.t[0]), z)), dtype=float)
    energy = np.asarray(to_numpy(sol.energy), dtype=float)
    half = np.array([cost(sol.space, z, u) for u in sol.u])
    slope = slopes(sol, z)
    if slope is not None:
        return np.asarray(slope + convexity * half - (value - energy))
    s = spread(np.diff(np.asarray(sol.t, dtype=float)), half)
    weight = s if convexity == 0.0 else np.expm1(convexity * s) / convexity
    change = np.exp(convexity * s) * half[1:] - half[:-1]
    return np.asarray((change - weight * (value - energy[1:])) / s)


def slopes(sol: Any, z: Any) -> np.ndarray | None:
    """Derivative of d(x, z)^2/2 or D(z, x) along the run, None where it is not known.

    That of D(z, x) is <(grad phi(x))', x - z>, and the chart is grad phi(x).
    """
    flow = sol.flow
    if has_divergence(sol.space):

        def slope(t: float, u: Array) -> Array:
            pull = flow.velocity(t, flow.encode(u))
            return namespace(u).sum(pull * (u - z), axis=-1)

    elif has(flow, "inner") and has(flow, "velocity") and not has(flow, "encode"):

        def slope(t: float, u: Array) -> Array:
            return flow.inner(u, flow.velocity(t, u), u - z)

    else:
        return None
    pairs = zip(sol.t, sol.u, strict=True)
    return np.array([to_numpy(slope(float(t), u)) for t, u in pairs], dtype=float)


def has(flow: Any, name: str) -> bool:
    """Whether ``flow`` offers ``name``; a refusal with a reason counts as no."""
    try:
        return offers(flow, name)
    except TypeError:
        return False


def check_evi(sol: Any, z: Any, convexity: float, tol: float = 1e-9) -> Finding:
    """Largest violation of the evolution variational inequality, see ``evi_gap``.

    The bound is ``tol`` times the largest abs(f(z) - f(x)) plus lambda d(x, z)^2, or
    2 lambda D(z, x).

    Parameters
    ----------
    sol : Solution
    z : array or Measure
        Any state.
    convexity : float
        lambda.
    tol : float

    Raises
    ------
    TypeError, ValueError
        For other flows and for a state of another shape.

    References
    ----------
    L. Ambrosio, N. Gigli, G. Savare, Gradient Flows, Birkhauser 2008,
    doi:10.1007/978-3-7643-8722-8.
    """
    gap = evi_gap(sol, z, convexity)
    z = point(sol, z)
    value = np.asarray(to_numpy(sol.flow.energy(float(sol.t[0]), z)), dtype=float)
    energy = np.asarray(to_numpy(sol.energy), dtype=float)
    far = 2.0 * float(cost(sol.space, z, sol.u[0]).max())
    scale = float(np.abs(value - energy).max()) + abs(convexity) * far
    rounding = 64 * float(np.finfo(dtype_name(sol.u[0])).eps)
    size = float(np.abs(value).max() + np.abs(energy).max())
    bound = tol * scale + rounding * size
    return Finding("evolution variational inequality", float(gap.max()), bound)


def check_de_giorgi(sol: Any, tol: float = 1e-10, points: int = 24) -> Finding:
    """Largest relative gap in De Giorgi's identity of minimizing movements.

        f(x) - f(x') = d(x, x')^2/2h + int_0^h d(x, x_r)^2/2r^2 dr

    with x_r the proximal step of length r from x, so that x' = x_h. It holds for every
    step on every energy, also one that is not convex. In a ``Mirror`` space D(x', x)
    and D(x_r, x) are in the place of half the squares.

    Parameters
    ----------
    sol : Solution
        Of ``MinimizingMovement`` with every step saved.
    tol : float
        Bound of the gap, relative to the energies.
    points : int
        Of the Gauss quadrature; where a step meets a kink the integrand has one too.

    Raises
    ------
    TypeError, ValueError
        For other schemes, for steps that were not saved, and for a batch.

    References
    ----------
    L. Ambrosio, N. Gigli, G. Savare, Gradient Flows, Birkhauser 2008, theorem 3.1.4,
    doi:10.1007/978-3-7643-8722-8.
    """
    check_run(sol)
    flow, space = sol.flow, sol.space
    if sol.stats.get("scheme") not in PROXIMAL or not has(flow, "prox"):
        raise TypeError("De Giorgi's identity needs a run of MinimizingMovement().")
    if sol.energy.ndim != 1:
        raise TypeError("De Giorgi's identity needs one state, not a batch.")
    if len(sol.t) != sol.stats["steps"] + 1:
        raise ValueError("De Giorgi's identity needs every step; leave out `save_at`.")
    nodes, weights = np.polynomial.legendre.leggauss(points)
    # r = h s^3, as a stiff step has moved most of its way at small r; but there the
    # digits of a divergence are lost, unlike those of a distance.
    power = 1 if has_divergence(space) else 3
    worst = 0.0
    for k, h in enumerate(np.diff(np.asarray(sol.t, dtype=float))):
        u, t = sol.u[k], float(sol.t[k + 1])
        spent = float(cost(space, sol.u[k + 1], u)) / h
        for s, w in zip(0.5 * (1.0 + nodes), 0.5 * weights, strict=True):
            r = float(h * s**power)
            between = proximal(flow, t, u, r)
            spent += power * r / s * w * float(cost(space, between, u)) / r**2
        lost = float(sol.energy[k] - sol.energy[k + 1])
        scale = abs(float(sol.energy[k])) + abs(float(sol.energy[k + 1]))
        gap = abs(lost - spent) / max(scale, np.finfo(float).tiny)
        worst = max(worst, float(gap))
    return Finding("De Giorgi's identity", worst, tol)


def proximal(flow: Any, t: float, u: Array, r: float) -> Array:
    """The proximal step of length r from the state u."""
    if not has(flow, "encode"):
        return flow.prox(t, u, r, ())[0]
    return flow.decode(flow.prox(t, flow.encode(u), r, ())[0])
