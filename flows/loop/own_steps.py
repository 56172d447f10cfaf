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

from flows.arrays import array_like, is_torch, namespace, to_numpy
from flows.control import error_ratio, first_step
from flows.linear import NewtonFailure
from flows.loop.failures import describe, too_small
from flows.loop.members import (
    FAILED,
    RUNNING,
    Members,
    Pool,
    least_step,
    members_of,
    pick,
    pooled,
    put,
    sizes,
    take,
)
from flows.loop.runner import MOST_SHRINKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow import Memory, Step
    from flows.loop.runner import Runner, State

__all__ = ["OwnSteps", "Piece"]

Array = Any
# What was wrong with a step.
FINE, TOLERANCE, STATE, ESTIMATE, OUTSIDE, SOLVER = range(6)


class Piece(NamedTuple):
    """Members that were stepped in one call, or the one that could not be."""

    members: np.ndarray
    before: Array
    step: Step | None
    failure: Exception | None = None


@dataclass
class OwnSteps:
    """The rounds of a batch; ``shared`` makes the worst member decide for all."""

    runner: Runner
    shared: bool = False

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
        for pool in state.memory:
            chosen = wanted[pool.members]
            if chosen.all():
                yield from self.attempt(state, pool.members, size, pool.memory)
            elif chosen.any():
                memory = pick(pool.memory, np.flatnonzero(chosen))
                yield from self.attempt(state, pool.members[chosen], size, memory)

    def attempt(
        self, state: State, index: np.ndarray, size: np.ndarray, memory: Memory
    ) -> Iterator[Piece]:
        """One call of the scheme; where it fails, of both halves of the members."""
        members = members_of(state)
        count = len(index)
        u = state.u if count == len(state.u) else take(state.u, index)
        t = array_like(members.t[index, None], u)
        h = array_like(size[index, None], u)
        try:
            step = self.runner.try_step(t, u, h, None, memory)
        except (NewtonFailure, np.linalg.LinAlgError) as failure:
            if count == 1:
                yield Piece(index, u, None, failure)
                return
            rows = np.arange(count)
            for half in (rows[: count // 2], rows[count // 2 :]):
                yield from self.attempt(state, index[half], size, pick(memory, half))
            return
        if tuple(step.u.shape) != tuple(u.shape):
            raise TypeError(
                f"A step of {count} members returned shape {tuple(step.u.shape)} "
                f"instead of {tuple(u.shape)}: the flow must treat every member by "
                "itself for own steps."
            )
        yield Piece(index, u, step)

    def round(self, state: State, stop: float) -> State:
        """One trial step of every member that has not arrived at ``stop``."""
        members = members_of(state)
        active = members.active(stop)
        members = self.started(state, members, active, stop)
        state = state._replace(members=members)
        size, landing = sizes(members, stop)
        pieces = list(self.tries(state, active, size))
        count = len(members.t)
        ratio, wrong = np.full(count, math.inf), np.full(count, FINE)
        orders = np.full(count, self.runner.exponent(None))
        texts: dict[int, str] = {}
        for piece in pieces:
            orders[piece.members] = self.runner.exponent(piece.step)
            self.judge(piece, size, ratio, wrong, texts)
        # Of members that share their steps, the one that makes them short.
        worst = int(np.argmax(np.where(active, ratio, -1.0))) if self.shared else None
        if self.shared:
            ratio[active] = ratio[active].max()
            wrong[active & (ratio > 1.0) & (wrong == FINE)] = TOLERANCE
        accepted = active & (ratio <= 1.0)
        members = self.chosen(members, active, accepted, size, ratio, wrong, orders)
        t = np.where(landing, stop, members.t + size)
        members = members._replace(t=np.where(accepted, t, members.t))
        members = self.given_up(members, active, stop, wrong, texts, worst)
        counters = self.runner.counters
        counters["steps"] = int(members.steps.max())
        counters["rejected"] = int(members.rejected.max())
        u, memory = self.merged(state, pieces, accepted)
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
        u = state.u if len(index) == len(state.u) else take(state.u, index)
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
        u, xp = piece.step.u, namespace(piece.step.u)
        axes = tuple(range(1, u.ndim))
        with np.errstate(all="ignore"):
            ratios = np.asarray(
                error_ratio(
                    runner.flow, runner.control, piece.step.error, piece.before, u
                )
            )
        codes = np.where(ratios > 1.0, TOLERANCE, FINE)
        codes[~np.isfinite(ratios)] = ESTIMATE
        if runner.admissible is not None:
            with np.errstate(all="ignore"):
                inside = to_numpy(runner.admissible(u))
            codes[~np.broadcast_to(inside, codes.shape)] = OUTSIDE
        codes[~to_numpy(xp.all(xp.isfinite(u), axis=axes))] = STATE
        ratio[index] = np.where(codes <= TOLERANCE, ratios, math.inf)
        wrong[index] = codes

    def chosen(
        self,
        members: Members,
        active: np.ndarray,
        accepted: np.ndarray,
        size: np.ndarray,
        ratio: np.ndarray,
        wrong: np.ndarray,
        orders: np.ndarray,
    ) -> Members:
        """The members with their next steps and counts."""
        control = self.runner.control
        h, past = members.h.copy(), members.past.copy()
        i: Any = np.flatnonzero(accepted)
        if len(i):
            # A slice is much cheaper than an index array.
            i = slice(None) if len(i) == len(h) else i
            e1, e2, h1, h2 = (row[i] for row in members.past)
            sized, error = size[i], ratio[i]
            with np.errstate(divide="ignore", invalid="ignore"):
                first = np.where(h1 > 0, sized / h1, 1.0)
                second = np.where(h2 > 0, h1 / h2, 1.0)
            factor = control.controller.factor(
                (error, e1, e2), (first, second), common(orders[i])
            )
            refused = members.refused[i]
            grown = sized * np.where(refused, np.minimum(1.0, factor), factor)
            # A step cut short to land on a save time tells the controller nothing.
            short = (sized < members.h[i]) & ~refused
            grown = np.where(short, np.maximum(grown, members.h[i]), grown)
            h[i] = np.minimum(grown, control.largest or math.inf)
            told = (np.maximum(error, 1e-4), e1, sized, h1)
            for row, old, new in zip(past, (e1, e2, h1, h2), told, strict=True):
                row[i] = np.where(short, old, new)
        rejected = active & ~accepted
        mild = np.flatnonzero(rejected & (wrong == TOLERANCE))
        if len(mild):
            h[mild] = size[mild] * control.controller.shrink(ratio[mild], orders[mild])
        outside = rejected & (wrong == OUTSIDE)
        h[outside] = 0.5 * size[outside]
        bad = rejected & (wrong > TOLERANCE) & ~outside
        h[bad] = 0.25 * size[bad]
        if self.shared and active.any():
            h[active] = h[active].min()
        return members._replace(
            h=h,
            past=past,
            steps=members.steps + accepted,
            rejected=members.rejected + rejected,
            bad=np.where(accepted, 0, members.bad + bad),
            refused=(members.refused | rejected) & ~accepted,
        )

    def given_up(
        self,
        members: Members,
        active: np.ndarray,
        stop: float,
        wrong: np.ndarray,
        texts: dict[int, str],
        worst: int | None,
    ) -> Members:
        """The members with those marked as failed that cannot go on."""
        control, runner = self.runner.control, self.runner
        going = active & (members.t < stop)
        remaining = stop - members.t
        small = (members.h < least_step(members.t)) & (members.h < remaining)
        if worst is not None:
            small &= np.arange(len(small)) == worst
        spent = members.steps + members.rejected >= control.max_steps
        hopeless = members.bad > MOST_SHRINKS
        failed = np.flatnonzero(going & (small | spent | hopeless))
        if not len(failed):
            return members
        reasons = dict(members.reasons)
        for i in map(int, failed):
            t, h = float(members.t[i]), float(members.h[i])
            reason = self.reason(int(wrong[i]), t, texts.get(i, ""))
            if hopeless[i]:
                reasons[i] = f"{reason}. {runner.hint(reason)}"
            elif small[i]:
                left = bool(wrong[i] == OUTSIDE)
                reasons[i] = too_small(t, h, float(remaining[i]), reason, left, runner)
            else:
                reasons[i] = runner.used_up(t, h, control)
        status = members.status.copy()
        status[failed] = FAILED
        if worst is not None:
            # The others need not go on with a step that was too short.
            members = members.restarted(status == RUNNING)
        return members._replace(status=status, reasons=reasons)

    def reason(self, code: int, t: float, text: str) -> str:
        """The sentence about a rejected step."""
        if code == OUTSIDE:
            return f"the step after t = {t:.6g} ends outside {self.runner.bounds()}"
        if code == ESTIMATE:
            zero = " (`atol` is 0: a component that is 0 allows no error)"
            return "the error estimate is not finite" + (
                zero if self.runner.control.atol == 0.0 else ""
            )
        return {
            FINE: "",
            TOLERANCE: "the error estimate stays above the tolerance",
            STATE: f"the state has non-finite values after t = {t:.6g}",
        }.get(code, text)

    def merged(
        self, state: State, pieces: list[Piece], accepted: np.ndarray
    ) -> tuple[Array, tuple[Pool, ...]]:
        """States and pools in which the accepted steps have replaced the old ones."""
        u = state.u
        parts: list[tuple[np.ndarray, Memory]] = []
        for pool in state.memory:
            kept = np.flatnonzero(~accepted[pool.members])
            whole = len(kept) == len(pool.members)
            memory = pool.memory if whole else pick(pool.memory, kept)
            parts.append((pool.members[kept], memory))
        for piece in pieces:
            rows = np.flatnonzero(accepted[piece.members])
            if piece.step is None or not len(rows):
                continue
            index, whole = piece.members[rows], len(rows) == len(piece.members)
            new = piece.step.u if whole else take(piece.step.u, rows)
            u = new if len(rows) == len(u) else put(u, index, new)
            memory = () if self.runner.forget else piece.step.memory
            parts.append((index, memory if whole else pick(memory, rows)))
        if not is_torch(u):
            u.flags.writeable = False
        return u, pooled(parts)


def common(orders: np.ndarray) -> Any:
    """One exponent for all members where they agree, which makes powers cheaper."""
    first = int(orders[0])
    return first if bool((orders == first).all()) else orders
