"""Flows of total variation and within constraints: plateaus meet, bounds are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows import energies, nonsmooth
from flows.problems.arguments import interval, start, time, vector
from flows.problems.base import Problem
from flows.problems.nonsmooth import SUBGRADIENTS
from flows.problems.vectors import number_or_array, vector_spaces

__all__ = ["box_quadratic", "simplex_quadratic", "total_variation"]

Array = Any


@dataclass(frozen=True, eq=False)
class PlateauPath:
    """Plateaus that move towards their neighbors and merge when they meet.

    A plateau of length L has velocity (sign of the jump on its right minus that on its
    left) / L; ``events`` holds the time, heights and lengths after each meeting.
    """

    u0: Array
    events: tuple[tuple[float, Array, Array], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", tuple(meetings(self.u0)))

    def __call__(self, t: float) -> Array:
        s = time(t, 0.0)
        before = [event for event in self.events if event[0] <= s]
        t0, heights, lengths = before[-1]
        return np.repeat(heights + (s - t0) * speeds(heights, lengths), lengths)

    def energy(self, t: float) -> float:
        """Total variation along the path."""
        return float(np.sum(np.abs(np.diff(self(t)))))


def speeds(heights: Array, lengths: Array) -> Array:
    """Velocities of plateaus."""
    signs = np.sign(np.diff(heights))
    right, left = np.append(signs, 0.0), np.insert(signs, 0, 0.0)
    return (right - left) / lengths


def meetings(u0: Array) -> list[tuple[float, Array, Array]]:
    """(time, heights, lengths) at the start and after each meeting of plateaus."""
    heights, lengths = joined(np.array(u0, dtype=float), np.ones(u0.size, dtype=int))
    events, now = [(0.0, heights, lengths)], 0.0
    while heights.size > 1:
        v = speeds(heights, lengths)
        gaps, closing = np.diff(heights), -np.diff(v) * np.sign(np.diff(heights))
        with np.errstate(divide="ignore"):
            waits = np.where(closing > 0.0, np.abs(gaps) / closing, np.inf)
        wait = float(waits.min())
        heights = heights + wait * v
        # Those that meet are made equal, which rounding would not do.
        for i in np.flatnonzero(waits <= wait * (1.0 + 1e-12)):
            heights[i + 1] = heights[i]
        heights, lengths = joined(heights, lengths)
        now += wait
        events.append((now, heights, lengths))
    return events


def joined(heights: Array, lengths: Array) -> tuple[Array, Array]:
    """Neighbors of equal height made one."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(heights) != 0.0]))
    return heights[starts].copy(), np.add.reduceat(lengths, starts)


def total_variation(
    u0: Any = (0.0, 0.0, 2.0, 2.0, 2.0, -1.0, 0.5, 0.5), *, t: Any = None
) -> Problem:
    """Total variation sum abs(x_{i+1} - x_i) of a sequence: plateaus that merge.

    A plateau of length L above (below) both neighbors sinks (rises) with speed 2/L, at
    an end of the sequence with 1/L; steps in a staircase stand still. Proximal steps
    are exact, and in finite time only the mean is left.

    Parameters
    ----------
    u0 : (n,) array
    t : tuple of float, optional
        From t0 >= 0; by default until 1.5 times the extinction.

    Returns
    -------
    Problem
        Constants: ``merges``, the times at which plateaus meet; ``extinction``, the
        last of them.

    Raises
    ------
    ValueError
        For more than one sequence.

    References
    ----------
    L. I. Rudin, S. Osher, E. Fatemi, Physica D 60 (1992) 259-268,
    doi:10.1016/0167-2789(92)90242-F. T. Briani, A. Chambolle, M. Novaga, G. Orlandi, On
    the gradient flow of a one-homogeneous functional, Confluentes Math. 3 (2011)
    617-635, doi:10.1142/S1793744211000461.
    """
    x = start(u0, "u0")
    if x.ndim != 1:
        raise ValueError(f"`u0` has shape {x.shape}, expected one sequence (n,).")
    exact = PlateauPath(x)
    times = np.array([event[0] for event in exact.events[1:]])
    last = float(times[-1]) if times.size else 0.0
    return Problem(
        "total_variation",
        nonsmooth.total_variation(1.0),
        exact,
        interval((0.0, 1.5 * last if last > 0 else 1.0) if t is None else t, 0.0),
        limit=np.full_like(x, float(np.mean(x))),
        spaces=("Euclidean",),
        exact_energy=exact.energy,
        constants={"merges": times, "extinction": last},
        reference="doi:10.1142/S1793744211000461",
    )


@dataclass(frozen=True, eq=False)
class BoxPath:
    """c + (x0 - c) e^{-a t} in every coordinate, clipped: bounds are met and kept."""

    x0: Array
    a: Array
    c: Array
    lower: Array
    upper: Array

    def __call__(self, t: float) -> Array:
        free = self.c + (self.x0 - self.c) * np.exp(-self.a * time(t, 0.0))
        return np.clip(free, self.lower, self.upper)

    def energy(self, t: float) -> Any:
        """Value along the path."""
        return number_or_array(np.sum(0.5 * self.a * (self(t) - self.c) ** 2, axis=-1))


def box_quadratic(
    center: Any = (2.0, -0.5),
    a: Any = 1.0,
    x0: Any = (0.2, 0.9),
    *,
    lower: Any = 0.0,
    upper: Any = 1.0,
    t: tuple[float, float] = (0.0, 3.0),
) -> Problem:
    """sum a_i (x_i - c_i)^2 / 2 within bounds: coordinates stop where they meet one.

    Parameters
    ----------
    center, a, lower, upper : float or (n,) array
        a is positive.
    x0 : float, (n,) or (b, n) array
        Within the bounds.
    t : tuple of float
        From t0 >= 0.

    Raises
    ------
    ValueError
        For ``a`` that is not positive, and a start outside the bounds.
    """
    x = start(x0)
    n = x.shape[-1]
    c, curvature = vector(center, n, "center"), vector(a, n, "a")
    low, high = vector(lower, n, "lower"), vector(upper, n, "upper")
    if not np.all(curvature > 0.0):
        raise ValueError(f"`a` must be positive, got {a!r}.")
    if not np.all((x >= low) & (x <= high)):
        raise ValueError(f"`x0` = {x0!r} must lie within the bounds.")
    exact = BoxPath(x, curvature, c, low, high)
    return Problem(
        "box_quadratic",
        energies.quadratic(curvature, center=c) + nonsmooth.box(low, high),
        exact,
        interval(t, 0.0),
        limit=np.broadcast_to(np.clip(c, low, high), x.shape).copy(),
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        rate=2.0 * float(curvature.min()),
        reference=SUBGRADIENTS,
    )


@dataclass(frozen=True, eq=False)
class SimplexPath:
    """Exponentials between the times at which a coordinate reaches 0 for good."""

    x0: Array
    c: Array
    events: tuple[tuple[float, Array, Array], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", tuple(deaths(self.x0, self.c)))

    def __call__(self, t: float) -> Array:
        s = time(t, 0.0)
        t0, x, goal = [event for event in self.events if event[0] <= s][-1]
        return goal + (x - goal) * np.exp(-(s - t0))

    def energy(self, t: float) -> float:
        """Half the squared distance to c along the path."""
        return 0.5 * float(np.sum((self(t) - self.c) ** 2))


def deaths(x0: Array, c: Array) -> list[tuple[float, Array, Array]]:
    """(time, state, limit of the exponentials) at the start and after each death."""
    x, now, events = np.array(x0, dtype=float), 0.0, []
    while True:
        # A coordinate at 0 lives again where its force exceeds the mean of the others.
        alive = x > 0.0
        while True:
            level = (float(c[alive].sum()) - 1.0) / int(alive.sum())
            born = ~alive & (c > level)
            if not born.any():
                break
            alive = alive | (born & (c == c[born].max()))
        goal = np.where(alive, c - level, 0.0)
        events.append((now, x, goal))
        falling = alive & (goal < 0.0) & (x > 0.0)
        if not falling.any():
            return events
        waits = np.full(x.shape, np.inf)
        waits[falling] = np.log1p(-x[falling] / goal[falling])
        wait = float(waits.min())
        x = goal + (x - goal) * np.exp(-wait)
        x[waits <= wait * (1.0 + 1e-12)] = 0.0
        x = np.maximum(x, 0.0)
        now += wait


def simplex_quadratic(
    center: Any = (0.9, 0.5, -0.6),
    x0: Any = (0.2, 0.3, 0.5),
    *,
    t: tuple[float, float] = (0.0, 4.0),
) -> Problem:
    """abs(x - c)^2 / 2 on the simplex {x >= 0, sum x = 1}: faces are met and kept.

    On a face the path is an exponential to the projection of c on its plane.

    Parameters
    ----------
    center : (n,) array
    x0 : (n,) array
        A point of the simplex.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constant: ``deaths``, the times at which coordinates reach 0.

    Raises
    ------
    ValueError
        For a start outside the simplex, and for several points.
    """
    x = start(x0)
    if x.ndim != 1 or not np.all(x >= 0.0) or abs(float(x.sum()) - 1.0) > 1e-12:
        raise ValueError(f"`x0` = {x0!r} must be one point of the simplex, (n,).")
    c = vector(center, x.size, "center")
    exact = SimplexPath(x, c)
    least = nonsmooth.simplex().function.prox(c, 1.0)
    return Problem(
        "simplex_quadratic",
        energies.quadratic(1.0, center=c) + nonsmooth.simplex(),
        exact,
        interval(t, 0.0),
        limit=least,
        spaces=("Euclidean",),
        exact_energy=exact.energy,
        rate=2.0,
        constants={"deaths": np.array([event[0] for event in exact.events[1:]])},
        reference=SUBGRADIENTS,
    )
