"""Exponential functions of matrices times vectors.

phi_0(z) = exp(z), phi_k(z) = (phi_{k-1}(z) - 1/(k-1)!) / z: a linear flow with a force
that is a polynomial in time is a sum of phi_k(h J) times vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flows.arrays import array_like, dtype_name, is_array, is_torch, namespace, to_numpy
from flows.linear.krylov import dot, length, orthogonal, quotient
from flows.linear.newton import NewtonFailure
from flows.linear.operators import Operator, apply, is_sparse

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Exponentials", "exponentials", "phi"]

Array = Any
TERMS = 20
DENSE = 400
"""Unknowns up to which banded and sparse matrices are treated as dense ones."""
MOST_LANCZOS = 3000
ARNOLDI = 40
MOST_SUBSTEPS = 1000


class Exponentials(Protocol):
    """phi functions of h J."""

    def combine(self, vectors: list[Array | None]) -> Array:
        """phi_1(h J) vectors[0] + phi_2(h J) vectors[1] + .., None being 0."""
        ...


def phi(k: int, z: Array) -> Array:
    """phi_k at real numbers, k >= 1, to rounding."""
    xp = namespace(z)
    near = xp.abs(z) < 1.0
    far = xp.where(near, xp.ones_like(z), z)
    value = xp.expm1(far) / far
    for j in range(2, k + 1):
        value = (value - 1.0 / math.factorial(j - 1)) / far
    small = xp.where(near, z, xp.zeros_like(z))
    series = xp.zeros_like(z)
    for j in reversed(range(TERMS)):
        series = series * small + 1.0 / math.factorial(j + k)
    return xp.where(near, series, value)


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
    the exponential of an augmented matrix, in double precision. Large structured ones
    and operators are projected on Krylov spaces: symmetric ones by the Lanczos method,
    whose basis is made twice and never kept; others by the Arnoldi method in substeps.
    The number of products grows with sqrt(h |J|) in the first case, with h |J| in the
    second.

    References
    ----------
    M. Hochbruck, A. Ostermann, Exponential integrators, Acta Numerica 19 (2010)
    209-286, doi:10.1017/S0962492910000048.
    A. H. Al-Mohy, N. J. Higham, Computing the action of the matrix exponential, SIAM J.
    Sci. Comput. 33 (2011) 488-511, doi:10.1137/100788860 (the augmented matrix).
    """
    if isinstance(J, Operator):
        kind = Lanczos if J.symmetric else Arnoldi
        return kind(J.product, h)
    if not is_array(J):
        if like.shape[-1] > DENSE:
            kind = Lanczos if is_symmetric(J) else Arnoldi
            return kind(lambda v: apply(J, v), h)
        J = J.toarray() if is_sparse(J) else J.dense()
    return dense(J, h, like)


def is_symmetric(J: Any) -> bool:
    """Whether a banded or sparse matrix is symmetric."""
    if is_sparse(J):
        return bool((abs(J - J.T) > 0).nnz == 0)
    if len(J.lower) == len(J.diagonal):
        return bool(np.array_equal(np.roll(J.lower, -1), J.upper))
    return bool(np.array_equal(J.lower, J.upper))


def dense(J: Array, h: Any, like: Array) -> Exponentials:
    """phi functions of dense matrices, in double precision."""
    xp = namespace(like)
    J = xp.astype(array_like(J, like), xp.float64)
    step = xp.astype(h[..., None], xp.float64) if is_array(h) else h
    M = step * J
    if not bool(xp.all(xp.isfinite(M))):
        raise np.linalg.LinAlgError("The Jacobian has entries that are not finite.")
    T = xp.matrix_transpose(M)
    if bool(xp.max(xp.abs(M - T)) <= 1e-14 * xp.max(xp.abs(M))):
        values, vectors = xp.linalg.eigh(0.5 * (M + T))
        return Spectrum(values, vectors)
    return Augmented(M)


def combined(function: Callable[..., Array], vectors: list[Array | None]) -> Array:
    """Sum of function(k, vector) over the vectors that are there."""
    terms = [function(k, v) for k, v in enumerate(vectors, 1) if v is not None]
    return sum(terms[1:], start=terms[0])


@dataclass(frozen=True, eq=False)
class Spectrum:
    """phi functions of symmetric matrices from eigenvalues and eigenvectors."""

    values: Array
    vectors: Array

    def combine(self, vectors: list[Array | None]) -> Array:
        """See ``Exponentials.combine``."""
        return combined(self.times, vectors)

    def times(self, k: int, v: Array) -> Array:
        """phi_k times v."""
        xp, Q = namespace(v), self.vectors
        wide = xp.astype(v, xp.float64)[..., None]
        inner = xp.matmul(xp.matrix_transpose(Q), wide)
        outer = xp.matmul(Q, phi(k, self.values)[..., None] * inner)
        return xp.astype(outer[..., 0], v.dtype)


@dataclass(frozen=True, eq=False)
class Augmented:
    """phi functions of any matrices from the exponential of a larger one."""

    matrix: Array

    def combine(self, vectors: list[Array | None]) -> Array:
        """See ``Exponentials.combine``."""
        M, p = self.matrix, len(vectors)
        like = next(v for v in vectors if v is not None)
        xp, n = namespace(M), M.shape[-1]
        shape = (*like.shape[:-1], n + p, n + p)
        big = xp.zeros(shape, dtype=M.dtype, device=M.device)
        big[..., :n, :n] = M
        sizes = [length(v) for v in vectors if v is not None]
        size = xp.astype(sum(sizes[1:], start=sizes[0]), M.dtype)
        # The last column is linear in the vectors, so their size must not matter.
        for k, v in enumerate(vectors, 1):
            if v is not None:
                big[..., :n, n + p - k] = quotient(xp.astype(v, M.dtype), size)
            if k < p:
                big[..., n + k - 1, n + k] = 1.0
        return xp.astype(size * matrix_exponential(big)[..., :n, -1], like.dtype)


def matrix_exponential(M: Array) -> Array:
    """exp of matrices (.., n, n)."""
    if is_torch(M):
        import torch

        return torch.linalg.matrix_exp(M)
    from scipy.linalg import expm

    return expm(M)


def tolerance(v: Array) -> float:
    """Relative error that a Krylov approximation aims at."""
    return 1e-12 if dtype_name(v) == "float64" else 1e-6


@dataclass(frozen=True, eq=False)
class Lanczos:
    """phi functions of h J for a symmetric product, each vector by itself."""

    product: Callable[[Array], Array]
    h: Any

    def combine(self, vectors: list[Array | None]) -> Array:
        """See ``Exponentials.combine``."""
        return combined(self.times, vectors)

    def times(self, k: int, v: Array) -> Array:
        """phi_k times v: one pass for the coefficients, one for the sum.

        Converged when ten or more further basis vectors change the result by no more
        than the tolerance.
        """
        xp = namespace(v)
        size = length(v)
        q, before, link = quotient(v, size), xp.zeros_like(v), 0.0 * size
        diagonal: list[np.ndarray] = []
        links: list[np.ndarray] = []
        alphas: list[Array] = []
        betas: list[Array] = []
        last = None
        check = 10
        while len(alphas) < MOST_LANCZOS:
            Jq = self.h * self.product(q)
            alpha = dot(q, Jq)
            r = Jq - alpha * q - link * before
            before, link = q, length(r)
            q = quotient(r, link)
            alphas.append(alpha)
            betas.append(link)
            diagonal.append(to_numpy(alpha)[..., 0].astype(float))
            links.append(to_numpy(link)[..., 0].astype(float))
            done = not links[-1].any()
            if len(alphas) < check and not done:
                continue
            weights = weights_of(k, np.array(diagonal), np.array(links))
            if done or settled(weights, last, tolerance(v)):
                return self.total(v, size, alphas, betas, weights)
            last, check = weights, check + max(10, check // 6)
            if not np.isfinite(weights).all():
                break
        raise NewtonFailure(
            f"the Lanczos method for exponentials did not converge in {len(alphas)} "
            "products; a smaller step helps"
        )

    def total(
        self,
        v: Array,
        size: Array,
        alphas: list[Array],
        betas: list[Array],
        weights: np.ndarray,
    ) -> Array:
        """The sum of the basis vectors, made anew, with their weights (m, ..)."""
        xp = namespace(v)
        q, before, link = quotient(v, size), xp.zeros_like(v), 0.0 * size
        total = xp.zeros_like(v)
        for alpha, beta, weight in zip(alphas, betas, weights, strict=True):
            total = total + array_like(np.asarray(weight)[..., None], v) * q
            r = self.h * self.product(q) - alpha * q - link * before
            before, link, q = q, beta, quotient(r, beta)
        return size * total


def weights_of(k: int, diagonal: np.ndarray, links: np.ndarray) -> np.ndarray:
    """First columns of phi_k of tridiagonal matrices; all arrays are (m, ..)."""
    from scipy.linalg import eigh_tridiagonal

    m = len(diagonal)
    a, b = diagonal.reshape(m, -1), links.reshape(m, -1)[:-1]
    columns = []
    for i in range(a.shape[1]):
        if not (np.isfinite(a[:, i]).all() and np.isfinite(b[:, i]).all()):
            return np.full(diagonal.shape, np.nan)
        values, Q = eigh_tridiagonal(a[:, i], b[:, i])
        columns.append(Q @ (phi(k, values) * Q[0]))
    return np.stack(columns, axis=1).reshape(diagonal.shape)


def settled(new: np.ndarray, old: np.ndarray | None, tol: float) -> bool:
    """Whether coefficients in an orthonormal basis have stopped changing."""
    if old is None:
        return False
    change = new.copy()
    change[: len(old)] -= old
    sizes = np.sqrt((new**2).sum(axis=0))
    return bool(np.all(np.sqrt((change**2).sum(axis=0)) <= tol * sizes))


@dataclass(frozen=True, eq=False)
class Arnoldi:
    """phi functions of h J for any product, in substeps of bounded Krylov spaces.

    The sum is the solution at 1 of y' = h J y + sum_k s^(k-1)/(k-1)! v_k from 0, which
    is the exponential of an augmented operator.
    """

    product: Callable[[Array], Array]
    h: Any

    def combine(self, vectors: list[Array | None]) -> Array:
        """See ``Exponentials.combine``."""
        like = next(v for v in vectors if v is not None)
        xp, n, p = namespace(like), like.shape[-1], len(vectors)
        sizes = [length(v) for v in vectors if v is not None]
        size = sum(sizes[1:], start=sizes[0])
        # Where h J is large y is much smaller than the vectors, and it is y that has to
        # be accurate in a space that also holds the powers of s.
        image = length(self.h * self.product(like))
        size = quotient(size, 1.0 + quotient(image, length(like)))

        def augmented(x: Array) -> Array:
            y, z = x[..., :n], x[..., n:]
            top = self.h * self.product(y)
            for k, v in enumerate(vectors, 1):
                if v is not None:
                    top = top + z[..., p - k : p - k + 1] * quotient(v, size)
            shift = xp.concat([z[..., 1:], xp.zeros_like(z[..., :1])], axis=-1)
            return xp.concat([top, shift], axis=-1)

        end = array_like(np.eye(p)[-1], like) + xp.zeros_like(like[..., :1])
        x = xp.concat([xp.zeros_like(like), end], axis=-1)
        s, tol = 0.0, tolerance(like)
        for _ in range(MOST_SUBSTEPS):
            x, part = substep(augmented, x, 1.0 - s, tol)
            s += part
            if s >= 1.0 - 1e-14:
                return size * x[..., :n]
        raise NewtonFailure(
            f"exponentials of a nonsymmetric operator need more than {MOST_SUBSTEPS} "
            "substeps; a smaller step helps"
        )


def substep(
    product: Callable[[Array], Array], x: Array, most: float, tol: float
) -> tuple[Array, float]:
    """exp(s A) x and the s <= ``most`` that one Krylov space allows."""
    xp = namespace(x)
    size = length(x)
    lead, n = tuple(x.shape[:-1]), int(x.shape[-1])
    # Pages that are not written to take no memory.
    m = min(ARNOLDI, n)
    basis = xp.empty((*lead, m + 1, n), dtype=x.dtype, device=x.device)
    basis[..., 0, :] = quotient(x, size)
    H = np.zeros((*lead, m + 1, m + 1))
    for k in range(m):
        v, parts = orthogonal(basis[..., : k + 1, :], product(basis[..., k, :]))
        link = length(v)
        H[..., : k + 1, k] = to_numpy(parts)
        # After n vectors nothing is left but rounding.
        H[..., k + 1, k] = to_numpy(link)[..., 0] if k + 1 < n else 0.0
        basis[..., k + 1, :] = quotient(v, link)
        if not H[..., k + 1, k].any():
            m = k + 1
            break
    H = H[..., : m + 1, : m + 1]
    if not np.isfinite(H).all():
        raise NewtonFailure("a product with the Jacobian is not finite")
    # Beyond this no Krylov space of m vectors is accurate, and exp may overflow.
    norm = max(float(np.abs(H).sum(axis=-1).max(initial=0.0)), 1e-300)
    s = most if m == n else min(most, ARNOLDI**2 / norm)
    for _ in range(60):
        column = np.asarray(matrix_exponential(s * H))[..., :, 0]
        # The last entry is the error without it.
        wrong = np.abs(column[..., m]).max() if column.size else 0.0
        if np.isfinite(wrong) and wrong <= tol * s * max(1.0, np.abs(column).max()):
            weights = array_like(column[..., None, :], x)
            return size * xp.matmul(weights, basis[..., : m + 1, :])[..., 0, :], s
        s *= 0.7
    raise NewtonFailure("no substep of the Arnoldi method is accurate")
