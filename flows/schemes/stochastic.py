"""Schemes for du = velocity dt + sigma dW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step
from flows.schemes.base import Scheme

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["EulerMaruyama", "LeimkuhlerMatthews"]

Array = Any


@dataclass(frozen=True)
class EulerMaruyama(Scheme):
    """u' = u + h velocity(t, u) + sqrt(h) sigma R with R standard normal.

    Weak order 1; needs ``velocity`` and ``noise``. For a quadratic energy of curvature
    l at temperature T the variance settles at T / (l (1 - h l/2)) instead of T/l.

    References
    ----------
    G. Maruyama, Continuous Markov processes and stochastic equations, Rend. Circ. Mat.
    Palermo 4 (1955) 48-90, doi:10.1007/BF02846028.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("velocity", "noise")
    stability: ClassVar[float] = 2.0
    random: ClassVar[bool] = True

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        normal = rng.normal(u.shape, like=u)
        kick = (h**0.5 * flow.noise(t, u)) * normal
        return Step(u + h * flow.velocity(t, u) + kick, stats={"velocity_calls": 1})


@dataclass(frozen=True)
class LeimkuhlerMatthews(Scheme):
    """u' = u + h velocity(t, u) + sqrt(h) sigma (R + R')/2 with standard normals R, R'.

    R' is drawn in this step, R was drawn in the step before and is kept in ``memory``.
    Needs ``velocity`` and ``noise``; sigma must not depend on the state. Weak order 1
    over a finite time, but 2 for stationary averages: the stationary variance of a
    quadratic energy is exact.

    References
    ----------
    B. Leimkuhler, C. Matthews, Rational construction of stochastic numerical methods
    for molecular sampling, Appl. Math. Res. Express 2013 (2013) 34-56,
    doi:10.1093/amrx/abs010.
    B. Leimkuhler, C. Matthews, M. V. Tretyakov, On the long-time integration of
    stochastic gradient systems, Proc. R. Soc. A 470 (2014) 20140120,
    doi:10.1098/rspa.2014.0120.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("velocity", "noise")
    stability: ClassVar[float] = 2.0
    random: ClassVar[bool] = True
    multistep: ClassVar[bool] = True
    draws: ClassVar[int] = 2

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        new = rng.normal(u.shape, like=u)
        if memory:
            old = memory[0]
        else:
            old = rng.with_draw(rng.draw + 1).normal(u.shape, like=u)
        kick = (0.5 * h**0.5 * flow.noise(t, u)) * (old + new)
        v = u + h * flow.velocity(t, u) + kick
        return Step(v, memory=(new,), stats={"velocity_calls": 1})
