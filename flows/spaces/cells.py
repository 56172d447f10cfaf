"""Neighbors, divergences and matrices on a rectangular grid of cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from flows.arrays import namespace
from flows.linear import (
    CyclicTridiagonal,
    Tridiagonal,
    TridiagonalFactor,
    sparse_factor,
)

__all__ = ["Cells", "Pairs", "Refined", "Solver", "monotone_factor"]

Array = Any
Pairs = list[tuple[np.ndarray, np.ndarray]]
"""For each axis the derivatives (J_a, J_b) of the fluxes to the right."""


class Solver(Protocol):
    """Anything with ``solve``."""

    def solve(self, b: Array) -> Array: ...


@dataclass(frozen=True)
class Cells:
    """Shape of a grid, and which of its axes wrap around."""

    shape: tuple[int, ...]
    periodic: tuple[bool, ...]

    def sides(self, u: Array, axis: int) -> tuple[Array, Array]:
        """Values on the left and on the right of the faces of an axis.

        A periodic axis has n faces, the last one between the last and the first cell;
        else there are n - 1.
        """
        if self.periodic[axis]:
            return u, namespace(u).roll(u, -1, axis=axis)
        return u[_slice(axis, None, -1)], u[_slice(axis, 1, None)]

    def divergence(self, fluxes: list[Array], u: Array) -> Array:
        """Inflow minus outflow of every cell, for fluxes to the right; like ``u``."""
        xp = namespace(u)
        rate = xp.zeros_like(u)
        for axis, J in enumerate(fluxes):
            if self.periodic[axis]:
                rate += xp.roll(J, 1, axis=axis) - J
            else:
                rate[_slice(axis, None, -1)] -= J
                rate[_slice(axis, 1, None)] += J
        return rate

    def outflow(self, pairs: Pairs) -> np.ndarray:
        """Diagonal of A in du/dt = -A u: what leaves every cell."""
        total = np.zeros(self.shape)
        for axis, (by_left, by_right) in enumerate(pairs):
            if self.periodic[axis]:
                total += by_left - np.roll(by_right, 1, axis=axis)
            else:
                total[_slice(axis, None, -1)] += by_left
                total[_slice(axis, 1, None)] -= by_right
        return total

    def matrix(self, pairs: Pairs, h: float, identity: float = 1.0) -> Any:
        """identity I + h A: tridiagonal (cyclic) on a line, else a sparse csc array."""
        if len(self.shape) > 1:
            return self.sparse(pairs, h, identity)
        diagonal = identity + h * self.outflow(pairs)
        by_left, by_right = pairs[0]
        if self.periodic[0]:
            return CyclicTridiagonal(-h * np.roll(by_left, 1), diagonal, h * by_right)
        return Tridiagonal(-h * by_left, diagonal, h * by_right)

    def sparse(self, pairs: Pairs, h: float, identity: float = 1.0) -> Any:
        """identity I + h A as a sparse csc array of the flattened cells."""
        from scipy import sparse

        size = math.prod(self.shape)
        index = np.arange(size).reshape(self.shape)
        diagonal = identity + h * self.outflow(pairs)
        entries, rows, columns = [diagonal.ravel()], [index.ravel()], [index.ravel()]
        for axis, (by_left, by_right) in enumerate(pairs):
            left, right = (side.ravel() for side in self.sides(index, axis))
            entries += [-h * by_left.ravel(), h * by_right.ravel()]
            rows += [right, left]
            columns += [left, right]
        where = np.concatenate(rows), np.concatenate(columns)
        shape = (size, size)
        return sparse.coo_array((np.concatenate(entries), where), shape=shape).tocsc()

    def factor(self, pairs: Pairs, h: float) -> Solver:
        """LU factors of I + h A."""
        matrix = self.matrix(pairs, h)
        return matrix.factor() if len(self.shape) == 1 else sparse_factor(matrix)


def _slice(axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


@dataclass(frozen=True, eq=False)
class Refined:
    """Solver for (I + h A) v = w with one step of iterative refinement.

    The residual is taken from fluxes, whose divergence sums to 0 to rounding. The mass
    and the equilibria of the solution are then exact to rounding at every h, where LU
    factors alone lose eps h |A|.
    """

    factor: Solver
    residual: Any

    def solve(self, w: np.ndarray) -> np.ndarray:
        """v, flat as w; no entry that is positive or 0 before refinement turns."""
        v = self.factor.solve(w)
        better = v + self.factor.solve(self.residual(v, w))
        return np.asarray(np.where(better * v >= 0.0, better, v))


def monotone_factor(right: np.ndarray, left: np.ndarray) -> TridiagonalFactor:
    """LU factors of I + A for rates right, left >= 0 between neighbors, entry by entry.

    The columns of the matrix sum to 1. Its Schur complements have the column sums s_i,

        s_0 = 1,    s_{i+1} = 1 + left_i s_i / (s_i + right_i),

    and the pivots s_i + right_i: sums of positive numbers, so that every entry of the
    factors, and of (I + A)^{-1} w for w >= 0, is accurate to rounding however large A
    is. The recurrence is solved by Newton's method from LAPACK's pivots.

    References
    ----------
    W. K. Grassmann, M. I. Taksar, D. P. Heyman, Regenerative analysis and steady state
    distributions for Markov chains, Oper. Res. 33 (1985), doi:10.1287/opre.33.5.1107.
    """
    n = right.size + 1
    if n < 3:
        raise ValueError(f"`right` must have 2 entries at least, got {n - 1}.")
    order = np.arange(1, n + 1, dtype=np.int32)
    fill = np.zeros(n - 2)
    s = _column_sums(right, left, fill, order)
    pivots = s.copy()
    pivots[:-1] += right
    return TridiagonalFactor(n, (-right / pivots[:-1], pivots, -left, fill, order))


def _column_sums(
    right: np.ndarray, left: np.ndarray, fill: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """The sums s_0 .. s_{n-1}."""
    n = right.size + 1
    diagonal = np.ones(n)
    diagonal[:-1] += right
    diagonal[1:] += left
    with np.errstate(all="ignore"):
        try:
            plain = Tridiagonal(-right, diagonal, -left).factor()
        except np.linalg.LinAlgError:
            return _column_sums_in_turn(right, left)
        s = plain.factors[1].copy()
        s[:-1] -= right
        gap = np.empty(n)
        for _ in range(4):
            s = np.maximum(s, 1.0)
            pivots = s[:-1] + right
            gap[0] = 1.0 - s[0]
            gap[1:] = (1.0 + left * (s[:-1] / pivots)) - s[1:]
            if (np.abs(gap) <= 1e-15 * s).all():
                return np.asarray(s)
            slope = (left / pivots) * (right / pivots)
            bidiagonal = (-slope, np.ones(n), np.zeros(n - 1), fill, order)
            s = s + TridiagonalFactor(n, bidiagonal).solve(gap)
    return _column_sums_in_turn(right, left)


def _column_sums_in_turn(right: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The recurrence itself, where |A| is so large that the pivots are no guess."""
    sums = [1.0]
    for r, l in zip(right.tolist(), left.tolist(), strict=True):
        sums.append(1.0 + l * (sums[-1] / (sums[-1] + r)))
    return np.array(sums)
