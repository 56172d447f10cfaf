"""Neighbors, divergences and matrices on a rectangular grid of cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Protocol

import numpy as np

from flows.arrays import namespace
from flows.linear import (
    CyclicTridiagonal,
    Tridiagonal,
    TridiagonalFactor,
    sparse_factor,
)

__all__ = ["Cells", "Line", "Pairs", "Refined", "Solver"]

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


@dataclass(frozen=True, eq=False)
class Line:
    """Rates right, left >= 0 between the neighbors of a line of n >= 3 cells.

    Solves (I + h A) v = w entry by entry: the columns of the matrix sum to 1, and its
    Schur complements have the column sums

        s_0 = 1,    s_{i+1} = 1 + h left_i s_i / (s_i + h right_i)

    and the pivots s_i + h right_i. These are sums of positive numbers, so that factors,
    and v for w >= 0, are accurate to rounding entry by entry however large h is.

    References
    ----------
    W. K. Grassmann, M. I. Taksar, D. P. Heyman, Regenerative analysis and steady state
    distributions for Markov chains, Oper. Res. 33 (1985), doi:10.1287/opre.33.5.1107.
    """

    right: np.ndarray
    left: np.ndarray

    @cached_property
    def root(self) -> np.ndarray:
        """Off-diagonal of the symmetrized A."""
        return np.asarray(np.sqrt(self.right) * np.sqrt(self.left))

    @cached_property
    def scale(self) -> np.ndarray | None:
        """S for which S^-1 A S is symmetric; None where it would overflow."""
        with np.errstate(all="ignore"):
            steps = 0.5 * (np.log(self.right) - np.log(self.left))
            logs = np.concatenate([[0.0], np.cumsum(steps)])
            logs = logs - 0.5 * (logs.max() + logs.min())
        return np.exp(logs) if np.abs(logs).max() < 200.0 else None

    def factor(self, h: float) -> Solver:
        """LU factors of I + h A, or LDL^T factors of the symmetrized matrix."""
        right, left = h * self.right, h * self.left
        s = self._column_sums(right, left, h * self.root)
        pivots = s.copy()
        pivots[:-1] += right
        if self.scale is None:
            fill, order = _no_pivoting(pivots.size)
            lower = -right / pivots[:-1]
            return TridiagonalFactor(s.size, (lower, pivots, -left, fill, order))
        off = -h * self.root / pivots[:-1]
        return SymmetrizedFactor(pivots, off, self.scale, 1.0 / self.scale)

    @staticmethod
    def _column_sums(
        right: np.ndarray, left: np.ndarray, root: np.ndarray
    ) -> np.ndarray:
        """The sums s, by Newton's method from LAPACK's pivots."""
        n = right.size + 1
        diagonal = np.ones(n)
        diagonal[:-1] += right
        diagonal[1:] += left
        s, _, failed = _lapack("dpttrf")(diagonal, root)
        s[:-1] -= right
        gap = np.empty(n)
        with np.errstate(all="ignore"):
            for _ in range(0 if failed else 4):
                s = np.maximum(s, 1.0)
                pivots = s[:-1] + right
                gap[0] = 1.0 - s[0]
                gap[1:] = (1.0 + left * (s[:-1] / pivots)) - s[1:]
                if (np.abs(gap) <= 1e-15 * s).all():
                    return np.asarray(s)
                slope = (left / pivots) * (right / pivots)
                fill, order = _no_pivoting(n)
                bidiagonal = (-slope, np.ones(n), np.zeros(n - 1), fill, order)
                s = s + TridiagonalFactor(n, bidiagonal).solve(gap)
        # A is so large that the pivots are no guess.
        sums = [1.0]
        for r, l in zip(right.tolist(), left.tolist(), strict=True):
            sums.append(1.0 + l * (sums[-1] / (sums[-1] + r)))
        return np.array(sums)


@dataclass(frozen=True, eq=False)
class SymmetrizedFactor:
    """Factors L D L^T of S^-1 (I + h A) S; solves in half the time of LU factors."""

    pivots: np.ndarray
    off: np.ndarray
    scale: np.ndarray
    inverse: np.ndarray

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(I + h A)^-1 b for b (n,)."""
        v: np.ndarray = _lapack("dpttrs")(self.pivots, self.off, b * self.inverse)[0]
        v *= self.scale
        return v


@cache
def _lapack(name: str) -> Any:
    """LAPACK routine, loaded when first needed."""
    from scipy.linalg import lapack

    return getattr(lapack, name)


@lru_cache(maxsize=4)
def _no_pivoting(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Second upper diagonal and row order of gttrf's factors without pivoting."""
    return np.zeros(n - 2), np.arange(1, n + 1, dtype=np.int32)
