"""What the members of a batch have of their own: time, step, history, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import dtype_name, is_array, is_torch, namespace
from flows.loop.runner import START

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flows.flow import Memory
    from flows.loop.runner import State

__all__ = [
    "FAILED",
    "RUNNING",
    "STOPPED",
    "Members",
    "Pool",
    "fresh",
    "least_step",
    "members_of",
    "pick",
    "pooled",
    "put",
    "regrouped",
    "replaced",
    "rows_of",
    "sizes",
    "take",
]

Array = Any
RUNNING, STOPPED, FAILED = 0, 1, 2


class Pool(NamedTuple):
    """Members whose memories have one layout, so that one call steps them all."""

    members: np.ndarray
    memory: Memory


class Members(NamedTuple):
    """What each of the b members has of its own; every array has b entries last.

    ``h`` is 0 where the first step is still to be chosen, ``past`` (4, b) is what the
    controller remembers, ``bad`` counts the failures of the present step, ``refused``
    says whether it was rejected before, ``status`` is RUNNING, STOPPED or FAILED, and
    ``reasons`` says why a member failed.
    """

    t: np.ndarray
    h: np.ndarray
    past: np.ndarray
    steps: np.ndarray
    rejected: np.ndarray
    bad: np.ndarray
    refused: np.ndarray
    status: np.ndarray
    reasons: Mapping[int, str] = {}

    def active(self, stop: float) -> np.ndarray:
        """Which members have still to go to ``stop``."""
        active: np.ndarray = (self.status == RUNNING) & (self.t < stop)
        return active

    @staticmethod
    def new(t: float, count: int) -> Members:
        """All running from time ``t``, nothing remembered."""
        zeros = np.zeros(count, dtype=np.int64)
        past = np.broadcast_to(np.array(START)[:, None], (len(START), count))
        return Members(
            t=np.full(count, t),
            h=np.zeros(count),
            past=past,
            steps=zeros,
            rejected=zeros,
            bad=zeros,
            refused=np.zeros(count, dtype=bool),
            status=np.zeros(count, dtype=np.int8),
        )

    def restarted(self, chosen: np.ndarray) -> Members:
        """The members of the mask ``chosen`` without step and history."""
        past = np.where(chosen, np.array(START)[:, None], self.past)
        return self._replace(
            h=np.where(chosen, 0.0, self.h),
            past=past,
            bad=np.where(chosen, 0, self.bad),
            refused=self.refused & ~chosen,
        )


def take(u: Array, index: np.ndarray) -> Array:
    """Rows of ``u``; a NumPy copy that is not to be written to."""
    if is_torch(u):
        return u[array_index(index, u)]
    rows = u[index]
    rows.flags.writeable = False
    return rows


def rows_of(u: Array, index: np.ndarray) -> Array:
    """Rows of ``u``; itself for all, of which there is one increasing index."""
    return u if len(index) == len(u) else take(u, index)


def replaced(u: Array, index: np.ndarray, fits: np.ndarray, rows: Array) -> Array:
    """``u`` with those of the ``rows`` for its ``index`` that the mask ``fits``."""
    if len(index) < len(u):
        return put(u, index[fits], take(rows, np.flatnonzero(fits)))
    if fits.all():
        return rows
    xp = namespace(u)
    wide = fits.reshape((-1,) + (1,) * (u.ndim - 1))
    return xp.where(xp.asarray(wide, device=u.device) if is_torch(u) else wide, rows, u)


def put(u: Array, index: np.ndarray, rows: Array) -> Array:
    """A copy of ``u`` with other rows."""
    if is_torch(u):
        copy = u.clone()
        copy[array_index(index, u)] = rows
        return copy
    copy = u.copy()
    copy[index] = rows
    copy.flags.writeable = False
    return copy


def array_index(index: np.ndarray, u: Array) -> Any:
    """An index array for a tensor."""
    import torch

    return torch.as_tensor(index, device=u.device)


def pick(memory: Memory, index: np.ndarray) -> Memory:
    """Rows of the arrays of a memory; numbers are common to all."""
    return tuple(take(item, index) if is_array(item) else item for item in memory)


def layout(memory: Memory, count: int) -> tuple[Any, ...]:
    """Shapes, dtypes and numbers of a memory: equal where rows may be put together."""
    for item in memory:
        if is_array(item) and tuple(item.shape[:1]) != (count,):
            raise TypeError(
                f"The scheme's memory has an array of shape {tuple(item.shape)} for "
                f"{count} members; with own steps the first axis must be the members'."
            )
    return tuple(
        (tuple(item.shape[1:]), dtype_name(item)) if is_array(item) else item
        for item in memory
    )


def pooled(parts: list[tuple[np.ndarray, Memory]]) -> tuple[Pool, ...]:
    """One pool for each layout, members in increasing order."""
    groups: dict[tuple[Any, ...], list[tuple[np.ndarray, Memory]]] = {}
    for members, memory in parts:
        if len(members):
            key = layout(memory, len(members))
            groups.setdefault(key, []).append((members, memory))
    pools = []
    for group in groups.values():
        if len(group) == 1:
            pools.append(Pool(*group[0]))
            continue
        members = np.concatenate([part[0] for part in group])
        # Stable, because it merges sorted runs.
        order = np.argsort(members, kind="stable")
        memory = tuple(
            take(namespace(items[0]).concat(list(items)), order)
            if is_array(items[0])
            else items[0]
            for items in zip(*(part[1] for part in group), strict=True)
        )
        pools.append(Pool(members[order], memory))
    return tuple(sorted(pools, key=lambda pool: int(pool.members[0])))


def sizes(members: Members, stop: float) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the next steps, and which of them land on ``stop``."""
    h, remaining = members.h, stop - members.t
    landing = h >= remaining * (1 - 1e-12)
    # The last two steps before a save time share what is left.
    cut = np.where(2 * h > remaining, np.minimum(h, 0.5 * remaining), h)
    return np.where(landing, remaining, cut), landing


def least_step(t: np.ndarray) -> np.ndarray:
    """The least step that still moves each time in a sensible way."""
    spacing: np.ndarray = 16.0 * np.spacing(np.abs(t))
    return spacing


def members_of(state: State) -> Members:
    """The members of a state that has them."""
    if state.members is None:
        raise TypeError("the state has no members with steps of their own")
    return state.members


def fresh(state: State, chosen: np.ndarray) -> tuple[Pool, ...]:
    """The pools of ``state`` with the members of the mask ``chosen`` emptied."""
    return regrouped(state.memory, chosen, [(np.flatnonzero(chosen), ())])


def regrouped(
    pools: Iterable[Pool],
    left: np.ndarray,
    parts: list[tuple[np.ndarray, Memory]],
) -> tuple[Pool, ...]:
    """The pools without the members of the mask ``left``, which are in ``parts``."""
    kept = []
    for pool in pools:
        rows = np.flatnonzero(~left[pool.members])
        kept.append((pool.members[rows], pick(pool.memory, rows)))
    return pooled(kept + parts)
