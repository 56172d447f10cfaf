"""Events: where a rule fires, found inside the step, and what happens then."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, is_array, is_torch, to_numpy
from flows.loop.failures import StepFailure, spacing
from flows.loop.runner import START, State

if TYPE_CHECKING:
    from flows.loop.run import Run

__all__ = [
    "AT_ONCE",
    "MOST_AT_ONCE",
    "PROBES",
    "Event",
    "Rule",
    "as_event",
    "boolean",
    "charted",
    "crossed",
    "landed",
    "number",
    "writable",
]

Array = Any
When = Callable[[Any, Array], Any]
Jump = Callable[[Any, Array], Array]
# Jumps that follow each other in less than so many spacings of t: they accumulate.
MOST_AT_ONCE = 5
AT_ONCE = 2.0**14
# A step after a jump may hold the next event too: where it is looked for.
PROBES = tuple(2.0**-k for k in range(1, 37))


@dataclass(frozen=True)
class Event:
    """``until=Event(when)``: what happens where ``when(t, u)`` changes sign.

    The moment is found by repeating the last step with a refined size, so that time and
    state are those of the scheme. Where ``when`` returns a bool, the event is when it
    becomes true. A plain callable as ``until`` is ``Event(callable)``.

    Two sign changes within one step are not seen: bound the step by
    ``Adaptive(largest=)`` where that may happen.

    Parameters
    ----------
    when : callable
        ``when(t, u)``: a float or a bool; or one for each member of a batch, (b,),
        where these have own steps (then ``t`` is an array (b, 1)).
    jump : callable, optional
        ``jump(t, u) -> u``: the run goes on from this state. The scheme forgets its
        history and an adaptive step is chosen anew; where every step is saved, the
        states before and after are. In a batch the members at which the event happens
        take their rows of the result. Without it the run ends.
    direction : -1, 0 or 1
        Only sign changes downwards, any, only upwards.
    limit : int or inf, optional
        The run (or the member) ends at this many events. By default at the first one
        without ``jump``, never with it; ``math.inf`` without ``jump`` only lists the
        events in ``sol.events``.

    Raises
    ------
    TypeError, ValueError
        For what is not callable, another direction, and a limit below 1.

    Examples
    --------
    >>> import flows as fl
    >>> flow = fl.Euclidean().flow(fl.Potential("-x"))
    >>> fire = fl.Event(lambda t, u: u[0] - 1.0, jump=lambda t, u: 0.0 * u)
    >>> sol = fl.solve(flow, [0.0], (0, 3.5), fl.RK4(), dt=0.3, until=fire)
    >>> sol.events.round(6).tolist()
    [1.0, 2.0, 3.0]
    """

    when: When
    jump: Jump | None = None
    direction: int = 0
    limit: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.when):
            raise TypeError(f"`when` must be callable(t, u), got {self.when!r}.")
        if self.jump is not None and not callable(self.jump):
            raise TypeError(f"`jump` must be callable(t, u), got {self.jump!r}.")
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"`direction` must be -1, 0 or 1, got {self.direction!r}.")
        whole = self.limit is None or (
            not isinstance(self.limit, bool)
            and isinstance(self.limit, (int, float, np.integer))
            and self.limit >= 1
            and (math.isinf(self.limit) or self.limit == int(self.limit))
        )
        if not whole:
            raise ValueError(
                "`limit` must be a number of events, at least 1, or math.inf; got "
                f"{self.limit!r}."
            )

    @property
    def most(self) -> float:
        """The event at which the run ends."""
        if self.limit is not None:
            return self.limit
        return 1.0 if self.jump is None else math.inf


def as_event(until: Any) -> Event:
    """``until`` as an event."""
    return until if isinstance(until, Event) else Event(until)


class Rule:
    """The event of a run of one state: a sign change or a bool, refined in the step."""

    def __init__(self, event: Event, run: Run) -> None:
        self.event = event
        value = event.when(run.t, run.u)
        if value is None:
            raise TypeError("`until` returned None; did you forget `return`?")
        if is_array(value) and value.ndim > 0:
            raise TypeError(
                "`until` must return one float or bool, got shape "
                f"{tuple(value.shape)}. One for each member needs a batch (b, n) in a "
                "space like Euclidean and dt=Adaptive(...)."
            )
        self.boolean = boolean(value)
        self.value = self.read(value)
        self.now = self.boolean and self.value > 0 and self.event.most <= 1
        self.crowd = 0
        self.zeroed = False
        if run.rule_state:
            value, zeroed = run.rule_state[0].ravel()
            self.value, self.zeroed = float(value), bool(zeroed)

    def read(self, value: Any) -> float:
        """A bool as -1 or 1, a float as itself."""
        return float(number(value, self.boolean))

    def state(self) -> np.ndarray:
        """What a checkpoint holds."""
        return np.array([self.value, self.zeroed])

    def fires(self, before: float, value: float) -> bool:
        """Whether the values at the ends of a step have an event between them."""
        return bool(
            crossed(np.array(before), np.array(value), self.event, self.boolean)
        )

    def stops(self, run: Run) -> bool:
        """Whether the run ends in the last step; puts the run at that moment."""
        before, value = self.value, self.read(self.event.when(run.t, run.u))
        zeroed, low = self.zeroed, 0.0
        self.value, self.zeroed = value, False
        if not self.fires(before, value):
            if not (zeroed and self.fires(-value, value)):
                return False
            low = self.lifted(run, value)
            if low == 0.0:
                return False
        ends = len(run.events) + 1 >= self.event.most
        at = run.state
        if run.runner.stream is None and value != 0.0:
            at = self.refined(run, before, low)
        run.events.append((at.t, -1))
        if ends or self.event.jump is not None:
            run.state = at
        if ends:
            return True
        if self.event.jump is not None:
            self.leap(run, abs(before) + abs(value))
        return False

    def lifted(self, run: Run, value: float) -> float:
        """A part of the step after a jump where the sign is still the other one.

        0 where there is none: then the state has passed through.
        """
        start, runner = run.before, run.runner
        if start is None or runner.stream is not None:
            return 0.0
        h, count = run.t - start.t, runner.counters["steps"]
        found, tried = 0.0, 0
        for part in PROBES:
            tried += 1
            state = runner.halving(start, part * h, start.t + part * h)
            if self.read(self.event.when(state.t, runner.user(state.u))) * value < 0:
                found = part
                break
        runner.counters["steps"] = count
        runner.counters["event_steps"] = runner.counters.get("event_steps", 0) + tried
        return found

    def leap(self, run: Run, size: float) -> None:
        """Go on from the state after the jump."""
        jump, event = self.event.jump, self.event
        if jump is None:
            return
        if run.every_step:
            run.save()
        t, runner = run.t, run.runner
        u = landed(jump(t, writable(run.u)), run.u)
        problem = runner.problem(charted(runner, u), t)
        if problem:
            raise StepFailure(f"after `jump` {problem}")
        now = len(run.events) > 1 and t - run.events[-2][0] <= AT_ONCE * spacing(t)
        self.crowd = self.crowd + 1 if now else 0
        if self.crowd > MOST_AT_ONCE:
            raise StepFailure(
                f"the events accumulate at t = {t:.10g}: `jump` leaves the state where "
                "the event happens again. End the run before, by `limit` or t1"
            )
        run.state = State(
            t, charted(runner, u), step=run.state.step, origin=t, past=START
        )
        run.before = None
        value = self.read(event.when(t, run.u))
        # At a root that is known to rounding the sign says nothing about the next one.
        self.zeroed = not self.boolean and abs(value) <= 1e-9 * size
        self.value = 0.0 if self.zeroed else value
        if run.every_step:
            run.save(again=True)
        run.jumped = True

    def refined(self, run: Run, first: float, least: float = 0.0) -> State:
        """The state of the last step repeated with the size at which the rule fires."""
        start, end, runner = run.before, run.state, run.runner
        if start is None:
            return end
        h = end.t - start.t
        count = runner.counters["steps"]

        seen: dict[float, State] = {}

        def at(part: float) -> State:
            if part not in seen:
                seen[part] = runner.halving(start, part * h, start.t + part * h)
            return seen[part]

        def rule(part: float) -> float:
            if part == 0.0:
                return first
            state = end if part == 1.0 else at(part)
            return self.read(self.event.when(state.t, runner.user(state.u)))

        if self.boolean:
            low, part = 0.0, 1.0
            while part - low > 1e-12:
                middle = 0.5 * (low + part)
                low, part = (low, middle) if rule(middle) > 0 else (middle, part)
        else:
            from scipy.optimize import brentq

            part = float(brentq(rule, least, 1.0, xtol=1e-13, rtol=1e-14))
            # The root may be the start of the step, up to rounding.
            part = max(part, 1e-13)
        if part < 1.0:
            end = at(part)._replace(origin=end.origin, h=end.h, past=end.past)
        runner.counters["steps"] = count
        tried = runner.counters.get("event_steps", 0) + len(seen)
        runner.counters["event_steps"] = tried
        return end


def boolean(value: Any) -> bool:
    """Whether a value of ``when`` is a bool or an array of bools."""
    name = str(getattr(value, "dtype", ""))
    return isinstance(value, (bool, np.bool_)) or "bool" in name


def number(value: Any, as_bool: bool) -> np.ndarray:
    """Values of ``when`` as floats: a bool is -1 or 1."""
    values = np.asarray(to_numpy(value))
    if as_bool:
        return np.where(values, 1.0, -1.0)
    if np.isnan(values).any():
        raise StepFailure("`until` returned NaN")
    return values.astype(float)


def crossed(
    before: np.ndarray, value: np.ndarray, event: Event, as_bool: bool
) -> np.ndarray:
    """Where the sign has changed in the direction of the event."""
    up = (before < 0) & (value >= 0)
    down = (before > 0) & (value <= 0)
    if as_bool or event.direction > 0:
        result: np.ndarray = up
    elif event.direction < 0:
        result = down
    else:
        result = up | down
    return result


def charted(runner: Any, u: Array) -> Array:
    """A state of the user's in the chart of the flow, not to be written to."""
    encode = getattr(runner.flow, "encode", None)
    z = u if encode is None else encode(u)
    if not is_torch(z):
        z.flags.writeable = False
    return z


def writable(u: Array) -> Array:
    """A copy that ``jump`` may write to."""
    return u.clone() if is_torch(u) else u.copy()


def landed(u: Any, like: Array) -> Array:
    """What ``jump`` returned, checked against the state before it."""
    if u is None:
        raise TypeError("`jump` returned None; did you forget `return`?")
    copy = array_like(u, like) if not is_torch(like) else array_like(u, like).clone()
    copy = copy if is_torch(like) else np.array(copy)
    if tuple(copy.shape) != tuple(like.shape):
        raise ValueError(
            f"`jump` returned shape {tuple(copy.shape)} for a state of shape "
            f"{tuple(like.shape)}; they must be equal."
        )
    return copy
