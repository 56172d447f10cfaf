"""Flows of norms of matrices: singular vectors stay, singular values move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows import nonsmooth
from flows.measures.checks import real_array
from flows.problems.arguments import interval, time
from flows.problems.base import Problem
from flows.problems.nonsmooth import SUBGRADIENTS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["nuclear_norm", "spectral_norm"]

Array = Any


def matrix(W: Any) -> np.ndarray:
    """A matrix (n, k); a vector is a diagonal."""
    values: np.ndarray = real_array(W, "W")
    if values.ndim == 1 and values.size:
        values = np.diag(values)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(
            f"`W` has shape {values.shape}, expected a matrix (n, k), or (n,) for a "
            "diagonal one."
        )
    return values


@dataclass(frozen=True, eq=False)
class SingularPath:
    """U diag(sigma(t)) V^T with frozen singular vectors."""

    W: Array
    sigma: Callable[[Array, float], Array]
    value: Callable[[Array], float]
    parts: tuple[Array, Array, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = np.linalg.svd(self.W, full_matrices=False)
        object.__setattr__(self, "parts", tuple(parts))

    def __call__(self, t: float) -> Array:
        U, sigma, Vt = self.parts
        return (U * self.sigma(sigma, time(t, 0.0))) @ Vt

    def energy(self, t: float) -> float:
        """Energy along the path."""
        return self.value(self.sigma(self.parts[1], time(t, 0.0)))


def merging(sigma: Array) -> Array:
    """Times at which the k largest values are k + 1: t_k, (n - 1,)."""
    logs = np.log(sigma[:-1]) - np.log(sigma[1:])
    return np.cumsum(np.arange(1, sigma.size) * logs)


def spectral_values(sigma: Array, t: float) -> Array:
    """The k largest decay together as exp(-t/k), until they meet the next."""
    positive = sigma[sigma > 0.0]
    if positive.size == 0:
        return sigma
    times = np.concatenate([[0.0], merging(positive)])
    k = int(np.searchsorted(times, t, side="right"))
    top = positive[k - 1] * np.exp(-(t - times[k - 1]) / k)
    return np.minimum(sigma, top)


def half_square(sigma: Array) -> float:
    return 0.5 * float(sigma[0]) ** 2


def spectral_norm(W: Any = (4.0, 2.0, 1.0), *, t: Any = (0.0, 1.5)) -> Problem:
    """Half the squared spectral norm of a matrix, sigma_1(W)^2 / 2.

    Singular vectors are frozen. The k largest singular values, once equal, decay
    together as exp(-t/k); the others stand still until they are met. (The Frobenius
    norm instead shrinks all of them as exp(-t).)

    Parameters
    ----------
    W : (n, k) array, or (n,) for a diagonal matrix
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Of matrices. Constant: ``merges``, when the top values become one more.

    References
    ----------
    Brezis, doi:10.1016/S0304-0208(08)72394-9; the subdifferential of the norm: A. S.
    Lewis, J. Convex Anal. 2 (1995) 173-183.
    """
    exact = SingularPath(matrix(W), spectral_values, half_square)
    sigma = exact.parts[1]
    return Problem(
        "spectral_norm",
        nonsmooth.spectral_norm_squared(),
        exact,
        interval(t, 0.0),
        limit=np.zeros_like(exact.W),
        spaces=("Matrices",),
        exact_energy=exact.energy,
        constants={"merges": merging(sigma[sigma > 0.0])},
        reference=SUBGRADIENTS,
    )


def thresholded(sigma: Array, t: float) -> Array:
    return np.maximum(sigma - t, 0.0)


def total(sigma: Array) -> float:
    return float(np.sum(sigma))


def nuclear_norm(W: Any = (3.0, 2.0, 1.0), *, t: Any = None) -> Problem:
    """Nuclear norm of a matrix: every singular value falls at unit speed to 0.

    Proximal steps are exact; the rank falls in finite time.

    Parameters
    ----------
    W : (n, k) array, or (n,) for a diagonal matrix
    t : tuple of float, optional
        From t0 >= 0; by default until 1.5 times the extinction.

    Returns
    -------
    Problem
        Of matrices. Constant: ``extinction``, one time for each singular value.
    """
    exact = SingularPath(matrix(W), thresholded, total)
    sigma = exact.parts[1]
    last = float(sigma[0])
    return Problem(
        "nuclear_norm",
        nonsmooth.nuclear(1.0),
        exact,
        interval((0.0, 1.5 * last if last > 0 else 1.0) if t is None else t, 0.0),
        limit=np.zeros_like(exact.W),
        spaces=("Matrices",),
        exact_energy=exact.energy,
        rate=1.0 / last if last > 0 else None,
        constants={"extinction": sigma.copy()},
        reference=SUBGRADIENTS,
    )
