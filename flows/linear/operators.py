"""Linear maps that are known by their products alone, and products of all Jacobians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.arrays import array_like, batch_matvec, is_torch, namespace, to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Operator", "apply", "apply_complex", "is_complex", "is_sparse"]

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


def is_sparse(J: Any) -> bool:
    """Whether ``J`` is a scipy sparse matrix or array."""
    return hasattr(J, "tocsc") and hasattr(J, "nnz")


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
    if isinstance(J, Operator):
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
