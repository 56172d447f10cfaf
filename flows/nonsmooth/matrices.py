"""Functions of the singular values of a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flows.arrays import dtype_name, namespace
from flows.nonsmooth.base import ProxField, identity, shown
from flows.nonsmooth.norms import counts, onto_simplex_of
from flows.symbolic.fields import points

__all__ = ["Nuclear", "SpectralSquared"]

Array = Any


def matrices(x: Any) -> Array:
    """``x`` as matrices (.., n, k)."""
    x = points(x)
    if x.ndim < 2:
        raise ValueError(f"Matrices have shape (.., n, k), got {tuple(x.shape)}.")
    return x


def singular(x: Array) -> tuple[Array, Array, Array]:
    """U (.., n, r), sigma (.., r), V^T (.., r, k)."""
    U, sigma, Vt = namespace(x).linalg.svd(x, full_matrices=False)
    return U, sigma, Vt


def composed(U: Array, sigma: Array, Vt: Array) -> Array:
    """U diag(sigma) V^T."""
    return namespace(U).matmul(U * sigma[..., None, :], Vt)


def turned(x: Array) -> Array:
    """Transposed matrices."""
    return namespace(x).matrix_transpose(x)


def rounding(x: Array, sigma: Array) -> Array:
    """What rounding does to singular values, (.., 1)."""
    eps = float(np.finfo(dtype_name(x)).eps)
    return 8.0 * max(x.shape[-2:]) * eps * sigma[..., :1]


class SingularField(ProxField):
    """A function of singular values; the trailing two axes are a matrix."""

    axes = 2

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        raise TypeError(f"The second derivatives of {self!r} are not known.")

    def on_entries(self, shape: tuple[int, int]) -> ProxField:
        """The same function of the entries (.., n k)."""
        return OnEntries(self, shape)


@dataclass(frozen=True, eq=False, repr=False)
class OnEntries(ProxField):
    """A function of matrices (n, k) as one of their n k entries, row by row."""

    of: ProxField
    shape: tuple[int, int]

    def __repr__(self) -> str:
        return repr(self.of)

    @property
    def dimension(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    @property
    def homogeneous(self) -> bool:
        """As of the matrices."""
        return bool(self.of.homogeneous)

    @property
    def exact(self) -> bool:
        """As of the matrices."""
        return bool(self.of.exact)

    def _matrix(self, x: Array) -> Array:
        self.check_dimension(x.shape[-1])
        return namespace(x).reshape(x, (*x.shape[:-1], *self.shape))

    @staticmethod
    def _entries(X: Array) -> Array:
        return namespace(X).reshape(X, (*X.shape[:-2], -1))

    def value(self, x: Array, t: Any = 0.0) -> Array:
        return self.of.value(self._matrix(points(x)), t)

    def least(self, x: Array, g: Array) -> Array:
        return self._entries(self.of.least(self._matrix(x), self._matrix(g)))

    def prox(self, x: Array, h: Any) -> Array:
        return self._entries(self.of.prox(self._matrix(x), h))

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        return self.of.hessian(x, t)

    def scaled(self, factor: float) -> OnEntries:
        return replace(self, of=self.of.scaled(factor))


@dataclass(frozen=True, eq=False, repr=False)
class Nuclear(SingularField):
    """a sum_i sigma_i(W)."""

    a: float
    homogeneous = True
    exact = True

    def __repr__(self) -> str:
        return f"nonsmooth.nuclear({shown(self.a)})"

    def value(self, x: Array, t: Any = 0.0) -> Array:
        xp = namespace(x)
        return self.a * xp.sum(xp.linalg.svdvals(matrices(x)), axis=-1)

    def least(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        U, sigma, Vt = singular(matrices(x))
        one = xp.ones_like(sigma)
        alive = xp.where(sigma > rounding(x, sigma), one, 0.0 * one)
        h = g + self.a * composed(U, alive, Vt)
        # In the directions where W vanishes the subgradients are a spectral ball.
        left = h - xp.matmul(U * alive[..., None, :], xp.matmul(turned(U), h))
        V = turned(Vt * alive[..., :, None])
        inner = left - xp.matmul(xp.matmul(left, V), turned(V))
        A, s, Bt = singular(inner)
        return h - composed(A, xp.clip(s, max=self.a), Bt)

    def prox(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        U, sigma, Vt = singular(matrices(x))
        rest = sigma - h * self.a
        return composed(U, xp.maximum(rest, xp.zeros_like(rest)), Vt)

    def scaled(self, factor: float) -> Nuclear:
        return replace(self, a=factor * self.a)


@dataclass(frozen=True, eq=False, repr=False)
class SpectralSquared(SingularField):
    """a sigma_1(W)^2 / 2."""

    a: float = 1.0

    def __repr__(self) -> str:
        text = "nonsmooth.spectral_norm_squared()"
        return text if self.a == 1.0 else f"{self.a:g}*{text}"

    def value(self, x: Array, t: Any = 0.0) -> Array:
        sigma = namespace(x).linalg.svdvals(matrices(x))
        return 0.5 * self.a * sigma[..., 0] ** 2

    def least(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        U, sigma, Vt = singular(matrices(x))
        one = xp.ones_like(sigma)
        top = xp.where(sigma >= sigma[..., :1] - rounding(x, sigma), one, 0.0 * one)
        if bool(xp.all(g == 0.0)):
            share = top / xp.sum(top, axis=-1, keepdims=True)
            return composed(U, self.a * sigma[..., :1] * share, Vt)
        return g + self._nearest(g, U, sigma, Vt, top)

    def _nearest(
        self, g: Array, U: Array, sigma: Array, Vt: Array, top: Array
    ) -> Array:
        """The subgradient closest to -g: a sigma_1 U S V^T, S >= 0 of trace 1."""
        xp = namespace(g)
        size = self.a * sigma[..., :1]
        inner = xp.matmul(xp.matmul(turned(U), -g), turned(Vt))
        inner = 0.5 * (inner + turned(inner)) * top[..., :, None] * top[..., None, :]
        # Below all other eigenvalues, those of the remaining vectors take no part.
        far = 4.0 + 4.0 * xp.sqrt(xp.sum(inner * inner, axis=(-2, -1)))[..., None]
        shifted = inner - (far * (1.0 - top))[..., None] * identity(sigma)
        values, vectors = xp.linalg.eigh(shifted)
        mask = values > -0.5 * far
        values = xp.where(mask, values, xp.full_like(values, -math.inf))
        S = onto_simplex_of(values, mask, size)
        return composed(xp.matmul(U, vectors), S, xp.matmul(turned(vectors), Vt))

    def prox(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        U, sigma, Vt = singular(matrices(x))
        # Of h m = sum (sigma_i - m)_+: the k largest give a bound, sharp for one k.
        means = xp.cumulative_sum(sigma, axis=-1) / (h * self.a + counts(sigma))
        m = xp.max(means, axis=-1, keepdims=True)
        return composed(U, xp.minimum(sigma, m), Vt)

    def scaled(self, factor: float) -> SpectralSquared:
        return replace(self, a=factor * self.a)
