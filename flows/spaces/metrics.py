"""Metrics of R^n: what a small displacement costs, |v|^2 = v.M v.

The gradient flow of V is dx/dt = -M^{-1} grad V(x). A metric that depends on x makes
R^n a Riemannian manifold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.arrays import (
    all_finite,
    array_like,
    batch_matvec,
    is_array,
    namespace,
    to_numpy,
)
from flows.linear import NewtonFailure, conjugate_gradient

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Diagonal",
    "Matrix",
    "Metric",
    "OperatorMetric",
    "Riemannian",
    "as_metric",
    "diagonal",
    "matrix",
    "operator",
    "riemannian",
]

Array = Any


class Metric:
    """A field of symmetric positive definite matrices M(x).

    A metric of one's own derives from this class and defines ``apply`` and ``solve``;
    ``constant`` is True where M does not depend on x.
    """

    constant: ClassVar[bool] = True

    def apply(self, x: Array, v: Array) -> Array:
        """M(x) v for points x and vectors v (.., n)."""
        raise NotImplementedError

    def solve(self, x: Array, g: Array) -> Array:
        """M(x)^{-1} g for points x and vectors g (.., n)."""
        raise NotImplementedError

    def diagonal(self, x: Array) -> Array | None:
        """The weights (n,) or (1,) of a constant diagonal metric, None for others."""
        return None

    def dense(self, x: Array) -> Array:
        """M(x) as matrices: (n, n) of a constant metric, else (.., n, n)."""
        n = x.shape[-1]
        xp = namespace(x)
        point = xp.reshape(x, (-1, n))[0] if self.constant else x
        rows = array_like(np.eye(n), x)
        shape = (*point.shape[:-1], n, n)
        points = xp.broadcast_to(point[..., None, :], shape)
        return self.apply(points, xp.broadcast_to(rows, shape))

    def size(self, x: Array) -> Any:
        """Largest row sum of |M|, in which residuals M v are measured."""
        weights = self.diagonal(x)
        xp = namespace(x)
        if weights is not None:
            return weights
        v = array_like(np.where(np.arange(x.shape[-1]) % 2, 1.0, -1.0), x) + 0.0 * x
        return xp.max(xp.abs(self.apply(x, v)), axis=-1, keepdims=True)

    def check(self, n: int) -> None:
        """Raise ValueError where points cannot have ``n`` coordinates."""


@dataclass(frozen=True, eq=False)
class Diagonal(Metric):
    """M = diag(weights); made by ``diagonal``."""

    weights: np.ndarray

    def apply(self, x: Array, v: Array) -> Array:
        return array_like(self.weights, v) * v

    def solve(self, x: Array, g: Array) -> Array:
        return g / array_like(self.weights, g)

    def diagonal(self, x: Array) -> Array:
        return array_like(self.weights, x)

    def check(self, n: int) -> None:
        """Raise ValueError unless there is one weight, or ``n``."""
        if len(self.weights) not in (1, n):
            raise ValueError(
                f"`metric` has {len(self.weights)} weights, but the state has {n} "
                f"coordinates; give a number, ({n},) or ({n}, {n})."
            )

    def __repr__(self) -> str:
        return brief(self.weights[0] if len(self.weights) == 1 else self.weights)


@dataclass(frozen=True, eq=False)
class Matrix(Metric):
    """A constant matrix M and its inverse; made by ``matrix``."""

    M: np.ndarray
    inverse: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        half = np.linalg.inv(np.linalg.cholesky(self.M))
        inverse = half.T @ half
        for array in (self.M, inverse):
            array.setflags(write=False)
        object.__setattr__(self, "inverse", inverse)

    def apply(self, x: Array, v: Array) -> Array:
        return namespace(v).matmul(v, array_like(self.M, v))

    def solve(self, x: Array, g: Array) -> Array:
        return namespace(g).matmul(g, array_like(self.inverse, g))

    def dense(self, x: Array) -> Array:
        return array_like(self.M, x)

    def size(self, x: Array) -> Array:
        return array_like(np.abs(self.M).sum(axis=1), x)

    def check(self, n: int) -> None:
        """Raise ValueError unless the matrix is (n, n)."""
        if len(self.M) != n:
            raise ValueError(
                f"`metric` has shape {self.M.shape}, but the state has {n} "
                f"coordinates; give a number, ({n},) or ({n}, {n})."
            )

    def __repr__(self) -> str:
        return brief(self.M)


@dataclass(frozen=True, eq=False)
class OperatorMetric(Metric):
    """A constant metric known by its products alone; made by ``operator``."""

    product: Callable[[Array], Array]
    inverse: Callable[[Array], Array] | None = None

    def apply(self, x: Array, v: Array) -> Array:
        return checked(self.product(v), v, "product")

    def solve(self, x: Array, g: Array) -> Array:
        if self.inverse is not None:
            return checked(self.inverse(g), g, "solve")
        try:
            return conjugate_gradient(lambda v: self.apply(x, v), g).x
        except NewtonFailure as failure:
            raise NewtonFailure(
                f"the system M v = g of the metric was not solved: {failure}; give "
                "`solve` to fl.metrics.operator",
                failure.residuals,
            ) from failure


@dataclass(frozen=True, eq=False)
class Riemannian(Metric):
    """A metric M(x) given by a function of the point; made by ``riemannian``."""

    function: Callable[[Array], Array]
    constant: ClassVar[bool] = False

    def dense(self, x: Array) -> Array:
        M = self.function(x)
        expected = (*x.shape, x.shape[-1])
        if M is None:
            raise TypeError("`metric` returned None; did you forget `return`?")
        if not is_array(M) or tuple(M.shape) != expected:
            raise ValueError(
                f"`metric` returned shape {tuple(np.shape(M))} for points of shape "
                f"{tuple(x.shape)}; a metric gives matrices of shape {expected}, for "
                "every point one."
            )
        return array_like(M, x)

    def apply(self, x: Array, v: Array) -> Array:
        return batch_matvec(self.dense(x), v)

    def solve(self, x: Array, g: Array) -> Array:
        M = self.dense(x)
        xp = namespace(g)
        if not all_finite(M):
            raise NewtonFailure("the metric is not finite")
        try:
            factor = xp.linalg.cholesky(M)
        except Exception as error:
            # NumPy's and torch's LinAlgError have no common base.
            if type(error).__name__ not in ("LinAlgError", "_LinAlgError"):
                raise
            raise not_definite(M) from error
        y = xp.linalg.solve(factor, g[..., None])
        return xp.linalg.solve(xp.matrix_transpose(factor), y)[..., 0]


def not_definite(M: Array) -> ValueError:
    """What to raise for matrices of which some are not positive definite."""
    least = float(np.linalg.eigvalsh(to_numpy(M)).min())
    return ValueError(
        f"`metric` returned a matrix that is not positive definite: its smallest "
        f"eigenvalue is {least:.3g}. A metric needs v.M v > 0; add a multiple of the "
        "identity, or keep the states where it holds."
    )


def as_metric(value: Any) -> Metric | None:
    """A ``Metric`` from what a user gives as ``metric``; None for the plain one.

    Raises
    ------
    TypeError, ValueError
        For what is no metric; the text says what would be.
    """
    if value is None or isinstance(value, Metric):
        return value
    if hasattr(value, "matvec") and hasattr(value, "shape"):
        return operator(value)
    if callable(value) and not is_array(value):
        return riemannian(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return diagonal(value)
    if hasattr(value, "toarray"):
        raise TypeError(
            "`metric` is a sparse matrix; give `fl.metrics.operator(lambda v: v @ M, "
            "solve=...)` with the solution of its systems."
        )
    try:
        raw = np.asarray(to_numpy(value), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "`metric` must be None, a number, (n,) weights, a symmetric (n, n) matrix, "
            f"a function x -> M(x) or fl.metrics.operator(...), got {value!r}."
        ) from error
    return matrix(raw) if raw.ndim == 2 else diagonal(raw)


def diagonal(weights: Any) -> Diagonal:
    """Metric sum_i weights_i v_i^2 for a number or (n,) positive weights.

    Raises
    ------
    ValueError
        For weights that are not positive and finite.
    """
    w = np.atleast_1d(np.array(to_numpy(weights), dtype=np.float64))
    if w.ndim != 1 or w.size == 0:
        raise ValueError(
            f"`metric` must be a number, (n,) weights or an (n, n) matrix, got shape "
            f"{w.shape}."
        )
    bad = np.flatnonzero(~((w > 0.0) & np.isfinite(w)))
    if bad.size:
        raise ValueError(
            f"`metric` must have positive finite weights, got {w[bad[0]]:g} at index "
            f"{bad[0]}; for a function that shall rise take the energy -V."
        )
    w.setflags(write=False)
    return Diagonal(w)


def matrix(M: Any) -> Metric:
    """Metric v.M v for a symmetric positive definite matrix (n, n).

    Raises
    ------
    ValueError
        For a matrix that is not square, not symmetric or not positive definite; the
        text has the gap or the smallest eigenvalue.
    """
    A = np.array(to_numpy(M), dtype=np.float64)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.size == 0:
        raise ValueError(f"`metric` must be a square matrix, got shape {A.shape}.")
    if not np.isfinite(A).all():
        raise ValueError("`metric` must be finite.")
    gap = float(np.abs(A - A.T).max())
    if gap > 1e-10 * float(np.abs(A).max()):
        raise ValueError(
            f"`metric` must be symmetric, but |M - M.T| reaches {gap:.3g}; give "
            "(M + M.T)/2."
        )
    A = 0.5 * (A + A.T)
    try:
        np.linalg.cholesky(A)
    except np.linalg.LinAlgError as error:
        least = float(np.linalg.eigvalsh(A)[0])
        raise ValueError(
            f"`metric` must be positive definite, but its smallest eigenvalue is "
            f"{least:.3g}; add a multiple of the identity, `M + "
            f"{max(2 * abs(least), 1e-8):.1g}*np.eye({len(A)})`, or correct its sign."
        ) from error
    if np.array_equal(A, np.diag(np.diag(A))):
        return diagonal(np.diag(A))
    return Matrix(A)


def operator(product: Any, solve: Any = None) -> OperatorMetric:
    """Metric known by its products: a matrix that is never stored.

    Parameters
    ----------
    product : callable or scipy LinearOperator
        v (.., n) -> M v (.., n), M symmetric positive definite, constant.
    solve : callable, optional
        g -> M^{-1} g; conjugate gradients by default.

    Raises
    ------
    TypeError
        For arguments that cannot be called.
    """
    if hasattr(product, "matvec"):
        product = Rows(product)
    for name, f in (("product", product), ("solve", solve)):
        if not callable(f) and not (name == "solve" and f is None):
            raise TypeError(f"`{name}` must be callable(v), got {f!r}.")
    return OperatorMetric(product, solve)


def riemannian(function: Callable[[Array], Array]) -> Riemannian:
    """Metric M(x) from a function of points x (.., n) that returns (.., n, n).

    Raises
    ------
    TypeError
        For what cannot be called.
    """
    if not callable(function):
        raise TypeError(f"`metric` must be callable(x), got {function!r}.")
    return Riemannian(function)


@dataclass(frozen=True, eq=False)
class Rows:
    """The products of a scipy LinearOperator with vectors (.., n)."""

    linear: Any

    def __call__(self, v: Array) -> Array:
        columns = to_numpy(v).reshape(-1, v.shape[-1]).T
        return array_like(np.asarray(self.linear @ columns).T.reshape(v.shape), v)


def checked(result: Any, v: Array, name: str) -> Array:
    """The result of a user's map, which must have the shape of its argument."""
    if result is None:
        raise TypeError(f"`{name}` returned None; did you forget `return`?")
    if tuple(np.shape(result)) != tuple(v.shape):
        raise ValueError(
            f"`{name}` of the metric returned shape {tuple(np.shape(result))} for "
            f"vectors of shape {tuple(v.shape)}; they must be equal."
        )
    return result


def brief(value: Any) -> str:
    """A number or a small array as it is typed, the shape of a large one."""
    if np.size(value) > 16:
        return f"<{' x '.join(map(str, np.shape(value)))}>"
    return repr(np.asarray(value).tolist())
