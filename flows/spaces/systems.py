"""Newton systems A p = -r of implicit steps, A = M + h Hess V, by their structure.

Every system gives a direction along which the objective of the step falls, also where
V is concave and A is not positive definite, and a way off a saddle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flows.arrays import all_finite, array_like, dtype_name, namespace, to_numpy
from flows.linear import NewtonFailure, sparse_factor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BandSystem",
    "DenseSystem",
    "KrylovSystem",
    "SparseSystem",
    "System",
    "positive_definite",
]

Array = Any
MOST_PRODUCTS = 1000
PROBES = 30


class System(Protocol):
    """The second-order model of a step at one point (n,), or at each of (b, n)."""

    @property
    def tolerance(self) -> float:
        """Residual, in units of rounding, at which a step is solved."""
        ...

    @property
    def hint(self) -> str:
        """What to add to the message of a failure."""
        ...

    def direction(self, residual: Array, free: Array | None, error: float) -> Array:
        """-A^{-1} residual, or another direction of descent where A is indefinite.

        ``free`` marks the coordinates that may move (their residuals alone are not 0);
        ``error`` is the present size of the residual, which decides how exactly an
        iterative method solves.
        """
        ...

    def reach(self, v: Array) -> Array:
        """Bound of |A| |v|, the size of the terms that cancel in a residual."""
        ...

    def escape(self, v: Array) -> Array | None:
        """Small displacement from saddles along negative curvature, None without."""
        ...


def nudge(v: Array) -> Array:
    """Length of the step off a saddle."""
    xp = namespace(v)
    return 1e-3 * (1.0 + xp.max(xp.abs(v), axis=-1, keepdims=True))


def positive_definite(matrix: Array) -> bool:
    """Whether every matrix of the batch has a Cholesky factor."""
    try:
        namespace(matrix).linalg.cholesky(matrix)
    except Exception as error:
        # NumPy's and torch's LinAlgError have no common base.
        if type(error).__name__ not in ("LinAlgError", "_LinAlgError"):
            raise
        return False
    return True


@dataclass(frozen=True, eq=False)
class DenseSystem:
    """Matrices (.., n, n); |eigenvalues| take their place where one is not positive."""

    matrix: Array
    tolerance: float = 8.0
    hint: str = ""

    def direction(self, residual: Array, free: Array | None, error: float) -> Array:
        """See ``System``."""
        xp = namespace(residual)
        matrix = self.matrix
        if free is not None:
            eye = array_like(np.eye(matrix.shape[-1]), matrix)
            both = free[..., :, None] & free[..., None, :]
            matrix = xp.where(both, matrix, eye)
        n = matrix.shape[-1]
        if n == 1:
            a = xp.abs(matrix[..., 0])
            return -residual / xp.where(a < 1e-3, xp.ones_like(a), a)
        if n == 2:
            return solve_two(matrix, residual)
        if positive_definite(matrix):
            return -xp.linalg.solve(matrix, residual[..., None])[..., 0]
        values, vectors = xp.linalg.eigh(matrix)
        values = xp.maximum(xp.abs(values), 1e-3 * xp.ones_like(values))
        inner = xp.matmul(xp.matrix_transpose(vectors), residual[..., None])
        return -xp.matmul(vectors, inner / values[..., None])[..., 0]

    def reach(self, v: Array) -> Array:
        """See ``System``."""
        xp = namespace(v)
        return xp.matmul(xp.abs(self.matrix), xp.abs(v)[..., None])[..., 0]

    def escape(self, v: Array) -> Array | None:
        """See ``System``; along the eigenvector of the lowest eigenvalue."""
        xp = namespace(v)
        if positive_definite(self.matrix):
            return None
        values, vectors = xp.linalg.eigh(self.matrix)
        saddle = values[..., :1] < -1e-6
        if not bool(xp.any(saddle)):
            return None
        return xp.where(saddle, nudge(v) * vectors[..., 0], xp.zeros_like(v))


def solve_two(matrix: Array, residual: Array) -> Array:
    """-|A|^{-1} r for symmetric 2 x 2 matrices, an eigenbasis written out.

    LAPACK takes a microsecond for each small matrix, arrays a few nanoseconds.
    """
    xp = namespace(residual)
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    half, mean = 0.5 * (a - c), 0.5 * (a + c)
    spread = xp.sqrt(half * half + b * b)
    low, high = mean - spread, mean + spread
    # The product of the eigenvalues has no cancellation where they are far apart.
    det = a * c - b * b
    far = xp.where(mean >= 0.0, high, low)
    near = xp.where(far == 0.0, far, det / xp.where(far == 0.0, 1.0 + far, far))
    low, high = xp.minimum(far, near), xp.maximum(far, near)
    r, s = residual[..., 0], residual[..., 1]
    floor = 1e-3 * xp.ones_like(low)
    positive = low >= 1e-300
    safe = xp.where(positive, det, xp.ones_like(det))
    plain = ((c * r - b * s) / safe, (a * s - b * r) / safe)
    # |A|^{-1} = (tr I - A) / .. fails for |eigenvalues|: project on the eigenvectors.
    one, two = xp.maximum(xp.abs(low), floor), xp.maximum(xp.abs(high), floor)
    width = xp.where(spread > 0.0, spread, xp.ones_like(spread))
    cos, sin = half / width, b / width
    # Projection on the upper eigenvector is (1 + [cos sin; sin -cos]) / 2.
    up_r = 0.5 * (r + cos * r + sin * s)
    up_s = 0.5 * (s + sin * r - cos * s)
    bent = ((r - up_r) / one + up_r / two, (s - up_s) / one + up_s / two)
    parts = [xp.where(positive, p, q) for p, q in zip(plain, bent, strict=True)]
    return -xp.stack(parts, axis=-1)


@dataclass(frozen=True, eq=False)
class KrylovSystem:
    """A by its products alone; conjugate gradients end where a direction is concave.

    References
    ----------
    T. Steihaug, The conjugate gradient method and trust regions in large scale
    optimization, SIAM J. Numer. Anal. 20 (1983) 626-637, doi:10.1137/0720042.
    """

    product: Callable[[Array], Array]
    precondition: Callable[[Array], Array] | None
    tolerance: float
    exact: Callable[[Array], Array]
    hint: str = (
        "; the Hessian is known by products alone: a `preconditioner` in fl.Krylov(), "
        "or fl.Banded or fl.Sparse, would help"
    )

    def direction(self, residual: Array, free: Array | None, error: float) -> Array:
        """See ``System``; the forcing term falls with the error [1]_.

        References
        ----------
        .. [1] S. C. Eisenstat, H. F. Walker, Choosing the forcing terms in an inexact
           Newton method, SIAM J. Sci. Comput. 17 (1996) 16-32, doi:10.1137/0917003.
        """
        product, precondition = self.product, self.precondition
        if free is not None:
            product, precondition = masked(product, free), None
        eps = float(np.finfo(dtype_name(residual)).eps)
        least = 0.1 * self.tolerance * eps / max(error, eps)
        forcing = min(0.1, max(min(0.1, error**0.5), least))
        return truncated(product, -residual, precondition, forcing)

    def reach(self, v: Array) -> Array:
        """See ``System``; |A| is estimated by one product."""
        xp = namespace(v)
        return xp.abs(self.product(v)) + xp.max(xp.abs(v), axis=-1, keepdims=True)

    def escape(self, v: Array) -> Array | None:
        """See ``System``; along the concave direction that a Krylov space finds."""
        # The sign of a curvature may depend on the digits that cheap products lack.
        return concave(self.exact, v)


def masked(product: Callable[[Array], Array], free: Array) -> Callable[[Array], Array]:
    """The product on free coordinates, the identity on the others."""

    def restricted(p: Array) -> Array:
        xp = namespace(p)
        inner = product(xp.where(free, p, xp.zeros_like(p)))
        return xp.where(free, inner, p)

    return restricted


def truncated(
    product: Callable[[Array], Array],
    b: Array,
    precondition: Callable[[Array], Array] | None,
    forcing: float,
    most: int = MOST_PRODUCTS,
) -> Array:
    """Conjugate gradients for A x = b at every member.

    A member ends when its residual has fallen by ``forcing``, or at a direction of
    negative curvature: with what it has, or in the first iteration with b itself.
    """
    xp = namespace(b)

    def dot(x: Array, y: Array) -> Array:
        return xp.sum(x * y, axis=-1, keepdims=True)

    x, r = xp.zeros_like(b), b
    z = b if precondition is None else precondition(b)
    p, rho = z, dot(b, z)
    if bool(xp.any(rho < 0.0)):
        raise NewtonFailure("the preconditioner is not positive definite: r.P r < 0")
    target = forcing**2 * dot(b, b)
    active = dot(b, b) > 0.0
    zero = xp.zeros_like(rho)
    for iteration in range(most):
        Ap = product(p)
        curvature = dot(p, Ap)
        if not all_finite(curvature):
            raise NewtonFailure("a product with the Hessian is not finite")
        bent = active & (curvature <= 0.0)
        if iteration == 0:
            x = xp.where(bent, p, x)
        active = active & ~bent
        safe = xp.where(active, curvature, 1.0 + zero)
        step = xp.where(active, rho / safe, zero)
        x, r = x + step * p, r - step * Ap
        active = active & (dot(r, r) > target)
        if not bool(xp.any(active)):
            break
        z = r if precondition is None else precondition(r)
        new = dot(r, z)
        p = z + xp.where(active, new / xp.where(active, rho, 1.0 + zero), zero) * p
        rho = new
    return x


def concave(product: Callable[[Array], Array], v: Array) -> Array | None:
    """Displacement along a direction of negative curvature, if one is found."""
    xp = namespace(v)
    n = v.shape[-1]
    k = np.arange(n)
    start = array_like(np.sin(1.0 + k * (1.0 + k) * 0.37), v) + 0.0 * v
    found = xp.zeros_like(v)
    hit = xp.zeros_like(v[..., :1]) > 0.0

    def watched(p: Array) -> Array:
        nonlocal found, hit
        Ap = product(p)
        size = xp.sum(p * p, axis=-1, keepdims=True)
        bent = xp.sum(p * Ap, axis=-1, keepdims=True) < -1e-6 * size
        new = bent & ~hit
        longest = xp.max(xp.abs(p), axis=-1, keepdims=True)
        unit = p / xp.where(longest > 0.0, longest, xp.ones_like(longest))
        found, hit = xp.where(new, unit, found), hit | bent
        return Ap

    truncated(watched, start, None, 1e-3, PROBES)
    return nudge(v) * found if bool(xp.any(hit)) else None


@dataclass(frozen=True, eq=False)
class BandSystem:
    """Symmetric bands: ``bands[.., k, j]`` = A[j + k, j], members one after another."""

    bands: np.ndarray
    product: Callable[[Array], Array]
    tolerance: float = 8.0
    hint: str = ""

    def direction(self, residual: Array, free: Array | None, error: float) -> Array:
        """See ``System``; a multiple of the identity is added to an indefinite A."""
        bands = self.bands
        if free is not None:
            bands = cut(bands, to_numpy(free))
        flat = joined(bands)
        x = solve_band(flat, to_numpy(residual).reshape(-1))
        return array_like(-x.reshape(residual.shape), residual)

    def reach(self, v: Array) -> Array:
        """See ``System``."""
        xp = namespace(v)
        size = 2.0 * np.abs(self.bands).sum(axis=-2).max(axis=-1, keepdims=True)
        return array_like(size, v) * xp.max(xp.abs(v), axis=-1, keepdims=True)

    def escape(self, v: Array) -> Array | None:
        """See ``System``."""
        return concave(self.product, v)


def joined(bands: np.ndarray) -> np.ndarray:
    """Bands (w, b n) of the block matrix of all members; blocks do not touch."""
    bands = bands.copy()
    for k in range(1, bands.shape[-2]):
        bands[..., k, bands.shape[-1] - k :] = 0.0
    if bands.ndim == 2:
        return bands
    return np.moveaxis(bands, 0, 1).reshape(bands.shape[1], -1)


def cut(bands: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Bands whose fixed coordinates have rows and columns of the identity."""
    bands = bands.copy()
    n = bands.shape[-1]
    for k in range(bands.shape[-2]):
        both = free[..., : n - k] & free[..., k:]
        bands[..., k, : n - k] *= both
    bands[..., 0, :] += ~free
    return bands


def solve_band(bands: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A^{-1} b, with a multiple of the identity added until A is positive definite."""
    from scipy.linalg import solveh_banded

    if not np.isfinite(bands).all():
        raise NewtonFailure("the second derivatives of the energy are not finite")
    shift = 0.0
    while True:
        try:
            x = solveh_banded(bands, b, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            shift = max(4.0 * shift, 0.1)
            bands = bands.copy()
            bands[0] += shift
            continue
        return np.asarray(x, dtype=b.dtype)


@dataclass(frozen=True, eq=False)
class SparseSystem:
    """A scipy sparse matrix (n, n), or the block matrix of all members (b n, b n)."""

    matrix: Any
    product: Callable[[Array], Array]
    tolerance: float = 8.0
    hint: str = ""

    def direction(self, residual: Array, free: Array | None, error: float) -> Array:
        """See ``System``; a multiple of the identity is added until it descends."""
        from scipy.sparse import diags_array

        A, r = self.matrix, to_numpy(residual).reshape(-1).astype(np.float64)
        if not np.isfinite(A.data).all():
            raise NewtonFailure("the second derivatives of the energy are not finite")
        if free is not None:
            keep = to_numpy(free).reshape(-1).astype(float)
            A = diags_array(keep) @ A @ diags_array(keep) + diags_array(1.0 - keep)
        shift, rows = 0.0, (-1, residual.shape[-1])
        while True:
            B = A if shift == 0.0 else A + diags_array(np.full(r.size, shift))
            shift = max(4.0 * shift, 0.1)
            try:
                x = sparse_factor(B).solve(r)
            except np.linalg.LinAlgError:
                continue
            # Where A is indefinite its inverse may point uphill.
            slope = (x * r).reshape(rows).sum(axis=-1)
            if (slope > 0.0).all() or not r.any():
                return array_like(-x.reshape(residual.shape), residual)
            if shift > 1e300:
                raise NewtonFailure("no direction of descent was found")

    def reach(self, v: Array) -> Array:
        """See ``System``."""
        x = np.abs(to_numpy(v)).reshape(-1)
        return array_like((abs(self.matrix) @ x).reshape(v.shape), v)

    def escape(self, v: Array) -> Array | None:
        """See ``System``."""
        return concave(self.product, v)
