"""Explicit schemes that damp rotation, for games and saddle points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step
from flows.schemes import tableaus
from flows.schemes.base import Scheme
from flows.schemes.explicit import RungeKutta

if TYPE_CHECKING:
    from flows.flow import Flow, Memory
    from flows.schemes.tableaus import Tableau

__all__ = ["Extragradient", "Optimistic"]

Array = Any


@dataclass(frozen=True)
class Extragradient(RungeKutta):
    """u' = u + h velocity(t + h, u + h velocity(t, u)).

    Order 1; real stability interval 1; needs ``velocity``. A rotation of angular speed
    s, which explicit Euler amplifies, shrinks by sqrt(1 - a^2 + a^4) a step, a = h s,
    for a < 1.

    References
    ----------
    G. M. Korpelevich, The extragradient method for finding saddle points and other
    problems, Matecon 12 (1976) 747-756.
    """

    tableau: ClassVar[Tableau] = tableaus.EXTRAGRADIENT
    order: ClassVar[int] = 1
    stability: ClassVar[float] = 1.0


@dataclass(frozen=True)
class Optimistic(Scheme):
    """u' = u + 2 h velocity(t, u) - h velocity of the step before.

    Order 1; real stability interval 2/3; needs ``velocity``; the first step is explicit
    Euler. A rotation of angular speed s shrinks where h s < 1/sqrt(3). After a change
    of the step from h_0 to h the weights are 1 + h/h_0 and h/h_0.

    References
    ----------
    L. D. Popov, A modification of the Arrow-Hurwicz method for search of saddle points,
    Math. Notes 28 (1980) 845-848, doi:10.1007/BF01141092.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("velocity",)
    stability: ClassVar[float] = 2.0 / 3.0
    multistep: ClassVar[bool] = True

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        slope = flow.velocity(t, u)
        old, before = memory or (slope, h)
        v = u + h * (slope + (h / before) * (slope - old))
        return Step(v, None, (slope, h), {"velocity_calls": 1})
