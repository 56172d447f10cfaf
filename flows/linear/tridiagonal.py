"""Tridiagonal matrices on a line and on a circle, and their LU factors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from flows.arrays import array_like, is_torch, to_numpy

__all__ = ["BandFactor", "CyclicTridiagonal", "Tridiagonal", "TridiagonalFactor"]

Array = Any


@lru_cache(maxsize=16)
def _lapack(name: str, char: str) -> Any:
    """LAPACK routine for a dtype's character; factors must pickle and hold none."""
    from scipy.linalg import lapack

    return getattr(lapack, {"f": "s", "d": "d", "F": "c", "D": "z"}[char] + name)


def _checked(sizes: dict[str, int], arrays: dict[str, np.ndarray]) -> None:
    """Lengths and dtypes of the diagonals."""
    dtypes = {a.dtype.char for a in arrays.values()}
    # Complex ones are what an implicit Runge-Kutta scheme makes of real ones.
    if len(dtypes) != 1 or not dtypes <= set("fdFD"):
        raise TypeError(
            "The diagonals must all be float64 or all float32, "
            f"got {', '.join(a.dtype.name for a in arrays.values())}."
        )
    for label, array in arrays.items():
        if array.shape != (sizes[label],):
            raise ValueError(
                f"`{label}` must have shape ({sizes[label]},), got {array.shape}."
            )


def _finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(a).all() for a in arrays):
        raise np.linalg.LinAlgError(
            "The matrix has entries that are not finite and cannot be factored."
        )


def _columns(x: np.ndarray, *diagonals: np.ndarray) -> tuple[np.ndarray, ...]:
    """The diagonals, shaped to scale the rows of x (n,) or (n, k)."""
    return diagonals if x.ndim == 1 else tuple(a[:, None] for a in diagonals)


def _right_hand_side(b: np.ndarray, n: int, dtype: np.dtype[Any]) -> None:
    if b.dtype != dtype:
        raise TypeError(
            f"The right-hand side is {b.dtype.name}, the matrix {dtype.name}: "
            "they must agree."
        )
    if b.ndim not in (1, 2) or b.shape[0] != n:
        raise ValueError(
            f"The right-hand side must have shape ({n},) or ({n}, k), got {b.shape}."
        )


@dataclass(frozen=True, eq=False)
class Tridiagonal:
    """Matrix of A[i+1, i] = lower[i], A[i, i] = diagonal[i], A[i, i+1] = upper[i].

    Parameters
    ----------
    lower, upper : (n - 1,) arrays
    diagonal : (n,) array
        NumPy arrays, all float64 or all float32; n >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> A = Tridiagonal(-np.ones(2), 2 * np.ones(3), -np.ones(2))
    >>> A.solve(A.matvec(np.array([1.0, 2.0, 3.0])))
    array([1., 2., 3.])
    """

    lower: np.ndarray
    diagonal: np.ndarray
    upper: np.ndarray

    def __post_init__(self) -> None:
        n = max(len(self.diagonal), 1)
        _checked({"lower": n - 1, "diagonal": n, "upper": n - 1}, vars(self))

    def matvec(self, x: Array) -> Array:
        """A x for x (n,) or (n, k)."""
        if is_torch(x):
            return array_like(self.matvec(to_numpy(x)), x)
        lower, diagonal, upper = _columns(x, self.lower, self.diagonal, self.upper)
        y = diagonal * x
        y[1:] += lower * x[:-1]
        y[:-1] += upper * x[1:]
        return y

    def shifted(self, h: float) -> Tridiagonal:
        """I + h A."""
        return Tridiagonal(h * self.lower, 1.0 + h * self.diagonal, h * self.upper)

    def dense(self) -> np.ndarray:
        """The full matrix."""
        full = np.diag(self.lower, -1) + np.diag(self.diagonal) + np.diag(self.upper, 1)
        return np.asarray(full)

    def factor(self) -> TridiagonalFactor:
        """LU factors with partial pivoting, O(n).

        Raises
        ------
        numpy.linalg.LinAlgError
            For a singular matrix, and for entries that are not finite.
        """
        _finite(self.lower, self.diagonal, self.upper)
        lower, diagonal, upper = self.lower, self.diagonal, self.upper
        n, dtype = len(diagonal), diagonal.dtype
        if n < 3:
            # SciPy's wrapper refuses n < 3: rows of the identity are appended.
            lower, diagonal, upper = (
                np.concatenate([a, np.full(size - len(a), fill, dtype=dtype)])
                for a, size, fill in ((lower, 2, 0), (diagonal, 3, 1), (upper, 2, 0))
            )
        *factors, info = _lapack("gttrf", dtype.char)(lower, diagonal, upper)
        if info > 0:
            raise np.linalg.LinAlgError(
                f"The tridiagonal matrix is singular: pivot {info - 1} of {n} is zero."
            )
        return TridiagonalFactor(n, tuple(factors))

    def solve(self, b: Array) -> Array:
        """A^{-1} b for b (n,) or (n, k); `factor` serves several calls better."""
        return self.factor().solve(b)


@dataclass(frozen=True, eq=False)
class TridiagonalFactor:
    """LU factors of a `Tridiagonal` (LAPACK gttrf)."""

    n: int
    factors: tuple[np.ndarray, ...]

    def solve(self, b: Array) -> Array:
        """A^{-1} b for b (n,) or (n, k), in the dtype of the matrix.

        Raises
        ------
        TypeError, ValueError
            For a right-hand side of another dtype or length.
        """
        if is_torch(b):
            return array_like(self.solve(to_numpy(b)), b)
        dtype = self.factors[1].dtype
        _right_hand_side(b, self.n, dtype)
        if self.n < 3:
            rest = np.zeros((3 - self.n, *b.shape[1:]), dtype=dtype)
            b = np.concatenate([b, rest])
        x, _ = _lapack("gttrs", dtype.char)(*self.factors, b)
        return x if self.n >= 3 else x[: self.n]


@dataclass(frozen=True, eq=False)
class CyclicTridiagonal:
    """Tridiagonal matrix on a circle: A[i, i-1] = lower[i], A[i, i+1] = upper[i].

    Indices are taken modulo n, so that ``lower[0]`` and ``upper[-1]`` are the corners.
    For n <= 2 neighbors coincide and the entries that meet are added.

    Parameters
    ----------
    lower, diagonal, upper : (n,) arrays
        NumPy arrays, all float64 or all float32; n >= 1.
    """

    lower: np.ndarray
    diagonal: np.ndarray
    upper: np.ndarray

    def __post_init__(self) -> None:
        n = max(len(self.diagonal), 1)
        _checked(dict.fromkeys(("lower", "diagonal", "upper"), n), vars(self))

    def matvec(self, x: Array) -> Array:
        """A x for x (n,) or (n, k)."""
        if is_torch(x):
            return array_like(self.matvec(to_numpy(x)), x)
        lower, diagonal, upper = _columns(x, self.lower, self.diagonal, self.upper)
        y = diagonal * x
        y[1:] += lower[1:] * x[:-1]
        y[:-1] += upper[:-1] * x[1:]
        y[0] += lower[0] * x[-1]
        y[-1] += upper[-1] * x[0]
        return y

    def shifted(self, h: float) -> CyclicTridiagonal:
        """I + h A."""
        return CyclicTridiagonal(
            h * self.lower, 1.0 + h * self.diagonal, h * self.upper
        )

    def dense(self) -> np.ndarray:
        """The full matrix."""
        n = len(self.diagonal)
        row = np.arange(n)
        A = np.diag(self.diagonal)
        A[row, (row - 1) % n] += self.lower
        A[row, (row + 1) % n] += self.upper
        return A

    def factor(self) -> BandFactor:
        """LU factors with partial pivoting, O(n).

        The circle is folded flat, 0, n-1, 1, n-2, ..: neighbors are then at most two
        places apart, and a banded matrix remains. Unlike a rank-one correction of a
        tridiagonal matrix, this is stable for every matrix.

        Raises
        ------
        numpy.linalg.LinAlgError
            For a singular matrix, and for entries that are not finite.
        """
        _finite(self.lower, self.diagonal, self.upper)
        n, dtype = len(self.diagonal), self.diagonal.dtype
        order = np.empty(n, dtype=np.intp)
        order[::2] = np.arange((n + 1) // 2)
        order[1::2] = n - 1 - np.arange(n // 2)
        place = np.empty(n, dtype=np.intp)
        place[order] = np.arange(n)
        # Storage of gbtrf: A[i, j] in row 4 + i - j of column j.
        band = np.zeros((7, n), dtype=dtype, order="F")
        band[4, place] = self.diagonal
        for values, step in ((self.lower, -1), (self.upper, 1)):
            column = np.roll(place, -step)
            # No entry occurs twice within one diagonal.
            band[4 + place - column, column] += values
        lu, pivots, info = _lapack("gbtrf", dtype.char)(band, 2, 2)
        if info > 0:
            raise np.linalg.LinAlgError(
                f"The cyclic tridiagonal matrix of size {n} is singular."
            )
        return BandFactor(lu, pivots, order, place)

    def solve(self, b: Array) -> Array:
        """A^{-1} b for b (n,) or (n, k); `factor` serves several calls better."""
        return self.factor().solve(b)


@dataclass(frozen=True, eq=False)
class BandFactor:
    """LU factors (LAPACK gbtrf) of a matrix with two diagonals on either side.

    ``order`` lists the unknowns as the band has them, ``place`` is its inverse.
    """

    lu: np.ndarray
    pivots: np.ndarray
    order: np.ndarray
    place: np.ndarray

    def solve(self, b: Array) -> Array:
        """A^{-1} b for b (n,) or (n, k), in the dtype of the matrix.

        Raises
        ------
        TypeError, ValueError
            For a right-hand side of another dtype or length.
        """
        if is_torch(b):
            return array_like(self.solve(to_numpy(b)), b)
        dtype = self.lu.dtype
        _right_hand_side(b, len(self.order), dtype)
        x, _ = _lapack("gbtrs", dtype.char)(self.lu, 2, 2, b[self.order], self.pivots)
        return x[self.place]
