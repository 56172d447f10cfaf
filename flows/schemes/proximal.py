"""Minimizing movements: implicit steps in the metric of the space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step
from flows.schemes.base import Scheme, start_slope

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["JKO", "MinimizingMovement"]

Array = Any


@dataclass(frozen=True)
class MinimizingMovement(Scheme):
    """v = argmin energy(t + h, v) + distance(u, v)^2 / 2h, one proximal step.

    Order 1; the energy never rises; needs ``prox``. In the Wasserstein spaces this is
    the scheme of Jordan, Kinderlehrer and Otto, and ``JKO`` is its other name. The
    error estimate O(h^2) is that of ``ImplicitEuler``.

    References
    ----------
    R. Jordan, D. Kinderlehrer, F. Otto, The variational formulation of the
    Fokker-Planck equation, SIAM J. Math. Anal. 29 (1998) 1-17,
    doi:10.1137/S0036141096303359.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("prox",)
    error_order: ClassVar[int | None] = 2
    dissipative: ClassVar[bool] = True

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        slope, work = (memory[0], {}) if memory else start_slope(flow, t, u)
        v, kept = flow.prox(t + h, u, h, memory[1:])
        rise = v - u
        error = rise if slope is None else 0.5 * (rise - h * slope)
        work["prox_calls"] = 1
        return Step(v, error, (rise / h, *kept), work)


JKO = MinimizingMovement
