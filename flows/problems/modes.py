"""Linear flows y' = -A y + b in the eigenbasis of a symmetric matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Modes", "decayed"]

Array = Any


def decayed(rate: Array, t: float) -> Array:
    """Integral of e^{-rate s} for s in [0, t]: (1 - e^{-rate t})/rate, t at rate 0."""
    safe = np.where(rate == 0.0, 1.0, rate)
    return np.where(rate == 0.0, t, -np.expm1(-safe * t) / safe)


@dataclass(frozen=True, eq=False)
class Modes:
    """Eigenvalues (d,) and eigenvectors (d, d), in columns, of a symmetric matrix.

    ``vectors`` is None for a diagonal matrix, which may then be very large.
    Eigenvalues within rounding of 0 are set to 0, so that a singular matrix has an
    exact kernel.
    """

    values: Array
    vectors: Array | None

    @classmethod
    def of(cls, A: Array) -> Modes:
        """Modes of a symmetric matrix (d, d), or of a diagonal (d,)."""
        if A.ndim == 1:
            return cls(np.array(A), None)
        diagonal = np.diag(A)
        if not np.count_nonzero(A - np.diag(diagonal)):
            return cls(np.array(diagonal), None)
        values, vectors = np.linalg.eigh(A)
        cut = A.shape[0] * np.finfo(float).eps * np.abs(values).max()
        return cls(np.where(np.abs(values) > cut, values, 0.0), vectors)

    @property
    def d(self) -> int:
        """Dimension."""
        return int(self.values.size)

    @property
    def smallest_positive(self) -> float | None:
        """Smallest positive eigenvalue, if there is one."""
        positive = self.values[self.values > 0]
        return float(positive.min()) if positive.size else None

    def to(self, x: Array) -> Array:
        """Coordinates (.., d) of x (.., d) in the eigenbasis."""
        return x if self.vectors is None else x @ self.vectors

    def back(self, y: Array) -> Array:
        """Inverse of ``to``."""
        return y if self.vectors is None else y @ self.vectors.T

    def decay(self, t: float, x: Array) -> Array:
        """e^{-A t} x for x (.., d)."""
        return self.back(np.exp(-self.values * t) * self.to(x))

    def flow(self, t: float, x: Array, b: Array) -> Array:
        """Solution at time t of y' = -A y + b from y = x (.., d)."""
        forced = decayed(self.values, t) * self.to(b)
        return self.back(np.exp(-self.values * t) * self.to(x) + forced)

    def covariance(self, t: float, S: Array, T: float) -> Array:
        """Solution at time t of S' = -A S - S A + 2 T from S (.., d, d)."""
        E = np.exp(-self.values * t)
        Q = np.eye(self.d) if self.vectors is None else self.vectors
        inner = E[:, None] * (Q.T @ S @ Q) * E
        inner = inner + np.diag(2.0 * T * decayed(2.0 * self.values, t))
        S = Q @ inner @ Q.T
        return 0.5 * (S + np.swapaxes(S, -1, -2))
