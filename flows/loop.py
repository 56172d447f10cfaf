"""One committed step after another: the loop under ``solve`` and ``steps``.

State, time, memory and step number advance together, in one assignment after a step
has been accepted; a failure in between leaves the last good state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import all_finite, first_nonfinite, is_torch, namespace
from flows.control import Adaptive, count_steps, error_ratio, first_step
from flows.linear import WORK, NewtonFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow import Memory, Step

__all__ = ["Runner", "State", "StepFailure"]

Array = Any

# A density may undershoot by the truncation error of a second-order step; more than
# this part of its maximum is a wrong density.
NEGATIVE = 1e-3
MOST_HALVINGS = 8
MOST_SHRINKS = 10


class State(NamedTuple):
    """Everything that a run commits at once, and that a checkpoint holds.

    ``origin`` and ``done`` place a fixed step inside its stretch between two save
    times; ``h`` and ``error`` are the controller's next step and last error ratio.
    """

    t: float
    u: Array
    memory: Memory = ()
    step: int = 0
    origin: float = 0.0
    done: int = 0
    h: float = 0.0
    error: float = 1.0


class StepFailure(RuntimeError):
    """A step that could not be made; the state before it stays the last good one."""


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

    def __post_init__(self) -> None:
        # A saved slope belongs to the coefficients and the point it was taken at: a
        # redrawn flow or a retracted state makes it stale. What a multistep scheme
        # remembers is part of the method, for instance the noise of the last step.
        redrawn = hasattr(self.flow, "draw") or hasattr(self.flow, "retract")
        self.forget = redrawn and not self.scheme.multistep
        self.decode = getattr(self.flow, "decode", None)
        for name in ("steps", "rejected", "halved"):
            self.counters.setdefault(name, 0)

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
        flow = self.flow.draw(rng) if hasattr(self.flow, "draw") else self.flow
        counters = self.counters
        counting = WORK.set(counters)
        try:
            with np.errstate(all="ignore"):
                step: Step = self.scheme.step(
                    flow, state.t, state.u, h, rng, state.memory
                )
                if hasattr(flow, "retract"):
                    step = step._replace(u=flow.retract(step.u))
        finally:
            WORK.reset(counting)
        for name, count in step.stats.items():
            counters[name] = counters.get(name, 0) + count
        return step

    def commit(
        self, state: State, step: Step, t: float, done: int, h: float, error: float
    ) -> State:
        """The state after an accepted step that ends at ``t``."""
        u = step.u
        if not is_torch(u):
            u.flags.writeable = False
        self.counters["steps"] += 1
        memory = () if self.forget else step.memory
        return State(t, u, memory, state.step + 1, state.origin, done, h, error)

    def problem(self, u: Array, t: float) -> str | None:
        """What is wrong with a state after a step, or None."""
        if not all_finite(u):
            count, index = first_nonfinite(u)
            return (
                f"the state has {count} non-finite value(s), the first at index "
                f"{index}, at t = {t:.6g}"
            )
        space = self.flow.space
        if hasattr(space, "minimum"):
            least = space.minimum(self.user(u))
            if least < -NEGATIVE * self.scale:
                return (
                    f"the density turned negative, minimum {least:.3g}, at t = {t:.6g}"
                )
        return None

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
        """A step to ``t``; where the inner solver fails, two steps of half the size.

        Raises
        ------
        StepFailure
            For a state that is not finite or negative, and after the last halving.
        """
        try:
            step = self.attempt(state, h)
        except (NewtonFailure, np.linalg.LinAlgError) as failure:
            if depth == MOST_HALVINGS or self.stream is not None:
                raise StepFailure(describe(failure, h)) from failure
            self.counters["halved"] += 1
            middle = self.halving(state, 0.5 * h, state.t + 0.5 * h, done, depth + 1)
            return self.halving(middle, 0.5 * h, t, done, depth + 1)
        problem = self.problem(step.u, t) or self.drifted(step.u)
        if problem:
            raise StepFailure(f"{problem} (step {h:.3g}). {self.hint(problem)}")
        return self.commit(state, step, t, done, state.h, state.error)

    def hint(self, problem: str) -> str:
        """What to try after ``problem``."""
        if "negative" in problem:
            return (
                "ImplicitEuler() is positive at every step; or start with a few of "
                "its steps, take a smaller dt, or Adaptive()."
            )
        if "mass" in problem:
            return "Is the velocity in conservation form?"
        if math.isfinite(getattr(self.scheme, "stability", math.inf)):
            return (
                "The step may be unstable or the solution blows up: try a smaller dt, "
                "Adaptive(), or an implicit scheme such as ImplicitEuler()."
            )
        return (
            "The solution may blow up in finite time: try Adaptive() or a smaller dt."
        )

    def adaptive(self, state: State, stop: float) -> Iterator[State]:
        """Steps from the error estimate until ``stop``, landing on it exactly."""
        control = self.dt
        if not isinstance(control, Adaptive):
            raise TypeError("adaptive steps need Adaptive")
        if stop <= state.t:
            return
        if state.h == 0.0:
            span = max(self.end, stop) - state.t
            h = first_step(
                self.flow, control, state.t, state.u, self.scheme.order, span
            )
            # The guess knows nothing of the spacing of t.
            state = state._replace(h=max(h, spacing(state.t)))
        while state.t < stop:
            state = self.controlled(state, stop, control)
            yield state

    def controlled(self, state: State, stop: float, control: Adaptive) -> State:
        """One accepted step of an adaptive run."""
        q = self.scheme.error_order
        h, rejected, bad = state.h, False, 0
        reason = ""
        while True:
            remaining = stop - state.t
            # The last two steps before a save time share what is left, so that no
            # sliver of a step remains.
            landing = h >= remaining * (1 - 1e-12)
            size = (
                remaining
                if landing
                else min(h, 0.5 * remaining)
                if (2 * h > remaining)
                else h
            )
            self.guard(state, h, remaining, control, reason)
            t = stop if landing else state.t + size
            try:
                step = self.attempt(state, size)
                problem = self.problem(step.u, t) or self.drifted(step.u)
                with np.errstate(all="ignore"):
                    ratio = (
                        math.inf
                        if problem
                        else error_ratio(
                            self.flow, control, step.error, state.u, step.u
                        )
                    )
            except (NewtonFailure, np.linalg.LinAlgError) as failure:
                problem, ratio = describe(failure, size), math.inf
            if ratio <= 1.0:
                factor = control.controller.factor(ratio, state.error, q)
                # After a rejection growth would only provoke the next one.
                grown = size * (min(1.0, factor) if rejected else factor)
                error = max(ratio, 1e-4)
                if size < h and not rejected:
                    # A step cut short to land on a save time tells the controller
                    # nothing.
                    grown, error = max(grown, h), state.error
                grown = min(grown, control.largest or math.inf)
                return self.commit(state, step, t, 0, grown, error)
            self.counters["rejected"] += 1
            rejected = True
            if problem or not math.isfinite(ratio):
                bad += 1
                reason = problem or "the error estimate is not finite"
                if not problem and control.atol == 0.0:
                    reason += " (`atol` is 0: a component that is 0 allows no error)"
                if bad > MOST_SHRINKS:
                    raise StepFailure(f"{reason}. {self.hint(reason)}")
                h = 0.25 * size
            else:
                reason = "the error estimate stays above the tolerance"
                h = size * control.controller.shrink(ratio, q)

    def guard(
        self, state: State, h: float, remaining: float, control: Adaptive, reason: str
    ) -> None:
        """Refuse steps under the spacing of t, and more steps than allowed."""
        if h < spacing(state.t) and h < remaining:
            raise StepFailure(
                f"the step {h:.3g} is under the spacing of floating-point numbers at "
                f"t = {state.t:.16g}"
                + (
                    f" ({reason}): the solution seems to blow up in finite time at "
                    f"t* = {state.t:.10g}. End the run earlier, or check that the "
                    "energy is bounded below"
                    if reason and abs(state.t) < 1e3 * remaining
                    else f"{reason and f' ({reason})'}. Shift the time towards 0, or "
                    "loosen `rtol`"
                )
            )
        tried = self.counters["steps"] + self.counters["rejected"]
        if tried >= control.max_steps:
            stiff = math.isfinite(self.scheme.stability)
            raise StepFailure(
                f"Adaptive(max_steps={control.max_steps}) is used up at "
                f"t = {state.t:.6g} with steps of {h:.3g}. "
                + (
                    "The problem may be stiff: try an implicit scheme such as "
                    "TRBDF2(), or raise `max_steps`."
                    if stiff
                    else "Loosen `rtol`, or raise `max_steps`."
                )
            )

    def advance(self, state: State, stop: float) -> Iterator[State]:
        """Accepted states up to and including the one at ``stop``."""
        if isinstance(self.dt, Adaptive):
            return self.adaptive(state, stop)
        return self.fixed(state, stop)


def spacing(t: float) -> float:
    """The least step that still moves ``t`` in a sensible way."""
    return 16.0 * math.ulp(t)


def describe(failure: Exception, h: float) -> str:
    """Sentence about a failed inner solve, with its residuals."""
    residuals = getattr(failure, "residuals", None)
    text = f"the implicit equation of a step of {h:.3g} was not solved: {failure}"
    if residuals:
        tail = ", ".join(f"{r:.2e}" for r in list(residuals)[-6:])
        text += f" (last residuals {tail})"
    return text + ". Try a smaller dt"
