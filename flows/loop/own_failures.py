"""Members of a batch that cannot go on, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import array_like
from flows.loop.advice import bounds, creeping, hint, is_kink, too_small, used_up
from flows.loop.creep import WINDOW, Pace, too_slow
from flows.loop.failures import spacing
from flows.loop.members import FAILED, RUNNING, Members, least_step, rows_of
from flows.loop.runner import CREEP, MOST_SHRINKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.loop.runner import Runner

__all__ = [
    "ESTIMATE",
    "FINE",
    "OUTSIDE",
    "SOLVER",
    "STATE",
    "TOLERANCE",
    "Failures",
    "Found",
]

Array = Any
# What was wrong with a step.
FINE, TOLERANCE, STATE, ESTIMATE, OUTSIDE, SOLVER = range(6)


class Found(NamedTuple):
    """A round: which members tried a step, what was wrong with it, the solver's words.

    ``worst`` is the member that makes the steps short where all share them.
    """

    active: np.ndarray
    wrong: np.ndarray
    texts: Mapping[int, str]
    worst: int | None = None


@dataclass
class Failures:
    """Gives up the members whose steps are too small, too many, or creep."""

    runner: Runner
    pace: Pace = field(default_factory=Pace)
    rounds: int = 0

    def given_up(
        self, members: Members, u: Array, stop: float, found: Found
    ) -> Members:
        """The members, in the states ``u``, with those marked that cannot go on."""
        control = self.runner.control
        going = found.active & (members.t < stop)
        spent = going & (members.steps + members.rejected >= control.max_steps)
        causes = self.causes(members, u, stop, going, spent, found.wrong)
        # One bound for all settles it nearly always.
        least = CREEP * spacing(float(np.abs(members.t).max()))
        suspect = spent | (members.h < least) | (members.bad > 0)
        if not causes and not (going & suspect).any():
            return members
        remaining = stop - members.t
        small = (members.h < least_step(members.t)) & (members.h < remaining)
        if found.worst is not None:
            small &= np.arange(len(small)) == found.worst
        short = members.h < CREEP * least_step(members.t)
        hopeless = (members.bad > MOST_SHRINKS) | ((members.bad > 0) & short)
        failed = going & (small | spent | hopeless)
        failed[list(causes)] = True
        if not failed.any():
            return members
        reasons = dict(members.reasons)
        for i in map(int, np.flatnonzero(failed)):
            t, h = float(members.t[i]), float(members.h[i])
            reason = self.reason(int(found.wrong[i]), t, found.texts.get(i, ""))
            if hopeless[i]:
                way = hint(self.runner, reason, (t, u[i : i + 1], h))
                reasons[i] = f"{reason}. {way}"
            elif small[i]:
                left = bool(found.wrong[i] == OUTSIDE)
                rest = float(remaining[i])
                reasons[i] = too_small(self.runner, t, h, rest, reason, left)
            else:
                reasons[i] = causes.get(i) or used_up(self.runner, t, h)
        status = members.status.copy()
        status[failed] = FAILED
        if found.worst is not None:
            # The others need not go on with a step that was too short.
            members = members.restarted(status == RUNNING)
        return members._replace(status=status, reasons=reasons)

    def causes(
        self,
        members: Members,
        u: Array,
        stop: float,
        going: np.ndarray,
        spent: np.ndarray,
        wrong: np.ndarray,
    ) -> dict[int, str]:
        """Why members creep or are ``spent``, where it is known.

        All are looked at once in a while, those that are spent always.
        """
        tried = members.steps + members.rejected
        if self.rounds == 0:
            self.pace = Pace(members.t, tried, np.zeros(len(tried), dtype=np.int64))
        self.rounds += 1
        if self.runner.admissible is not None:
            self.pace.outside += wrong == OUTSIDE
        look = spent
        if self.rounds > WINDOW:
            self.rounds = 0
            end = max(self.runner.end, stop)
            most = self.runner.control.max_steps
            slow = too_slow(members.t, self.pace, tried, end, most)
            look = spent | (going & slow & (2 * (tried - self.pace.tried) > WINDOW))
        index = np.flatnonzero(look)
        if not len(index):
            return {}
        x = rows_of(u, index)
        t, h = (array_like(a[index][:, None], u) for a in (members.t, members.h))
        bent = np.broadcast_to(is_kink(self.runner, t, x, h), (len(index),))
        bound = self.pace.beyond(tried)
        found = {
            i: creeping(
                self.runner, float(members.t[i]), float(members.h[i]), bound[i], b
            )
            for i, b in zip(map(int, index), bent, strict=True)
        }
        return {i: text for i, text in found.items() if text}

    def reason(self, code: int, t: float, text: str) -> str:
        """The sentence about a rejected step."""
        if code == OUTSIDE:
            return f"the step after t = {t:.6g} ends outside {bounds(self.runner.flow)}"
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
