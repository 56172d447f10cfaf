"""Discrete gradients: schemes that keep the energy balance for every step.

A discrete gradient g(x, y) of an energy F satisfies <g, y - x> = F(y) - F(x) in the
metric of the flow and g(x, x) = grad F(x). The step y = x - h g(x, y) then gives

    F(y) - F(x) = -<y - x, y - x> / h

whatever h, so that the energy never rises. The equation of ``AverageVectorField`` and
``Gonzalez`` is solved to rounding; a last search along y - x removes from the balance
what the solver left. Energies that depend on time are taken at t + h/2, for which the
balance holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.arrays import to_numpy, unrecorded
from flows.flow import Step, offers
from flows.linear import NewtonFailure
from flows.schemes.base import Scheme, describe, rooted
from flows.schemes.coordinates import directions, entries, sweep
from flows.schemes.discrete_gradient import Balance, Linked

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["AverageVectorField", "Gonzalez", "ItohAbe"]

Array = Any
MOST_SWEPT = 500


class DiscreteGradient(Scheme):
    """What the three schemes share: what they ask of a flow."""

    dissipative: ClassVar[bool] = True

    def obstacle(self, flow: Any) -> str | None:
        """Why this scheme cannot run ``flow``; None when it can."""
        found = super().obstacle(flow)
        if found is not None:
            return found
        if not getattr(flow, "is_gradient", True):
            return (
                f"`{self!r}` needs a gradient flow, which {describe(flow)} is not: its "
                "velocity is not minus the gradient of its energy"
            )
        for name, what in (
            ("encode", "live in a chart"),
            ("retract", "are moved after a step"),
        ):
            if has(flat(flow), name):
                return (
                    f"`{self!r}` needs states that may be added in their own metric; "
                    f"those of {describe(flow)} {what}"
                )
        return None


def has(flow: Any, name: str) -> bool:
    """Whether ``flow`` offers ``name``; a refusal with a reason counts as no."""
    try:
        return offers(flow, name)
    except TypeError:
        return False


def flat(flow: Any) -> Any:
    """The flow as one of vectors, with the energy and the metric of its own states."""
    return getattr(flow, "flat", flow)


@lru_cache(maxsize=8)
def gauss(points: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return tuple(
        (0.5 * (1.0 + float(s)), 0.5 * float(w))
        for s, w in zip(nodes, weights, strict=True)
    )


def implicit_step(
    flow: Flow, t: Any, u: Array, h: Any, rule: tuple[tuple[float, float], ...]
) -> Step:
    """The step of the discrete gradient that averages the velocity with ``rule``."""

    def guess() -> Array:
        """The sweep of ``ItohAbe``: it has the same balance, and it always exists."""
        if entries(flow, u)[0] > MOST_SWEPT:
            raise NewtonFailure("too many coordinates to be swept")
        try:
            return swept(flow, t, u, h)[0] - u
        except TypeError as error:
            raise NewtonFailure(str(error)) from error

    balance = Balance(flow, t + 0.5 * h, u, h, rule, guess)
    with np.errstate(all="ignore"), unrecorded(u):
        d = balance.solve()
    equation = Linked(balance, d)
    (d,) = rooted(flow, u, equation.residual, [d], equation.approximate)
    return Step(u + d, None, (), balance.work)


def swept(flow: Flow, t: Any, u: Array, h: Any) -> tuple[Array, int]:
    """The state after a sweep along the axes, and the energies that it took."""
    axes = directions(flow, u)
    size = to_numpy(h)[..., 0] if getattr(h, "ndim", 0) else np.asarray(float(h))
    return sweep(flow, t + 0.5 * h, u, size, axes)


@dataclass(frozen=True)
class Gonzalez(DiscreteGradient):
    """The midpoint discrete gradient, m = (x + y)/2 and d = y - x:

        g = grad F(m) + (F(y) - F(x) - <grad F(m), d>) / <d, d> d

    Order 2, the implicit midpoint rule on quadratics, and F(y) - F(x) = -<d, d>/h for
    every h; A-stable but not L-stable. Needs ``velocity``, ``energy``, ``inner``;
    uses ``jacobian`` where it is offered, else differences of the velocity. There is no
    error estimate. Of an energy that depends on time the balance holds at t + h/2.

    Raises
    ------
    NewtonFailure
        Where no solution was found; one exists for every energy that is smooth and
        bounded below.

    References
    ----------
    O. Gonzalez, Time integration and discrete Hamiltonian systems, J. Nonlinear Sci. 6
    (1996) 449-467, doi:10.1007/BF02440162.
    R. I. McLachlan, G. R. W. Quispel, N. Robidoux, Geometric integration using
    discrete gradients, Phil. Trans. R. Soc. A 357 (1999) 1021-1045,
    doi:10.1098/rsta.1999.0363.
    """

    order: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ("velocity", "energy", "inner")

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        return implicit_step(flat(flow), t, u, h, ((0.5, 1.0),))


@dataclass(frozen=True)
class AverageVectorField(DiscreteGradient):
    """The mean of the gradient over the segment from x to y, d = y - x:

        g = int_0^1 grad F(x + s d) ds + (F(y) - F(x) - <int grad F, d>) / <d, d> d

    The integral is Gauss quadrature with five points; the second term vanishes where
    that is exact (polynomials of degree 10) and is of its accuracy else. Order 2, the
    implicit midpoint rule on quadratics, and F(y) - F(x) = -<d, d>/h for every h;
    A-stable but not L-stable. Needs ``velocity``, ``energy``, ``inner``; uses
    ``jacobian`` where it is offered, else differences of the velocity. There is no
    error estimate. Of an energy that depends on time the balance holds at t + h/2.

    Raises
    ------
    NewtonFailure
        Where no solution was found; one exists for every energy that is smooth and
        bounded below.

    References
    ----------
    R. I. McLachlan, G. R. W. Quispel, N. Robidoux, Geometric integration using
    discrete gradients, Phil. Trans. R. Soc. A 357 (1999) 1021-1045,
    doi:10.1098/rsta.1999.0363.
    E. Hairer, Ch. Lubich, Energy-diminishing integration of gradient systems, IMA J.
    Numer. Anal. 34 (2014) 452-461, doi:10.1093/imanum/drt031.
    """

    order: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ("velocity", "energy", "inner")

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        return implicit_step(flat(flow), t, u, h, gauss(5))


@dataclass(frozen=True)
class ItohAbe(DiscreteGradient):
    """One coordinate after the other, from values of the energy alone:

        w_i a_i / h = -(F(z + a_i e_i) - F(z)) / a_i,    z <- z + a_i e_i

    with w_i = <e_i, e_i>. On quadratics it is a sweep of successive overrelaxation. In
    a metric that is not diagonal the axes are made orthogonal first, in their order.
    Order 1, and F(y) - F(x) = -<y - x, y - x>/h for every h, also for energies with
    kinks and for such that are not convex. Needs ``energy`` and ``inner``, and some ten
    energies for each coordinate. Values resolve a minimum to the square root of the
    rounding error only. Of an energy that depends on time the balance holds at t + h/2.

    Raises
    ------
    NewtonFailure
        Where the energy is not bounded below along a coordinate, or jumps.
    TypeError
        For a batch in a metric that differs from member to member.

    References
    ----------
    T. Itoh, K. Abe, Hamiltonian-conserving discrete canonical equations based on
    variational difference quotients, J. Comput. Phys. 76 (1988) 85-102,
    doi:10.1016/0021-9991(88)90132-5.
    V. Grimm, R. I. McLachlan, D. I. McLaren, G. R. W. Quispel, C.-B. Schonlieb,
    Discrete gradient methods for solving variational image regularisation models,
    J. Phys. A 50 (2017) 295201, doi:10.1088/1751-8121/aa747c.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("energy", "inner")
    composed: ClassVar[bool] = False

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``. The metric is that of the state before it."""
        with np.errstate(all="ignore"):
            v, calls = swept(flat(flow), t, u, h)
        return Step(v, None, (), {"energy_calls": calls})
