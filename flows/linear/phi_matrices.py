"""Exponential functions of matrices times vectors.

phi_0(z) = exp(z), phi_k(z) = (phi_{k-1}(z) - 1/(k-1)!) / z: a linear flow with a force
that is a polynomial in time is a sum of phi_k(h J) times vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flows.arrays import array_like, detach, is_array, is_torch, namespace
from flows.linear.krylov import length, quotient

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Elementwise", "Exponentials", "combined", "dense", "phi"]

Array = Any
TERMS = 20


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


def combined(function: Callable[..., Array], vectors: list[Array | None]) -> Array:
    """Sum of function(k, vector) over the vectors that are there."""
    terms = [function(k, v) for k, v in enumerate(vectors, 1) if v is not None]
    return sum(terms[1:], start=terms[0])


@dataclass(frozen=True, eq=False)
class Elementwise:
    """phi functions of the entries of a diagonal h J."""

    entries: Array

    def combine(self, vectors: list[Array | None]) -> Array:
        """See ``Exponentials.combine``."""
        xp = namespace(self.entries)
        if not bool(xp.all(xp.isfinite(self.entries))):
            raise np.linalg.LinAlgError("The Jacobian has entries that are not finite.")
        return combined(lambda k, v: phi(k, self.entries) * v, vectors)


def dense(J: Array, h: Any, like: Array) -> Exponentials:
    """phi functions of dense matrices, in double precision."""
    xp = namespace(like)
    J = xp.astype(array_like(J, like), xp.float64)
    step = xp.astype(h[..., None], xp.float64) if is_array(h) else h
    M = step * J
    if not bool(xp.all(xp.isfinite(M))):
        raise np.linalg.LinAlgError("The Jacobian has entries that are not finite.")
    T = xp.matrix_transpose(M)
    if getattr(M, "requires_grad", False):
        # Eigenvectors have no derivative where eigenvalues meet.
        return Augmented(M)
    if bool(xp.max(xp.abs(M - T)) <= 1e-14 * xp.max(xp.abs(M))):
        values, vectors = xp.linalg.eigh(0.5 * (M + T))
        return Spectrum(values, vectors)
    return Augmented(M)


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
        sizes = [length(detach(v)) for v in vectors if v is not None]
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
