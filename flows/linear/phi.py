"""Exponential functions of all Jacobians that a flow may return."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.arrays import array_like, is_array
from flows.linear.operators import Operator, Solvable, apply, diagonal_of, is_sparse
from flows.linear.phi_krylov import Arnoldi, Lanczos, Rational
from flows.linear.phi_matrices import Elementwise, Exponentials, dense, phi

__all__ = ["Exponentials", "exponentials", "phi"]

Array = Any
DENSE = 400
"""Unknowns up to which banded and sparse matrices are treated as dense ones."""


def exponentials(J: Any, h: Any, like: Array) -> Exponentials:
    """phi functions of h J for what a flow's jacobian may return.

    Parameters
    ----------
    J : array (.., n, n), Tridiagonal, CyclicTridiagonal, scipy sparse, Operator
    h : float or array (b, 1)
    like : array (n,) or (b, n)
        A state.

    Raises
    ------
    numpy.linalg.LinAlgError
        For entries that are not finite.

    Notes
    -----
    Dense matrices go through their eigenvectors where they are symmetric, else through
    the exponential of an augmented matrix, in double precision. Diagonal ones are
    functions of their entries. Large banded and sparse ones are projected on Krylov
    spaces of (I - h J/10)^{-1}, whose dimension does not grow with h |J|. Operators are
    projected on their own Krylov spaces: symmetric ones by the Lanczos method, whose
    basis is made twice and never kept; others by the Arnoldi method. Both take substeps
    where they must. The number of products grows with sqrt(h |J|) in the first case,
    with h |J| in the second.

    References
    ----------
    M. Hochbruck, A. Ostermann, Exponential integrators, Acta Numerica 19 (2010)
    209-286, doi:10.1017/S0962492910000048.
    A. H. Al-Mohy, N. J. Higham, Computing the action of the matrix exponential, SIAM J.
    Sci. Comput. 33 (2011) 488-511, doi:10.1137/100788860 (the augmented matrix).
    J. van den Eshof, M. Hochbruck, Preconditioning Lanczos approximations to the matrix
    exponential, SIAM J. Sci. Comput. 27 (2006) 1438-1457, doi:10.1137/040605461 (the
    inverse).
    """
    if isinstance(J, Solvable):
        own: Exponentials = J.exponentials(h, like)
        return own
    diagonal = diagonal_of(J)
    if diagonal is not None:
        return Elementwise(h * array_like(diagonal, like))
    if isinstance(J, Operator):
        kind = Lanczos if J.symmetric else Arnoldi
        return kind(J.product, h)
    if not is_array(J):
        if like.shape[-1] > DENSE:
            symmetric = is_symmetric(J)
            kind = Lanczos if symmetric else Arnoldi
            plain = kind(lambda v: apply(J, v), h)
            return plain if is_array(h) else Rational(J, h, like, plain, symmetric)
        J = J.toarray() if is_sparse(J) else J.dense()
    return dense(J, h, like)


def is_symmetric(J: Any) -> bool:
    """Whether a banded or sparse matrix is symmetric."""
    if is_sparse(J):
        return bool((abs(J - J.T) > 0).nnz == 0)
    if len(J.lower) == len(J.diagonal):
        return bool(np.array_equal(np.roll(J.lower, -1), J.upper))
    return bool(np.array_equal(J.lower, J.upper))
