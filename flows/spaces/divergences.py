"""Kullback-Leibler divergences of Gaussian laws, as functions of coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import array_like, batch_matvec, is_array, namespace, to_numpy

__all__ = ["ForwardKL", "ReverseKL", "target_moments"]

Array = Any


def target_moments(target: Any, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of a measure or of data (k, d).

    Raises
    ------
    TypeError, ValueError
        For what has no moments, another dimension, or a singular covariance.
    """
    if is_array(target):
        data = to_numpy(target).astype(float)
        if data.ndim != 2:
            raise ValueError(
                f"`target` has shape {data.shape}; data are (k, {d}), k points of "
                f"R^{d}."
            )
        mean, centered = data.mean(axis=0), data - data.mean(axis=0)
        covariance = centered.T @ centered / len(data)
    elif hasattr(target, "mean") and hasattr(target, "cov"):
        mean = np.atleast_1d(np.asarray(target.mean, dtype=float))
        covariance = np.atleast_2d(np.asarray(target.cov, dtype=float))
    else:
        raise TypeError(
            "`target` must be a measure with a mean and a covariance, or an array of "
            f"data (k, {d}), got {type(target).__name__}."
        )
    if covariance.shape != (d, d):
        raise ValueError(
            f"`target` lives in R^{len(mean)}, but the metric is for R^{d}."
        )
    if not np.linalg.eigvalsh(covariance)[0] > 0.0:
        raise ValueError(
            "The covariance of `target` is singular: no Gaussian with a density is "
            "nearest to it, and KL is infinite or has no minimum."
        )
    return mean, covariance


@dataclass(frozen=True, eq=False)
class Divergence:
    """A divergence between N(m, S) at coordinates z and a target N(b, T).

    ``chart`` is a Fisher metric of Gaussian laws, which knows its coordinates.
    """

    chart: Any
    mean: np.ndarray
    covariance: np.ndarray

    def _target(self, z: Array) -> tuple[Array, Array, Array, float]:
        """b, T, T^{-1} and log det T."""
        T = self.covariance
        arrays = (self.mean, T, np.linalg.inv(T))
        logdet = float(np.linalg.slogdet(T)[1])
        b, T, Q = (array_like(a, z) for a in arrays)
        return b, T, Q, logdet

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.chart!r})"


def trace(A: Array, B: Array) -> Array:
    """tr(A B) for symmetric matrices."""
    return namespace(A).sum(A * B, axis=(-2, -1))


class ForwardKL(Divergence):
    """KL(target | N(m, S)) = [tr P(T + e e^T) - d + log det S - log det T]/2.

    e is m - b and P the inverse of S.
    """

    def __call__(self, z: Array) -> Array:
        b, T, _, logdet = self._target(z)
        m, _, P, own = self.chart.law(z)
        xp, e = namespace(z), m - b
        far = trace(P, T) + xp.sum(e * batch_matvec(P, e), axis=-1)
        return 0.5 * (far - self.chart.d + own - logdet)

    def gradient(self, z: Array) -> Array:
        """Partial derivatives by the coordinates."""
        b, T, _, _ = self._target(z)
        m, S, P, _ = self.chart.law(z)
        xp, e = namespace(z), m - b
        # P - P (T + e e^T) P, formed as P (S - T - e e^T) P, does not cancel near T.
        gap = S - T - e[..., :, None] * e[..., None, :]
        G = 0.5 * xp.matmul(xp.matmul(P, gap), P)
        return self.chart.pull(z, batch_matvec(P, e), G)


class ReverseKL(Divergence):
    """KL(N(m, S) | target) = [tr T^{-1}(S + e e^T) - d + log det T - log det S]/2."""

    def __call__(self, z: Array) -> Array:
        b, _, Q, logdet = self._target(z)
        m, S, _, own = self.chart.law(z)
        xp, e = namespace(z), m - b
        far = trace(Q + 0.0 * S, S) + xp.sum(e * batch_matvec(Q, e), axis=-1)
        return 0.5 * (far - self.chart.d + logdet - own)

    def gradient(self, z: Array) -> Array:
        """Partial derivatives by the coordinates."""
        b, _, Q, _ = self._target(z)
        m, _, P, _ = self.chart.law(z)
        return self.chart.pull(z, batch_matvec(Q, m - b), 0.5 * (Q - P))
