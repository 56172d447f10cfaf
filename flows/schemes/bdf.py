"""Backward differentiation of variable order and step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from flows.arrays import all_finite, is_array, namespace, rms
from flows.flow import Step
from flows.linear import NewtonFailure
from flows.schemes.base import Scheme
from flows.schemes.chord import chord, has_chord

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["BDF"]

Array = Any

# SDIRK4 of Hairer and Wanner: rows a_ij without the diagonal 1/4, and nodes.
DIAGONAL = 0.25
ROWS = (
    (),
    (1 / 2,),
    (17 / 50, -1 / 25),
    (371 / 1360, -137 / 2720, 15 / 544),
    (25 / 24, -49 / 48, 125 / 16, -85 / 12),
)
TIMES = (1 / 4, 3 / 4, 11 / 20, 1 / 2, 1.0)
DIFFERENCE = (-3 / 16, -27 / 32, 25 / 32, 0.0, 1 / 4)

# Bounds of sum_j |a_j|, which is 5/3, 29/11, 103/25 and 887/137 with equal steps and
# grows with the step. Twice as much is about where steady growth makes the formula of
# order k unstable; a single longer step may go beyond at high orders.
BOUNDS = (0.0, 1.0, 2 * 5 / 3, 2.5 * 29 / 11, 3.2 * 103 / 25, 4 * 887 / 137)


class Past(NamedTuple):
    """The memory: order of the next step, former steps and states, latest first.

    ``steps[j]`` leads from ``states[j]`` to the state after it; ``newton`` is what the
    resolvent returned.
    """

    order: int
    steps: tuple[Any, ...]
    states: tuple[Any, ...]
    newton: tuple[Any, ...]

    @staticmethod
    def read(u: Array, memory: Memory, order: int) -> Past:
        """From a memory, which is empty at the start."""
        if not memory:
            return Past(order, (), (), (u,))
        k, count, *rest = memory
        m = int(count)
        return Past(
            int(k), tuple(rest[:m]), tuple(rest[m : 2 * m]), tuple(rest[2 * m :])
        )

    def after(self, u: Array, h: Any, order: int, most: int, newton: Memory) -> Memory:
        """The memory after a step h from u."""
        steps, states = (h, *self.steps)[:most], (u, *self.states)[:most]
        return (float(order), float(len(steps)), *steps, *states, *newton)


@dataclass(frozen=True)
class BDF(Scheme):
    """Backward differentiation formulas of variable order and step.

        v = sum_j a_j u_{n-j} + b h velocity(t + h, v)

    where the derivative at t + h of the polynomial through v and the k last states, at
    their own times, is the velocity (the variable-coefficient form). Order k from 1 to
    ``order``; orders 1 and 2 are A-stable with equal steps, 3, 4, 5 are stable in
    sectors of 86, 73, 51 degrees around the negative axis, all are damping at infinity.
    Needs ``resolvent`` (once a step); one state of 32 numbers and more with a Jacobian
    that is a matrix is instead found by Newton's method with the matrix of an earlier
    step, to 5 percent of the local error. A step much longer than the last ones takes a
    lower order, at which it is stable; the first ``order`` steps, and those for which
    only order 1 would be left, are taken by a singly diagonally implicit scheme of
    order 4 (SDIRK4, five resolvents).

    The error estimate of order k, O(h^{k+1}), compares v with the polynomial through
    the k + 1 last states. The next order is that for which the estimates at orders
    k - 1, k and k + 1 promise the longest step, given that the present error is the one
    wanted: this needs no tolerance, so that fixed steps work as well.

    Parameters
    ----------
    order : int
        The largest order, 1 to 5.

    Raises
    ------
    ValueError
        For another order.

    References
    ----------
    K. E. Brenan, S. L. Campbell, L. R. Petzold, Numerical Solution of Initial-Value
    Problems in Differential-Algebraic Equations, SIAM (1996), chapter 5,
    doi:10.1137/1.9781611971224.
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, sections IV.6 and
    V.1, doi:10.1007/978-3-642-05221-7.
    """

    order: int = 5  # type: ignore[misc]

    needs: ClassVar[tuple[str, ...]] = ("resolvent",)
    error_order: ClassVar[int | None] = 4
    multistep: ClassVar[bool] = True

    def __post_init__(self) -> None:
        order = self.order
        if isinstance(order, bool) or not isinstance(order, (int, np.integer)):
            raise TypeError(f"`order` must be an integer from 1 to 5, got {order!r}.")
        if not 1 <= order <= 5:
            raise ValueError(f"`order` must be 1, 2, 3, 4 or 5, got {order}.")

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        past = Past.read(u, memory, self.order)
        distances = summed(h, past.steps)
        # A polynomial through k + 1 states for the estimate needs k former ones.
        k = tame(distances, past.order) if len(past.steps) >= self.order else 0
        if not k or (k == 1 and past.order > 1):
            v, error, newton = one_step(flow, t, u, h, past.newton[:1])
            kept = past.after(u, h, past.order, self.order, newton)
            return Step(v, error, kept, {"resolvent_calls": len(ROWS)}, 4)
        predicted = extrapolated(u, past.states, distances, k)
        weights, inverse = formula(distances[:k])
        w = weighted(u, past.states, weights)
        share = inverse / distances[k]
        v, newton, work = solved(flow, t + h, w, inverse, predicted, share, past.newton)
        error = share * (v - predicted)
        best = self.chosen(u, v, past, distances, k, error)
        kept = past.after(u, h, best, self.order, newton)
        return Step(v, error, kept, work, k + 1)

    def chosen(
        self, u: Array, v: Array, past: Past, distances: list[Any], k: int, error: Array
    ) -> int:
        """Order of the next step."""
        unit = measure(v)
        now = rms(error / unit)
        best, longest = k, 1.0
        for j in (k - 1, k + 1):
            if not 1 <= j <= min(self.order, len(past.steps)) or now == 0.0:
                continue
            inverse = formula(distances[:j])[1]
            other = v - extrapolated(u, past.states, distances, j)
            ratio = rms((inverse / distances[j]) * other / unit) / now
            # The step at order j for which its error would be that of order k now.
            factor = ratio ** (-1.0 / (j + 1)) if ratio > 0.0 else math.inf
            if factor > longest:
                best, longest = j, factor
        return best


def summed(h: Any, steps: tuple[Any, ...]) -> list[Any]:
    """Distances from the new time back to the present and to the former states."""
    distances = [h]
    for step in steps:
        distances.append(distances[-1] + step)
    return distances


def formula(distances: list[Any]) -> tuple[list[Any], Any]:
    """Weights a_j of the k last states, and b h, from their distances."""
    inverse = 1.0 / sum((1.0 / d for d in distances[1:]), start=1.0 / distances[0])
    lagrange = extrapolation(distances)
    return [inverse / d * p for d, p in zip(distances, lagrange, strict=True)], inverse


def extrapolation(distances: list[Any]) -> list[Any]:
    """Values at the new time of the Lagrange polynomials of the former times."""
    values = []
    for j, own in enumerate(distances):
        value = 1.0
        for i, other in enumerate(distances):
            if i != j:
                value = value * (other / (other - own))
        values.append(value)
    return values


def weighted(u: Array, states: tuple[Array, ...], weights: list[Any]) -> Array:
    """Sum of the states with weights that add up to 1: exact where they are equal."""
    total = u
    for weight, state in zip(weights[1:], states, strict=False):
        total = total + weight * (state - u)
    return total


def extrapolated(
    u: Array, states: tuple[Array, ...], distances: list[Any], k: int
) -> Array:
    """The polynomial of degree k through the k + 1 last states, at the new time."""
    return weighted(u, states, extrapolation(distances[: k + 1]))


def tame(distances: list[Any], most: int) -> int:
    """The highest order up to ``most`` whose weights keep to their bound."""
    for k in range(most, 1, -1):
        weights, _ = formula(distances[:k])
        total = sum(abs(weight) for weight in weights)
        top = float(namespace(total).max(total)) if is_array(total) else float(total)
        if top <= BOUNDS[k]:
            return k
    return 1


def measure(v: Array) -> Array:
    """What errors of components are measured by: their size and that of the state."""
    xp = namespace(v)
    scale = xp.abs(v) + 0.01 * xp.sqrt(xp.mean(v * v, axis=-1, keepdims=True))
    return xp.where(scale > 0, scale, xp.ones_like(scale))


def solved(
    flow: Flow, t: Any, w: Array, part: Any, guess: Array, share: Any, newton: Memory
) -> tuple[Array, Memory, dict[str, int]]:
    """The implicit step from the extrapolated state, or from the last one.

    ``newton`` is the last state, and where ``chord`` took its matrix.
    """
    work: dict[str, int] = {}
    if all_finite(guess):
        if has_chord(flow, w):
            v, place, work = chord(flow, t, w, part, guess, share, newton[1:])
            if v is not None:
                return v, (v, *place), work
        try:
            v, kept = flow.resolvent(t, w, part, (guess,))
        except (NewtonFailure, np.linalg.LinAlgError):
            pass
        else:
            if all_finite(v):
                return v, kept, {**work, "resolvent_calls": 1}
    v, kept = flow.resolvent(t, w, part, newton[:1])
    return v, kept, {**work, "resolvent_calls": 2}


def one_step(
    flow: Flow, t: Any, u: Array, h: Any, newton: Memory
) -> tuple[Array, Array, Memory]:
    """SDIRK4: new state, difference to its method of order 3, resolvent's memory."""
    part = DIAGONAL * h
    rises: list[Array] = []
    v = error = u
    for row, time in zip(ROWS, TIMES, strict=True):
        w = u
        for a, rise in zip(row, rises, strict=True):
            w = w + (a / DIAGONAL) * rise
        v, newton = flow.resolvent(t + time * h, w, part, newton)
        rises.append(v - w)
    error = (DIFFERENCE[0] / DIAGONAL) * rises[0]
    for e, rise in zip(DIFFERENCE[1:], rises[1:], strict=True):
        error = error + (e / DIAGONAL) * rise
    return v, error, newton
