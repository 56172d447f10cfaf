"""One committed step after another: the loop under ``solve`` and ``steps``.

State, time, memory and step number advance together, in one assignment after a step
has been accepted; a failure in between leaves the last good state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import (
    all_finite,
    first_nonfinite,
    is_torch,
    namespace,
    to_numpy,
    without_graph,
)
from flows.control import Adaptive, count_steps, error_ratio, first_step
from flows.linear import WORK, NewtonFailure
from flows.loop.advice import (
    bounds,
    hint,
    stuck,
    too_small,
    used_up,
)
from flows.loop.creep import WINDOW, Pace
from flows.loop.failures import StepFailure, describe, spacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow import Memory, Step
    from flows.loop.members import Members

__all__ = [
    "CREEP",
    "MOST_SHRINKS",
    "START",
    "Runner",
    "State",
    "StepFailure",
]

Array = Any

# A density may undershoot by the truncation error of a second-order step; more than
# this part of its maximum is a wrong density.
NEGATIVE = 1e-3
MOST_HALVINGS = 8
MOST_SHRINKS = 10
# Inner solves that may fail before the time gained between them is looked at.
MOST_FAILURES = 30
# A step that fails may not shrink to fewer of the least steps.
CREEP = 64
START = (1.0, 1.0, 0.0, 0.0)


class State(NamedTuple):
    """Everything that a run commits at once, and that a checkpoint holds.

    ``origin`` and ``done`` place a fixed step inside its stretch between two save
    times; ``h`` is the controller's next step and ``past`` what it remembers: the last
    two errors and the last two steps, 0 where there was none. In a batch with own steps
    ``members`` holds what differs between them and ``memory`` their pools.
    """

    t: float
    u: Array
    memory: Memory = ()
    step: int = 0
    origin: float = 0.0
    done: int = 0
    h: float = 0.0
    past: tuple[float, float, float, float] = START
    members: Members | None = None


@dataclass
class Runner:
    """Advances states of one flow by one scheme.

    ``u`` in a State is in the flow's chart when it has one (``encode``); ``end`` is
    the last time of the run.
    """

    flow: Any
    scheme: Any
    dt: float | Adaptive
    stream: Any = None
    counters: dict[str, int] = field(default_factory=dict)
    mass: float | None = None
    scale: float = 1.0
    end: float = math.inf
    failures: int = 0
    mark: float = 0.0
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        # A saved slope belongs to the coefficients and the point it was taken at: a
        # redrawn flow or a retracted state makes it stale. What a multistep scheme
        # remembers is part of the method, for instance the noise of the last step.
        redrawn = hasattr(self.flow, "draw") or hasattr(self.flow, "retract")
        self.forget = redrawn and not self.scheme.multistep
        self.decode = getattr(self.flow, "decode", None)
        self.retract = getattr(self.flow, "retract", None)
        self.draw = getattr(self.flow, "draw", None)
        self.admissible = getattr(self.flow, "admissible", None)
        self.minimum = getattr(self.flow.space, "minimum", None)
        for name in ("steps", "rejected", "halved"):
            self.counters.setdefault(name, 0)

    @property
    def attempts(self) -> int:
        """Steps of an adaptive run, accepted or not."""
        return self.counters["steps"] + self.counters["rejected"]

    @property
    def control(self) -> Adaptive:
        """``dt`` of an adaptive run."""
        if not isinstance(self.dt, Adaptive):
            raise TypeError("adaptive steps need Adaptive")
        return self.dt

    def user(self, u: Array) -> Array:
        """State as the user sees it, outside the chart."""
        return u if self.decode is None else self.decode(u)

    def watch(self, u: Array) -> None:
        """Remember mass and size of the first state, against which later ones count."""
        space = self.flow.space
        if hasattr(space, "mass"):
            self.mass = space.mass(u)
        if hasattr(space, "minimum"):
            self.scale = float(namespace(u).max(u))

    def attempt(self, state: State, h: float) -> Step:
        """One step of the scheme, not yet accepted; may raise NewtonFailure."""
        rng = None if self.stream is None else self.stream.at(state.step)
        return self.try_step(state.t, state.u, h, rng, state.memory)

    def try_step(self, t: Any, u: Array, h: Any, rng: Any, memory: Memory) -> Step:
        """A step from anywhere, of one state or of some members of a batch."""
        flow = self.flow if self.draw is None else self.draw(rng)
        counters = self.counters
        counting = WORK.set(counters)
        try:
            with np.errstate(all="ignore"), without_graph(u):
                step: Step = self.scheme.step(flow, t, u, h, rng, memory)
                if self.retract is not None:
                    step = step._replace(u=self.retract(step.u))
        finally:
            WORK.reset(counting)
        for name, count in step.stats.items():
            counters[name] = counters.get(name, 0) + count
        return step

    def commit(
        self,
        state: State,
        step: Step,
        t: float,
        done: int,
        h: float,
        past: tuple[float, float, float, float],
    ) -> State:
        """The state after an accepted step that ends at ``t``."""
        u = step.u
        if not is_torch(u):
            u.flags.writeable = False
        self.counters["steps"] += 1
        memory = () if self.forget else step.memory
        return State(t, u, memory, state.step + 1, state.origin, done, h, past)

    def problem(self, u: Array, t: float) -> str | None:
        """What is wrong with a state after a step, or None."""
        if not all_finite(u):
            count, index = first_nonfinite(u)
            return (
                f"the state has {count} non-finite value(s), the first at index "
                f"{index}, at t = {t:.6g}"
            )
        if self.minimum is not None:
            least = self.minimum(self.user(u))
            if least < -NEGATIVE * self.scale:
                return (
                    f"the density turned negative, minimum {least:.3g}, at t = {t:.6g}"
                )
        return None

    def outside(self, u: Array, t: float) -> str | None:
        """The sentence about a state that the flow does not admit, or None."""
        if self.admissible is None or np.all(to_numpy(self.admissible(u))):
            return None
        return f"the step to t = {t:.6g} ends outside {bounds(self.flow)}"

    def drifted(self, u: Array) -> str | None:
        """The sentence about lost mass, or None."""
        if self.mass is None:
            return None
        now = self.flow.space.mass(self.user(u))
        allowed = 1e-8 if str(u.dtype).endswith("64") else 1e-3
        if abs(now - self.mass) <= allowed * abs(self.mass):
            return None
        return f"the mass drifted from {self.mass:.10g} to {now:.10g}"

    def fixed(self, state: State, stop: float) -> Iterator[State]:
        """Equal steps of at most dt from ``state.origin`` to ``stop``."""
        if not isinstance(self.dt, float):
            raise TypeError("fixed steps need a number")
        if stop <= state.t:
            return
        endless = math.isinf(stop)
        n = 0 if endless else count_steps(stop - state.origin, self.dt)
        h = self.dt if endless else (stop - state.origin) / n
        while endless or state.done < n:
            k = state.done + 1
            last = not endless and k == n
            t = stop if last else state.origin + k * h
            state = self.halving(state, h, t, k)
            yield state

    def halving(
        self, state: State, h: float, t: float, done: int = 0, depth: int = 0
    ) -> State:
        """A step to ``t``, or two of half the size.

        These where the inner solver fails, or the state is one the flow does not admit.

        Raises
        ------
        StepFailure
            For a state that is not finite or negative, and after the last halving.
        """
        try:
            step = self.attempt(state, h)
            problem = self.problem(step.u, t) or self.drifted(step.u)
            if problem:
                raise StepFailure(f"{problem} (step {h:.3g}). {hint(self, problem)}")
            failed = self.outside(step.u, t)
            reason: Exception | None = None
        except (NewtonFailure, np.linalg.LinAlgError) as failure:
            failed, reason = describe(failure, h), failure
        if failed is None:
            return self.commit(state, step, t, done, state.h, state.past)
        if depth == MOST_HALVINGS or self.stream is not None:
            size = "" if reason else f" (step {h:.3g})"
            way = hint(self, failed, (state.t, state.u, h))
            raise StepFailure(f"{failed}{size}. {way}") from reason
        self.counters["halved"] += 1
        middle = self.halving(state, 0.5 * h, state.t + 0.5 * h, done, depth + 1)
        return self.halving(middle, 0.5 * h, t, done, depth + 1)

    def adaptive(self, state: State, stop: float) -> Iterator[State]:
        """Steps from the error estimate until ``stop``, landing on it exactly."""
        control = self.control
        if stop <= state.t:
            return
        if state.h == 0.0:
            span = max(self.end, stop) - state.t
            h = first_step(
                self.flow, control, state.t, state.u, self.scheme.order, span
            )
            # The guess knows nothing of the spacing of t.
            state = state._replace(h=max(h, spacing(state.t)))
        self.pace = Pace(state.t, self.attempts)
        while state.t < stop:
            state = self.controlled(state, stop, control)
            yield state

    def controlled(self, state: State, stop: float, control: Adaptive) -> State:
        """One accepted step of an adaptive run."""
        h, rejected, bad = state.h, False, 0
        reason = ""
        left = False
        while True:
            remaining = stop - state.t
            # The last two steps before a save time share what is left, so that no
            # sliver of a step remains.
            landing = h >= remaining * (1 - 1e-12)
            size = remaining if landing else h
            if not landing and 2 * h > remaining:
                size = min(h, 0.5 * remaining)
            self.guard(state, h, remaining, control, reason, left)
            t = stop if landing else state.t + size
            step, problem, outside, ratio = self.trial(state, size, t)
            if step is not None and ratio <= 1.0:
                short = size < h and not rejected
                return self.accept(state, step, t, h, size, ratio, short, rejected)
            self.counters["rejected"] += 1
            rejected, left = True, outside is not None
            if outside is not None:
                # The bound is no failure of the numerics: shrink until the step ends.
                reason, h = outside, 0.5 * size
                self.pace.outside += 1
            elif problem or not math.isfinite(ratio):
                bad += 1
                reason = problem or "the error estimate is not finite"
                if not problem and control.atol == 0.0:
                    reason += " (`atol` is 0: a component that is 0 allows no error)"
                h = 0.25 * size
                # Short accepted steps might creep up to the failure for ever.
                short = bad > MOST_SHRINKS or h < CREEP * spacing(state.t)
                if short or (
                    step is None and self.hopeless(state.t, remaining, control)
                ):
                    way = hint(self, reason, (state.t, state.u, size))
                    raise StepFailure(f"{reason}. {way}")
            else:
                reason = "the error estimate stays above the tolerance"
                h = size * control.controller.shrink(ratio, self.exponent(step))

    def hopeless(self, t: float, remaining: float, control: Adaptive) -> bool:
        """Whether inner solves fail too often for ``max_steps`` to reach the end."""
        if not self.failures:
            self.mark = t
        self.failures += 1
        if self.failures < MOST_FAILURES:
            return False
        gained, self.failures = t - self.mark, 0
        far = MOST_FAILURES * remaining
        return math.isfinite(far) and gained * control.max_steps < far

    def exponent(self, step: Step | None) -> int:
        """Exponent of h in the error estimate of ``step``."""
        own = None if step is None else step.error_order
        return int(own or self.scheme.error_order)

    def trial(
        self, state: State, size: float, t: float
    ) -> tuple[Step | None, str | None, str | None, float]:
        """A step, what is wrong with it, whether it is not admitted, its error."""
        try:
            step = self.attempt(state, size)
        except (NewtonFailure, np.linalg.LinAlgError) as failure:
            return None, describe(failure, size), None, math.inf
        problem = self.problem(step.u, t) or self.drifted(step.u)
        outside = None if problem else self.outside(step.u, t)
        if problem or outside:
            return step, problem, outside, math.inf
        with np.errstate(all="ignore"):
            ratio = error_ratio(self.flow, self.control, step.error, state.u, step.u)
        ratio = ratio if isinstance(ratio, float) else float(np.max(ratio))
        return step, None, None, ratio

    def accept(
        self,
        state: State,
        step: Step,
        t: float,
        h: float,
        size: float,
        ratio: float,
        short: bool,
        rejected: bool,
    ) -> State:
        """Commit a step of ``size`` and let the controller choose the next one."""
        control = self.control
        e1, e2, h1, h2 = state.past
        ratios = (size / h1 if h1 else 1.0, h1 / h2 if h2 else 1.0)
        factor = control.controller.factor((ratio, e1, e2), ratios, self.exponent(step))
        # After a rejection growth would only provoke the next one.
        grown = size * (min(1.0, factor) if rejected else factor)
        past = (max(ratio, 1e-4), e1, size, h1)
        if short:
            # A step cut short to land on a save time tells the controller nothing.
            grown, past = max(grown, h), state.past
        grown = min(grown, control.largest or math.inf)
        return self.commit(state, step, t, 0, grown, past)

    def guard(
        self,
        state: State,
        h: float,
        remaining: float,
        control: Adaptive,
        reason: str,
        left: bool,
    ) -> None:
        """Refuse steps under the spacing of t, too many, and those that creep."""
        if h < spacing(state.t) and h < remaining:
            raise StepFailure(too_small(self, state.t, h, remaining, reason, left))
        tried = self.attempts
        spent = tried >= control.max_steps
        if spent or tried >= self.pace.tried + WINDOW:
            cause = stuck(self, state.t, state.u, h, max(self.end, state.t + remaining))
            if spent or cause:
                raise StepFailure(cause or used_up(self, state.t, h))
            self.pace = Pace(state.t, tried)

    def advance(self, state: State, stop: float) -> Iterator[State]:
        """Accepted states up to and including the one at ``stop``."""
        if isinstance(self.dt, Adaptive):
            return self.adaptive(state, stop)
        return self.fixed(state, stop)
