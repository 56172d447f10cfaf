"""The verb: ``solve``, and the generator ``steps`` under the same loop."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import namespace
from flows.control import Adaptive, count_steps
from flows.door import (
    check_flow,
    check_hooks,
    check_interval,
    check_room,
    check_seed,
    check_stability,
    check_step,
    check_until,
    choose,
    first_call,
    memory_left,
    save_times,
    start,
)
from flows.hooks import notify
from flows.loop import Runner, State, StepFailure
from flows.random import Stream
from flows.solution import Interrupted, Solution, SolveError
from flows.stopping import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["solve", "steps"]

Array = Any


@dataclass
class Run:
    """One run while it runs: what hooks see and what a checkpoint stores."""

    runner: Runner
    t0: float
    t1: float
    stops: np.ndarray
    every_step: bool
    keep_end: bool
    until: Any
    hooks: tuple[Any, ...]
    state: State
    seed: int | None
    before: State | None = None
    saved: list[tuple[float, Array]] = field(default_factory=list)
    room: float = math.inf
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
    def steps(self) -> int:
        return self.runner.counters["steps"]

    @property
    def previous(self) -> tuple[float, Array]:
        """Time and state before the last step."""
        before = self.before or self.state
        return before.t, self.runner.user(before.u)

    def save(self) -> None:
        """Keep the present state, unless that time is kept already."""
        if self.saved and self.saved[-1][0] == self.t:
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
            self.room = math.inf
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
        )


def solve(
    flow: Any,
    u0: Any,
    t: Any,
    scheme: Any = None,
    *,
    dt: float | Adaptive | None = None,
    save_at: Any = None,
    until: Callable[[float, Array], float | bool] | Any = None,
    on_step: Sequence[Any] | Any = (),
    rng: Any = None,
    adjoint: None = None,
) -> Solution:
    """Run a gradient flow from ``u0`` over ``t = (t0, t1)``.

    Parameters
    ----------
    flow : Flow
        Made by ``space.flow(energy)``.
    u0 : array, Measure or Solution
        Initial state; a measure is projected by the space; a Solution is continued
        (its last state, history and random stream go on; the result starts at t0).
    t : (t0, t1)
        t0 <= t1; t1 = inf needs ``until``.
    scheme : Scheme, optional
        None asks the flow.
    dt : float or Adaptive, optional
        Equal steps of at most dt between save times, or steps from the error estimate.
    save_at : None, float or array
        Every accepted step, a spacing (t0, t0 + s, ..., and t1), or exactly these
        times.
    until : callable, optional
        ``until(t, u)``: the run ends where a float changes sign or a bool becomes true,
        found by repeating the last step with a refined size (at the end of the step
        where the flow is random). ``Steady(tol)`` is one.
    on_step : callable, hook or sequence of them
        Called after every accepted step, see ``flows.hooks``.
    rng : int or numpy Generator, optional
        Needed by random flows and when a measure is sampled.
    adjoint : None
        Reserved; results carry no autograd graph.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments, before any work.
    SolveError
        When the numerics fail; ``.solution`` holds all up to the last good state.
    Interrupted
        On Ctrl-C, likewise.

    Examples
    --------
    >>> import flows as fl
    >>> flow = fl.Euclidean().flow(fl.quadratic(2.0))
    >>> sol = fl.solve(flow, [1.0], (0, 1), fl.RK4(), dt=0.01)
    >>> float(round(sol.u[-1, 0], 6))
    0.135335
    """
    if adjoint is not None:
        raise TypeError(f"`adjoint` must be None in this version, got {adjoint!r}.")
    return execute(prepare(flow, u0, t, scheme, dt, save_at, until, on_step, rng))


def steps(
    flow: Any,
    u0: Any,
    scheme: Any = None,
    *,
    dt: float | Adaptive | None = None,
    t0: float = 0.0,
    rng: Any = None,
) -> Iterator[tuple[float, Array]]:
    """Endless generator of (t, u) after each accepted step.

    Arguments as in ``solve``. No stability bound is enforced, so that unstable steps
    can be studied; a failing step raises SolveError.
    """
    run = prepare(
        flow, u0, (t0, math.inf), scheme, dt, None, False, (), rng, bounded=False
    )

    def generate() -> Iterator[tuple[float, Array]]:
        try:
            for state in run.runner.advance(run.state, math.inf):
                run.state = state
                yield run.t, run.u
        except StepFailure as failure:
            message = stopped(run, failure)
            raise SolveError(message, run.solution(False, message)) from failure

    return generate()


def prepare(
    flow: Any,
    u0: Any,
    t: Any,
    scheme: Any,
    dt: Any,
    save_at: Any,
    until: Any,
    on_step: Any,
    rng: Any,
    bounded: bool = True,
) -> Run:
    """Check every argument at the door and make the Run."""
    check_flow(flow)
    t0, t1 = check_interval(t, until)
    scheme, dt, note = choose(flow, scheme, dt)
    previous = u0 if isinstance(u0, Solution) else None
    seed = check_seed(flow, scheme, rng, previous)
    state = start(flow, scheme, u0, t0, seed)
    # The estimate of an adaptive first step is made of the velocity.
    used = "velocity" in scheme.needs or isinstance(dt, Adaptive)
    first_call(flow, t0, state.u, finite=used)
    room = memory_left()
    stops, every = save_times(save_at, t0, t1, state.u, room)
    if isinstance(dt, float):
        dt = min(dt, t1 - t0) if t1 > t0 and bounded else dt
        check_step(t0, t1, dt, state.u)
        if bounded:
            check_stability(flow, scheme, t0, t1, state.u, dt)
        if every and t0 < t1 < math.inf:
            check_room(count_steps(t1 - t0, dt) + 1, state.u, room)
    else:
        check_step(t0, t1, dt, state.u)
    keep_end = every or float(stops[-1]) == t1
    run = Run(
        runner=Runner(flow, scheme, dt, noise_of(flow, scheme, seed), end=t1),
        until=check_until(until, flow),
        hooks=check_hooks(on_step),
        t0=t0,
        t1=t1,
        stops=stops if keep_end else np.append(stops, t1),
        every_step=every,
        keep_end=keep_end,
        state=state,
        seed=seed,
        room=room,
        note=note,
    )
    run.runner.watch(run.u)
    return run


def noise_of(flow: Any, scheme: Any, seed: int | None) -> Stream | None:
    """The stream of a run that draws random numbers."""
    if seed is None or not (scheme.draws_noise(flow) or hasattr(flow, "draw")):
        return None
    return Stream(seed, "noise")


def execute(run: Run) -> Solution:
    """Run to the end, or to the SolveError that carries what there is."""
    try:
        if run.every_step or run.stops[0] == run.t:
            run.save()
        notify(run.hooks, "start", run)
        advance(run)
        notify(run.hooks, "finish", run)
    except StepFailure as failure:
        close(run)
        message = stopped(run, failure)
        raise SolveError(message, run.solution(False, message)) from failure
    except KeyboardInterrupt as interrupt:
        close(run)
        message = f"Interrupted at t = {run.t:.6g} after {run.steps} steps."
        raise Interrupted(message, run.solution(False, message)) from interrupt
    except Exception as error:
        close(run)
        if out_of_memory(error):
            message = (
                f"Out of memory at t = {run.t:.6g}, step {run.steps} ({error}). Take "
                "fewer particles or cells, float32, or save fewer states."
            )
            raise SolveError(message, run.solution(False, message)) from error
        error.add_note(f"(in the step after t = {run.t:.6g}, step {run.steps})")
        raise
    return run.solution(True, run.message)


def close(run: Run) -> None:
    """Let the hooks finish after a failure, whose own error goes first."""
    with contextlib.suppress(Exception):
        notify(run.hooks, "finish", run)


def out_of_memory(error: Exception) -> bool:
    """Whether NumPy or torch found no memory; torch on the CPU has no type for it."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def stopped(run: Run, failure: StepFailure) -> str:
    """Message of a run that failed."""
    text = str(failure).rstrip(".")
    text = text[0].upper() + text[1:]
    return f"{text}. Last good state: t = {run.t:.10g}, step {run.steps}."


def advance(run: Run) -> None:
    """Go from save time to save time; commit, stop, observe, save after each step."""
    rule = Rule(run.until, run) if run.until else None
    if rule is not None and rule.now:
        run.message = f"stopped by `until` at t = {run.t:.10g}"
        return
    fused = getattr(run.flow, "advance", None)
    plain = run.every_step or rule is not None or run.hooks
    for stop in run.stops:
        if stop > run.t and fused is not None and not plain:
            leap(run, fused, float(stop))
        for state in run.runner.advance(run.state, float(stop)):
            run.before, run.state = run.state, state
            done = rule is not None and rule.stops(run)
            if run.every_step or done:
                run.save()
            notify(run.hooks, "after", run)
            if done:
                run.message = f"stopped by `until` at t = {run.t:.10g}"
                return
        run.state = run.state._replace(origin=float(stop), done=0)
        if stop < run.t1 or run.keep_end:
            run.save()


def leap(run: Run, fused: Any, stop: float) -> None:
    """Offer the stretch up to ``stop`` to the flow's fused path."""
    state, runner = run.state, run.runner
    if not isinstance(runner.dt, float):
        return
    n = count_steps(stop - state.t, runner.dt)
    rng = None if runner.stream is None else runner.stream.at(state.step)
    h = (stop - state.t) / n
    result = fused(runner.scheme, h, state.t, stop, state.u, rng)
    # A failure is left to the plain path, which finds the step where it happened.
    if result is None or runner.problem(result[0], stop):
        return
    for name, count in result[1].items():
        runner.counters[name] = runner.counters.get(name, 0) + int(count)
    runner.counters["steps"] += n
    run.before, run.state = (
        state,
        state._replace(
            t=stop, u=result[0], memory=(), step=state.step + n, origin=stop, done=0
        ),
    )
