"""Energies of products of matrices, and the Riccati equation of the product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import array_like, namespace
from flows.problems.arguments import time
from flows.problems.modes import decayed

__all__ = ["FactorEnergy", "NetworkEnergy", "Riccati"]

Array = Any


def turned(X: Array) -> Array:
    """The matrices (.., n, r) transposed."""
    return namespace(X).matrix_transpose(X)


@dataclass(frozen=True, eq=False)
class FactorEnergy:
    """|X X^T - M|^2 / 4 of states (.., n r)."""

    M: Array
    r: int

    def parts(self, x: Array) -> tuple[Array, Array]:
        """X and X X^T - M."""
        xp = namespace(x)
        X = xp.reshape(x, (*x.shape[:-1], self.M.shape[0], self.r))
        return X, xp.matmul(X, turned(X)) - array_like(self.M, x)

    def __call__(self, x: Array) -> Array:
        _, gap = self.parts(x)
        return 0.25 * namespace(x).sum(gap * gap, axis=(-2, -1))

    def gradient(self, x: Array) -> Array:
        """(X X^T - M) X."""
        X, gap = self.parts(x)
        return namespace(x).reshape(namespace(x).matmul(gap, X), x.shape)

    def hessian(self, x: Array) -> Array:
        """D -> (X X^T - M) D + (D X^T + X D^T) X as matrices (.., n r, n r)."""
        xp = namespace(x)
        X, gap = self.parts(x)
        n, r = self.M.shape[0], self.r
        rows, columns = array_like(np.eye(n), x), array_like(np.eye(r), x)
        inner = xp.matmul(turned(X), X)
        H = gap[..., :, None, :, None] * columns[:, None, :]
        H = H + rows[:, None, :, None] * inner[..., None, :, None, :]
        # X_il X_kj of the entries (i, j), (k, l).
        H = H + X[..., :, None, None, :] * turned(X)[..., None, :, :, None]
        return xp.reshape(H, (*x.shape[:-1], n * r, n * r))


@dataclass(frozen=True, eq=False)
class NetworkEnergy:
    """|W2 W1 - M|^2 / 2 of states (.., k n + m k)."""

    M: Array
    k: int

    def parts(self, x: Array) -> tuple[Array, Array, Array]:
        """W1, W2 and W2 W1 - M."""
        xp = namespace(x)
        m, n = self.M.shape
        first = xp.reshape(x[..., : self.k * n], (*x.shape[:-1], self.k, n))
        second = xp.reshape(x[..., self.k * n :], (*x.shape[:-1], m, self.k))
        return first, second, xp.matmul(second, first) - array_like(self.M, x)

    def __call__(self, x: Array) -> Array:
        gap = self.parts(x)[2]
        return 0.5 * namespace(x).sum(gap * gap, axis=(-2, -1))

    def gradient(self, x: Array) -> Array:
        """(W2^T G, G W1^T) with G = W2 W1 - M."""
        xp = namespace(x)
        first, second, gap = self.parts(x)
        one = xp.matmul(turned(second), gap)
        two = xp.matmul(gap, turned(first))
        flat = [xp.reshape(a, (*x.shape[:-1], -1)) for a in (one, two)]
        return xp.concat(flat, axis=-1)


@dataclass(frozen=True, eq=False)
class Riccati:
    """S = X X^T along X' = M X - c X X^T X; its lower left block where ``cut`` > 0.

        S(t) = e^{Mt} X0 (I + 2 c K)^{-1} X0^T e^{Mt},  K = X0^T int_0^t e^{2Ms} ds X0

    Everything is divided by the largest growth. I + 2 c K = G^T G with G made of the
    identity and of rows of X0, and S is made of rows of the orthogonal factor of G.
    """

    M: Array
    X0: Array
    c: float
    cut: int = 0

    def __call__(self, t: float) -> Array:
        s = time(t, 0.0)
        S = self.X0 @ self.X0.T if s == 0.0 else self.product(s)
        return S[self.cut :, : self.cut] if self.cut else S

    def product(self, s: float) -> Array:
        """S(t) at the time s > 0."""
        from scipy.linalg import qr

        values, Q = np.linalg.eigh(self.M)
        Y = Q.T @ self.X0
        most = max(0.0, float(values.max()) * s)
        # int_0^t e^{2 a s} ds e^{-2 most} is the square of what multiplies Y.
        spent = np.sqrt(2.0 * self.c * decayed(2.0 * np.abs(values), s))
        scale = spent * np.exp(np.maximum(values, 0.0) * s - most)
        root = np.vstack([np.exp(-most) * np.eye(Y.shape[1]), scale[:, None] * Y])
        # The rows differ by e^{a t}: sorted, and with pivots, each keeps its digits.
        order = np.argsort(-np.abs(root).max(axis=1), kind="stable")
        basis = np.empty_like(root)
        basis[order] = qr(root[order], mode="economic", pivoting=True)[0]
        ratio = np.exp(np.minimum(values, 0.0) * s) / spent
        half = Q @ (ratio[:, None] * basis[Y.shape[1] :])
        return half @ half.T

    def symmetric_energy(self, t: float) -> float:
        """|S - M|^2 / 4."""
        return 0.25 * float(np.sum((self(t) - self.M) ** 2))

    def network_energy(self, t: float) -> float:
        """|W2 W1 - M|^2 / 2."""
        target = self.M[self.cut :, : self.cut]
        return 0.5 * float(np.sum((self(t) - target) ** 2))
