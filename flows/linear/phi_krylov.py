"""Exponential functions of matrices times vectors, from Krylov spaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace, to_numpy
from flows.linear.krylov import dot, length, orthogonal, quotient
from flows.linear.newton import NewtonFailure
from flows.linear.phi_matrices import combined, dense, matrix_exponential, phi
from flows.linear.shifted import shifted

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.linear.phi_matrices import Exponentials

__all__ = ["Arnoldi", "Lanczos", "Rational"]

Array = Any
MOST_LANCZOS = 3000
MOST_REACH = 4e5
MOST_PARTS = 4096
ARNOLDI = 40
GAMMA = 0.1
MOST_RATIONAL = 100
MOST_SUBSTEPS = 1000


def tolerance(v: Array) -> float:
    """Relative error that a Krylov approximation aims at."""
    return 1e-12 if dtype_name(v) == "float64" else 1e-6


@dataclass(frozen=True, eq=False)
class Rational:
    """phi functions of h J from Krylov spaces of X = (I - gamma h J)^{-1}.

    In an orthonormal basis V of such a space X is a small matrix S = V^T X V, and
    phi(h J) v is V phi((I - S^{-1})/gamma) V^T v: components that decay at once need
    no vectors of their own. ``plain`` takes over where the space would be too large.
    """

    J: Any
    h: float
    like: Array
    plain: Exponentials
    symmetric: bool

    def combine(self, vectors: list[Array | None]) -> Array:
        """See ``Exponentials.combine``."""
        try:
            solver = shifted(self.J, GAMMA * self.h, self.like)
            terms = [
                self.times(solver, k, v)
                for k, v in enumerate(vectors, 1)
                if v is not None
            ]
        except np.linalg.LinAlgError:
            return self.plain.combine(vectors)
        found = [term for term in terms if term is not None]
        if len(found) < len(terms):
            return self.plain.combine(vectors)
        return sum(found[1:], start=found[0])

    def times(self, solver: Any, k: int, v: Array) -> Array | None:
        """phi_k times v; None where it takes more vectors than are kept."""
        xp = namespace(v)
        size = length(v)
        lead, n = tuple(v.shape[:-1]), int(v.shape[-1])
        most = min(MOST_RATIONAL, n)
        # Pages that are not written to take no memory.
        basis = xp.empty((*lead, most + 1, n), dtype=v.dtype, device=v.device)
        basis[..., 0, :] = quotient(v, size)
        S = np.zeros((*lead, most + 1, most + 1))
        last = None
        for m in range(1, most + 1):
            x, parts = orthogonal(basis[..., :m, :], solver.solve(basis[..., m - 1, :]))
            link = length(x)
            S[..., :m, m - 1] = to_numpy(parts)
            S[..., m, m - 1] = to_numpy(link)[..., 0]
            basis[..., m, :] = quotient(x, link)
            done = m == n or not S[..., m, m - 1].any()
            if not done and m % 4:
                continue
            weights = self.weights(k, S[..., :m, :m])
            if not np.isfinite(weights).all():
                return None
            # Members first for the sum, entries first for the comparison.
            entries = np.moveaxis(weights, -1, 0)
            if done or settled(entries, last, tolerance(v)):
                row = array_like(weights[..., None, :], v)
                return size * xp.matmul(row, basis[..., :m, :])[..., 0, :]
            last = entries
        return None

    def weights(self, k: int, S: np.ndarray) -> np.ndarray:
        """The first column of phi_k((I - S^{-1})/gamma)."""
        m = S.shape[-1]
        if self.symmetric:
            values, Q = np.linalg.eigh(0.5 * (S + np.swapaxes(S, -1, -2)))
            # 1/s is so large where s has no digit that its sign does not count.
            small = values <= 1e-15
            rates = (1.0 - 1.0 / np.where(small, 1e-15, values)) / GAMMA
            top = phi(k, rates) * Q[..., 0, :]
            return np.asarray((Q @ top[..., None])[..., 0])
        first = np.zeros((*S.shape[:-2], m))
        first[..., 0] = 1.0
        M = (np.eye(m) - np.linalg.inv(S)) / GAMMA
        vectors: list[Array | None] = [None] * (k - 1) + [first]
        return np.asarray(dense(M, 1.0, first).combine(vectors))


@dataclass(frozen=True, eq=False)
class Lanczos:
    """phi functions of h J for a symmetric product, each vector by itself."""

    product: Callable[[Array], Array]
    h: Any

    def combine(self, vectors: list[Array | None]) -> Array:
        """See ``Exponentials.combine``; in substeps where one takes too many products.

        The sum is y(1) for y' = h J y + sum_k s^(k-1)/(k-1)! v_k, y(0) = 0, and after a
        substep to s the same sum with other vectors.
        """
        count = 1
        while True:
            try:
                return self.substeps(vectors, count)
            except TooManyProducts as error:
                if count >= MOST_PARTS:
                    raise NewtonFailure(
                        "the Lanczos method for exponentials did not converge in "
                        f"{count} substeps; a smaller step helps"
                    ) from error
                count *= 8

    def substeps(self, vectors: list[Array | None], count: int) -> Array:
        """The sum by ``count`` equal substeps."""
        if count == 1:
            return combined(self.times, vectors)
        part = 1.0 / count
        inner = Lanczos(self.product, part * self.h)
        y: Array | None = None
        for i in range(count):
            forces = [
                moments(vectors, j, i * part, part) for j in range(1, len(vectors) + 1)
            ]
            if y is not None:
                push = part * self.h * self.product(y)
                forces[0] = push if forces[0] is None else push + forces[0]
            move = combined(inner.times, forces)
            y = move if y is None else y + move
        return y

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
        weights = np.zeros(1)
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
            # The Ritz values after 60 vectors bound the number that is needed.
            beyond = len(alphas) <= 80 and reach(diagonal, links) > MOST_REACH
            if beyond or not np.isfinite(weights).all():
                break
        if np.isfinite(weights).all():
            raise TooManyProducts
        raise NewtonFailure("a product with the Jacobian is not finite")

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


class TooManyProducts(Exception):
    """One substep of the Lanczos method is not enough."""


def moments(vectors: list[Array | None], j: int, s: float, part: float) -> Array | None:
    """part^j sum_{k >= j} s^(k-j)/(k-j)! v_k: the force of a substep from s."""
    terms = [
        (part**j * s ** (k - j) / math.factorial(k - j)) * v
        for k, v in enumerate(vectors, 1)
        if v is not None and k >= j and (s > 0.0 or k == j)
    ]
    return sum(terms[1:], start=terms[0]) if terms else None


def reach(diagonal: list[np.ndarray], links: list[np.ndarray]) -> float:
    """Largest row sum of the tridiagonal matrix, about |h J|."""
    return float(np.max(np.abs(diagonal))) + 2.0 * float(
        np.max(links[:-1], initial=0.0)
    )


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
