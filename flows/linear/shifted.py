"""Systems (I - c J) x = r with the Jacobian J of a flow, whatever its storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flows.arrays import array_like, dtype_name, is_array, is_torch, namespace
from flows.linear import krylov
from flows.linear.newton import NewtonFailure
from flows.linear.operators import (
    Operator,
    Solvable,
    apply_complex,
    diagonal_of,
    is_complex,
    is_sparse,
)
from flows.linear.sparse import sparse_factor
from flows.linear.tridiagonal import CyclicTridiagonal, Tridiagonal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Shifted", "shifted"]

Array = Any
SMALL = 32
"""Unknowns up to which a batch is solved anew for each right-hand side."""
CHOLESKY = 128
"""Unknowns from which a symmetric matrix is tried by Cholesky's method."""


class Shifted(Protocol):
    """Inverse of I - c J."""

    def solve(self, r: Array) -> Array:
        """(I - c J)^{-1} r for r of the shape of the state; complex with a complex c.

        Raises
        ------
        NewtonFailure
            Where a Krylov method did not converge; it has the residuals.
        numpy.linalg.LinAlgError
            For a singular matrix of a batch.
        """
        ...


def shifted(J: Any, c: Any, like: Array, *, tol: float | None = None) -> Shifted:
    """Solver of (I - c J) x = r; dense, banded and sparse matrices are factored once.

    Parameters
    ----------
    J : array (.., n, n), Tridiagonal, CyclicTridiagonal, scipy sparse, Operator
        The Jacobian of a flow at a state like ``like``. One matrix may serve a batch.
    c : float, complex, or array (b, 1)
        One for each member of a batch when an array.
    like : array (n,) or (b, n)
        Decides shape, library and dtype of right-hand sides and solutions.
    tol : float, optional
        Bound of |r - (I - c J) x| / |r| for an Operator: by default 1e-12, in float32
        1e-5. Matrices are solved to rounding.

    Raises
    ------
    numpy.linalg.LinAlgError
        For a singular matrix, and for entries that are not finite.

    Notes
    -----
    An Operator is solved by conjugate gradients where it is symmetric, c is real and no
    negative curvature is met; by minimal residuals where it is symmetric and has no
    preconditioner; else by restarted GMRES with its preconditioner. Every member of a
    batch converges by itself; the memory is a fixed number of states.

    Examples
    --------
    >>> import numpy as np
    >>> shifted(np.array([[-3.0]]), 1.0, np.ones(1)).solve(np.array([2.0]))
    array([0.5])
    """
    if isinstance(J, Solvable):
        own: Shifted = J.shifted(c, like)
        return own
    if is_array(c):
        c = c.item() if c.ndim == 0 else c if is_complex(c) else array_like(c, like)
    diagonal = diagonal_of(J)
    if diagonal is not None:
        return quotient(1.0 - c * array_like(diagonal, like))
    if isinstance(J, Operator):
        loose = dtype_name(like) == "float32"
        return KrylovSolver(J, c, (1e-5 if loose else 1e-12) if tol is None else tol)
    if isinstance(J, (Tridiagonal, CyclicTridiagonal)) or is_sparse(J):
        if is_array(c):
            return Members([factored(J, x.item(), like) for x in c[..., 0]])
        return factored(J, c, like)
    return dense(array_like(J, like), c, like)


def quotient(entries: Array) -> Quotient:
    """Solver of a diagonal matrix."""
    xp = namespace(entries)
    if not bool(xp.all(xp.isfinite(entries))):
        raise not_finite()
    if bool(xp.any(entries == 0)):
        raise singular(int(entries.shape[-1]))
    return Quotient(entries)


@dataclass(frozen=True, eq=False)
class Quotient:
    """A diagonal I - c J."""

    entries: Array

    def solve(self, r: Array) -> Array:
        """See ``Shifted.solve``."""
        return r / self.entries


def factored(J: Any, c: Any, like: Array) -> Columns:
    """Factors of I - c J for a banded or sparse J."""
    if is_sparse(J):
        from scipy.sparse import csc_array, eye_array

        shift = eye_array(J.shape[0], format="csc") - c * csc_array(J)
        return Columns(sparse_factor(shift), is_complex(c))
    name = dtype_name(like)
    if is_complex(c):
        name = {"float32": "complex64", "float64": "complex128"}[name]
    wide = np.complex128 if is_complex(c) else np.float64
    # The shift is made in double precision and rounded once.
    parts = [np.asarray(a, dtype=wide) for a in (J.lower, J.diagonal, J.upper)]
    moved = type(J)(*parts).shifted(-c)
    rounded = (a.astype(name) for a in (moved.lower, moved.diagonal, moved.upper))
    return Columns(type(J)(*rounded).factor(), is_complex(c))


@dataclass(frozen=True, eq=False)
class Columns:
    """One factor, of columns (n, k), for all members."""

    factor: Any
    complex_: bool

    def solve(self, r: Array) -> Array:
        """See ``Shifted.solve``."""
        xp = namespace(r)
        r = r + 0j if self.complex_ and not is_complex(r) else r
        if r.ndim == 1:
            return self.factor.solve(r)
        flat = xp.permute_dims(xp.reshape(r, (-1, r.shape[-1])), (1, 0))
        return xp.reshape(xp.permute_dims(self.factor.solve(flat), (1, 0)), r.shape)


@dataclass(frozen=True, eq=False)
class Members:
    """One factor for each member."""

    factors: list[Any]

    def solve(self, r: Array) -> Array:
        """See ``Shifted.solve``."""
        pairs = zip(self.factors, r, strict=True)
        return namespace(r).stack([factor.solve(x) for factor, x in pairs])


def dense(J: Array, c: Any, like: Array) -> Shifted:
    """Factors of dense matrices (.., n, n)."""
    xp = namespace(like)
    n = int(J.shape[-1])
    matrix = array_like(np.eye(n), like) - (c[..., None] if is_array(c) else c) * J
    if not bool(xp.all(xp.isfinite(matrix))):
        raise not_finite()
    if is_torch(like):
        return factor_torch(matrix)
    if matrix.ndim == 2:
        return factor_dense(matrix)
    if n <= SMALL:
        return Anew(matrix)
    return Members([factor_dense(member) for member in matrix])


def not_finite() -> np.linalg.LinAlgError:
    """The error of a matrix with NaN or inf."""
    return np.linalg.LinAlgError(
        "The Jacobian has entries that are not finite and cannot be factored."
    )


def singular(n: int) -> np.linalg.LinAlgError:
    """The error of a matrix without inverse."""
    return np.linalg.LinAlgError(f"The matrix I - c J of size {n} is singular.")


def factor_dense(matrix: np.ndarray) -> Factored:
    """LU factors of one matrix; Cholesky's where it is large, symmetric, positive."""
    from scipy.linalg import cho_solve, get_lapack_funcs, lu_solve

    n = len(matrix)
    if n >= CHOLESKY and not is_complex(matrix) and np.array_equal(matrix, matrix.T):
        half, info = get_lapack_funcs("potrf", (matrix,))(matrix, clean=False)
        if info == 0:
            return Factored(cho_solve, (half, False))
    lu, pivots, info = get_lapack_funcs("getrf", (matrix,))(matrix)
    if info > 0:
        raise singular(n)
    return Factored(lu_solve, (lu, pivots))


@dataclass(frozen=True, eq=False)
class Factored:
    """Factors of one dense matrix and the function that uses them."""

    use: Callable[..., Array]
    factors: tuple[np.ndarray, Any]

    def solve(self, r: Array) -> Array:
        """See ``Shifted.solve``."""
        return np.asarray(self.use(self.factors, r.T, check_finite=False).T)


@dataclass(frozen=True, eq=False)
class Anew:
    """Small matrices (b, n, n), solved for each right-hand side."""

    matrix: np.ndarray

    def solve(self, r: Array) -> Array:
        """See ``Shifted.solve``."""
        return np.linalg.solve(self.matrix, r[..., None])[..., 0]


def factor_torch(matrix: Array) -> TorchFactor:
    """LU factors of matrices in torch."""
    import torch

    lu, pivots, info = torch.linalg.lu_factor_ex(matrix)
    if bool((info > 0).any()):
        raise singular(int(matrix.shape[-1]))
    return TorchFactor(lu, pivots)


@dataclass(frozen=True, eq=False)
class TorchFactor:
    """LU factors of one matrix (n, n) or of matrices (b, n, n) in torch."""

    lu: Array
    pivots: Array

    def solve(self, r: Array) -> Array:
        """See ``Shifted.solve``."""
        import torch

        columns = r.to(self.lu.dtype)[..., None]
        if self.lu.ndim == 2 and r.ndim == 2:
            columns = columns[..., 0].mT
            return torch.linalg.lu_solve(self.lu, self.pivots, columns).mT
        return torch.linalg.lu_solve(self.lu, self.pivots, columns)[..., 0]


class NotPositive(Exception):
    """Conjugate gradients met negative curvature."""


@dataclass(frozen=True, eq=False)
class KrylovSolver:
    """I - c J by products with J."""

    J: Operator
    c: Any
    tol: float

    def matvec(self, x: Array) -> Array:
        """(I - c J) x."""
        return x - self.c * apply_complex(self.J.product, x)

    def solve(self, r: Array) -> Array:
        """See ``Shifted.solve``."""
        if not bool(namespace(r).all(namespace(r).isfinite(r))):
            raise NewtonFailure("the right-hand side of a Krylov method is not finite")
        r = r + 0j if is_complex(self.c) and not is_complex(r) else r
        method, limits = self.general, (self.tol, self.J.accuracy)
        if self.J.symmetric and not is_complex(self.c):
            try:
                return krylov.refined(self.definite, self.matvec, r, *limits)
            except NotPositive:
                pass
        if self.J.symmetric and self.J.preconditioner is None:
            method = self.symmetric
        return krylov.refined(method, self.matvec, r, *limits)

    def preconditioner(self) -> Callable[[Array], Array] | None:
        """The user's approximate inverse, at |c| where c is complex."""
        given, c = self.J.preconditioner, self.c
        if given is None:
            return None
        size = abs(c) if is_complex(c) else c
        return lambda r: apply_complex(lambda x: given(size, x), r)

    def definite(self, r: Array, target: Array) -> tuple[Array, Array]:
        """Conjugate gradients."""
        found = krylov.definite(self.matvec, r, target, self.preconditioner())
        if found is None:
            raise NotPositive
        return found

    def symmetric(self, r: Array, target: Array) -> tuple[Array, Array]:
        """Minimal residuals."""
        return krylov.symmetric(self.J.product, self.c, r, target)

    def general(self, r: Array, target: Array) -> tuple[Array, Array]:
        """GMRES."""
        return krylov.general(self.matvec, r, target, self.preconditioner())
