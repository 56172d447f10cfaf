"""The committed state of a run as arrays and JSON, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flows.arrays import create, is_array, is_torch, to_numpy
from flows.control import PI, PID, Adaptive
from flows.loop.members import Members, Pool
from flows.loop.runner import State

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

__all__ = ["adaptive", "options", "restore_state", "state_parts"]

Array = Any
CONTENTS = (
    *("versions", "flow", "scheme", "velocity", "dtype", "device", "t0", "t1", "dt"),
    *("every_step", "keep_end", "until", "scalars", "memory", "counters", "mass"),
    *("scale", "seed", "note", "hooks", "pools", "reasons", "events"),
)
MEMBER_ARRAYS = tuple(name for name in Members._fields if name != "reasons")
CONTROLLERS = {"PI": PI, "PID": PID}


def state_parts(state: State, arrays: dict[str, Any]) -> dict[str, Any]:
    """What the header holds of a state; its arrays go to ``arrays``."""
    members = state.members
    if members is None:
        memory, pools = numbers(state.memory, "memory", arrays), None
    else:
        memory, pools = [], []
        for i, pool in enumerate(state.memory):
            arrays[f"pool:{i}"] = pool.members
            pools.append(numbers(pool.memory, f"memory:{i}", arrays))
        for name in MEMBER_ARRAYS:
            arrays[f"members:{name}"] = getattr(members, name)
    return {
        "scalars": [
            state.t,
            state.step,
            state.origin,
            state.done,
            state.h,
            *state.past,
        ],
        "memory": memory,
        "pools": pools,
        "reasons": {} if members is None else {str(i): r for i, r in reasons(members)},
    }


def numbers(memory: tuple[Any, ...], prefix: str, arrays: dict[str, Any]) -> list[Any]:
    """The numbers of a memory, None for its arrays, which go to ``arrays``."""
    for i, item in enumerate(memory):
        if is_array(item):
            arrays[f"{prefix}:{i}"] = to_numpy(item)
    return [None if is_array(item) else item for item in memory]


def options(dt: Any) -> Any:
    """The step or the fields of Adaptive and its controller."""
    if not isinstance(dt, Adaptive):
        return dt
    fields = asdict(dt)
    fields["controller"]["class"] = type(dt.controller).__name__
    return fields


def adaptive(fields: dict[str, Any]) -> Adaptive:
    """Inverse of ``options``."""
    values = dict(fields["controller"])
    kind = CONTROLLERS[values.pop("class")]
    return Adaptive(**{**fields, "controller": kind(**values)})


def reasons(members: Members) -> list[tuple[int, str]]:
    """Why members have failed."""
    return sorted(members.reasons.items())


def restore_state(
    path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> State:
    """The committed state of a checkpoint; ValueError where parts are missing."""
    absent = [name for name in CONTENTS if name not in meta]
    absent += [name for name in ("u", "stops") if name not in arrays]
    if absent:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(absent)}.")

    def place(values: np.ndarray) -> Array:
        if meta["device"] is None:
            return values
        return create(values, meta["device"], str(values.dtype))

    def memory_of(items: list[Any], prefix: str) -> tuple[Any, ...]:
        names = [f"{prefix}:{i}" for i in range(len(items))]
        return tuple(
            place(arrays[name]) if name in arrays else item
            for name, item in zip(names, items, strict=True)
        )

    t, step, origin, done, h, *past = meta["scalars"]
    u = place(arrays["u"])
    if not is_torch(u):
        u.flags.writeable = False
    memory, members = memory_of(meta["memory"], "memory"), None
    if meta["pools"] is not None:
        memory = tuple(
            Pool(arrays[f"pool:{i}"], memory_of(items, f"memory:{i}"))
            for i, items in enumerate(meta["pools"])
        )
        why = {int(i): text for i, text in meta["reasons"].items()}
        values = [arrays[f"members:{name}"] for name in MEMBER_ARRAYS]
        members = Members._make([*values, why])
    return State(t, u, memory, int(step), origin, int(done), h, tuple(past), members)
