"""Events of the members of a batch with own steps, all refined at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, first_nonfinite, is_array
from flows.loop.members import (
    FAILED,
    STOPPED,
    fresh,
    least_step,
    members_of,
    put,
    take,
)
from flows.loop.stopping import (
    AT_ONCE,
    MOST_AT_ONCE,
    PROBES,
    Event,
    boolean,
    charted,
    crossed,
    landed,
    number,
    writable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.loop.own_steps import OwnSteps
    from flows.loop.run import Run
    from flows.loop.runner import State

__all__ = ["MemberRule"]

Array = Any
SHARPNESS = 1e-13


class MemberRule:
    """The event of a run whose rule has one value for each member."""

    def __init__(self, event: Event, run: Run, engine: OwnSteps) -> None:
        self.event, self.engine = event, engine
        value = event.when(self.clock(run.state), run.u)
        count = run.state.u.shape[0]
        if not is_array(value) or tuple(value.shape) != (count,):
            shape = tuple(value.shape) if is_array(value) else value
            raise TypeError(
                f"`until` must return one value for each of the {count} members, shape "
                f"({count},), got {shape}; with own steps `t` is an array ({count}, 1)."
            )
        self.boolean = boolean(value)
        self.value = number(value, self.boolean)
        self.counts = np.zeros(count, dtype=np.int64)
        self.crowd = np.zeros(count, dtype=np.int64)
        self.last = np.full(count, -math.inf)
        self.zeroed = np.zeros(count, dtype=bool)
        if run.rule_state:
            self.value, counts, crowd, self.last, zeroed = run.rule_state[0]
            self.zeroed = zeroed > 0
            self.counts, self.crowd = counts.astype(np.int64), crowd.astype(np.int64)
        elif self.boolean and event.most <= 1:
            self.stop_at_once(run)

    def state(self) -> np.ndarray:
        """What a checkpoint holds."""
        return np.array(
            [self.value, self.counts, self.crowd, self.last, self.zeroed], dtype=float
        )

    def stop_at_once(self, run: Run) -> None:
        """Stop the members for which the rule holds at the start."""
        members = members_of(run.state)
        holds = self.value > 0
        status = np.where(holds, STOPPED, members.status).astype(np.int8)
        run.state = run.state._replace(members=members._replace(status=status))
        run.events += [(float(members.t[i]), int(i)) for i in np.flatnonzero(holds)]

    def clock(self, state: State) -> Array:
        """Times of the members as the flow and the user see them, (b, 1)."""
        return array_like(members_of(state).t[:, None], state.u)

    def values(self, state: State) -> np.ndarray:
        """The rule at a state."""
        user = self.engine.runner.user
        value = self.event.when(self.clock(state), user(state.u))
        return number(value, self.boolean)

    def observe(self, run: Run) -> None:
        """Stop the members at which the rule fired, or make them jump."""
        if run.before is None:
            return
        old, new = members_of(run.before), members_of(run.state)
        moved = new.t != old.t
        first, value = self.value, self.values(run.state)
        fired = moved & crossed(first, value, self.event, self.boolean)
        hidden = moved & self.zeroed & ~fired
        hidden &= crossed(-value, value, self.event, self.boolean)
        self.value = np.where(moved, value, first)
        self.zeroed = self.zeroed & ~moved
        low = np.zeros(value.shape)
        if hidden.any():
            first, low = self.lifted(run, hidden, first, value)
            fired = fired | (low > 0)
        if not fired.any():
            return
        self.counts = self.counts + fired
        at = self.refined(run, fired, first, value, low)
        times = members_of(at).t
        order = sorted(np.flatnonzero(fired), key=lambda i: times[i])
        run.events += [(float(times[i]), int(i)) for i in order]
        ends = fired & (self.counts >= self.event.most)
        jumps = fired & ~ends if self.event.jump is not None else np.zeros_like(fired)
        self.place(run, at, ends | jumps)
        members = members_of(run.state)
        status = np.where(ends, STOPPED, members.status).astype(np.int8)
        run.state = run.state._replace(members=members._replace(status=status))
        if jumps.any():
            self.leap(run, jumps, np.abs(first) + np.abs(value))

    def place(self, run: Run, at: State, chosen: np.ndarray) -> None:
        """Put the chosen members at their events, without history."""
        if not chosen.any():
            return
        members = members_of(run.state)
        t = np.where(chosen, members_of(at).t, members.t)
        index = np.flatnonzero(chosen)
        run.state = run.state._replace(
            u=put(run.state.u, index, take(at.u, index)),
            memory=fresh(run.state, chosen),
            members=members._replace(t=t),
        )

    def leap(self, run: Run, jumps: np.ndarray, size: np.ndarray) -> None:
        """The members of the mask ``jumps`` go on from the state after the jump."""
        jump, runner = self.event.jump, run.runner
        if jump is None:
            return
        state, members = run.state, members_of(run.state)
        u = run.u
        after = charted(runner, landed(jump(self.clock(state), writable(u)), u))
        index = np.flatnonzero(jumps)
        after = put(state.u, index, take(after, index))
        count, where = first_nonfinite(after)
        at_once = jumps & (members.t - self.last <= AT_ONCE * least_step(members.t))
        self.crowd = np.where(at_once, self.crowd + 1, np.where(jumps, 0, self.crowd))
        self.last = np.where(jumps, members.t, self.last)
        members = members.restarted(jumps)
        crowded = np.flatnonzero(jumps & (self.crowd > MOST_AT_ONCE))
        reasons, status = dict(members.reasons), members.status.copy()
        for i in map(int, crowded):
            status[i] = FAILED
            reasons[i] = (
                f"the events accumulate at t = {members.t[i]:.10g}: `jump` leaves the "
                "state where the event happens again"
            )
        if count:
            status[where[0]] = FAILED
            reasons[where[0]] = "after `jump` the state is not finite"
            after = put(after, np.array([where[0]]), state.u[where[0]][None])
        members = members._replace(status=status, reasons=reasons)
        run.state = state._replace(u=after, members=members)
        value = self.values(run.state)
        if not self.boolean:
            # At a root known to rounding the sign says nothing about the next one.
            small = np.abs(value) <= 1e-9 * size
            value = np.where(small, 0.0, value)
            self.zeroed = np.where(jumps, small, self.zeroed)
        self.value = np.where(jumps, value, self.value)

    def lifted(
        self, run: Run, hidden: np.ndarray, first: np.ndarray, last: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values at parts of a step after a jump with still the other sign, and these.

        A part of 0 says that there is none: the state has passed through.
        """
        part = Partial(self, run)
        low = np.zeros(first.shape)
        for probe in PROBES:
            value = part(np.where(hidden, probe, 1.0), hidden)
            found = hidden & (value * last < 0)
            first, low = np.where(found, value, first), np.where(found, probe, low)
            hidden = hidden & ~found
            if not hidden.any():
                break
        part.count()
        return first, low

    def refined(
        self,
        run: Run,
        fired: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
        low: np.ndarray,
    ) -> State:
        """The state with the members of the mask ``fired`` at their events."""
        part = Partial(self, run)
        mask = fired & (last != 0.0)
        if mask.any():
            if self.boolean:
                root = bisected(part, mask)
            else:
                root = roots(part, mask, first, last, low)
                # The root may be the start of the step, up to rounding.
                root = np.maximum(root, SHARPNESS)
            part(root, mask)
        part.count()
        return part.state


class Partial:
    """The rule after parts of the last step; ``state`` is the last one that it made."""

    def __init__(self, rule: MemberRule, run: Run) -> None:
        self.rule, self.run, self.state = rule, run, run.state
        self.before = run.state if run.before is None else run.before
        self.h = members_of(run.state).t - members_of(self.before).t
        self.tried = 0

    def __call__(self, part: np.ndarray, mask: np.ndarray) -> np.ndarray:
        began = members_of(self.before).t
        u, t = self.state.u, members_of(self.state).t.copy()
        size = np.where(mask, part * self.h, self.h)
        lost = np.zeros_like(mask)
        for piece in self.rule.engine.tries(self.before, mask, size):
            if piece.step is None:
                lost[piece.members] = True
                continue
            u = put(u, piece.members, piece.step.u)
            t[piece.members] = began[piece.members] + size[piece.members]
        self.tried += 1
        members = members_of(self.state)._replace(t=t)
        self.state = self.state._replace(u=u, members=members)
        # Where the inner solver fails, the event stays at the end of the step.
        return np.where(lost, 0.0, self.rule.values(self.state))

    def count(self) -> None:
        """Add the partial steps to the counters of the run."""
        counters = self.run.runner.counters
        counters["event_steps"] = counters.get("event_steps", 0) + self.tried


def bisected(
    at: Callable[[np.ndarray, np.ndarray], np.ndarray], mask: np.ndarray
) -> np.ndarray:
    """Parts of the step after which a bool is first true, to 1e-12."""
    low, high = np.zeros(mask.shape), np.ones(mask.shape)
    while float((high - low)[mask].max()) > 1e-12:
        middle = 0.5 * (low + high)
        true = at(middle, mask) > 0
        low, high = np.where(true, low, middle), np.where(true, middle, high)
    return high


def roots(
    at: Callable[[np.ndarray, np.ndarray], np.ndarray],
    mask: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    low: np.ndarray,
) -> np.ndarray:
    """Parts of the step at which the rule vanishes, by Chandrupatla's method.

    References
    ----------
    T. R. Chandrupatla, Adv. Eng. Softw. 28 (1997) 145-149,
    doi:10.1016/S0965-9978(96)00051-8.
    """
    x1, x2 = low.copy(), np.ones(mask.shape)
    f1, f2 = first.copy(), last.copy()
    part = np.full(mask.shape, 0.5)
    root = np.ones(mask.shape)
    for _ in range(100):
        x = x1 + part * (x2 - x1)
        f = at(x, mask)
        same = np.sign(f) == np.sign(f1)
        x3, f3 = np.where(same, x1, x2), np.where(same, f1, f2)
        x2, f2 = np.where(same, x2, x1), np.where(same, f2, f1)
        x1, f1 = x, f
        near = np.abs(f1) < np.abs(f2)
        root = np.where(mask, np.where(near, x1, x2), root)
        width = np.abs(x2 - x1)
        with np.errstate(all="ignore"):
            least = SHARPNESS / width
            mask = mask & ~((least > 0.5) | (f1 == 0.0))
            if not mask.any():
                break
            xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
            inverse = f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (
                f3 - f1
            ) * f2 / (f3 - f2)
        good = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi) & np.isfinite(inverse)
        part = np.clip(np.where(good, inverse, 0.5), least, 1 - least)
    return root
