"""An exponential scheme: the linear part of the flow is solved exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step
from flows.linear import apply, exponentials
from flows.schemes.base import Scheme
from flows.schemes.linearized import time_slope

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["Exponential"]

Array = Any


@dataclass(frozen=True)
class Exponential(Scheme):
    """Exponential Rosenbrock scheme of two stages: exprb32.

        v  = u + h phi_1(h J) f(t, u) + h^2 phi_2(h J) df/dt(t, u)
        u' = v + 2 h phi_3(h J) (f(t + h, v) - f(t, u) - J (v - u) - h df/dt(t, u))

    with the velocity f and its Jacobian J at (t, u). Order 3, L-stable; exact where the
    velocity is an affine function of u and t, as on quadratics, for every h. Needs
    ``velocity`` (twice a step) and ``jacobian`` (once a step). The derivative in t is a
    difference of velocities, at the price of two more of them, or of one where it is
    found to be 0. The error estimate is u' - v, the difference to the exponential
    Rosenbrock-Euler scheme of order 2, O(h^3). Large structured Jacobians and operators
    go through Krylov spaces: the number of products grows with sqrt(h |J|) where J is
    symmetric, with h |J| else.

    References
    ----------
    M. Hochbruck, A. Ostermann, J. Schweitzer, Exponential Rosenbrock-type methods, SIAM
    J. Numer. Anal. 47 (2009) 786-803, doi:10.1137/080717717.
    """

    order: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = ("velocity", "jacobian")
    error_order: ClassVar[int | None] = 3

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        J = flow.jacobian(t, u)
        functions = exponentials(J, h, u)
        slope = flow.velocity(t, u)
        change, calls = time_slope(flow, t, u, h, slope)
        drift = None if change is None else (h * h) * change
        move = functions.combine([h * slope, drift])
        v = u + move
        # What the velocity has beyond its linear part, times h.
        rest = h * (flow.velocity(t + h, v) - slope - apply(J, move))
        if drift is not None:
            rest = rest - drift
        error = functions.combine([None, None, 2.0 * rest])
        work = {"velocity_calls": calls + 2, "jacobian_calls": 1}
        return Step(v + error, error, (), work)
