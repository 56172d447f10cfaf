"""A Rosenbrock scheme: implicit stages by linear systems alone, no Newton method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step
from flows.linear import shifted
from flows.schemes.base import Scheme
from flows.schemes.linearized import time_slope
from flows.schemes.tableaus import RODASP, LinearTableau

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["Rosenbrock"]

Array = Any


@dataclass(frozen=True)
class Rosenbrock(Scheme):
    """Linearly implicit scheme of six stages: RODASP.

        (I - h g J) U_i = h g velocity(t + a_i h, u + sum_j a_ij U_j)
                          + g sum_j c_ij U_j + h^2 g g_i d velocity/dt,     g = 1/4

    Order 4, also on semi-discretized parabolic equations; L-stable, stiffly accurate;
    needs ``velocity`` (six times a step) and ``jacobian`` (once a step, at t), and no
    iteration. The derivative in t is a difference of velocities, at the price of two
    more of them, or of one where it is found to be 0. The error estimate is the last
    stage, the difference to an embedded method of order 3, O(h^4).

    References
    ----------
    G. Steinebach, Order-reduction of ROW-methods for DAEs and method of lines
    applications, Preprint 1741, TH Darmstadt (1995).
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, section IV.7,
    doi:10.1007/978-3-642-05221-7.
    J. Lang, J. Verwer, ROS3P - an accurate third-order Rosenbrock solver designed for
    parabolic problems, BIT 41 (2001) 731-738, doi:10.1023/A:1021900219772 (the
    conditions for parabolic equations).
    """

    order: ClassVar[int] = 4
    needs: ClassVar[tuple[str, ...]] = ("velocity", "jacobian")
    error_order: ClassVar[int | None] = 4
    tableau: ClassVar[LinearTableau] = RODASP

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        table = self.tableau
        solver = shifted(flow.jacobian(t, u), table.gamma * h, u)
        slope = flow.velocity(t, u)
        change, calls = time_slope(flow, t, u, h, slope)
        part = table.gamma * h
        v, last = u, len(table.stages) - 1
        stages: list[Array] = []
        for i, row in enumerate(table.stages):
            if i:
                # The last stage starts from the end of the one before.
                v = v + stages[-1] if i == last else plus(u, row, stages)
                slope = flow.velocity(t + table.times[i] * h, v)
                calls += 1
            weights = [table.gamma * c for c in table.couplings[i]]
            right = plus(part * slope, weights, stages)
            if change is not None and table.slopes[i]:
                right = right + (table.slopes[i] * h * part) * change
            stages.append(solver.solve(right))
        work = {"velocity_calls": calls + 1, "jacobian_calls": 1}
        return Step(v + stages[-1], stages[-1], (), work)


def plus(start: Array, weights: Any, stages: list[Array]) -> Array:
    """start + sum_j weight_j stage_j."""
    for weight, stage in zip(weights, stages, strict=True):
        start = start + weight * stage
    return start
