"""Checkpoints: a run that was killed goes on bit for bit.

A checkpoint is one ``.npz`` file: arrays, and a JSON header. It holds the state, the
scheme's memory, the controller, the counters and the hooks' states, but not the saved
states of the run. It is read without pickle, every byte under its CRC.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import device_of, dtype_name, to_numpy
from flows.control import PI, PID, Adaptive
from flows.loop import Runner, State, StepFailure
from flows.loop.door import check_flow, check_hooks, first_call
from flows.loop.saved_state import adaptive, options, restore_state, state_parts
from flows.schemes import require
from flows.solve import assemble, execute, noise_of
from flows.storage import SCHEMA, header, previous, read_meta, read_npz, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flows.loop.run import Run
    from flows.loop.stopping import Event
    from flows.solution import Solution

__all__ = ["Checkpoint", "resume"]

Array = Any
KIND = "flows checkpoint"


@dataclass
class Checkpoint:
    """Hook that writes the run to ``path`` so that ``resume`` can go on.

    The file is replaced in one move after it is on the disk; the one before is kept as
    ``path.prev``. Nothing is lost when the process is killed at any moment.

    Parameters
    ----------
    path : path
        Its folder must exist and be writable; that is checked before the run.
    every : int
        Steps between two checkpoints.
    seconds : float, optional
        Write by the clock instead: at the first step after so many seconds.

    Raises
    ------
    FileNotFoundError, PermissionError
        Before the run, for a folder that is missing or not writable.
    """

    path: Any
    every: int = 1000
    seconds: float | None = None
    _last: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(
            self.every, (int, np.integer)
        ):
            raise TypeError(f"`every` must be a number of steps, got {self.every!r}.")
        if self.every < 1:
            raise ValueError(f"`every` must be at least 1, got {self.every}.")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"`seconds` must be positive, got {self.seconds!r}.")
        self.path = Path(self.path)

    def start(self, run: Run) -> None:
        dt = run.runner.dt
        if isinstance(dt, Adaptive) and type(dt.controller) not in (PI, PID):
            raise TypeError(
                f"A checkpoint knows the controllers PI and PID, not {dt.controller!r}."
            )
        folder = self.path.parent
        if not folder.is_dir():
            raise FileNotFoundError(
                f"The folder {folder} of the checkpoint does not exist; create it."
            )
        if not os.access(folder, os.W_OK):
            raise PermissionError(
                f"The folder {folder} of the checkpoint is read-only."
            )
        for stale in folder.glob(f".{self.path.name}.*.tmp"):
            stale.unlink(missing_ok=True)
        self._last = time.monotonic()

    def after(self, run: Run) -> None:
        # Members with own steps are kept after every round of them.
        if run.state.members is None:
            self.round(run)

    def round(self, run: Run) -> None:
        if self.seconds is None:
            due = run.state.step % self.every == 0
        else:
            due = time.monotonic() - self._last >= self.seconds
        if due:
            self.finish(run)

    def finish(self, run: Run) -> None:
        self._last = time.monotonic()
        try:
            write(self.path, run)
        except OSError as error:
            raise StepFailure(
                f"the checkpoint {self.path} could not be written ({error}); the one "
                "before is kept. Free the disk and resume"
            ) from error


def fingerprint(flow: Any, t: float, z: Array) -> str:
    """Hash of the bytes of the velocity at a state: equal for equal problems."""
    if not hasattr(flow, "velocity"):
        return ""
    with np.errstate(all="ignore"):
        values = np.ascontiguousarray(to_numpy(flow.velocity(t, z)))
    return hashlib.sha256(values.tobytes()).hexdigest()


def versions() -> dict[str, str]:
    """What a bit for bit continuation depends on."""
    import scipy

    from flows import __version__

    return {
        "flows": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def write(path: Path, run: Run) -> None:
    """Write the run's state: temporary file, fsync, rename; keep the previous one."""
    state, runner = run.state, run.runner
    arrays: dict[str, Any] = {"u": to_numpy(state.u), "stops": run.stops}
    parts = state_parts(state, arrays)
    if run.rule is not None:
        arrays["rule"] = run.rule.state()
    for i, hook in enumerate(run.hooks):
        if hasattr(hook, "state"):
            for name, value in hook.state().items():
                arrays[f"hook:{i}:{name}"] = np.asarray(value)
    dt = runner.dt
    meta = {
        "schema": SCHEMA,
        "kind": KIND,
        "versions": versions(),
        "flow": repr(run.flow),
        "scheme": repr(runner.scheme),
        "velocity": fingerprint(run.flow, state.t, state.u),
        "dtype": dtype_name(state.u),
        "device": device_of(state.u),
        "t0": run.t0,
        "t1": run.t1,
        "every_step": run.every_step,
        "keep_end": run.keep_end,
        "until": run.until is not None,
        "dt": options(dt),
        **parts,
        "events": run.events,
        "counters": runner.counters,
        "mass": runner.mass,
        "scale": runner.scale,
        "seed": run.seed,
        "note": run.note,
        "hooks": kinds(run.hooks),
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **header(meta), **arrays)
    replace(path, buffer.getvalue())


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """Header and arrays of the newest undamaged checkpoint, and a remark."""
    first: Exception | None = None
    for candidate in (path, previous(path)):
        try:
            arrays = read_npz(candidate)
            meta = read_meta(candidate, arrays, KIND)
        except (FileNotFoundError, ValueError) as error:
            first = first or error
            continue
        if first is None:
            return meta, arrays, ""
        return meta, arrays, f"{first} Went on from {candidate.name}."
    if first is None:
        raise FileNotFoundError(f"There is no file {path}.")
    raise first


def agree(
    path: Path, meta: dict[str, Any], flow: Any, scheme: Any, state: State
) -> None:
    """Refuse a checkpoint of another problem, scheme or dtype."""
    for name, here in (("flow", repr(flow)), ("scheme", repr(scheme))):
        if meta[name] != here:
            raise ValueError(
                f"{path} is a checkpoint of the {name} {meta[name]}, not of {here}."
            )
    if meta["velocity"] and meta["velocity"] != fingerprint(flow, state.t, state.u):
        same = meta["versions"] == versions()
        raise ValueError(
            f"{path} is a checkpoint of another problem: the velocity at its state "
            + ("differs." if same else "differs, or the versions do: ")
            + ("" if same else f"it was written with {meta['versions']}.")
        )


def resume(
    path: Any,
    flow: Any,
    scheme: Any,
    *,
    until: Callable[[Any, Array], Any] | Event | Any = None,
    on_step: Sequence[Any] | Any = (),
) -> Solution:
    """Go on with a run from its checkpoint, to the same bits as without the stop.

    Bit for bit on the same machine, device, dtype, thread count and versions, else to
    rounding. t1, dt and save_at are in the file; what is callable is given again. The
    result starts at the checkpoint.

    Parameters
    ----------
    path : path
        File of a ``Checkpoint`` hook; a damaged one falls back to ``path.prev``.
    flow, scheme
        As in the run.
    until, on_step
        As in ``solve``; hooks in the same order as in the run.

    Raises
    ------
    FileNotFoundError, ValueError
        For a file that is absent, damaged, of another version or of another problem.
    """
    path = Path(path)
    check_flow(flow)
    require(scheme, flow)
    hooks = check_hooks(on_step)
    meta, arrays, remark = read(path)
    state = restore_state(path, meta, arrays)
    agree(path, meta, flow, scheme, state)
    if meta["until"] and until is None:
        raise ValueError(f"The run of {path} had an `until`; give it again.")
    dt = adaptive(meta["dt"]) if isinstance(meta["dt"], dict) else meta["dt"]
    runner = Runner(
        flow, scheme, dt, noise_of(flow, scheme, meta["seed"]), dict(meta["counters"])
    )
    runner.mass, runner.scale, runner.end = meta["mass"], meta["scale"], meta["t1"]
    restore_hooks(path, meta, arrays, hooks)
    stops = arrays["stops"]
    run = assemble(
        runner,
        state,
        (meta["t0"], meta["t1"]),
        stops[stops >= state.t],
        meta["every_step"],
        meta["keep_end"],
        until,
        tuple(Resumed(hook) if hasattr(hook, "restore") else hook for hook in hooks),
        meta["seed"],
        meta["note"],
    )
    run.events = [(float(t), int(i)) for t, i in meta["events"]]
    if "rule" in arrays:
        run.rule_state = (arrays["rule"],)
    first_call(flow, state.t, state.u, finite="velocity" in scheme.needs)
    solution = execute(run)
    if remark:
        solution.counters["remark"] = remark
    return solution


class Resumed:
    """A hook whose state has been restored, so that its start is not run again."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hook, name)

    def start(self, run: Run) -> None:
        """The run goes on: what the hook holds is kept."""


def kinds(hooks: Sequence[Any]) -> list[str]:
    """Class names of the hooks, by which a checkpoint knows them again."""
    inner = (hook.hook if isinstance(hook, Resumed) else hook for hook in hooks)
    return [type(hook).__name__ for hook in inner]


def restore_hooks(
    path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray], hooks: Any
) -> None:
    """Give every hook with a state what the checkpoint holds for it."""
    names = kinds(hooks)
    if names != meta["hooks"]:
        raise ValueError(
            f"The run of {path} had the hooks {meta['hooks']}; give `on_step` again in "
            f"this order, got {names}."
        )
    for i, hook in enumerate(hooks):
        if hasattr(hook, "restore"):
            prefix = f"hook:{i}:"
            hook.restore(
                {
                    name.removeprefix(prefix): value
                    for name, value in arrays.items()
                    if name.startswith(prefix)
                }
            )
