"""Damped Newton methods, tridiagonal and sparse systems, conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.arrays import all_finite, namespace

__all__ = [
    "CyclicTridiagonal",
    "NewtonFailure",
    "NewtonResult",
    "Tridiagonal",
    "conjugate_gradient",
    "minimize_newton",
    "newton",
    "sparse_factor",
]

Array = Any


class NewtonFailure(RuntimeError):
    """An inner solve that did not converge; ``.residuals`` is its history."""

    def __init__(self, message: str, residuals: list[float] | None = None) -> None:
        super().__init__(message)
        self.residuals = list(residuals or [])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.residuals)


@dataclass(frozen=True, eq=False)
class Tridiagonal:
    """Matrix with three diagonals.

    Parameters
    ----------
    lower, upper : (n - 1,) arrays
    diagonal : (n,) array
    """

    lower: np.ndarray
    diagonal: np.ndarray
    upper: np.ndarray

    def matvec(self, x: Array) -> Array:
        """A x for x (n,) or (n, k)."""
        lower, diagonal, upper = (
            (a if x.ndim == 1 else a[:, None])
            for a in (self.lower, self.diagonal, self.upper)
        )
        y = diagonal * x
        y[1:] += lower * x[:-1]
        y[:-1] += upper * x[1:]
        return y

    def shifted(self, h: float) -> Tridiagonal:
        """I + h A."""
        return Tridiagonal(h * self.lower, 1.0 + h * self.diagonal, h * self.upper)

    def dense(self) -> np.ndarray:
        """The full matrix."""
        return (
            np.diag(self.diagonal) + np.diag(self.lower, -1) + np.diag(self.upper, 1)
        )

    def factor(self) -> TridiagonalFactor:
        """LU factors with partial pivoting, O(n).

        Raises
        ------
        numpy.linalg.LinAlgError
            For a singular matrix.
        """
        return TridiagonalFactor(self)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A^{-1} b."""
        return self.factor().solve(b)


class TridiagonalFactor:
    """Factors of a ``Tridiagonal`` (LAPACK gttrf), for many right-hand sides."""

    def __init__(self, matrix: Tridiagonal) -> None:
        from scipy.linalg.lapack import get_lapack_funcs

        self._n = len(matrix.diagonal)
        arrays = (matrix.lower, matrix.diagonal, matrix.upper)
        if self._n <= 2:
            # LAPACK's wrapper does not take empty second diagonals.
            dense = matrix.dense()
            if np.linalg.det(dense) == 0.0:
                raise np.linalg.LinAlgError("The tridiagonal matrix is singular.")
            self._inverse = np.linalg.inv(dense)
            return
        gttrf, self._gttrs = get_lapack_funcs(("gttrf", "gttrs"), arrays)
        *self._factors, info = gttrf(*arrays)
        if info > 0:
            raise np.linalg.LinAlgError(
                f"The tridiagonal matrix is singular at row {info - 1}."
            )

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A^{-1} b for b (n,) or (n, k)."""
        if self._n <= 2:
            return np.asarray(self._inverse @ b)
        x, _ = self._gttrs(*self._factors, b)
        return np.asarray(x)


@dataclass(frozen=True, eq=False)
class CyclicTridiagonal:
    """Tridiagonal matrix on a circle: A[i, i-1] = lower[i], A[i, i+1] = upper[i].

    Indices are taken modulo n, so that lower[0] and upper[-1] are the corners;
    n >= 3, all arrays (n,).
    """

    lower: np.ndarray
    diagonal: np.ndarray
    upper: np.ndarray

    def matvec(self, x: Array) -> Array:
        """A x for x (n,)."""
        y = self.diagonal * x
        y[1:] += self.lower[1:] * x[:-1]
        y[:-1] += self.upper[:-1] * x[1:]
        y[0] += self.lower[0] * x[-1]
        y[-1] += self.upper[-1] * x[0]
        return y

    def shifted(self, h: float) -> CyclicTridiagonal:
        """I + h A."""
        return CyclicTridiagonal(
            h * self.lower, 1.0 + h * self.diagonal, h * self.upper
        )

    def dense(self) -> np.ndarray:
        """The full matrix."""
        n = len(self.diagonal)
        i = np.arange(n)
        A = np.diag(self.diagonal)
        A[i, (i - 1) % n] += self.lower
        A[i, (i + 1) % n] += self.upper
        return A

    def factor(self) -> CyclicFactor:
        """Factors of a tridiagonal matrix and a rank-one correction, O(n)."""
        return CyclicFactor(self)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A^{-1} b."""
        return self.factor().solve(b)


class CyclicFactor:
    """Sherman-Morrison on top of a tridiagonal factor.

    A = T + u v^T with u = (g, 0, .., 0, upper[-1]), v = (1, 0, .., 0, lower[0]/g); the
    choice g = -A[0, 0] avoids cancellation in T.
    """

    def __init__(self, matrix: CyclicTridiagonal) -> None:
        n = len(matrix.diagonal)
        corner_top, corner_bottom = matrix.lower[0], matrix.upper[-1]
        g = -matrix.diagonal[0] if matrix.diagonal[0] != 0 else 1.0
        diagonal = matrix.diagonal.copy()
        diagonal[0] -= g
        diagonal[-1] -= corner_top * corner_bottom / g
        self._inner = Tridiagonal(matrix.lower[1:], diagonal, matrix.upper[:-1]).factor()
        u = np.zeros_like(diagonal)
        u[0], u[n - 1] = g, corner_bottom
        self._ratio = corner_top / g
        self._q = self._inner.solve(u)
        self._scale = 1.0 + self._q[0] + self._ratio * self._q[-1]
        if self._scale == 0.0:
            raise np.linalg.LinAlgError("The cyclic tridiagonal matrix is singular.")

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A^{-1} b for b (n,)."""
        y = self._inner.solve(b)
        return np.asarray(y - (y[0] + self._ratio * y[-1]) / self._scale * self._q)


class SparseFactor:
    """Sparse LU factors in float64."""

    def __init__(self, matrix: Any) -> None:
        from scipy.sparse.linalg import splu

        try:
            self._lu = splu(matrix.tocsc().astype(np.float64))
        except RuntimeError as error:
            raise np.linalg.LinAlgError(f"The sparse matrix is singular: {error}.") from error

    def solve(self, b: np.ndarray) -> np.ndarray:
        """A^{-1} b."""
        return np.asarray(self._lu.solve(np.asarray(b, dtype=np.float64)))


def sparse_factor(matrix: Any) -> SparseFactor:
    """Sparse LU of a scipy sparse matrix.

    Raises
    ------
    numpy.linalg.LinAlgError
        For a singular matrix.
    """
    return SparseFactor(matrix)


@dataclass(frozen=True, eq=False)
class NewtonResult:
    """Solution ``x``, number of iterations and the history of the residuals."""

    x: Array
    iterations: int
    residuals: list[float] = field(default_factory=list)


def _norm(x: Array) -> float:
    return float(namespace(x).max(namespace(x).abs(x)))


def newton(
    residual: Callable[[Array], Array],
    solve: Callable[[Array, Array], Array],
    x0: Array,
    *,
    norm: Callable[[Array], float] = _norm,
    tol: float = 1e-12,
    floor: float = 0.0,
    max_iterations: int = 50,
    step_limit: Callable[[Array, Array], float] | None = None,
) -> NewtonResult:
    """Damped Newton method for residual(x) = 0.

    Parameters
    ----------
    residual : callable
    solve : callable
        ``solve(x, r)`` = J(x)^{-1} r.
    tol : float
        Converged when norm(residual) <= tol.
    floor : float
        Rounding level of the residual: no progress below it counts as converged.
    step_limit : callable, optional
        ``step_limit(x, p)``: largest allowed fraction of the step p.

    Raises
    ------
    NewtonFailure
        Without convergence; with the history of the norms.
    """
    x, r = x0, residual(x0)
    size = norm(r)
    history = [size]
    for iteration in range(max_iterations):
        if size <= tol:
            return NewtonResult(x, iteration, history)
        step = -solve(x, r)
        part = 1.0 if step_limit is None else min(1.0, step_limit(x, step))
        best: tuple[float, Array, Array] | None = None
        for _ in range(30):
            trial = x + part * step
            value = residual(trial)
            new = norm(value)
            if np.isfinite(new) and new < (1.0 - 1e-4 * part) * size:
                best = (new, trial, value)
                break
            part *= 0.5
        if best is None:
            if size <= max(floor, tol):
                return NewtonResult(x, iteration, history)
            raise NewtonFailure("Newton's method found no descent", history)
        size, x, r = best
        history.append(size)
    if size <= max(floor, tol):
        return NewtonResult(x, max_iterations, history)
    raise NewtonFailure(
        f"Newton's method did not converge in {max_iterations} iterations", history
    )


def minimize_newton(
    value: Callable[[Array], float],
    gradient: Callable[[Array], Array],
    solve: Callable[[Array, Array], Array],
    x0: Array,
    *,
    tol: float = 1e-26,
    max_iterations: int = 100,
    step_limit: Callable[[Array, Array], float] | None = None,
) -> NewtonResult:
    """Damped Newton method for min value(x), with an Armijo line search.

    Parameters
    ----------
    value, gradient : callable
    solve : callable
        ``solve(x, g)`` = H(x)^{-1} g with a positive definite H.
    tol : float
        Converged when the Newton decrement g.H^{-1} g is at most tol, or when the value
        stagnates at rounding level.
    step_limit : callable, optional
        ``step_limit(x, p)``: largest allowed fraction of the step p.

    Raises
    ------
    NewtonFailure
        Without convergence; with the history of the decrements.
    """
    xp = namespace(x0)
    eps = float(np.finfo(str(x0.dtype).removeprefix("torch.")).eps)
    x, f = x0, value(x0)
    history: list[float] = []
    for iteration in range(max_iterations):
        g = gradient(x)
        step = -solve(x, g)
        decrement = -float(xp.sum(g * step))
        history.append(decrement)
        if not np.isfinite(decrement) or not all_finite(step):
            raise NewtonFailure("Newton's method met a non-finite value", history)
        if decrement <= tol:
            # The last step is free and squares the error once more.
            last = x + step
            limit = 1.0 if step_limit is None else step_limit(x, step)
            return NewtonResult(last if limit >= 1.0 else x, iteration, history)
        part = 1.0 if step_limit is None else min(1.0, step_limit(x, step))
        slack = 8 * eps * abs(f)
        for _ in range(50):
            trial = x + part * step
            new = value(trial)
            if np.isfinite(new) and new <= f - 1e-4 * part * decrement + slack:
                break
            part *= 0.5
        else:
            raise NewtonFailure("the line search of Newton's method failed", history)
        stagnant = len(history) > 2 and decrement <= 1e3 * slack
        if stagnant and decrement >= 0.25 * history[-2]:
            return NewtonResult(trial, iteration + 1, history)
        x, f = trial, new
    raise NewtonFailure(
        f"Newton's method did not converge in {max_iterations} iterations", history
    )


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    b: Array,
    *,
    tol: float = 1e-10,
    max_iterations: int | None = None,
    preconditioner: Callable[[Array], Array] | None = None,
) -> Array:
    """Solution of A x = b for a symmetric positive definite operator.

    ``tol`` is relative to the norm of b.

    Raises
    ------
    NewtonFailure
        Without convergence; with the history of the residual norms.
    """
    xp = namespace(b)
    x, r = xp.zeros_like(b), b
    z = r if preconditioner is None else preconditioner(r)
    p, rz = z, xp.sum(r * z)
    target = tol * float(xp.sqrt(xp.sum(b * b)))
    history: list[float] = []
    limit = max_iterations or 10 * int(np.prod(b.shape)) + 10
    for _ in range(limit):
        size = float(xp.sqrt(xp.sum(r * r)))
        history.append(size)
        if size <= target:
            return x
        Ap = matvec(p)
        alpha = rz / xp.sum(p * Ap)
        x, r = x + alpha * p, r - alpha * Ap
        z = r if preconditioner is None else preconditioner(r)
        new = xp.sum(r * z)
        p, rz = z + (new / rz) * p, new
    raise NewtonFailure("conjugate gradients did not converge", history)
