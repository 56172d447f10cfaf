"""Coordinates of Gaussian laws with their Fisher metrics."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flows.arrays import array_like, batch_matvec, namespace
from flows.spaces.fisher import (
    GaussianFisher,
    Law,
    logdet_positive,
    outer,
    symmetric,
    transpose,
)

__all__ = ["FisherCholesky", "FisherCovariance", "FisherMoments", "FisherNatural"]

Array = Any


class FisherCholesky(GaussianFisher):
    """Coordinates (m, L) with S = L L^T, L lower triangular.

    With A = L^{-1} dL the squared length is |L^{-1} dm|^2 + sum_{i>j} A_ij^2
    + 2 sum_i A_ii^2, so nothing has to be inverted for a natural gradient. S stays
    positive semidefinite whatever the step; the sign of the diagonal of L is free. For
    d = 1 the coordinates are mean and standard deviation.

    Examples
    --------
    >>> import flows as fl
    >>> metric = fl.metrics.fisher_cholesky(1)
    >>> metric.pack(1.5, 0.16)
    array([1.5, 0.4])
    """

    def _pack(self, m: Array, S: Array) -> Array:
        return self._join(m, namespace(S).linalg.cholesky(S))

    def admissible(self, z: Array) -> Any:
        """Whether L is invertible: one bool, or (b,) for a batch."""
        xp = namespace(z)
        found = xp.all(xp.linalg.diagonal(self._factor(z)[1]) != 0.0, axis=-1)
        return bool(found) if found.ndim == 0 else found

    def _factor(self, z: Array) -> tuple[Array, Array]:
        a, L = self._parts(z)
        return a, L * array_like(np.tril(np.ones((self.d, self.d))), z)

    def law(self, z: Array) -> Law:
        xp = namespace(z)
        m, L = self._factor(z)
        inverse = xp.linalg.inv(L)
        sides = xp.abs(xp.linalg.diagonal(L))
        return Law(
            m,
            xp.matmul(L, transpose(L)),
            xp.matmul(transpose(inverse), inverse),
            2.0 * xp.sum(xp.log(sides), axis=-1),
        )

    def pull(self, z: Array, g: Array, G: Array) -> Array:
        _, L = self._factor(z)
        return self._join(g, 2.0 * namespace(z).matmul(G, L))

    def apply(self, x: Array, v: Array) -> Array:
        xp = namespace(x)
        _, L = self._factor(x)
        dm, dL = self._factor(v)
        inverse = xp.linalg.inv(L)
        up = transpose(inverse)
        A = xp.matmul(inverse, dL) * array_like(1.0 + np.eye(self.d), v)
        return self._join(batch_matvec(up, batch_matvec(inverse, dm)), xp.matmul(up, A))

    def solve(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        _, L = self._factor(x)
        a, G = self._factor(g)
        weights = array_like(np.tril(1.0 / (1.0 + np.eye(self.d))), g)
        A = xp.matmul(transpose(L), G) * weights
        return self._join(
            batch_matvec(L, batch_matvec(transpose(L), a)), xp.matmul(L, A)
        )


class FisherCovariance(GaussianFisher):
    """Coordinates (m, S). A natural gradient step is dm = -S g, dS = -2 S G S."""

    def _pack(self, m: Array, S: Array) -> Array:
        return self._join(m, S)

    def law(self, z: Array) -> Law:
        m, S = self._parts(z)
        logdet = logdet_positive(S, self.matrix_name)
        return Law(m, S, symmetric(namespace(z).linalg.inv(S)), logdet)

    def pull(self, z: Array, g: Array, G: Array) -> Array:
        return self._gradient_join(g, G)

    def apply(self, x: Array, v: Array) -> Array:
        P = self.law(x).P
        dm, dS = self._parts(v)
        return self._gradient_join(batch_matvec(P, dm), 0.5 * between(P, dS))

    def solve(self, x: Array, g: Array) -> Array:
        S = self._parts(x)[1]
        a, G = self._gradient_parts(g)
        return self._join(batch_matvec(S, a), 2.0 * between(S, G))


class FisherNatural(GaussianFisher):
    """Coordinates (P m, P) with the precision P = S^{-1}: natural parameters.

    Those of the exponential family are P m and -P/2. Explicit Euler with step h on
    ``reverse_kl`` is exact here, with (1 - h)^k in the place of e^{-t}.
    """

    matrix_name: ClassVar[str] = "precision"

    def _pack(self, m: Array, S: Array) -> Array:
        P = symmetric(namespace(S).linalg.inv(S))
        return self._join(batch_matvec(P, m), P)

    def law(self, z: Array) -> Law:
        a, P = self._parts(z)
        logdet = -logdet_positive(P, self.matrix_name)
        S = symmetric(namespace(z).linalg.inv(P))
        return Law(batch_matvec(S, a), S, P, logdet)

    def pull(self, z: Array, g: Array, G: Array) -> Array:
        m, S, _, _ = self.law(z)
        a = batch_matvec(S, g)
        return self._gradient_join(a, -between(S, G) - symmetric(outer(a, m)))

    def apply(self, x: Array, v: Array) -> Array:
        m, S, _, _ = self.law(x)
        da, dP = self._parts(v)
        a = batch_matvec(S, da - batch_matvec(dP, m))
        return self._gradient_join(a, 0.5 * between(S, dP) - symmetric(outer(a, m)))

    def solve(self, x: Array, g: Array) -> Array:
        m, _, P, _ = self.law(x)
        a, G = self._gradient_parts(g)
        dP = 2.0 * between(P, G + symmetric(outer(a, m)))
        return self._join(batch_matvec(P, a) + batch_matvec(dP, m), dP)


class FisherMoments(GaussianFisher):
    """Coordinates (E x, E x x^T) = (m, S + m m^T): mean parameters.

    Explicit Euler with step h on ``forward_kl`` is exact here, with (1 - h)^k in the
    place of e^{-t}.
    """

    def _pack(self, m: Array, S: Array) -> Array:
        return self._join(m, S + outer(m, m))

    def _definite(self, z: Array) -> Array:
        m, M = self._parts(z)
        return M - outer(m, m)

    def law(self, z: Array) -> Law:
        m, M = self._parts(z)
        S = M - outer(m, m)
        logdet = logdet_positive(S, self.matrix_name)
        return Law(m, S, symmetric(namespace(z).linalg.inv(S)), logdet)

    def pull(self, z: Array, g: Array, G: Array) -> Array:
        m = z[..., : self.d]
        return self._gradient_join(g - 2.0 * batch_matvec(G, m), G)

    def apply(self, x: Array, v: Array) -> Array:
        m, _, P, _ = self.law(x)
        dm, dM = self._parts(v)
        G = 0.5 * between(P, dM - 2.0 * symmetric(outer(dm, m)))
        a = batch_matvec(P, dm) - 2.0 * batch_matvec(G, m)
        return self._gradient_join(a, G)

    def solve(self, x: Array, g: Array) -> Array:
        m, M = self._parts(x)
        S = M - outer(m, m)
        a, G = self._gradient_parts(g)
        dm = batch_matvec(S, a + 2.0 * batch_matvec(G, m))
        return self._join(dm, 2.0 * between(S, G) + 2.0 * symmetric(outer(dm, m)))


def between(A: Array, B: Array) -> Array:
    """A B A, symmetric for symmetric A and B."""
    xp = namespace(A)
    return symmetric(xp.matmul(xp.matmul(A, B), A))
