"""The verb: ``solve``, and the generator ``steps`` under the same loop."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.arrays import (
    device_of,
    dtype_name,
    first_nonfinite,
    is_array,
    is_torch,
    namespace,
)
from flows.energies import Energy
from flows.control import Adaptive, count_steps, positive
from flows.hooks import notify
from flows.loop import Runner, State, StepFailure
from flows.random import Stream, as_seed
from flows.schemes import require, scheme_named
from flows.solution import Interrupted, Solution, SolveError, nan_energy
from flows.spaces.base import admit_array

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
    ts: list[float] = field(default_factory=list)
    us: list[Array] = field(default_factory=list)
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
        if self.ts and self.ts[-1] == self.t:
            return
        u = self.u
        self.ts.append(self.t)
        self.us.append(u)
        size = u.nbytes if hasattr(u, "nbytes") else 0
        self.room -= size
        if self.room < 0:
            raise StepFailure(
                f"{len(self.us)} saved states of {size / 1e6:.3g} MB fill the memory. "
                "Give `save_at`, a spacing or an array of times"
            )

    def solution(self, ok: bool, message: str) -> Solution:
        """Everything saved so far, the last good state included."""
        if not ok or not self.ts:
            self.room = math.inf
            self.save()
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
            t=np.array(self.ts),
            u=namespace(self.us[0]).stack(self.us),
            flow=self.flow,
            scheme=self.runner.scheme,
            space=self.flow.space,
            counters=counters,
            message=message,
            ok=ok,
            records=records,
            every_step=self.every_step,
            final=self.state,
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
        Every accepted step, a spacing (t0, t0 + s, ..., and t1), or exactly these times.
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
    u = state.u if not hasattr(flow, "decode") else flow.decode(state.u)
    first_call(flow, t0, u)
    if isinstance(dt, float) and bounded:
        dt = min(dt, t1 - t0) if t1 > t0 else dt
        check_stability(flow, scheme, t0, t1, u, dt)
    stops, every = save_times(save_at, t0, t1)
    keep_end = every or float(stops[-1]) == t1
    if not keep_end:
        stops = np.append(stops, t1)
    room = memory_left()
    nbytes = getattr(u, "nbytes", 0)
    if every and bounded and isinstance(dt, float) and math.isfinite(t1):
        count = count_steps(t1 - t0, dt) if t1 > t0 else 0
        if (count + 1) * nbytes > room:
            raise ValueError(
                f"Saving all {count} steps needs {count * nbytes / 1e9:.3g} GB, more "
                f"than the {room / 1e9:.3g} GB at hand; give `save_at`, a spacing or "
                "an array of times."
            )
    if hasattr(until, "bind"):
        until = until.bind(flow)
    elif until is not None and until is not False and not callable(until):
        raise TypeError(f"`until` must be callable(t, u) or Steady(), got {until!r}.")
    hooks = tuple(on_step) if isinstance(on_step, (tuple, list)) else (on_step,)
    for hook in hooks:
        if not callable(hook) and not hasattr(hook, "start"):
            raise TypeError(f"`on_step` takes callables (t, u) or hooks, got {hook!r}.")
    stream = None if seed is None else Stream(seed, "noise")
    random = scheme.draws_noise(flow) or hasattr(flow, "draw")
    runner = Runner(flow, scheme, dt, stream if random else None)
    runner.watch(u)
    run = Run(
        runner, t0, t1, stops, every, keep_end, until, hooks, state, seed, note=note
    )
    run.room = room
    return run


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
    except MemoryError as error:
        message = f"Out of memory at t = {run.t:.6g}: {error}. Save fewer states."
        raise SolveError(message, run.solution(False, message)) from error
    except Exception as error:
        close(run)
        error.add_note(f"(in the step after t = {run.t:.6g}, step {run.steps})")
        raise
    return run.solution(True, run.message)


def close(run: Run) -> None:
    """Let the hooks finish after a failure, whose own error goes first."""
    with contextlib.suppress(Exception):
        notify(run.hooks, "finish", run)


def stopped(run: Run, failure: StepFailure) -> str:
    """Message of a run that failed."""
    text = str(failure).rstrip(".")
    text = text[0].upper() + text[1:]
    return f"{text}. Last good state: t = {run.t:.10g}, step {run.steps}."


def advance(run: Run) -> None:
    """Go from save time to save time; commit, stop, observe and save after each step."""
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
    run.before, run.state = state, state._replace(
        t=stop, u=result[0], memory=(), step=state.step + n, origin=stop, done=0
    )


class Rule:
    """The stopping rule of a run: a sign change or a bool, refined inside the step."""

    def __init__(self, until: Any, run: Run) -> None:
        self.until = until
        value = until(run.t, run.u)
        if value is None:
            raise TypeError("`until` returned None; did you forget `return`?")
        if is_array(value) and getattr(value, "ndim", 0) > 0:
            raise TypeError(
                f"`until` must return one float or bool, got shape {value.shape}."
            )
        self.boolean = isinstance(value, (bool, np.bool_)) or "bool" in str(
            getattr(value, "dtype", "")
        )
        self.value = self.read(value)
        self.now = self.boolean and self.value > 0

    def read(self, value: Any) -> float:
        """A bool as -1 or 1, a float as itself."""
        if self.boolean:
            return 1.0 if bool(value) else -1.0
        if math.isnan(float(value)):
            raise StepFailure("`until` returned NaN")
        return float(value)

    def stops(self, run: Run) -> bool:
        """Whether the rule fired in the last step; puts the run at that moment."""
        before, value = self.value, self.read(self.until(run.t, run.u))
        self.value = value
        if not (before * value < 0 or (value == 0.0 and before != 0.0)):
            return False
        if run.runner.stream is None and value != 0.0:
            self.refine(run, before)
        return True

    def refine(self, run: Run, first: float) -> None:
        """Repeat the step with the size at which the rule fires."""
        start, end, runner = run.before, run.state, run.runner
        if start is None:
            return
        h = end.t - start.t
        count = runner.counters["steps"]

        def at(part: float) -> State:
            return runner.halving(start, part * h, start.t + part * h)

        def rule(part: float) -> float:
            if part == 0.0:
                return first
            state = end if part == 1.0 else at(part)
            return self.read(self.until(state.t, runner.user(state.u)))

        if self.boolean:
            low, part = 0.0, 1.0
            while part - low > 1e-12:
                middle = 0.5 * (low + part)
                low, part = (low, middle) if rule(middle) > 0 else (middle, part)
        else:
            from scipy.optimize import brentq

            part = float(brentq(rule, 0.0, 1.0, xtol=1e-13, rtol=1e-14))
        if 0.0 < part < 1.0:
            run.state = at(part)._replace(origin=end.origin, h=end.h, error=end.error)
        runner.counters["steps"] = count


def check_flow(flow: Any) -> None:
    """Refuse what is not a flow, saying how to make one."""
    if isinstance(flow, Energy):
        raise TypeError(
            f"`flow` is the energy {flow!r}; choose a space: "
            "`fl.Euclidean().flow(energy)` or `fl.Grid((-5, 5, 200)).flow(energy)`."
        )
    if any(hasattr(flow, name) for name in ("velocity", "prox", "parts", "exact")):
        return
    raise TypeError(
        f"`flow` must be a flow, made by `space.flow(energy)`; got {type(flow).__name__}."
    )


def check_interval(t: Any, until: Any) -> tuple[float, float]:
    """The pair (t0, t1)."""
    try:
        t0, t1 = (float(s) for s in t)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`t` must be a pair (t0, t1) of numbers, got {t!r}.") from error
    if not math.isfinite(t0) or math.isnan(t1):
        raise ValueError(f"`t` must be finite numbers, got ({t0}, {t1}).")
    if t1 < t0:
        raise ValueError(
            f"`t` must have t0 <= t1, got ({t0:g}, {t1:g}): gradient flows are ill-posed "
            "backwards in time."
        )
    if math.isinf(t1) and until is None:
        raise ValueError("t1 = inf needs `until`, for instance until=fl.Steady(1e-8).")
    return t0, t1


def choose(flow: Any, scheme: Any, dt: Any) -> tuple[Any, float | Adaptive, str]:
    """Scheme and step: the user's, else the flow's, with a note of what was chosen."""
    note = []
    chosen: Any = None
    if scheme is None or dt is None:
        chosen = flow.default() if hasattr(flow, "default") else None
    if scheme is None:
        if chosen is None:
            raise TypeError("`scheme` is needed: this flow has no default().")
        scheme = scheme_named(chosen[0])
        note.append(f"scheme {scheme!r}")
    if isinstance(scheme, type):
        raise TypeError(
            f"`scheme` is the class {scheme.__name__}; write `{scheme.__name__}()`."
        )
    if not hasattr(scheme, "step"):
        raise TypeError(f"`scheme` must be a scheme such as fl.RK4(), got {scheme!r}.")
    require(scheme, flow)
    if dt is None:
        estimate = scheme.error_order is not None and not scheme.draws_noise(flow)
        default = chosen[1] if chosen is not None else None
        if default is None and not estimate:
            raise ValueError(f"`dt` is needed with {scheme!r}: a positive number.")
        dt = Adaptive() if estimate and (default is None or not note) else default
        note.append(f"dt {dt!r}")
    if isinstance(dt, Adaptive):
        if scheme.draws_noise(flow) or hasattr(flow, "draw"):
            raise ValueError(
                "`dt` must be a number for a flow with noise; Adaptive would bias it."
            )
        if scheme.error_order is None:
            raise ValueError(
                f"{scheme!r} has no error estimate for Adaptive; give a number `dt`, or "
                "use one that has: Tsit5(), DormandPrince(), TRBDF2(), BDF2()."
            )
        return scheme, dt, ", ".join(note)
    return scheme, positive("dt", dt), ", ".join(note)


def check_seed(
    flow: Any, scheme: Any, rng: Any, previous: Solution | None
) -> int | None:
    """The seed of the run, if it has one."""
    if rng is None and previous is not None:
        rng = previous.counters.get("seed")
    if rng is not None:
        return int(as_seed(rng))
    if scheme.draws_noise(flow) or hasattr(flow, "draw"):
        raise ValueError(
            f"{scheme!r} draws random numbers: give `rng`, an integer seed or a NumPy "
            "Generator, so that the run can be repeated."
        )
    return None


def start(flow: Any, scheme: Any, u0: Any, t0: float, seed: int | None) -> State:
    """The first state of the run, in the flow's chart."""
    if isinstance(u0, Solution):
        return continued(u0, scheme, flow, t0)
    if flow.space is None:
        u = admit_array(u0)
    else:
        stream = None if seed is None else Stream(seed, "initial")
        u = flow.space.admit(u0, stream)
    z = flow.encode(u) if hasattr(flow, "encode") else u
    if not is_torch(z):
        z.flags.writeable = False
    return State(t=t0, u=z, origin=t0)


def continued(previous: Solution, scheme: Any, flow: Any, t0: float) -> State:
    """The last state of an earlier run, with its history when the scheme is the same."""
    end = previous.final
    t_end = float(previous.t[-1]) if end is None else end.t
    if t0 != t_end:
        raise ValueError(
            f"The solution ends at t = {t_end!r}; continue it with t = ({t_end!r}, ...)."
        )
    if end is None:
        u = admit_array(previous.u[-1])
        z = flow.encode(u) if hasattr(flow, "encode") else u
        return State(t=t0, u=z, origin=t0)
    if repr(scheme) != repr(previous.scheme):
        end = end._replace(memory=(), h=0.0, error=1.0)
    return end._replace(origin=t0, done=0)


def first_call(flow: Any, t: float, u: Array) -> None:
    """Call the user's functions once: None, wrong shape, dtype, writing, NaN.

    Raises
    ------
    TypeError, ValueError
    """
    functional, space = getattr(flow, "functional", None), flow.space
    if functional is not None and hasattr(space, "points"):
        x = space.points(u)
        for term in functional.terms:
            if term.kind in ("potential", "interaction"):
                term.function.probe(x, t, derivatives=space.probed)
            else:
                term.function.probe(namespace(x).ones_like(x[..., 0]))
    if hasattr(flow, "velocity"):
        check_velocity(flow, t, u)
    if hasattr(flow, "energy"):
        with np.errstate(all="ignore"):
            value = flow.energy(t, u)
        if np.isnan(np.asarray(value, dtype=float)).any():
            raise ValueError(nan_energy(flow, t, u))


def check_velocity(flow: Any, t: float, u: Array) -> None:
    """The velocity at the start has the shape and dtype of the state and is finite."""
    version = getattr(u, "_version", None)
    try:
        with np.errstate(all="ignore"):
            v = flow.velocity(t, u)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise ValueError(
            "`velocity` writes into its argument; return a new array instead."
        ) from error
    if v is None:
        raise TypeError("`velocity` returned None; did you forget `return`?")
    if version is not None and u._version != version:
        raise ValueError(
            "`velocity` writes into its argument; return a new tensor instead."
        )
    if not is_array(v) or is_torch(v) != is_torch(u):
        kind = "a tensor" if is_torch(u) else "a NumPy array"
        raise TypeError(f"`velocity` must return {kind}, got {type(v).__name__}.")
    if tuple(v.shape) != tuple(u.shape):
        raise ValueError(
            f"`velocity` returned shape {tuple(v.shape)} for a state of shape "
            f"{tuple(u.shape)}; they must be equal."
        )
    if dtype_name(v) != dtype_name(u) or device_of(v) != device_of(u):
        raise TypeError(
            f"`velocity` returned {dtype_name(v)} on {device_of(v) or 'NumPy'} for a "
            f"state of {dtype_name(u)} on {device_of(u) or 'NumPy'}."
        )
    count, index = first_nonfinite(v)
    if count:
        raise ValueError(
            f"The velocity at t0 = {t:g} has {count} non-finite value(s), the first at "
            f"index {index}; check the energy's gradient at `u0`."
        )


def check_stability(
    flow: Any, scheme: Any, t0: float, t1: float, u: Array, dt: float
) -> None:
    """Refuse an explicit step above its stability bound before the run."""
    if math.isinf(scheme.stability) or not hasattr(flow, "stable_step") or t1 == t0:
        return
    bound = float(flow.stable_step(t0, u)) * scheme.stability / 2.0
    span = t1 - t0
    h = span / count_steps(span, dt) if math.isfinite(span) else dt
    if h > bound * (1 + 1e-9):
        raise ValueError(
            f"`dt` = {h:.4g} is above the stability bound {bound:.4g} of {scheme!r} for "
            "this flow; take a smaller dt, Adaptive(), or an implicit scheme such as "
            "ImplicitEuler()."
        )


def save_times(save_at: Any, t0: float, t1: float) -> tuple[np.ndarray, bool]:
    """Times where the loop must land, and whether every step is saved."""
    if save_at is None:
        return np.array([t1]), True
    if np.ndim(save_at) == 0:
        spacing = positive("save_at", save_at)
        if math.isinf(t1):
            raise ValueError("`save_at` must be an array when t1 = inf.")
        n = count_steps(t1 - t0, spacing) if t1 > t0 else 0
        return np.append(t0 + spacing * np.arange(n), t1), False
    times = np.asarray(save_at, dtype=float)
    if times.ndim != 1 or times.size == 0:
        raise ValueError("`save_at` must be a number or a non-empty array of times.")
    wrong = ~((times >= t0) & (times <= t1))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"`save_at[{i}]` = {times[i]:g} is outside t = ({t0:g}, {t1:g})."
        )
    falls = np.diff(times) <= 0
    if falls.any():
        i = int(np.argmax(falls)) + 1
        raise ValueError(
            f"`save_at` must increase strictly; `save_at[{i}]` = {times[i]:g} does not."
        )
    return times, False


def memory_left() -> float:
    """Half of the machine's memory in bytes; inf where it is unknown."""
    try:
        return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf
