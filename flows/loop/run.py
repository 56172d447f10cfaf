"""One run while it runs, and the loop over its save times."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace
from flows.control import Adaptive, count_steps
from flows.hooks import notify
from flows.loop.members import FAILED, RUNNING, STOPPED, Members, Pool, members_of
from flows.loop.own_events import MemberRule
from flows.loop.own_steps import OwnSteps
from flows.loop.runner import Runner, State, StepFailure
from flows.loop.stopping import Event, Rule
from flows.solution import Solution

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Run", "advance"]

Array = Any


@dataclass
class Run:
    """One run while it runs: what hooks see and what a checkpoint stores.

    ``own`` says whether the members of a batch have their own time and step; then ``t``
    is the time that all of them have reached.
    """

    runner: Runner
    t0: float
    t1: float
    stops: np.ndarray
    every_step: bool
    keep_end: bool
    until: Event | None
    hooks: tuple[Any, ...]
    state: State
    seed: int | None
    own: bool = False
    before: State | None = None
    saved: list[tuple[float, Array]] = field(default_factory=list)
    events: list[tuple[float, int]] = field(default_factory=list)
    rule: Rule | MemberRule | None = None
    rule_state: tuple[np.ndarray, ...] = ()
    jumped: bool = False
    room: float = float("inf")
    message: str = "reached the end"
    note: str = ""
    began: float = field(default_factory=time.perf_counter)

    @property
    def flow(self) -> Any:
        return self.runner.flow

    @property
    def t(self) -> float:
        return self.state.t

    @property
    def u(self) -> Array:
        return self.runner.user(self.state.u)

    @property
    def clock(self) -> Any:
        """The time of the state: a float, or (b, 1) where members have their own."""
        if self.state.members is None:
            return self.state.t
        return array_like(self.state.members.t[:, None], self.state.u)

    @property
    def steps(self) -> int:
        return self.runner.counters["steps"]

    @property
    def previous(self) -> tuple[float, Array]:
        """Time and state before the last step."""
        before = self.before or self.state
        return before.t, self.runner.user(before.u)

    def save(self, again: bool = False) -> None:
        """Keep the present state, unless that time is kept already."""
        if self.saved and self.saved[-1][0] == self.t and not again:
            return
        u = self.u
        # One append: Ctrl-C finds time and state both there, or neither.
        self.saved.append((self.t, u))
        size = u.nbytes if hasattr(u, "nbytes") else 0
        self.room -= size
        if self.room < 0:
            raise StepFailure(
                f"{len(self.saved)} saved states of {size / 1e6:.3g} MB fill the "
                "memory. Give `save_at`, a spacing or an array of times"
            )

    def solution(self, ok: bool, message: str) -> Solution:
        """Everything saved so far, the last good state included."""
        if not ok or not self.saved:
            self.room = float("inf")
            self.save()
        states = [u for _, u in self.saved]
        counters: dict[str, Any] = {
            "scheme": repr(self.runner.scheme),
            "dt": self.runner.dt if isinstance(self.runner.dt, float) else "adaptive",
            **self.runner.counters,
            "seed": self.seed,
            "seconds": time.perf_counter() - self.began,
        }
        if self.note:
            counters["chosen"] = self.note
        records: dict[str, np.ndarray] = {}
        for hook in self.hooks:
            if hasattr(hook, "values"):
                records.update(hook.values())
        stopped = failed = None
        members = self.state.members
        if members is not None:
            stopped = np.where(members.status == STOPPED, members.t, np.nan)
            failed = np.flatnonzero(members.status == FAILED)
        return Solution(
            t=np.array([t for t, _ in self.saved]),
            u=namespace(states[0]).stack(states),
            flow=self.flow,
            scheme=self.runner.scheme,
            space=self.flow.space,
            counters=counters,
            message=message,
            ok=ok,
            records=records,
            every_step=self.every_step,
            final=self.state,
            step=self.state.step,
            stopped=stopped,
            failed=failed,
            events=np.array([t for t, _ in self.events]),
            event_members=np.array([i for _, i in self.events], dtype=np.int64),
        )


def advance(run: Run) -> None:
    """Go from save time to save time; commit, stop, observe, save after each step."""
    if run.own:
        advance_members(run)
        return
    rule = run.rule = None if run.until is None else Rule(run.until, run)
    if rule is not None and rule.now:
        run.message = f"stopped by `until` at t = {run.t:.10g}"
        return
    fused = getattr(run.flow, "advance", None)
    plain = run.every_step or rule is not None or run.hooks
    for stop in map(float, run.stops):
        if stop > run.t and fused is not None and not plain:
            leap(run, fused, stop)
        while True:
            run.jumped = False
            for state in run.runner.advance(run.state, stop):
                run.before, run.state = run.state, state
                done = rule is not None and rule.stops(run)
                if run.every_step or done:
                    run.save()
                if run.hooks:
                    notify(run.hooks, "after", run)
                if done:
                    run.message = f"stopped by `until` at t = {run.t:.10g}"
                    return
                if run.jumped:
                    break
            if not run.jumped:
                break
        arrive(run, stop)


def arrive(run: Run, stop: float) -> None:
    """Commit the arrival at a save time."""
    run.state = run.state._replace(t=stop, origin=stop, done=0)
    if stop < run.t1 or run.keep_end:
        run.save()


def advance_members(run: Run) -> None:
    """Go from save time to save time in rounds of trial steps of the members.

    Hooks see the save times, where all members have one time; those with a method
    ``round`` see every round. The run ends early when no member is running.

    Raises
    ------
    StepFailure
        At the end, when members have failed, with their indices.
    """
    engine = OwnSteps(run.runner, shared=run.every_step)
    run.state = engine.begin(run.state)
    rule = run.rule = None
    if run.until is not None:
        rule = run.rule = MemberRule(run.until, run, engine)
    fused = getattr(run.flow, "advance", None)
    plain = run.every_step or rule is not None or run.hooks
    for stop in map(float, run.stops):
        if stop > run.t and fused is not None and not plain:
            leap(run, fused, stop)
        while members_of(run.state).active(stop).any():
            before = run.before = run.state
            run.state = engine.round(before, stop)
            if rule is not None:
                rule.observe(run)
            if run.every_step:
                follow(run)
            notify(run.hooks, "round", run)
        members = members_of(run.state)
        if not (members.status == RUNNING).any():
            run.state = run.state._replace(t=float(members.t.max()))
            run.save()
            notify(run.hooks, "after", run)
            if (members.status == STOPPED).all():
                run.message = f"stopped by `until` at t = {run.t:.10g}, the last member"
            break
        moved = stop > run.t
        arrive(run, stop)
        if moved or run.every_step:
            notify(run.hooks, "after", run)
    report(run)


def follow(run: Run) -> None:
    """Save the common time of members that share their steps."""
    members = members_of(run.state)
    running = members.status == RUNNING
    t = float(members.t[running].max()) if running.any() else float(members.t.max())
    if t > run.t:
        run.state = run.state._replace(t=t)
        run.save()


def report(run: Run) -> None:
    """Raise StepFailure when members have failed."""
    members = members_of(run.state)
    failed = np.flatnonzero(members.status == FAILED)
    if not len(failed):
        return
    shown = ", ".join(map(str, failed[:10])) + (", ..." if len(failed) > 10 else "")
    first = int(failed[0])
    raise StepFailure(
        f"{len(failed)} of {len(members.t)} members failed and keep their last good "
        f"state (`failed` of the solution): {shown}. Member {first}: "
        f"{members.reasons[first]}"
    )


def leap(run: Run, fused: Callable[..., Any], stop: float) -> None:
    """Offer the stretch up to ``stop`` to the flow's fused path.

    The flow gets the step of a fixed run, or the ``Adaptive`` of an adaptive one; then
    its counts have ``"steps"`` and ``"rejected"``, one number or those of each member,
    of which the most are counted.
    """
    state, runner = run.state, run.runner
    rng = None if runner.stream is None else runner.stream.at(state.step)
    h: float | Adaptive = runner.dt
    steps = None
    if isinstance(h, float):
        steps = count_steps(stop - state.t, h)
        h = (stop - state.t) / steps
    if state.members is not None and (state.members.t != state.t).any():
        return
    result = fused(runner.scheme, h, state.t, stop, state.u, rng)
    # A failure is left to the plain path, which finds the step where it happened.
    if result is None or runner.problem(result[0], stop):
        return
    counts = dict(result[1])
    counts["steps"] = counts.get("steps", 1) if steps is None else steps
    for name, count in counts.items():
        runner.counters[name] = runner.counters.get(name, 0) + int(np.max(count))
    members = state.members
    memory: tuple[Any, ...] = ()
    if members is not None:
        memory = (Pool(np.arange(len(members.t)), ()),)
        members = Members.new(stop, len(members.t))._replace(
            status=members.status,
            reasons=members.reasons,
            steps=members.steps + counts["steps"],
            rejected=members.rejected + counts.get("rejected", 0),
        )
    run.before = state
    run.state = State(
        t=stop,
        u=result[0],
        memory=memory,
        step=state.step + int(np.max(counts["steps"])),
        origin=stop,
        members=members,
    )
