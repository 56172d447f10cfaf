"""Batches of implicit steps of which the solved points are taken out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import namespace, to_numpy

if TYPE_CHECKING:
    from flows.spaces.pointwise import Functions
    from flows.spaces.systems import System

__all__ = ["Quiet", "divides", "part", "part_of", "placed"]

Array = Any
FEWEST = 64
"""Points from which solved ones are taken out of a batch."""


def divides(functions: Functions, u: Array) -> bool:
    """Whether solved points may be taken out."""
    return functions.members is not None and u.ndim == 2 and u.shape[0] >= FEWEST


class Quiet:
    """For each point, the least residual and how often it has not fallen by half."""

    def __init__(self) -> None:
        self.best: Any = np.inf
        self.times: Any = 0

    def unsolved(
        self,
        each: Array,
        residual: Array,
        size: Array,
        v: Array,
        tolerance: float,
        eps: float,
        model: System | None,
    ) -> np.ndarray:
        """Indices of the points that are not solved, by the rules for all points."""
        xp = namespace(each)
        fell = each < 0.5 * self.best
        self.times = xp.where(fell, xp.zeros_like(each), self.times + 1)
        self.best = xp.where(each < self.best, each, self.best)
        done = (each <= tolerance * eps) | ((self.times >= 3) & (each <= 1e5 * eps))
        resting = (self.times >= 1) & ~done
        if model is not None and bool(xp.any(resting)):
            rounding = 64 * eps * (size + model.reach(v))
            done = done | (resting & xp.all(xp.abs(residual) <= rounding, axis=-1))
        return np.flatnonzero(to_numpy(~done))


def part_of(functions: Functions, rows: np.ndarray) -> Functions:
    """The functions of some points, which may be divided again."""
    members = functions.members
    if members is None:
        return functions
    some = members(rows)
    return replace(some, members=lambda inner: members(rows[inner]))


def part(a: Any, rows: np.ndarray, u: Array) -> Any:
    """Entries of an array (b, ..) that has one for each point of u; else all of it."""
    own = getattr(a, "ndim", 0) == u.ndim and a.shape[0] == u.shape[0]
    return a[rows] if own else a


def placed(v: Array, rows: np.ndarray, values: Array) -> Array:
    """v with new values at some points."""
    xp = namespace(v)
    result = xp.asarray(v, copy=True)
    result[rows] = values
    return result
