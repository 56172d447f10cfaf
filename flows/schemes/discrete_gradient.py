"""The equation of an averaged discrete gradient, solved for one step.

With v(x) = -grad F(x), the rule s_k, w_k on [0, 1] and c the defect of the quadrature,

    R(d) = (1 + h kappa) d - h sum_k w_k v(x + s_k d) = 0,    kappa = c / <d, d>,
    c = F(x + d) - F(x) + <sum_k w_k v(x + s_k d), d>.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import array_like, is_array, namespace, unrecorded
from flows.flow import offers
from flows.linear import NewtonFailure, count_iterations
from flows.linear.operators import transpose
from flows.linear.shifted import shifted
from flows.schemes.base import describe
from flows.schemes.branch import Branch
from flows.schemes.segments import Segment, chosen, column, members

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Balance", "Linked"]

Array = Any
ITERATIONS = 30
HALVINGS = 16


class Values(NamedTuple):
    """The equation at one d."""

    residual: Array
    size: np.ndarray
    floor: np.ndarray
    mean: Array
    square: np.ndarray
    kappa: np.ndarray
    defect: np.ndarray
    noise: np.ndarray


@dataclass(eq=False)
class Balance(Segment):
    """One step from x: the equation for d = y - x and its solution."""

    guess: Callable[[], Array]
    residuals: list[float] = field(default_factory=list)

    def values(self, d: Array, corrected: bool) -> Values:
        """The equation at d, without kappa unless ``corrected``."""
        mean, h = self.mean_velocity(d), self.step
        square = self.inner(d, d, d)
        safe = np.where(square > 0.0, square, 1.0)
        kappa = defect = noise = np.zeros_like(square)
        if corrected:
            end = self.end(d)
            noise = 8 * self.eps * (np.abs(self.start) + np.abs(end))
            defect = end - self.start + self.inner(d, mean, d)
            kappa = np.where(square > 0.0, defect / safe, 0.0)
        residual = column(1.0 + h * kappa, d) * d - column(h, d) * mean
        size = np.sqrt(self.inner(d, residual, residual))
        # Rounding of x, of h v, and of the energies in kappa.
        pull = np.sqrt(self.inner(d, mean, mean))
        floor = self.eps * (self.reach + np.sqrt(square) + h * pull)
        floor = floor + h * noise / np.sqrt(safe) if corrected else floor
        return Values(residual, size, floor, mean, square, kappa, defect, noise)

    def newton_step(self, d: Array, at: Values, corrected: bool) -> Array:
        """What Newton's method subtracts from d; kappa adds a matrix of rank one."""
        h = self.step
        q = 1.0 + h * at.kappa
        q = np.where(q == 0.0, self.eps, q)
        solver = self.solver(d, h / q)
        a = column(1.0 / q, d) * solver.solve(at.residual)
        if not corrected:
            return a
        b = column(1.0 / q, d) * solver.solve(d)
        gap = at.mean - self.velocity(self.x + d)
        square = np.where(at.square > 0.0, at.square, 1.0)

        def slope(w: Array, source: Array) -> np.ndarray:
            """Derivative of kappa along w = (q - h J)^{-1} source."""
            moved = column(1.0 / h, d) * (column(q, d) * w - source)
            change = self.inner(d, gap, w) + self.inner(d, moved, d)
            return np.asarray((change - 2.0 * at.kappa * self.inner(d, d, w)) / square)

        below = 1.0 + h * slope(b, d)
        below = np.where(below == 0.0, self.eps, below)
        return a - column(h * slope(a, at.residual) / below, d) * b

    def newton(
        self, d: Array, corrected: bool, active: np.ndarray
    ) -> tuple[Array, np.ndarray]:
        """Damped Newton iteration; every active member has its own step length.

        Returns d and the members without convergence.
        """
        at = self.values(d, corrected)
        settled = (at.size <= at.floor) | ~active
        stuck = np.zeros(at.size.shape, bool)
        for _ in range(ITERATIONS):
            open_ = ~(settled | stuck)
            if not open_.any():
                break
            count_iterations(1)
            w = self.newton_step(d, at, corrected)
            # A step of rounding size says that d is known to rounding.
            moved = np.sqrt(self.inner(d, w, w))
            tiny = moved <= 8 * self.eps * (self.reach + np.sqrt(at.square))
            done = tiny | (at.size <= 64 * at.floor)
            length = np.ones(at.size.shape)
            for _ in range(HALVINGS):
                trial = d - column(np.where(open_, length, 0.0), d) * w
                new = self.values(trial, corrected)
                ok = new.size < (1.0 - 1e-4 * length) * at.size
                last = ok | ~open_ | done
                if last.all():
                    break
                length = np.where(last, length, 0.5 * length)
            settled = settled | (open_ & done & ~ok)
            stuck = stuck | (open_ & ~ok)
            d = chosen(open_ & ok, trial, d)
            at = self.values(d, corrected)
            settled = settled | (at.size <= at.floor)
            self.residuals.append(float(at.size.max()))
        # Where it is stuck the balance is restored along d, if little is missing.
        loose = 1e-7 if self.eps < 1e-10 else 1e-3
        near = at.size <= loose * np.sqrt(at.square)
        return d, ~(settled | near)

    def solve(self) -> Array:
        """The displacement d of the step.

        Where Newton's method fails from rest and from ``guess``, the step is sought
        along ``Branch``.
        """
        d = namespace(self.x).zeros_like(self.x)
        bad = np.ones(self.start.shape, bool)
        for guessed in (False, True):
            try:
                first = chosen(bad, self.guess(), d) if guessed else d
                found, worse = self.corrected(first, bad)
            except NewtonFailure as failure:
                self.residuals.extend(failure.residuals)
                continue
            worse = bad & (worse | ~np.isfinite(self.end(found)))
            d, bad = chosen(bad & ~worse, found, d), worse
            if not bad.any():
                break
        else:
            d = chosen(bad, Branch(self).solve(bad), d)
        return self.balanced(d)

    def corrected(self, d: Array, active: np.ndarray) -> tuple[Array, np.ndarray]:
        """Solution of the equation, kappa included where it is above rounding."""
        d, bad = self.newton(d, False, active)
        needed = self.above_rounding(d) & active & ~bad
        if not needed.any():
            return d, bad
        found, worse = self.newton(d, True, needed)
        return chosen(needed, found, d), bad | worse

    def above_rounding(self, d: Array) -> np.ndarray:
        """The members whose defect of the quadrature is more than rounding."""
        at = self.values(d, corrected=True)
        needed: np.ndarray = np.abs(at.defect) > at.noise
        if needed.any():
            needed = needed & (np.abs(at.defect) > self.jitter)
        return needed

    def balanced(self, d: Array) -> Array:
        """d, stretched until F(x + d) - F(x) + <d, d>/h = 0 to rounding.

        Raises
        ------
        NewtonFailure
            Where the balance cannot be reached.
        """
        h, square = self.step, self.inner(d, d, d)

        def gap(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            end = self.end(column(s, d) * d)
            return end - self.start + s * s * square / h, end

        s = np.ones(square.shape)
        value, end = gap(s)
        y = self.x + d
        slope = 2.0 * square / h - self.inner(d, self.velocity(y), d)
        for _ in range(8):
            wrong = np.abs(value) > 2 * self.eps * (np.abs(self.start) + np.abs(end))
            if not (wrong & (slope != 0.0)).any():
                break
            trial = np.where(wrong, s - value / np.where(slope == 0.0, 1.0, slope), s)
            new, new_end = gap(trial)
            # Near rest noise alone would ask for any length.
            better = (np.abs(new) < np.abs(value)) & (np.abs(trial - 1.0) < 0.01)
            if not better.any():
                break
            s, value = np.where(better, trial, s), np.where(better, new, value)
            end = np.where(better, new_end, end)
        allowed = 4096 * self.eps * (np.abs(self.start) + np.abs(end))
        if not (np.abs(value) <= allowed).all():
            allowed = np.maximum(allowed, self.jitter)
        if not (np.abs(value) <= allowed).all():
            worst = float(np.max(np.abs(value)))
            raise NewtonFailure(f"the energy balance is missed by {worst:.3g}", [worst])
        return d if (s == 1.0).all() else column(s, d) * d

    @cached_property
    def jitter(self) -> np.ndarray:
        """Rounding error of the energy near x, where its terms may cancel.

        It is read off neighbors of x, and off the size of the energy at 0 and 2x.
        """
        spread = np.zeros(self.start.shape)
        for k in (1.0, -2.0, 3.0):
            near = self.x * (1.0 + k * self.eps)
            moved = members(self.flow.energy(self.t, near))
            spread = np.maximum(spread, 16.0 * np.abs(moved - self.start))
        for c in (0.0, 2.0):
            far = np.abs(members(self.flow.energy(self.t, c * self.x)))
            usual = np.where(np.isfinite(far), self.eps * far, 0.0)
            spread = np.fmax(spread, usual)
        return spread


@dataclass(frozen=True, eq=False)
class Linked:
    """The equation of a solved step as arrays, through which autograd may go."""

    balance: Balance
    d: Array

    @cached_property
    def needed(self) -> np.ndarray:
        """The members whose step has the correction kappa."""
        with np.errstate(all="ignore"), unrecorded(self.d):
            return self.balance.above_rounding(self.d)

    def residual(self, unknowns: list[Array]) -> list[Array]:
        """R(d); kappa is left out where it is rounding, as it was in the step."""
        own, (d,) = self.balance, unknowns
        mean = own.mean_velocity(d)
        rest = d - own.h * mean
        if not self.needed.any():
            return [rest]
        xp, flow, x = namespace(d), own.flow, own.x

        def inner(a: Array, b: Array) -> Any:
            return flow.inner(x + 0.5 * d, a, b)

        rise = flow.energy(own.t, x + d) - flow.energy(own.t, x)
        if not is_array(rise):
            raise TypeError(
                "Discrete gradients need an energy that is a tensor in the graph of "
                f"autograd to be differentiated; that of {describe(flow)} is a number."
            )
        shape = (-1,) + (1,) * (d.ndim - 1) if self.needed.ndim else ()
        defect, square = (
            xp.reshape(value, shape) for value in (rise + inner(mean, d), inner(d, d))
        )
        mask = array_like(self.needed.reshape(shape), d) != 0
        kappa = xp.where(mask, defect, 0.0 * defect)
        kappa = kappa / xp.where(mask, square, xp.ones_like(square))
        return [rest + own.h * kappa * d]

    def approximate(self, transposed: bool) -> Any:
        """Inverse of I - h J/2 with J in the middle, or of its transpose."""
        own = self.balance
        if not offers(own.flow, "jacobian"):
            return None
        J = own.flow.jacobian(own.t, own.x + 0.5 * self.d)
        J = transpose(J) if transposed else J
        if J is None:
            return None
        solver = shifted(J, 0.5 * own.h, self.d)
        return lambda vectors: [solver.solve(vectors[0])]
