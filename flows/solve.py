"""The verb: ``solve``, and the generator ``steps`` under the same loop."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.adjoint.methods import differentiable, differentiate
from flows.control import Adaptive, count_steps
from flows.hooks import notify
from flows.loop import Runner, State, StepFailure
from flows.loop.door import (
    check_flow,
    check_hooks,
    check_seed,
    check_stability,
    check_step,
    choose,
    first_call,
    start,
)
from flows.loop.ends import alone, decide
from flows.loop.run import Run, advance
from flows.loop.times import check_interval, check_room, memory_left, save_times
from flows.random import Stream
from flows.solution import Interrupted, Solution, SolveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flows.adjoint import Backprop, ContinuousAdjoint
    from flows.loop.stopping import Event

__all__ = ["solve", "steps"]

Array = Any


def solve(
    flow: Any,
    u0: Any,
    t: Any,
    scheme: Any = None,
    *,
    dt: float | Adaptive | None = None,
    save_at: Any = None,
    until: Callable[[Any, Array], Any] | Event | Any = None,
    on_step: Sequence[Any] | Any = (),
    rng: Any = None,
    adjoint: Backprop | ContinuousAdjoint | None = None,
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
        times. With ``Adaptive`` and save times the members of a batch (b, n) have steps
        of their own where the flow has a norm of each and treats each by itself
        (``Euclidean``); with every step saved they share them.
    until : callable or Event, optional
        ``until(t, u)``: the run ends where a float changes sign or a bool becomes true,
        found by repeating the last step with a refined size (at the end of the step
        where the flow is random). ``Steady(tol)`` is one. With one value for each
        member, (b,), each ends at its own moment, in ``sol.stopped``; ``t`` is then an
        array (b, 1). ``Event`` has jumps, directions and numbers of events.
    on_step : callable, hook or sequence of them
        Called after every accepted step (with own steps: at the save times), see
        ``flows.hooks``.
    rng : int or numpy Generator, optional
        Needed by random flows and when a measure is sampled.
    adjoint : Backprop or ContinuousAdjoint, optional
        For torch states: ``sol.u`` gets an autograd graph back to ``u0`` and to every
        tensor that the energy uses. Without it results carry no graph.

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
        flow = differentiable(adjoint, flow, u0)
    own = adjoint is None
    run = prepare(flow, u0, t, scheme, dt, save_at, until, on_step, rng, own=own)
    if adjoint is None:
        return execute(run)
    if run.until is not None and run.until.jump is not None:
        raise TypeError(
            "`adjoint` does not go through `Event(jump=)`: solve up to the event, "
            "change `sol.u[-1]`, and go on with another solve."
        )
    return differentiate(adjoint, run, u0, execute)


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
    own: bool = True,
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
    run = assemble(
        Runner(flow, scheme, dt, noise_of(flow, scheme, seed), end=t1),
        state,
        (t0, t1),
        stops if keep_end else np.append(stops, t1),
        every,
        keep_end,
        until,
        check_hooks(on_step),
        seed,
        note,
        own,
    )
    run.runner.watch(run.u)
    return run


def assemble(
    runner: Runner,
    state: State,
    t: tuple[float, float],
    stops: np.ndarray,
    every: bool,
    keep_end: bool,
    until: Any,
    hooks: tuple[Any, ...],
    seed: int | None,
    note: str,
    allowed: bool = True,
) -> Run:
    """The Run of a new solve, and of one that goes on from a checkpoint."""
    event, own = decide(runner.flow, runner.dt, until, state, every, t[1], allowed)
    return Run(
        runner=runner,
        t0=t[0],
        t1=t[1],
        stops=stops,
        every_step=every,
        keep_end=keep_end,
        until=event,
        hooks=hooks,
        state=state if own else alone(state),
        seed=seed,
        own=own,
        room=memory_left(),
        note=note,
    )


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
