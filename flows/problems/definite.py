"""Flows of positive definite matrices in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import array_like, namespace
from flows.energies import Potential
from flows.problems.arguments import interval, square, time
from flows.problems.base import Problem
from flows.problems.matrix_flows import matrix_start

__all__ = ["log_determinant"]

Array = Any


@dataclass(frozen=True, eq=False)
class LogDeterminant:
    """tr(C X) - log det X of positive definite matrices (.., n, n)."""

    C: Array

    def value(self, X: Array) -> Array:
        xp = namespace(X)
        trace = xp.sum(array_like(self.C, X) * X, axis=(-2, -1))
        return trace - xp.linalg.slogdet(X)[1]

    def gradient(self, X: Array) -> Array:
        return array_like(self.C, X) - namespace(X).linalg.inv(X)


@dataclass(frozen=True, eq=False)
class PrecisionPath:
    """X^-1 = C + e^-t (X0^-1 - C)."""

    C: Array
    X0: Array

    def __call__(self, t: float) -> Array:
        start = np.linalg.inv(self.X0)
        X = np.linalg.inv(self.C + math.exp(-time(t, 0.0)) * (start - self.C))
        return 0.5 * (X + X.T)

    def energy(self, t: float) -> float:
        """Value along the path."""
        return float(LogDeterminant(self.C).value(self(t)))


def log_determinant(
    C: Any = ((2.0, 0.5), (0.5, 1.0)),
    X0: Any = ((0.3, -0.1), (-0.1, 2.0)),
    *,
    t: tuple[float, float] = (0.0, 3.0),
) -> Problem:
    """V(X) = tr(C X) - log det X on positive definite X: X^-1 = C + e^-t (X0^-1 - C).

    The flow X' = X - X C X: the precision relaxes linearly to C, as in the natural
    gradient flow of Gaussian variational inference.

    Parameters
    ----------
    C, X0 : (n, n) arrays
        Symmetric and positive definite.
    t : tuple of float
        From t0 >= 0.
    """
    raw = matrix_start(C, "C")
    n = raw.shape[0]
    target, X = square(raw, n, "C"), square(matrix_start(X0, "X0"), n, "X0")
    for name, matrix in (("C", target), ("X0", X)):
        low = float(np.linalg.eigvalsh(matrix)[0])
        if not low > 0.0:
            raise ValueError(
                f"`{name}` must be positive definite, its smallest eigenvalue is "
                f"{low:g}."
            )
    form, path = LogDeterminant(target), PrecisionPath(target, X)
    return Problem(
        "log_determinant",
        Potential(form.value, gradient=form.gradient),
        path,
        interval(t, 0.0),
        limit=np.linalg.inv(target),
        spaces=("SPD",),
        exact_energy=path.energy,
    )
