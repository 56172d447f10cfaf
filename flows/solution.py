"""The result of a run: states, energies, what happened, dense output, files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flows.arrays import (
    array_like,
    create,
    is_torch,
    namespace,
    rounding,
    to_numpy,
)
from flows.dense import Between
from flows.loop.failures import Interrupted, SolveError
from flows.storage import (
    SCHEMA,
    header,
    read_meta,
    read_npz,
    space_from_json,
    space_to_json,
)

__all__ = ["Interrupted", "Solution", "SolveError", "load"]

Array = Any
MARKS = ("stopped", "failed", "events", "event_members")


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """States of a run, time first.

    Attributes
    ----------
    t : (k,) array of saved times.
    u : (k, ...) array or tensor of saved states.
    flow, scheme, space
        What was run; None in a solution that was loaded from a file.
    message : str
        How the run ended.
    ok : bool
        Whether it came to its end (False in a SolveError or Interrupted).
    step : int
        Steps since the start of the random stream, of continued runs all together.
    records : mapping
        What the ``Record`` hooks collected: arrays by name, with their times ``"t"``.
    stopped : (b,) array or None
        With own steps: when each member was stopped by ``until``, NaN where it was not.
    failed : (m,) array or None
        With own steps: indices of the members that failed.
    events : (m,) array
        Times at which ``until`` fired.
    event_members : (m,) array
        The members at which it did; -1 for all.
    """

    t: np.ndarray
    u: Array
    flow: Any
    scheme: Any
    space: Any
    counters: dict[str, Any]
    message: str = ""
    ok: bool = True
    records: dict[str, np.ndarray] = field(default_factory=dict)
    every_step: bool = False
    final: Any = None
    step: int = 0
    saved_energy: np.ndarray | None = None
    stopped: np.ndarray | None = None
    failed: np.ndarray | None = None
    events: np.ndarray = field(default_factory=lambda: np.zeros(0))
    event_members: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))

    def __len__(self) -> int:
        return len(self.t)

    @cached_property
    def energy(self) -> np.ndarray | None:
        """Energy at the saved times, (k,); None where it is infinite or undefined.

        Raises
        ------
        ValueError
            When an energy is NaN; the text names the term.
        """
        if self.saved_energy is not None or not hasattr(self.flow, "energy"):
            return self.saved_energy
        energy = self._energies(self.flow, self.t, self.u)
        bad = np.isnan(energy)
        if bad.any():
            i = int(np.argmax(bad.reshape(len(self.t), -1).any(axis=1)))
            raise ValueError(nan_energy(self.flow, float(self.t[i]), self.u[i]))
        return energy

    @cached_property
    def energies(self) -> dict[str, np.ndarray] | None:
        """Energy of each term at the saved times, by the term's text."""
        functional = getattr(self.flow, "functional", None)
        if functional is None or not hasattr(self.flow, "energy"):
            return None
        result: dict[str, np.ndarray] = {}
        for term in functional.terms:
            part = self.space.flow(term)
            values = self._energies(part, self.t, self.u)
            result[repr(term)] = result.get(repr(term), 0.0) + values
        return result

    @staticmethod
    def _energies(flow: Any, times: np.ndarray, states: Array) -> np.ndarray:
        with np.errstate(all="ignore"):
            pairs = zip(times, states, strict=True)
            values = [to_numpy(flow.energy(float(t), u)) for t, u in pairs]
        return np.array(values, dtype=float)

    @cached_property
    def stats(self) -> dict[str, Any]:
        """What happened: work, random seed, energy, mass and sign of the states.

        ``energy_rises`` and ``largest_rise`` compare neighboring saved states (the hook
        ``Check(descent=True)`` looks at every step) at the time of the later one; in a
        batch, those of every member.
        """
        stats = dict(self.counters)
        members = None if self.final is None else self.final.members
        if members is not None:
            stats["member_steps"] = members.steps.tolist()
        rises = self._rises()
        if rises is not None:
            risen = rises[0] > rounding(rises[1], rises[2], self.u)
            stats["energy_rises"] = int(risen.sum())
            stats["largest_rise"] = float(max(0.0, (rises[0] * risen).max(initial=0)))
        if hasattr(self.space, "mass"):
            mass = np.array([self.space.mass(u) for u in self.u])
            stats["mass_drift"] = float(np.abs(mass - mass[0]).max() / abs(mass[0]))
        if hasattr(self.space, "minimum"):
            stats["minimum"] = float(min(self.space.minimum(u) for u in self.u))
        return stats

    def _rises(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        after = self.energy
        if after is None or len(after) < 2:
            return None
        functional = getattr(self.flow, "functional", None)
        before = after[:-1]
        if self.flow is not None and getattr(functional, "depends_on_time", False):
            # With V(t, x) only energies at one and the same time can be compared.
            before = self._energies(self.flow, self.t[1:], self.u[:-1])
        finite = np.isfinite(before) & np.isfinite(after[1:])
        rise = np.where(finite, after[1:] - np.where(finite, before, 0.0), 0.0)
        return rise, np.where(finite, before, 0.0), np.where(finite, after[1:], 0.0)

    def measure(self, i: int = -1) -> Any:
        """The saved state ``i`` as a measure (the last by default)."""
        if self.space is None:
            raise TypeError(
                "This solution has no space, so its states are no measures; of a file "
                "whose space has Python functions, load(path, flow) attaches it again."
            )
        return self.space.measure(self.u[i])

    def __call__(self, t: Any) -> Array:
        """Dense output at times ``t``, of the order of the scheme (up to 8).

        A scheme of order p gives states with an error of order p between its steps
        too: by Hermite interpolation, through additional points inside the step where
        p > 4; multistep schemes and solutions loaded from a file by the cubic, order 4.
        Without a velocity or with kinks it is a shorter step of the scheme. What has
        been computed in a step is kept.

        Needs every accepted step (``save_at=None``) and a velocity without noise.
        Returns a state for a number, (k, ...) for k times.
        """
        if not self.every_step:
            raise ValueError(
                "Dense output needs every step: call solve with save_at=None."
            )
        if self.flow is None:
            raise ValueError(
                "Dense output needs the flow; load with `load(path, flow)`."
            )
        between = self._between
        if not hasattr(self.flow, "velocity") and not between.partial:
            raise ValueError("Dense output needs the flow's velocity.")
        if hasattr(self.flow, "noise") or hasattr(self.flow, "draw"):
            raise ValueError("A path with noise has no dense output between its steps.")
        if self.stopped is not None and np.isfinite(self.stopped).any():
            raise ValueError(
                "There is no dense output of members that stopped by themselves; give "
                "`save_at`."
            )
        times = np.asarray(t, dtype=float)
        flat = times.ravel()
        bad = ~((flat >= self.t[0]) & (flat <= self.t[-1]))
        if bad.any():
            raise ValueError(
                f"t = {flat[bad][0]:g} is outside [{self.t[0]:g}, {self.t[-1]:g}]."
            )
        states = [between(float(s)) for s in flat]
        if times.ndim == 0:
            return states[0]
        return namespace(self.u).stack(states)

    @cached_property
    def _between(self) -> Between:
        return Between(self.flow, self.scheme, self.t, self.u)

    def with_state(self, u: Array) -> Solution:
        """This solution with another last state, from which ``solve`` goes on.

        ``solve(flow, sol.with_state(u), (sol.t[-1], t1))`` is how a run goes on after
        an event when the state is changed by hand: time and random stream go on, the
        scheme starts without history. (``Event(jump=)`` does it inside one run.)

        Raises
        ------
        ValueError
            For a state of another shape.
        """
        if tuple(np.shape(u)) != tuple(self.u.shape[1:]):
            raise ValueError(
                f"`u` has shape {tuple(np.shape(u))}, the states of the solution "
                f"{tuple(self.u.shape[1:])}; they must be equal."
            )
        last = array_like(u, self.u)
        states = namespace(self.u).concat([self.u[:-1], last[None]])
        return replace(self, u=states, final=None, saved_energy=None)

    def plot(self, ax: Any = None) -> Any:
        """Figure chosen by the space; see ``flows.plotting.plot``."""
        from flows import plotting

        return plotting.plot(self, ax)

    def animate(self, path: Any, frames: int = 60) -> Path:
        """Animation as a GIF; see ``flows.plotting.animate``."""
        from flows import plotting

        return Path(plotting.animate(self, path, frames))

    def save(self, path: Any) -> Path:
        """Write times, states, energy and statistics to an ``.npz`` file.

        The flow is not in it, nor a space that has Python functions or a sparse
        pattern; ``load(path, flow)`` attaches both again.
        """
        target = Path(path)
        meta: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": "flows solution",
            "counters": self.counters,
            "message": self.message,
            "ok": self.ok,
            "every_step": self.every_step,
            "step": self.step,
            "torch": is_torch(self.u),
            "space": space_to_json(self.space),
        }
        arrays: dict[str, Any] = {"t": self.t, "u": to_numpy(self.u)}
        for name in MARKS:
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        # A NaN energy spoils no states; whoever loads them is told again.
        with contextlib.suppress(ValueError):
            if self.energy is not None:
                arrays["energy"] = self.energy
        arrays.update({f"record:{name}": v for name, v in self.records.items()})
        with open(target, "wb") as file:
            np.savez(file, allow_pickle=False, **header(meta), **arrays)
        return target

    def __repr__(self) -> str:
        return (
            f"<Solution: {len(self.t)} states of shape {tuple(self.u.shape[1:])}, "
            f"t = {self.t[0]:g} to {self.t[-1]:g}, {'ok' if self.ok else 'failed'}>"
        )

    def __str__(self) -> str:
        lines = [repr(self)[1:-1], f"  {self.message}"]
        if self.stopped is not None and np.isfinite(self.stopped).any():
            count = int(np.isfinite(self.stopped).sum())
            lines.append(f"  {count} of {len(self.stopped)} members stopped by `until`")
        names = ["scheme", "dt", "steps", "rejected", "halved", "velocity_calls"]
        names += ["newton_iterations", "seed", "seconds"]
        shown = [f"{n} {_short(self.counters[n])}" for n in names if _worth(self, n)]
        lines.append("  " + ", ".join(shown))
        try:
            lines += self._verdicts()
        except ValueError as error:
            lines.append(f"  {error}")
        return "\n".join(lines)

    def _verdicts(self) -> list[str]:
        """Lines about energy, mass and sign."""
        lines, stats = [], self.stats
        if self.energy is not None and self.energy.ndim <= 2:
            rises = stats.get("energy_rises", 0)
            verdict = (
                f"rose {rises} times, at most by {stats['largest_rise']:.2g}"
                if rises
                else "never rose"
            )
            first, last = self.energy[0], self.energy[-1]
            many = "" if first.ndim == 0 else f" (mean of {first.size})"
            lines.append(
                f"  energy{many} {np.mean(first):.8g} -> {np.mean(last):.8g}, {verdict}"
            )
        if "mass_drift" in stats:
            lines.append(f"  mass drift {stats['mass_drift']:.1e}")
        if "minimum" in stats:
            lines.append(f"  minimum {stats['minimum']:.3g}")
        return lines


def _worth(sol: Solution, name: str) -> bool:
    return sol.counters.get(name) not in (None, 0)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def nan_energy(flow: Any, t: float, u: Array) -> str:
    """Sentence that names the terms whose energy is NaN."""
    functional = getattr(flow, "functional", None)
    bad: list[str] = []
    if functional is not None and flow.space is not None:
        with np.errstate(all="ignore"):
            bad = [
                repr(term)
                for term in functional.terms
                if np.isnan(to_numpy(flow.space.flow(term).energy(t, u))).any()
            ]
    who = " and ".join(bad) if bad else "The energy"
    return f"{who} is NaN at t = {t:g} although the state is finite; check its formula."


def load(path: Any, flow: Any = None) -> Solution:
    """Solution written by ``Solution.save``; nothing in the file is executed.

    Parameters
    ----------
    path : path
    flow : Flow, optional
        The flow of the run, for dense output and for continuing it.

    Raises
    ------
    FileNotFoundError, ValueError
        For a file that is absent, damaged, or of another kind or version.
    """
    path = Path(path)
    arrays = read_npz(path)
    meta = read_meta(path, arrays, "flows solution")
    try:
        return rebuild(meta, arrays, flow)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error})."
        ) from error


def rebuild(meta: dict[str, Any], arrays: dict[str, np.ndarray], flow: Any) -> Solution:
    """The solution of a file's header and arrays."""
    u = arrays["u"]
    if meta["torch"]:
        u = create(u, "cpu", str(u.dtype))
    records = {
        name.removeprefix("record:"): value
        for name, value in arrays.items()
        if name.startswith("record:")
    }
    return Solution(
        t=arrays["t"],
        u=u,
        flow=flow,
        scheme=None,
        space=flow.space if flow is not None else space_from_json(meta["space"]),
        counters=meta["counters"],
        message=meta["message"],
        ok=meta["ok"],
        records=records,
        every_step=meta["every_step"],
        step=meta["step"],
        saved_energy=arrays.get("energy"),
        **{name: arrays[name] for name in MARKS if name in arrays},
    )
