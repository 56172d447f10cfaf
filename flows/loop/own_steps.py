"""Batches whose members have their own time, step and end.

The members go on in rounds: in each, every member that has not yet arrived at the next
save time tries one step of its own size, and the scheme is called once for all of them
whose memories have the same layout. Members that have arrived, stopped or failed are
left out, so the work of a round shrinks with their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import (
    all_finite,
    array_like,
    is_array,
    is_torch,
    namespace,
    to_numpy,
)
from flows.control import error_ratio, first_step
from flows.linear import NewtonFailure
from flows.loop.failures import describe
from flows.loop.members import (
    Members,
    Pool,
    layout,
    least_step,
    members_of,
    pick,
    regrouped,
    replaced,
    rows_of,
    sizes,
)
from flows.loop.own_failures import (
    ESTIMATE,
    FINE,
    OUTSIDE,
    SOLVER,
    STATE,
    TOLERANCE,
    Failures,
    Found,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow import Memory, Step
    from flows.loop.runner import Runner, State

__all__ = ["OwnSteps", "Piece"]

Array = Any


class Piece(NamedTuple):
    """Members that were stepped in one call, or the one that could not be.

    ``place`` says which pool they are from, ``rows`` where they are in it.
    """

    place: int
    rows: np.ndarray
    members: np.ndarray
    before: Array
    step: Step | None = None
    failure: Exception | None = None


@dataclass
class OwnSteps:
    """The rounds of a batch; ``shared`` makes the worst member decide for all."""

    runner: Runner
    shared: bool = False

    def __post_init__(self) -> None:
        self.failures = Failures(self.runner)

    def begin(self, state: State) -> State:
        """The state with members, all fresh where it has none."""
        if state.members is not None:
            return state
        count = state.u.shape[0]
        members = Members.new(state.t, count)
        if state.h > 0.0:
            members = members._replace(h=np.full(count, state.h))
        return state._replace(members=members, memory=(Pool(np.arange(count), ()),))

    def tries(
        self, state: State, wanted: np.ndarray, size: np.ndarray
    ) -> Iterator[Piece]:
        """Steps of the members of the mask ``wanted``, not yet accepted."""
        for place, pool in enumerate(state.memory):
            rows = np.flatnonzero(rows_of(wanted, pool.members))
            if len(rows):
                yield from self.attempt(state, place, rows, size)

    def attempt(
        self, state: State, place: int, rows: np.ndarray, size: np.ndarray
    ) -> Iterator[Piece]:
        """One call of the scheme; where it fails, of both halves of the members."""
        pool, count = state.memory[place], len(rows)
        whole = count == len(pool.members)
        index = pool.members if whole else pool.members[rows]
        memory = pool.memory if whole else pick(pool.memory, rows)
        u = rows_of(state.u, index)
        t = array_like(rows_of(members_of(state).t, index)[:, None], u)
        h = array_like(rows_of(size, index)[:, None], u)
        piece = Piece(place, rows, index, u)
        try:
            step = self.runner.try_step(t, u, h, None, memory)
        except (NewtonFailure, np.linalg.LinAlgError) as failure:
            if count == 1:
                yield piece._replace(failure=failure)
                return
            for half in (rows[: count // 2], rows[count // 2 :]):
                yield from self.attempt(state, place, half, size)
            return
        if tuple(step.u.shape) != tuple(u.shape):
            raise TypeError(
                f"A step of {count} members returned shape {tuple(step.u.shape)} "
                f"instead of {tuple(u.shape)}: the flow must treat every member by "
                "itself for own steps."
            )
        yield piece._replace(step=step)

    def round(self, state: State, stop: float) -> State:
        """One trial step of every member that has not arrived at ``stop``."""
        members = members_of(state)
        active = members.active(stop)
        members = self.started(state, members, active, stop)
        state = state._replace(members=members)
        size, landing = sizes(members, stop)
        pieces = list(self.tries(state, active, size))
        count = len(members.t)
        ratio, wrong = np.full(count, math.inf), np.full(count, FINE, dtype=np.int8)
        order: Any = {self.runner.exponent(piece.step) for piece in pieces}
        # One number for all makes powers cheaper.
        order = order.pop() if len(order) == 1 else np.ones(count, dtype=np.int64)
        texts: dict[int, str] = {}
        for piece in pieces:
            if np.ndim(order):
                order[piece.members] = self.runner.exponent(piece.step)
            self.judge(piece, size, ratio, wrong, texts)
        # Of members that share their steps, the one that makes them short.
        worst = int(np.argmax(np.where(active, ratio, -1.0))) if self.shared else None
        if self.shared:
            ratio[active] = ratio[active].max()
            wrong[active & (ratio > 1.0) & (wrong == FINE)] = TOLERANCE
        accepted = active & (ratio <= 1.0)
        members = self.chosen(members, active, accepted, size, ratio, wrong, order)
        t = np.where(landing, stop, members.t + size)
        members = members._replace(t=np.where(accepted, t, members.t))
        u, memory = self.merged(state, pieces, accepted)
        found = Found(active, wrong, texts, worst)
        members = self.failures.given_up(members, u, stop, found)
        counters = self.runner.counters
        counters["steps"] = int(members.steps.max())
        counters["rejected"] = int(members.rejected.max())
        return state._replace(u=u, memory=memory, members=members, step=state.step + 1)

    def started(
        self, state: State, members: Members, active: np.ndarray, stop: float
    ) -> Members:
        """First steps of the members that have none."""
        index = np.flatnonzero(active & (members.h == 0.0))
        if not len(index):
            return members
        runner = self.runner
        t = members.t[index]
        u = rows_of(state.u, index)
        span = max(runner.end, stop) - t
        order = runner.scheme.order
        first = first_step(runner.flow, runner.control, t, u, order, span)
        h = members.h.copy()
        # The guess knows nothing of the spacing of t.
        h[index] = np.maximum(first, least_step(t))
        if self.shared:
            h[index] = h[index].min()
        return members._replace(h=h)

    def judge(
        self,
        piece: Piece,
        size: np.ndarray,
        ratio: np.ndarray,
        wrong: np.ndarray,
        texts: dict[int, str],
    ) -> None:
        """Error ratios of the members of a piece, and what is wrong with them."""
        index, runner = piece.members, self.runner
        if piece.step is None:
            wrong[index] = SOLVER
            if piece.failure is not None:
                i = int(index[0])
                texts[i] = describe(piece.failure, float(size[i]))
            return
        u = piece.step.u
        with np.errstate(all="ignore"):
            ratios = np.asarray(
                error_ratio(
                    runner.flow, runner.control, piece.step.error, piece.before, u
                )
            )
        codes = (ratios > 1.0).astype(np.int8)
        codes[~np.isfinite(ratios)] = ESTIMATE
        if runner.admissible is not None:
            with np.errstate(all="ignore"):
                inside = to_numpy(runner.admissible(u))
            codes[~np.broadcast_to(inside, codes.shape)] = OUTSIDE
        if not all_finite(u):
            xp = namespace(u)
            axes = tuple(range(1, u.ndim))
            codes[~to_numpy(xp.all(xp.isfinite(u), axis=axes))] = STATE
        at: Any = slice(None) if len(index) == len(ratio) else index
        ratio[at] = np.where(codes <= TOLERANCE, ratios, math.inf)
        wrong[at] = codes

    def chosen(
        self,
        members: Members,
        active: np.ndarray,
        accepted: np.ndarray,
        size: np.ndarray,
        ratio: np.ndarray,
        wrong: np.ndarray,
        order: Any,
    ) -> Members:
        """The members with their next steps and counts."""
        control = self.runner.control
        h, past = members.h.copy(), members.past.copy()
        count = np.count_nonzero(accepted)
        if count:
            # Whole rows are cheaper than an index array until few are left.
            i: Any = slice(None) if 4 * count > len(h) else np.flatnonzero(accepted)
            memory, taken, sized, error = past[:, i], accepted[i], size[i], ratio[i]
            e1, e2, h1, h2 = memory
            with np.errstate(all="ignore"):
                steps = (
                    np.where(h1 > 0, sized / h1, 1.0),
                    np.where(h2 > 0, h1 / h2, 1.0),
                )
                grown = control.controller.factor(
                    (error, e1, e2), steps, order[i] if np.ndim(order) else order
                )
            before, refused = h[i], members.refused[i]
            np.minimum(grown, 1.0, out=grown, where=refused)
            grown *= sized
            # A step cut short to land on a save time tells the controller nothing.
            short = (sized < before) & ~refused
            np.maximum(grown, before, out=grown, where=short)
            np.minimum(grown, control.largest or math.inf, out=grown)
            told = taken & ~short
            for row, new in ((e2, e1), (e1, np.maximum(error, 1e-4)), (h2, h1)):
                np.copyto(row, new, where=told)
            np.copyto(h1, sized, where=told)
            past[:, i] = memory
            h[i] = np.where(taken, grown, before)
        rejected = active & ~accepted
        bad = np.flatnonzero(rejected)
        again, code = size[bad], wrong[bad]
        mild = code == TOLERANCE
        shrink = np.where(code == OUTSIDE, 0.5, 0.25)
        if mild.any():
            some = bad[mild]
            shrink[mild] = control.controller.shrink(
                ratio[some], order[some] if np.ndim(order) else order
            )
        h[bad] = again * shrink
        if self.shared and active.any():
            h[active] = h[active].min()
        failures = np.where(accepted, 0, members.bad)
        failures[bad[~mild & (code != OUTSIDE)]] += 1
        return members._replace(
            h=h,
            past=past,
            steps=members.steps + accepted,
            rejected=members.rejected + rejected,
            bad=failures,
            refused=(members.refused | rejected) & ~accepted,
        )

    def merged(
        self, state: State, pieces: list[Piece], accepted: np.ndarray
    ) -> tuple[Array, tuple[Pool, ...]]:
        """States and pools in which the accepted steps have replaced the old ones."""
        u = state.u
        pools = list(state.memory)
        parts: list[tuple[np.ndarray, Memory]] = []
        left = np.zeros(len(u), dtype=bool)
        for piece in pieces:
            fits = rows_of(accepted, piece.members)
            if piece.step is None or not fits.any():
                continue
            u = replaced(u, piece.members, fits, piece.step.u)
            memory = () if self.runner.forget else piece.step.memory
            pool = pools[piece.place]
            if layout(memory, len(fits)) == layout(pool.memory, len(pool.members)):
                pairs = zip(pool.memory, memory, strict=True)
                memory = tuple(
                    replaced(old, piece.rows, fits, new) if is_array(new) else new
                    for old, new in pairs
                )
                pools[piece.place] = pool._replace(memory=memory)
            else:
                index = piece.members[fits]
                left[index] = True
                parts.append((index, pick(memory, np.flatnonzero(fits))))
        if not is_torch(u):
            u.flags.writeable = False
        return u, regrouped(pools, left, parts) if parts else tuple(pools)
