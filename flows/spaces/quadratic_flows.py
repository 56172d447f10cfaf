"""Flows of quadratic potentials: all is known in an eigenbasis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import array_like, batch_matvec, namespace, to_numpy
from flows.linear import NewtonFailure
from flows.spaces.euclidean_flows import EuclideanFlow, total

if TYPE_CHECKING:
    from flows.flow import Memory

__all__ = ["QuadraticFlow"]

Array = Any


class Spectrum(NamedTuple):
    """M^{-1} A = basis diag(values) left with left basis = I, and left M^{-1} g.

    ``basis`` and ``left`` are None where both matrices are diagonal.
    """

    values: np.ndarray
    force: np.ndarray
    basis: np.ndarray | None = None
    left: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class QuadraticFlow(EuclideanFlow):
    """M dx/dt = g - A x: everything is known in the eigenbasis of M^{-1} A."""

    _cache: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def _spectrum(self, n: int) -> Spectrum:
        if n not in self._cache:
            self._cache[n] = self._diagonalize(n)
        found: Spectrum = self._cache[n]
        return found

    def _diagonalize(self, n: int) -> Spectrum:
        x = np.zeros(n)
        g = -total(self.functional, "gradient_at", 0.0, x)
        metric = self.space.metric
        if self.separable:
            weights = 1.0 if metric is None else metric.diagonal(x)
            a = self.coordinatewise(2, 0.0, x)
            return Spectrum(a / weights, g / weights)
        A = self.hessian(0.0, x)
        if metric is None:
            if np.array_equal(A, np.diag(np.diag(A))):
                return Spectrum(np.diag(A).copy(), g)
            values, vectors = np.linalg.eigh(A)
            return Spectrum(values, vectors.T @ g, vectors, vectors.T)
        from scipy.linalg import eigh

        M = to_numpy(metric.dense(x))
        values, vectors = eigh(A, M)
        return Spectrum(values, vectors.T @ g, vectors, vectors.T @ M)

    def _spectral(self, u: Array, factors: Any, forces: Any) -> Array:
        """basis (factors(values) left u + forces(values) left M^{-1} g)."""
        values, force, basis, left = self._spectrum(u.shape[-1])
        a, f = array_like(values, u), array_like(force, u)
        if basis is None or left is None:
            return factors(a) * u + forces(a) * f
        inner = batch_matvec(array_like(left, u), u)
        return batch_matvec(array_like(basis, u), factors(a) * inner + forces(a) * f)

    def _resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        """(I + h M^{-1} A)^{-1} (w + h M^{-1} g)."""
        least = float(self._spectrum(w.shape[-1]).values.min())
        longest = float(namespace(h).max(h)) if getattr(h, "ndim", 0) else h
        if 1.0 + longest * least <= 0.0:
            raise NewtonFailure(
                f"V + |v - u|^2/2h has no minimum at h = {longest:g}: the smallest "
                f"eigenvalue of A is {least:g}",
                [],
            )
        v = self._spectral(
            w, lambda a: 1.0 / (1.0 + h * a), lambda a: h / (1.0 + h * a)
        )
        return v, (v,)

    def _smooth_prox(
        self, t: Any, u: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        return self._resolvent(t, u, h, memory)

    def exact(self, t: Any, u: Array, h: Any, rng: Any = None) -> Array:
        """The flow map; a kernel component of the force drifts as h M^{-1} g."""
        xp = namespace(u)

        def integral(a: Array) -> Array:
            safe = xp.where(a == 0.0, xp.ones_like(a), a)
            return xp.where(a == 0.0, h + 0.0 * a, -xp.expm1(-safe * h) / safe)

        return self._spectral(u, lambda a: xp.exp(-a * h), integral)

    def linearizable(self, u: Array) -> bool:
        """No: the implicit steps are formulas."""
        return False

    def stable_step(self, t: Any, u: Array) -> float:
        """2 / largest eigenvalue of M^{-1} A."""
        largest = float(self._spectrum(u.shape[-1]).values.max())
        return 2.0 / largest if largest > 0.0 else np.inf
