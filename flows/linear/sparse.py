"""LU factors of sparse matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import DTYPES, array_like, is_torch, to_numpy

__all__ = ["SparseFactor", "sparse_factor"]

Array = Any
COMPLEX = ("complex64", "complex128")


@dataclass(frozen=True, eq=False)
class SparseFactor:
    """LU factors of a square sparse matrix; made by `sparse_factor`.

    A pickle holds the matrix alone and is factored again when it is loaded.
    """

    matrix: Any
    lu: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return sparse_factor, (self.matrix,)

    def solve(self, b: Array) -> Array:
        """A^{-1} b for b (n,) or (n, k), in the dtype of b.

        Raises
        ------
        TypeError, ValueError
            For a right-hand side that is not float64 or float32 (complex where the
            matrix is), or of another length.
        """
        if is_torch(b):
            return array_like(self.solve(to_numpy(b)), b)
        complex_ = self.matrix.dtype.kind == "c"
        if b.dtype.name not in (COMPLEX if complex_ else DTYPES):
            raise TypeError(
                "The right-hand side must be "
                f"{'complex' if complex_ else 'float64 or float32'}, "
                f"got {b.dtype.name}."
            )
        n = self.matrix.shape[0]
        if b.ndim not in (1, 2) or b.shape[0] != n:
            raise ValueError(
                f"The right-hand side must have shape ({n},) or ({n}, k), "
                f"got {b.shape}."
            )
        x = self.lu.solve(b.astype(self.matrix.dtype, copy=False))
        return x.astype(b.dtype, copy=False)


def sparse_factor(matrix: Any) -> SparseFactor:
    """Sparse LU of a scipy sparse matrix, in double precision whatever its dtype.

    Parameters
    ----------
    matrix : scipy sparse array, (n, n)
        Its pattern decides the order of elimination: minimum degree on A^T + A where
        it is symmetric (half the fill on grids), else on columns.

    Raises
    ------
    numpy.linalg.LinAlgError
        For a singular matrix, and for entries that are not finite.
    ValueError
        For a matrix that is not square.
    """
    from scipy.sparse.linalg import splu

    # A copy, because sorting the indices would change the user's matrix.
    wide = np.complex128 if matrix.dtype.kind == "c" else np.float64
    A = matrix.tocsc(copy=True).astype(wide, copy=False)
    A.sum_duplicates()
    if A.shape[0] != A.shape[1] or A.shape[0] == 0:
        raise ValueError(f"The matrix must be square, got shape {A.shape}.")
    if not np.isfinite(A.data).all():
        raise np.linalg.LinAlgError(
            "The matrix has entries that are not finite and cannot be factored."
        )
    try:
        lu = splu(A, permc_spec="MMD_AT_PLUS_A" if _symmetric(A) else "COLAMD")
    except RuntimeError as error:
        raise np.linalg.LinAlgError(
            f"The sparse matrix of size {A.shape[0]} is singular."
        ) from error
    return SparseFactor(A, lu)


def _symmetric(A: Any) -> bool:
    """Whether the pattern of a csc matrix is symmetric."""
    B = A.tocsr()
    return np.array_equal(A.indptr, B.indptr) and np.array_equal(A.indices, B.indices)
