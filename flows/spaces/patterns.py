"""Hessians with bands or a known pattern, from products with few vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace, to_numpy
from flows.linear import Tridiagonal
from flows.spaces.jacobians import Structure, moved, operator, weights_of
from flows.spaces.systems import BandSystem, SparseSystem

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Banded", "Sparse"]

Array = Any


@dataclass(frozen=True)
class Banded(Structure):
    """Hess V is zero beyond ``lower`` diagonals below and ``upper`` above the main one.

    A Hessian is symmetric, so the wider side counts. It is found by 2 w + 1 products,
    whatever n is, and factored by Cholesky's method, O(w^2 n), on the CPU.

    Parameters
    ----------
    lower, upper : int
        Numbers of diagonals, not negative.
    """

    lower: int
    upper: int

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            k = getattr(self, name)
            if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
                raise TypeError(f"`{name}` must be an integer, got {k!r}.")
            if k < 0:
                raise ValueError(f"`{name}` must not be negative, got {k}.")

    def check(self, n: int) -> None:
        """Raise ValueError for more diagonals than the matrix has."""
        if max(self.lower, self.upper) >= max(n, 1):
            raise ValueError(
                f"{self!r} has more diagonals than the Hessian of {n} coordinate(s); "
                "use jacobian=fl.Dense()."
            )

    def bands(
        self, flow: Any, t: Any, u: Array, slope: Array | None = None
    ) -> np.ndarray:
        """``bands[.., k, j]`` = H[j + k, j] for k = 0..w."""
        n, w = u.shape[-1], max(self.lower, self.upper)
        period = min(2 * w + 1, n)
        product = flow.hessian_products(t, u, slope)
        result = np.zeros((*u.shape[:-1], w + 1, n), to_numpy(u[..., :0]).dtype)
        for color in range(period):
            seed = namespace(u).zeros_like(u)
            seed[..., color::period] = 1.0
            column = to_numpy(product(seed))
            for k in range(w + 1):
                entries = column[..., color + k :: period]
                last = color + period * entries.shape[-1]
                result[..., k, color:last:period] = entries
        return result

    def jacobian(self, flow: Any, t: Any, u: Array) -> Any:
        """``Tridiagonal`` for w <= 1, scipy sparse beyond; an operator for batches."""
        bands = self.bands(flow, t, u)
        if u.ndim > 1:
            return operator(flow, t, u, self._inverse(flow, bands, u))
        bands, weights = -bands, weights_of(flow, u).astype(bands.dtype)
        if bands.shape[0] <= 2:
            off = bands[1, :-1] if len(bands) == 2 else np.zeros_like(bands[0, :-1])
            upper, lower = off / weights[:-1], off / weights[1:]
            return Tridiagonal(lower, bands[0] / weights, upper)
        from scipy.sparse import diags_array

        offsets = list(range(len(bands)))
        rows = [bands[k, : bands.shape[1] - k] for k in offsets]
        half = diags_array(rows, offsets=[-k for k in offsets], format="csc")
        full = half + diags_array(rows[1:], offsets=offsets[1:], format="csc")
        return (diags_array(1.0 / weights) @ full).tocsc()

    def _inverse(self, flow: Any, bands: np.ndarray, u: Array) -> Callable[..., Array]:
        weights = weights_of(flow, u)

        def solve(c: Any, r: Array) -> Array:
            step = to_numpy(c)[..., None] if getattr(c, "ndim", 0) else c
            A = step * bands
            A[..., 0, :] += weights
            right = array_like(weights, r) * r
            return BandSystem(A, lambda v: v).direction(-right, None, 0.0)

        return solve

    def system(
        self, flow: Any, t: Any, v: Array, h: Any, slope: Array | None = None
    ) -> BandSystem:
        """M + h Hess V."""
        step = to_numpy(h)[..., None] if getattr(h, "ndim", 0) else h
        bands = step * self.bands(flow, t, v, slope)
        bands[..., 0, :] += weights_of(flow, v)
        return BandSystem(bands, moved(flow, t, v, h))


@dataclass(frozen=True, eq=False)
class Sparse(Structure):
    """Hess V is zero outside a known pattern.

    Columns without a common row share a product [1]_, so that a Hessian takes as many
    products as there are groups of them. Factored by sparse LU, on the CPU.

    Parameters
    ----------
    pattern : scipy sparse or (n, n) array
        Not zero where Hess V may be; the transpose and the diagonal are added.

    References
    ----------
    .. [1] A. R. Curtis, M. J. D. Powell, J. K. Reid, On the estimation of sparse
       Jacobian matrices, IMA J. Appl. Math. 13 (1974) 117-119,
       doi:10.1093/imamat/13.1.117.
    """

    pattern: Any = field(repr=False)

    def __post_init__(self) -> None:
        from scipy.sparse import csc_array

        try:
            P = csc_array(self.pattern)
        except (TypeError, ValueError) as error:
            raise TypeError(
                "`pattern` must be a scipy sparse matrix or an (n, n) array, got "
                f"{self.pattern!r}."
            ) from error
        if P.ndim != 2 or P.shape[0] != P.shape[1] or P.shape[0] == 0:
            raise ValueError(f"`pattern` must be a square matrix, got shape {P.shape}.")
        object.__setattr__(self, "pattern", P)

    def __getstate__(self) -> dict[str, Any]:
        return {"pattern": self.pattern}

    def check(self, n: int) -> None:
        """Raise ValueError unless the pattern is (n, n)."""
        if self.pattern.shape != (n, n):
            raise ValueError(
                f"`pattern` of fl.Sparse has shape {self.pattern.shape}, but the state "
                f"has {n} coordinates; give the pattern of an ({n}, {n}) Hessian."
            )

    @cached_property
    def full(self) -> Any:
        """The pattern with its transpose and diagonal, entries 1, by columns."""
        from scipy.sparse import csc_array, eye_array

        P = csc_array(self.pattern != 0)
        whole = csc_array(P + P.T + eye_array(P.shape[0]))
        whole.data = np.ones(whole.nnz)
        whole.sort_indices()
        return whole

    @cached_property
    def colors(self) -> np.ndarray:
        """A group for each column; columns of one group have no common row."""
        P = self.full
        clash = (P.T @ P).tocsr()
        colors = np.full(P.shape[0], -1)
        for j in range(P.shape[0]):
            near = colors[clash.indices[clash.indptr[j] : clash.indptr[j + 1]]]
            free = np.ones(len(near) + 1, dtype=bool)
            free[near[(near >= 0) & (near < len(free))]] = False
            colors[j] = int(np.argmax(free))
        return colors

    def data(
        self, flow: Any, t: Any, u: Array, slope: Array | None = None
    ) -> np.ndarray:
        """Entries of Hess V in the order of ``full``, (.., nnz)."""
        P, colors = self.full, self.colors
        columns = np.repeat(np.arange(P.shape[0]), np.diff(P.indptr))
        result = np.zeros((*u.shape[:-1], P.nnz))
        product = flow.hessian_products(t, u, slope)
        for color in range(int(colors.max()) + 1):
            seed = array_like((colors == color).astype(float), u) + 0.0 * u
            column = to_numpy(product(seed))
            own = colors[columns] == color
            result[..., own] = column[..., P.indices[own]]
        return result

    def matrix(self, data: np.ndarray) -> Any:
        """Sparse matrix (n, n) of entries (nnz,); block diagonal for (b, nnz)."""
        from scipy.sparse import csc_array

        P = self.full
        n = P.shape[0]
        if data.ndim == 1:
            return csc_array((data, P.indices, P.indptr), shape=(n, n))
        b = len(data)
        shift = np.arange(b)[:, None]
        indices = (P.indices + n * shift).reshape(-1)
        starts = (P.indptr[:-1] + P.nnz * shift).reshape(-1)
        pointers = np.append(starts, b * P.nnz)
        return csc_array((data.reshape(-1), indices, pointers), shape=(b * n, b * n))

    def jacobian(self, flow: Any, t: Any, u: Array) -> Any:
        """scipy sparse (n, n), or an operator for batches."""
        data = self.data(flow, t, u)
        weights = weights_of(flow, u)
        if u.ndim == 1:
            data = -data / weights[self.full.indices]
            return self.matrix(data.astype(to_numpy(u[:0]).dtype))

        def inverse(c: Any, r: Array) -> Array:
            right = array_like(weights, r) * r
            return self._moved(flow, t, u, c, data).direction(-right, None, 0.0)

        return operator(flow, t, u, inverse)

    def _moved(
        self, flow: Any, t: Any, v: Array, h: Any, data: np.ndarray
    ) -> SparseSystem:
        from scipy.sparse import diags_array

        H = self.matrix(to_numpy(h) * data if getattr(h, "ndim", 0) else h * data)
        copies = H.shape[0] // v.shape[-1]
        M = diags_array(np.tile(weights_of(flow, v), copies))
        return SparseSystem((H + M).tocsc(), moved(flow, t, v, h))

    def system(
        self, flow: Any, t: Any, v: Array, h: Any, slope: Array | None = None
    ) -> SparseSystem:
        """M + h Hess V."""
        return self._moved(flow, t, v, h, self.data(flow, t, v, slope))

    def __repr__(self) -> str:
        n = self.pattern.shape[0]
        return f"Sparse(<{n} x {n}, {self.pattern.nnz} entries>)"
