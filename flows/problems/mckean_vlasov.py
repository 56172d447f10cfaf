"""Linear drift, noise and linear attraction to the mean: McKean-Vlasov equations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows import energies
from flows.energies import Entropy, Interaction
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, square, vector
from flows.problems.base import Problem
from flows.problems.gaussian_laws import GaussianPath, describe, law, mixture_parts
from flows.problems.modes import Modes
from flows.symbolic import QuadraticField

if TYPE_CHECKING:
    from flows.energies import Energy

__all__ = ["mckean_vlasov_mixture", "mckean_vlasov_quadratic"]

Array = Any
CARRILLO = (
    "J. A. Carrillo, R. J. McCann, C. Villani, Rev. Mat. Iberoam. 19 (2003), "
    "doi:10.4171/RMI/376"
)


def mckean_vlasov_quadratic(
    mean: Any = 1.5,
    std: Any = 0.5,
    *,
    rate: Any = 1.0,
    coupling: Any = 1.0,
    temperature: float = 1.0,
    center: Any = 0.0,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """McKean-Vlasov: V = (x - a).L (x - a)/2 and W(z) = z.K z/2 at temperature T.

    The mean relaxes by L alone and the covariance by L + K:
    m' = -L (m - a), S' = -(L + K) S - S (L + K) + 2T.

    Parameters
    ----------
    mean, std
        Initial Gaussian, as in ``ornstein_uhlenbeck``.
    rate : float, (d,) or (d, d) array
        L, symmetric; 0 leaves the mean where it is.
    coupling : float, (d,) or (d, d) array
        K, symmetric; positive attracts. It need not commute with L.
    temperature : float
        T >= 0.
    center : float or (d,) array
    t : tuple of float
        From t0 >= 0; the initial law is that at time 0.

    Returns
    -------
    Problem
        Where L >= 0 and L + K > 0 ``rate`` is twice the smaller of the smallest
        eigenvalue of L + K and the smallest positive one of L, ``gap`` that number: a
        bound, attained by translations and approached by very wide laws.

    References
    ----------
    Carrillo, McCann, Villani, doi:10.4171/RMI/376.
    """
    size = max(
        np.ravel(real_array(center, "center")).size, *map(_size, (rate, coupling))
    )
    m, S = law(mean, std)
    if m.size == 1 and size > 1:
        m, S = law(mean, std, size)
    return _mckean(
        "mckean_vlasov_quadratic",
        (np.ones(1), m[None], S[None]),
        (rate, coupling, temperature, center),
        t,
    )


def mckean_vlasov_mixture(
    means: Any = (-2.0, 1.0),
    stds: Any = (0.4, 0.7),
    weights: Any = (0.3, 0.7),
    *,
    rate: Any = 1.0,
    coupling: Any = 1.0,
    temperature: float = 1.0,
    center: Any = 0.0,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Mixture of Gaussians in the flow of ``mckean_vlasov_quadratic``.

    Weights stay; means move as m_i = m(t) + e^{-(L+K)t} (m_i(0) - m(0)) about the
    common mean m(t), covariances as in ``mckean_vlasov_quadratic``.

    Parameters
    ----------
    means : (k,) or (k, d) array
    stds : float, or k entries
        Each a number, (d,) standard deviations or a (d, d) covariance.
    weights : (k,) array, optional
        None for equal weights.
    rate, coupling, temperature, center, t
        As in ``mckean_vlasov_quadratic``.

    Returns
    -------
    Problem
        ``rate`` is a bound. The exact energy is computed by quadrature for d <= 3.
    """
    return _mckean(
        "mckean_vlasov_mixture",
        mixture_parts(means, stds, weights),
        (rate, coupling, temperature, center),
        t,
    )


def _size(matrix: Any) -> int:
    return np.shape(matrix)[0] if np.ndim(matrix) else 1


def _mckean(
    name: str,
    parts: tuple[Array, Array, Array],
    settings: tuple[Any, Any, Any, Any],
    t: tuple[float, float],
) -> Problem:
    rate, coupling, temperature, center = settings
    weights, means, covariances = parts
    d = means.shape[1]
    pull, attract = square(rate, d, "rate"), square(coupling, d, "coupling")
    T, a = number(temperature, "temperature", least=0.0), vector(center, d, "center")
    path = GaussianPath(
        Modes.of(pull), Modes.of(pull + attract), T, a, weights, means, covariances
    )
    energy: Energy = Interaction(QuadraticField(attract))
    if pull.any():
        well = energies.quadratic(pull, center=a if a.any() else None)
        energy = well + energy
    if T > 0.0:
        energy = Entropy(T) + energy
    spaces = (("Quantiles",) if d == 1 else ()) + ("LangevinParticles",)
    return Problem(
        name=name,
        spaces=spaces if T > 0.0 else (*spaces, "Particles"),
        reference=CARRILLO,
        **describe(path, energy, interval(t, 0.0)),
    )
