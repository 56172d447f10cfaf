"""Discrete gradient steps of every length, followed along one curve.

Let x be the state, v(d) the mean velocity over the segment from x to x + d, and
Phi(d) = F(x + d) - F(x) + <d, d>/h. The step d solves q d = h v(d) for some number q
and Phi(d) = 0. The points with the first property are the curve

    G(d, a) = cos(a) d - sin(a) s v(d) = 0,      d = 0 at a = 0,

s > 0 any unit of time; for the midpoint rule x + d/2 are implicit Euler steps from x.
It starts into Phi < 0, and where F is bounded below it has to leave that set, by degree
theory: d + h g(x, x + d), with g the discrete gradient, points outwards on large balls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import namespace
from flows.linear import NewtonFailure, count_iterations
from flows.schemes.segments import chosen, column

if TYPE_CHECKING:
    from flows.schemes.discrete_gradient import Balance

__all__ = ["Branch"]

Array = Any
POINTS = 600
CORRECTIONS = 6
FIRST = 0.05
TURN = 0.8
TRIES = 4
LIFTS = 24
HALVINGS = 6
STEEP = 1e-9
SHORTEST = 1e-10


class Place(NamedTuple):
    """A point (d, a) and a direction there, of every member."""

    d: Array
    a: np.ndarray


@dataclass(eq=False)
class Branch:
    """The curve of one step; every member of a batch goes along its own."""

    balance: Balance

    def __post_init__(self) -> None:
        own = self.balance
        self.zero = namespace(own.x).zeros_like(own.x)
        v = own.mean_velocity(self.zero)
        square = own.inner(self.zero, v, v)
        bend = np.abs(own.inner(self.zero, v, own.difference(self.zero, v)))
        unit = np.where(bend > 0.0, square / np.where(bend > 0.0, bend, 1.0), np.inf)
        self.unit = np.minimum(unit, own.step)
        size = self.unit * np.sqrt(square)
        self.length = np.where(size > 0.0, size, 1.0)

    def product(self, p: Place, q: Place, d: Array) -> np.ndarray:
        """Product of two directions, without units."""
        return np.asarray(self.balance.inner(d, p.d, q.d) / self.length**2 + p.a * q.a)

    def slopes(self, at: Place, mean: Array, rest: Array | None) -> tuple[Array, Array]:
        """The solutions z of G_d z = G_a and of G_d z = ``rest``."""
        cos, sin = np.cos(at.a), np.sin(at.a)
        cos = np.where(np.abs(cos) > STEEP, cos, STEEP)
        d = at.d
        across = -column(sin, d) * d - column(cos * self.unit, d) * mean
        solver = self.balance.solver(d, self.unit * sin / cos)
        scale = column(1.0 / cos, d)
        ahead = scale * solver.solve(across)
        return ahead, None if rest is None else scale * solver.solve(rest)

    def tangent(self, at: Place, before: Place | None) -> Place:
        """Unit direction of the curve, onwards from ``before``."""
        ahead, _ = self.slopes(at, self.balance.mean_velocity(at.d), None)
        found = Place(-ahead, np.ones(at.a.shape))
        size = np.sqrt(self.product(found, found, at.d))
        if before is not None:
            size = np.where(self.product(found, before, at.d) < 0.0, -size, size)
        return moved(Place(self.zero, 0.0 * at.a), found, 1.0 / size)

    def corrected(
        self, guess: Place, along: Place, step: np.ndarray, open_: np.ndarray
    ) -> tuple[Place, np.ndarray, np.ndarray]:
        """The point of the curve across ``along``, who has it, and the first error."""
        at, good, first = guess, np.zeros(step.shape, bool), np.zeros(step.shape)
        last = np.full(step.shape, np.inf)
        for k in range(CORRECTIONS):
            mean = self.balance.mean_velocity(at.d)
            cos, sin = np.cos(at.a), np.sin(at.a)
            rest = column(cos, at.d) * at.d - column(sin * self.unit, at.d) * mean
            finite = np.isfinite(self.balance.inner(self.zero, rest, rest))
            open_ = open_ & finite
            if not open_.any():
                break
            at = Place(chosen(open_, at.d, self.zero), at.a)
            rest = chosen(open_, rest, self.zero)
            mean = chosen(open_, mean, self.zero)
            count_iterations(1)
            ahead, back = self.slopes(at, mean, rest)
            p, q = (Place(z, 0.0 * at.a) for z in (back, ahead))
            below = along.a - self.product(q, along, at.d)
            turn = self.product(p, along, at.d) / np.where(below == 0.0, 1.0, below)
            delta = Place(-back - column(turn, at.d) * ahead, turn)
            size = np.sqrt(self.product(delta, delta, at.d))
            open_ = open_ & np.isfinite(size) & (size < 0.5 * last)
            at = moved(at, delta, np.where(open_, 1.0, 0.0))
            first = size if k == 0 else first
            last = np.where(open_, size, last)
            good = good | (open_ & (size <= 1e-3 * step))
            open_ = open_ & ~good
        return at, good, first / np.where(step > 0.0, step, 1.0)

    def lifted(self, d: Array) -> Array:
        """The point ahead on the ray through d where Phi changes its sign."""
        gap, low = self.balance.gap, np.ones(self.unit.shape)
        high = low
        for _ in range(LIFTS):
            high = 1.25 * low
            below = gap(column(high, d) * d) < 0.0
            if not below.any():
                break
            low = np.where(below, high, low)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = gap(column(middle, d) * d) < 0.0
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return column(low, d) * d

    def landed(self, start: Array, near: np.ndarray) -> tuple[np.ndarray, Array]:
        """Whom Newton's method takes from here to the balance, and the steps."""
        own = self.balance
        near = near & np.isfinite(own.gap(start))
        try:
            d, bad = own.newton(chosen(near, start, self.zero), True, near)
        except NewtonFailure:
            return np.zeros(near.shape, bool), start
        return near & ~bad & (own.inner(d, d, d) > 0.0), d

    def onwards(
        self, at: Place, along: Place, step: np.ndarray, todo: np.ndarray
    ) -> tuple[Place, Place, np.ndarray, np.ndarray]:
        """The next point, the direction there, who reached it, and his first error."""
        guess = moved(at, along, np.where(todo, step, 0.0))
        try:
            new, good, error = self.corrected(guess, along, step, todo)
            new = Place(chosen(good, new.d, at.d), np.where(good, new.a, at.a))
            ahead = self.tangent(new, along)
        except NewtonFailure:
            return at, along, np.zeros(step.shape, bool), np.ones(step.shape)
        good = good & (self.product(ahead, along, new.d) > TURN)
        return new, ahead, good, error

    def solve(self, active: np.ndarray) -> Array:
        """The steps d of the active members, 0 for the others.

        Raises
        ------
        NewtonFailure
            Where the curve cannot be followed to Phi = 0.
        """
        own = self.balance
        at = Place(self.zero, np.zeros(active.shape))
        along = self.tangent(at, None)
        step, gap = np.full(active.shape, FIRST), np.zeros(active.shape)
        found, todo = self.zero, active
        for k in range(POINTS):
            new, ahead, good, error = self.onwards(at, along, step, todo)
            level = own.gap(new.d)
            go = good & (level < 0.0)
            beyond = good & ~go
            reached = np.zeros(todo.shape, bool)
            if beyond.any():
                part = np.where(np.isfinite(level), gap / (gap - level), 0.5)
                part = column(np.where(beyond, part, 0.0), at.d)
                reached, d = self.landed(at.d + part * (new.d - at.d), beyond)
                found = chosen(reached, d, found)
            at, along = mixed(go, new, at), mixed(go, ahead, along)
            gap = np.where(go, level, gap)
            step = np.where(go, np.where(error < 0.1, 2.0, 1.0), 0.4) * step
            todo = todo & ~reached
            if k % TRIES == TRIES - 1 and todo.any():
                # Where the curve winds, a shorter way is worth a trial.
                reached, d = self.landed(self.lifted(at.d), todo)
                found, todo = chosen(reached, d, found), todo & ~reached
            if not todo.any():
                return found
            if (step[todo] < SHORTEST).any():
                break
        raise NewtonFailure(
            "the curve of discrete gradients was not followed to the energy balance: "
            "the energy is not bounded below, or not that of the velocity, or has too "
            "many wells for this step",
            own.residuals,
        )


def mixed(where: np.ndarray, new: Place, old: Place) -> Place:
    """``new`` for the members in ``where``, else ``old``."""
    return Place(chosen(where, new.d, old.d), np.where(where, new.a, old.a))


def moved(at: Place, along: Place, size: np.ndarray) -> Place:
    """The point at this distance."""
    return Place(at.d + column(size, at.d) * along.d, at.a + size * along.a)
