"""Observers of a run: progress, recorded quantities, checks, and when it is steady.

``on_step`` takes any callables ``hook(t, u)``. An object may have instead
``start(run)`` before the first step, ``after(run)`` after each accepted one,
``finish(run)``, and, if it has a state, ``state()`` and ``restore(state)``, which
checkpoints use. ``run`` has ``t, u, flow, t0, t1, steps`` and ``previous`` = (t, u)
before the step.

Where the members of a batch have their own steps, hooks see the save times, at which
all have one time; ``round(run)`` is called after every round of steps, with the times
of the members in ``run.clock`` (b, 1).
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from flows.arrays import rms, rounding, to_numpy
from flows.control import positive
from flows.loop import StepFailure

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Check", "Progress", "Record", "Steady", "notify"]

Array = Any


def notify(hooks: tuple[Any, ...], event: str, run: Any) -> None:
    """Call ``event`` of every hook that has it; plain callables see every step.

    Raises
    ------
    ValueError
        When a hook writes into a tensor (a NumPy state cannot be written to).
    """
    version = getattr(run.state.u, "_version", None)
    for hook in hooks:
        method = getattr(hook, event, None)
        if method is not None:
            method(run)
        elif event == "after" and not hasattr(hook, "start"):
            hook(run.t, run.u)
        if version is not None and run.state.u._version != version:
            raise ValueError(
                f"The hook {hook!r} writes into the state; let it work on `u.clone()`."
            )


@dataclass
class Progress:
    """A bar with the time reached, the step count and the time left.

    Silent when the stream is not a terminal, unless ``always`` is True.

    Parameters
    ----------
    stream : text stream, optional
        By default standard error.
    always : bool
        Draw also where no terminal reads it.
    interval : float
        Seconds between two drawings.
    """

    stream: TextIO | None = None
    always: bool = False
    interval: float = 0.1

    def start(self, run: Any) -> None:
        self._out = self.stream or sys.stderr
        self._live = self.always or bool(getattr(self._out, "isatty", bool)())
        self._began = time.monotonic()
        self._drawn = -math.inf

    def after(self, run: Any) -> None:
        now = time.monotonic()
        if self._live and now - self._drawn >= self.interval:
            self._drawn = now
            self._draw(run, now)

    def round(self, run: Any) -> None:
        self.after(run)

    def finish(self, run: Any) -> None:
        if self._live:
            self._draw(run, time.monotonic())
            self._out.write("\n")
            self._out.flush()

    def _draw(self, run: Any, now: float) -> None:
        elapsed = now - self._began
        text = f"t = {run.t:.4g}, {run.steps} steps, {elapsed:.1f} s"
        if math.isfinite(run.t1) and run.t1 > run.t0:
            part = (run.t - run.t0) / (run.t1 - run.t0)
            full = int(30 * part)
            left = elapsed * (1 - part) / part if part > 0 else math.inf
            rest = f", {left:.1f} s left" if math.isfinite(left) else ""
            text = f"[{'#' * full}{'.' * (30 - full)}] {part:4.0%} {text}{rest}"
        self._out.write("\r" + text.ljust(78))
        self._out.flush()


class Record:
    """Record functions of (t, u) after every step, the start included.

    ``Record(mean=lambda t, u: u.mean())`` gives ``sol.records["mean"]`` at the times
    ``sol.records["t"]``, whatever ``save_at`` is.

    Raises
    ------
    TypeError
        For a value that is not callable.
    """

    # The keywords are the user's own names, so no option can be misspelt here.
    def __init__(self, **functions: Callable[[float, Array], Any]) -> None:
        if not functions:
            raise TypeError("Record needs at least one name=function.")
        for name, function in functions.items():
            if not callable(function):
                raise TypeError(f"`{name}` must be callable(t, u), got {function!r}.")
            if name == "t":
                raise TypeError("`t` is recorded already; choose another name.")
        self.functions = functions
        self._values: dict[str, list[Any]] = {}

    def start(self, run: Any) -> None:
        self._values = {name: [] for name in ("t", *self.functions)}
        self.after(run)

    def after(self, run: Any) -> None:
        self._values["t"].append(run.t)
        for name, function in self.functions.items():
            self._values[name].append(np.array(to_numpy(function(run.t, run.u))))

    def values(self) -> dict[str, np.ndarray]:
        """What was recorded, time first."""
        return {name: np.array(v) for name, v in self._values.items()}

    def state(self) -> dict[str, np.ndarray]:
        return self.values()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._values = {name: list(v) for name, v in state.items()}


@dataclass
class Check:
    """Stop with a SolveError when an invariant breaks at some step.

    Parameters
    ----------
    descent : bool or float
        The energy must not rise in a step by more than this (True: rounding). With a
        time-dependent energy both states are taken at the time of the later one.
    mass : float, optional
        Largest relative drift of the mass since the start; on grids.
    minimum : float, optional
        Lower bound of the density; on grids.
    """

    descent: bool | float = False
    mass: float | None = None
    minimum: float | None = None
    _mass0: float = field(default=0.0, init=False, repr=False)

    def start(self, run: Any) -> None:
        space = run.flow.space
        if not isinstance(self.descent, bool):
            positive("descent", self.descent, zero=True)
        if self.descent is not False and not hasattr(run.flow, "energy"):
            raise TypeError("Check(descent=...) needs a flow with an energy.")
        for name in ("mass", "minimum"):
            if getattr(self, name) is not None and not hasattr(space, name):
                raise TypeError(f"Check({name}=...) needs a grid; {space!r} has none.")
        if self.mass is not None:
            positive("mass", self.mass)
            self._mass0 = space.mass(run.u)

    def after(self, run: Any) -> None:
        space = run.flow.space
        if run.state.members is None:
            self.round(run)
        if self.mass is not None:
            drift = abs(space.mass(run.u) / self._mass0 - 1.0)
            if drift > self.mass:
                raise StepFailure(
                    f"the mass drifted by {drift:.3g} (allowed {self.mass:g})"
                )
        if self.minimum is not None and space.minimum(run.u) < self.minimum:
            raise StepFailure(
                f"the density fell to {space.minimum(run.u):.3g} "
                f"(allowed {self.minimum:g})"
            )

    def round(self, run: Any) -> None:
        if self.descent is not False:
            self._descent(run)

    def _descent(self, run: Any) -> None:
        """Compare the energies, of every member of a batch."""
        flow, t = run.flow, run.clock
        with np.errstate(all="ignore"):
            before = np.atleast_1d(to_numpy(flow.energy(t, run.previous[1])))
            after = np.atleast_1d(to_numpy(flow.energy(t, run.u)))
            # Infinite before is no bound, infinite after is a rise: inf - inf is none.
            rise = after - before
            allowed = rounding(before, after, run.u)
        if self.descent is not True:
            allowed = np.full(rise.shape, float(self.descent))
        risen = rise > allowed
        if risen.any():
            i = int(np.argmax(risen))
            member = f" of member {i}" if len(rise) > 1 else ""
            raise StepFailure(
                f"the energy{member} rose from {before[i]:.12g} to {after[i]:.12g} at "
                f"t = {run.t:.6g}. Take a smaller dt, or a dissipative scheme such "
                "as ImplicitEuler() or MinimizingMovement()"
            )

    def state(self) -> dict[str, np.ndarray]:
        return {"mass0": np.array(self._mass0)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._mass0 = float(state["mass0"])


@dataclass(frozen=True)
class Steady:
    """``until=Steady(tol)``: stop when the velocity is at most ``tol``.

    The norm is the flow's, by default the root mean square of the entries. With own
    steps each member of a batch stops by itself, else when all are steady.
    """

    tol: float = 1e-8

    def __post_init__(self) -> None:
        positive("tol", self.tol)

    def bind(self, flow: Any, own: bool = False) -> Callable[[Any, Array], Any]:
        """The rule for one flow: of all members together, or (b,) of each by itself."""
        if not hasattr(flow, "velocity") or hasattr(flow, "noise"):
            raise TypeError("Steady needs a flow with a velocity and without noise.")
        norm = getattr(flow, "norm", None) or rms

        def steady(t: Any, u: Array) -> Any:
            z = flow.encode(u) if hasattr(flow, "encode") else u
            still = to_numpy(norm(flow.velocity(t, z))) <= self.tol
            return still if own else bool(np.all(still))

        return steady
