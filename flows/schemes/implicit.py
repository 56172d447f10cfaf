"""Implicit schemes, written with the resolvent alone.

``flow.resolvent(t, w, h, memory)`` returns v = w + h velocity(t, v) for the time ``t``
at which the velocity is evaluated. A slope is read off a solved stage as (v - w) / h:
this costs no velocity call and does not magnify the solver's error by the stiffness.
Every memory ends with what the resolvent returned, from which Newton starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.arrays import is_array, namespace, to_numpy
from flows.flow import Step
from flows.schemes.base import Scheme, start_slope

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["BDF2", "SDIRK3", "TRBDF2", "ImplicitEuler"]

Array = Any


@dataclass(frozen=True)
class ImplicitEuler(Scheme):
    """v = u + h velocity(t + h, v): implicit Euler, the proximal point method.

    Order 1, L-stable; needs ``resolvent``. The energy does not rise where it is convex
    (where it is lambda-convex, for h < 1/|lambda|). The error estimate is half the
    change of h velocity over the step, O(h^2): the difference to the trapezoidal rule.
    The slope at the start of a run is ``velocity``; the estimate of the first step is
    its whole increment where the flow offers none.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, section IV.3,
    doi:10.1007/978-3-642-05221-7.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("resolvent",)
    error_order: ClassVar[int | None] = 2
    dissipative: ClassVar[bool] = True

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        slope, work = (memory[0], {}) if memory else start_slope(flow, t, u)
        v, newton = flow.resolvent(t + h, u, h, memory[1:] or (u,))
        rise = v - u
        error = rise if slope is None else 0.5 * (rise - h * slope)
        work["resolvent_calls"] = 1
        return Step(v, error, (rise / h, *newton), work)


# gamma = 2 - sqrt 2 gives both stages the same implicit coefficient gamma / 2.
GAMMA = 2.0 - math.sqrt(2.0)
HALF_GAMMA = 0.5 * GAMMA
THIRD_WEIGHT = math.sqrt(2.0) / 4.0


@dataclass(frozen=True)
class TRBDF2(Scheme):
    """Trapezoidal rule to t + gamma h, then BDF2 to t + h, gamma = 2 - sqrt 2.

        v = u + gamma h/2 (velocity(t, u) + velocity(t + gamma h, v))
        u' = u + (1 + sqrt 2)/2 (v - u) + gamma h/2 velocity(t + h, u')

    Order 2, L-stable, stiffly accurate, not positive; needs ``velocity`` (once, at the
    start) and ``resolvent`` (twice a step with one coefficient). The error estimate is
    the difference to the embedded method of order 3, O(h^3). It is not smoothed: the
    slope at t is that of the last solved stage, which keeps it bounded in stiff
    components after the first step.

    References
    ----------
    R. E. Bank et al., Transient simulation of silicon devices and circuits, IEEE Trans.
    Electron Devices 32 (1985) 1992-2007, doi:10.1109/T-ED.1985.22232.
    M. E. Hosea, L. F. Shampine, Analysis and implementation of TR-BDF2, Appl. Numer.
    Math. 20 (1996) 21-37, doi:10.1016/0168-9274(95)00115-8.
    """

    order: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ("velocity", "resolvent")
    error_order: ClassVar[int | None] = 3

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        slope, newton, work = begin(flow, t, u, memory)
        work["resolvent_calls"] = 2
        part = HALF_GAMMA * h
        w = u + part * slope
        v, newton = flow.resolvent(t + GAMMA * h, w, part, newton)
        middle = v - w
        w = u + (THIRD_WEIGHT / HALF_GAMMA) * (v - u)
        v, newton = flow.resolvent(t + h, w, part, newton)
        last = v - w
        error = (
            ((4.0 * THIRD_WEIGHT - 1.0) / 3.0 * h) * slope
            - (1.0 / (3.0 * HALF_GAMMA)) * middle
            + (2.0 / 3.0) * last
        )
        return Step(v, error, (last / part, *newton), work)


@dataclass(frozen=True)
class BDF2(Scheme):
    """Two-step backward differentiation with variable steps, r = h / previous h.

        v = u + r^2/(1 + 2r) (u - u_previous) + (1 + r)/(1 + 2r) h velocity(t + h, v)

    Order 2, A- and L-stable with equal steps; needs ``resolvent`` (once a step) and
    ``velocity`` (at the start). The first step, and every step that is more than twice
    as long as the one before, is taken by ``TRBDF2`` (in a batch with own steps, by the
    members whose step it is): beyond r = 1 + sqrt 2 the formula is unstable. The error
    estimate O(h^3) compares v with the parabola through u_previous and u that has the
    slope at u.

    References
    ----------
    E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I,
    section III.5, doi:10.1007/978-3-540-78862-1.
    """

    order: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ("velocity", "resolvent")
    error_order: ClassVar[int | None] = 3
    multistep: ClassVar[bool] = True

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        if memory:
            fast = grows_too_fast(h / memory[1])
            if fast.any() and not fast.all():
                return self.apart(flow, t, u, h, memory, fast)
        if not memory or fast.all():
            start = TRBDF2().step(flow, t, u, h, rng, memory[2:])
            return start._replace(memory=(u, h, *start.memory))
        before, h_before, slope, *newton = memory
        r = h / h_before
        change = u - before
        w = u + (r * r / (1.0 + 2.0 * r)) * change
        part = (1.0 + r) / (1.0 + 2.0 * r) * h
        v, kept = flow.resolvent(t + h, w, part, tuple(newton))
        parabola = u + ((1.0 + r) * h) * slope - (r * r) * change
        error = ((1.0 + r) / (2.0 + 3.0 * r)) * (v - parabola)
        memory = (u, h, (v - w) / part, *kept)
        return Step(v, error, memory, {"resolvent_calls": 1})

    def apart(
        self, flow: Flow, t: Any, u: Array, h: Any, memory: Memory, fast: np.ndarray
    ) -> Step:
        """The members whose step grows too fast, and the others, each by itself."""
        rows = [np.flatnonzero(fast), np.flatnonzero(~fast)]
        back = np.argsort(np.concatenate(rows))
        parts = []
        for index in rows:
            s, v, k = (x[index] if is_array(x) and x.ndim else x for x in (t, u, h))
            kept = tuple(x[index] if is_array(x) else x for x in memory)
            parts.append(self.step(flow, s, v, k, None, kept))
        join = namespace(u).concat
        first, second = parts
        together = (
            join(list(pair))[back] if is_array(pair[0]) else pair[0]
            for pair in zip(first.memory, second.memory, strict=True)
        )
        calls = {k: first.stats[k] + second.stats.get(k, 0) for k in first.stats}
        return Step(
            join([first.u, second.u])[back],
            join([first.error, second.error])[back],
            tuple(together),
            calls,
        )


def grows_too_fast(ratio: Any) -> np.ndarray:
    """Whether a step is more than twice the last one, for each member of a batch."""
    return np.atleast_1d(np.asarray(to_numpy(ratio) > 2.0)).ravel()


# The root of x^3 - 3 x^2 + 3 x/2 - 1/6 for which a stiffly accurate scheme of order 3
# is L-stable. The third node is free; the paper takes 3/5. With it stage order 2 fixes
# the third row, order 3 the weights, and the embedded method is free but for its order.
DIAGONAL = 0.43586652150845899942
NODE = 0.6
ROW = NODE * (NODE - 2.0 * DIAGONAL) / (4.0 * DIAGONAL)
B2 = (3.0 * NODE - 2.0 + 6.0 * DIAGONAL * (1.0 - NODE)) / (
    12.0 * DIAGONAL * (NODE - 2.0 * DIAGONAL)
)
B3 = (1.0 - 6.0 * DIAGONAL + 6.0 * DIAGONAL**2) / (3.0 * NODE * (NODE - 2.0 * DIAGONAL))
E3, E4 = 0.10306492520138457230, 0.034169546367296598248
E2 = -(E3 * NODE + E4) / (2.0 * DIAGONAL)


@dataclass(frozen=True)
class SDIRK3(Scheme):
    """Singly diagonally implicit scheme with one explicit stage: ESDIRK3(2)4L[2]SA.

    Order 3, stage order 2, L-stable, stiffly accurate; needs ``velocity`` (once, at
    the start) and ``resolvent`` (three times a step with one coefficient). The nodes
    are 0, 2 gamma, 3/5, 1 with gamma = 0.43587. The error estimate is the difference to
    an embedded method of order 2, O(h^3). Stage order 2 keeps the estimate from
    collapsing to O(h^2) along the slow manifold of a stiff flow, as it does for the
    schemes of three implicit stages.

    References
    ----------
    C. A. Kennedy, M. H. Carpenter, Additive Runge-Kutta schemes for
    convection-diffusion-reaction equations, Appl. Numer. Math. 44 (2003) 139-181,
    doi:10.1016/S0168-9274(02)00138-1.
    """

    order: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = ("velocity", "resolvent")
    error_order: ClassVar[int | None] = 3

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        slope, newton, work = begin(flow, t, u, memory)
        work["resolvent_calls"] = 3
        part = DIAGONAL * h
        # gamma h k_1, ..., gamma h k_4: what each stage adds to its right-hand side.
        one = part * slope
        w = u + one
        v, newton = flow.resolvent(t + 2.0 * part, w, part, newton)
        two = v - w
        w = u + ((NODE - ROW) / DIAGONAL - 1.0) * one + (ROW / DIAGONAL) * two
        v, newton = flow.resolvent(t + NODE * h, w, part, newton)
        three = v - w
        b1 = 1.0 - B2 - B3 - DIAGONAL
        w = u + (1.0 / DIAGONAL) * (b1 * one + B2 * two + B3 * three)
        v, newton = flow.resolvent(t + h, w, part, newton)
        four = v - w
        e1 = -(E2 + E3 + E4)
        error = (1.0 / DIAGONAL) * (e1 * one + E2 * two + E3 * three + E4 * four)
        return Step(v, error, (four / part, *newton), work)


def begin(
    flow: Flow, t: Any, u: Array, memory: Memory
) -> tuple[Array, Memory, dict[str, int]]:
    """Slope at (t, u), the resolvent's memory, and the work it took."""
    if memory:
        return memory[0], memory[1:], {}
    return flow.velocity(t, u), (u,), {"velocity_calls": 1}
