"""Linear maps that are known by their products alone, and products of all Jacobians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, batch_matvec, is_torch, namespace, to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Operator",
    "Solvable",
    "apply",
    "apply_complex",
    "diagonal_of",
    "is_complex",
    "is_sparse",
    "transpose",
]

Array = Any


@dataclass(frozen=True, eq=False)
class Operator:
    """Linear map v -> J v of arrays (.., n), batched like the state.

    Parameters
    ----------
    product : callable
        v (.., n) -> J v (.., n), linear; each batch member has its own J.
    symmetric : bool
        Whether J is symmetric in the plain inner product, the sum over the last axis.
    preconditioner : callable, optional
        (c, r) -> approximation of (I - c J)^{-1} r, linear in r, for a number c or an
        array (b, 1). Where ``symmetric``, it must be symmetric positive definite.
    diagonal : array, optional
        The entries of a diagonal J, of the shape of the state: its systems and
        exponentials then need no products.
    accuracy : float, optional
        Relative error of the products, where it is larger than rounding.

    Examples
    --------
    >>> import numpy as np
    >>> J = Operator(lambda v: -2.0 * v)
    >>> apply(J, np.ones(2))
    array([-2., -2.])
    """

    product: Callable[[Array], Array]
    symmetric: bool = True
    preconditioner: Callable[[Any, Array], Array] | None = None
    diagonal: Array | None = None
    accuracy: float = 0.0


class Solvable:
    """A Jacobian that brings its own solvers, for instance to carry derivatives."""

    def product(self, v: Array) -> Array:
        """J v."""
        raise NotImplementedError

    def shifted(self, c: Any, like: Array) -> Any:
        """What ``linear.shifted`` returns for it."""
        raise NotImplementedError

    def exponentials(self, h: Any, like: Array) -> Any:
        """What ``linear.exponentials`` returns for it."""
        raise NotImplementedError


def transpose(J: Any) -> Any:
    """The transpose of a Jacobian; None for operators that are not symmetric."""
    if isinstance(J, Operator):
        return J if J.symmetric else None
    if is_sparse(J):
        return J.T
    if hasattr(J, "diagonal") and hasattr(J, "lower"):
        # The corners of a cyclic matrix are its first and last entries off the band.
        cyclic = len(J.lower) == len(J.diagonal)
        lower, upper = J.upper, J.lower
        if cyclic:
            lower, upper = np.roll(J.upper, 1), np.roll(J.lower, -1)
        return type(J)(lower, J.diagonal, upper)
    return namespace(J).matrix_transpose(J)


def is_sparse(J: Any) -> bool:
    """Whether ``J`` is a scipy sparse matrix or array."""
    return hasattr(J, "tocsc") and hasattr(J, "nnz")


def diagonal_of(J: Any) -> Array | None:
    """The entries of a Jacobian that is known to be diagonal, else None."""
    if isinstance(J, Operator):
        return J.diagonal
    if is_sparse(J) and J.nnz <= J.shape[0]:
        rows, columns = J.nonzero()
        return J.diagonal() if np.array_equal(rows, columns) else None
    return None


def is_complex(x: Any) -> bool:
    """Whether a number or an array is complex."""
    if isinstance(x, complex):
        return True
    return "complex" in str(getattr(x, "dtype", ""))


def apply(J: Any, v: Array) -> Array:
    """J v for every Jacobian that a flow may return.

    Parameters
    ----------
    J : array (.., n, n), Tridiagonal, CyclicTridiagonal, scipy sparse, Operator
    v : array (.., n)

    Returns
    -------
    array (.., n)
        In the library and dtype of ``v``.
    """
    if isinstance(J, (Operator, Solvable)):
        return J.product(v)
    if hasattr(J, "matvec") and not is_sparse(J):
        return _columns(J.matvec, v)
    if is_sparse(J):
        if is_torch(v):
            return array_like(apply(J, to_numpy(v)), v)
        return _columns(lambda x: (J @ x).astype(v.dtype, copy=False), v)
    return batch_matvec(array_like(J, v), v)


def apply_complex(product: Callable[[Array], Array], v: Array) -> Array:
    """A real linear map applied to a vector that may be complex."""
    if not is_complex(v):
        return product(v)
    xp = namespace(v)
    return product(xp.real(v)) + 1j * product(xp.imag(v))


def _columns(f: Callable[[Array], Array], v: Array) -> Array:
    """f of columns (n, k), applied to v (n,) or (.., n)."""
    if v.ndim == 1:
        return f(v)
    xp = namespace(v)
    flat = xp.reshape(v, (-1, v.shape[-1]))
    return xp.reshape(
        xp.permute_dims(f(xp.permute_dims(flat, (1, 0))), (1, 0)), v.shape
    )
