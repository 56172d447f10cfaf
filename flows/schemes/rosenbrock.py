"""A Rosenbrock scheme: implicit stages by linear systems alone, no Newton method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step
from flows.linear import shifted
from flows.schemes.base import Scheme
from flows.schemes.linearized import time_slope

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["Rosenbrock"]

Array = Any

# The six stages of RODASP in the variables U_i = sum_j gamma_ij k_j. The last two rows
# end with 1 more each, so that the last stage is the difference to the embedded method.
GAMMA = 0.25
TIMES = (0.0, 0.75, 0.21, 0.63, 1.0, 1.0)
# Sums of the rows gamma_ij, which weigh the derivative in time.
SLOPES = (0.25, -0.5, -0.023504, -0.0362, 0.0, 0.0)
STAGES = (
    (),
    (3.0,),
    (1.831036793486759, 0.4955183967433795),
    (2.304376582692669, -0.05249275245743001, -1.176798761832782),
    (-7.170454962423024, -4.741636671481785, -16.31002631330971, -1.062004044111401),
    (
        -7.170454962423024,
        -4.741636671481785,
        -16.31002631330971,
        -1.062004044111401,
        1.0,
    ),
)
COUPLINGS = (
    (),
    (-12.0,),
    (-8.791795173947035, -2.207865586973518),
    (10.81793056857153, 6.780270611428266, 19.53485944642410),
    (34.19095006749676, 15.49671153725963, 54.74760875964130, 14.16005392148534),
    (
        34.62605830930532,
        15.30084976114473,
        56.99955578662667,
        18.40807009793095,
        -5.714285714285717,
    ),
)


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

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        solver = shifted(flow.jacobian(t, u), GAMMA * h, u)
        slope = flow.velocity(t, u)
        change, calls = time_slope(flow, t, u, h, slope)
        part = GAMMA * h
        v = u
        stages: list[Array] = []
        for i, (row, couplings) in enumerate(zip(STAGES, COUPLINGS, strict=True)):
            if i:
                # The last stage starts from the end of the one before.
                v = v + stages[-1] if i == 5 else plus(u, row, stages)
                slope = flow.velocity(t + TIMES[i] * h, v)
                calls += 1
            right = plus(part * slope, [GAMMA * c for c in couplings], stages)
            if change is not None and SLOPES[i]:
                right = right + (SLOPES[i] * h * part) * change
            stages.append(solver.solve(right))
        work = {"velocity_calls": calls + 1, "jacobian_calls": 1}
        return Step(v + stages[-1], stages[-1], (), work)


def plus(start: Array, weights: Any, stages: list[Array]) -> Array:
    """start + sum_j weight_j stage_j."""
    for weight, stage in zip(weights, stages, strict=True):
        start = start + weight * stage
    return start
