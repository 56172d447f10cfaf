"""Linear diffusion on the whole space: heat and Ornstein-Uhlenbeck."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows import energies
from flows.energies import Energy, Entropy
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, square, vector
from flows.problems.base import Problem
from flows.problems.gaussian_laws import (
    GaussianPath,
    describe,
    law,
    mixture_parts,
)
from flows.problems.modes import Modes

__all__ = ["heat", "ornstein_uhlenbeck", "ornstein_uhlenbeck_mixture"]

Array = Any
OTTO = (
    "R. Jordan, D. Kinderlehrer, F. Otto, SIAM J. Math. Anal. 29 (1998), "
    "doi:10.1137/S0036141096303359"
)


def density_spaces(d: int, temperature: float) -> tuple[str, ...]:
    """Spaces for potential and entropy on R^d."""
    names = {1: ("Grid", "Quantiles"), 2: ("Grid",)}.get(d, ())
    return (*names, "LangevinParticles", *(() if temperature > 0 else ("Particles",)))


def heat(
    d: int = 1,
    *,
    mean: Any = 0.0,
    std: Any = 0.0,
    temperature: float = 1.0,
    t: tuple[float, float] | None = None,
) -> Problem:
    """Heat equation d_t rho = T Lap rho on R^d: N(m, S + 2 T t).

    Parameters
    ----------
    d : int
        Dimension.
    mean : float or (d,) array
    std : float, (d,) or (d, d) array
        Law at time 0: standard deviations, or a matrix as covariance; 0 is the heat
        kernel, a Dirac mass at time 0.
    temperature : float
        T > 0.
    t : tuple of float, optional
        By default (0.25, 1.25) for the heat kernel, else (0, 1).

    Returns
    -------
    Problem
        No limit: the energy T int rho log rho falls like -(d T/2) log t.

    Raises
    ------
    ValueError
        For ``d`` below 1, and a temperature that is not positive.

    References
    ----------
    Jordan, Kinderlehrer, Otto, doi:10.1137/S0036141096303359.
    """
    if isinstance(d, bool) or not isinstance(d, (int, np.integer)) or d < 1:
        raise ValueError(f"`d` must be an integer >= 1, got {d!r}.")
    T = number(temperature, "temperature", above=0.0)
    m, S = law(vector(mean, d, "mean"), std, int(d))
    if t is None:
        t = (0.0, 1.0) if S.any() else (0.25, 1.25)
    free = Modes.of(np.zeros(int(d)))
    path = GaussianPath(free, free, T, np.zeros(int(d)), np.ones(1), m[None], S[None])
    return Problem(
        name="heat",
        spaces=density_spaces(int(d), T),
        reference=OTTO,
        **describe(path, Entropy(T), interval(t, 0.0)),
    )


def _linear_energy(Lambda: Array, center: Array, T: float) -> Energy:
    potential = energies.quadratic(Lambda, center=center if center.any() else None)
    return Entropy(T) + potential if T > 0.0 else potential


def _settings(
    rate: Any, temperature: Any, center: Any, d: int
) -> tuple[Array, float, Array]:
    T = number(temperature, "temperature", least=0.0)
    return square(rate, d, "rate"), T, vector(center, d, "center")


def ornstein_uhlenbeck(
    mean: Any = 1.5,
    std: Any = 0.5,
    *,
    rate: Any = 1.0,
    temperature: float = 1.0,
    center: Any = 0.0,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Ornstein-Uhlenbeck: a Gaussian in V(x) = (x - a).L (x - a)/2 at temperature T.

    With E = e^{-Lt} the solution is N(a + E (m - a), E S E + 2T int_0^t e^{-2Ls} ds).

    Parameters
    ----------
    mean : float or (d,) array
    std : float, (d,) or (d, d) array
        Initial law: a number or a vector holds standard deviations, a matrix is the
        covariance; 0 starts from a Dirac mass.
    rate : float, (d,) or (d, d) array
        L, symmetric; it may be singular (heat in its kernel) or indefinite.
    temperature : float
        T >= 0; at 0 the law is transported without noise.
    center : float or (d,) array
    t : tuple of float
        From t0 >= 0; the initial law is that at time 0.

    Returns
    -------
    Problem
        ``rate`` is twice the smallest eigenvalue of L when L is positive definite,
        constant ``gap`` that eigenvalue; the limit is N(a, T L^{-1}).

    References
    ----------
    Jordan, Kinderlehrer, Otto, doi:10.1137/S0036141096303359.
    """
    size = np.ravel(real_array(center, "center")).size
    size = max(size, np.shape(rate)[0] if np.ndim(rate) else 1)
    m, S = law(mean, std)
    if m.size == 1 and size > 1:
        m, S = law(mean, std, size)
    Lambda, T, a = _settings(rate, temperature, center, m.size)
    modes = Modes.of(Lambda)
    path = GaussianPath(modes, modes, T, a, np.ones(1), m[None], S[None])
    return Problem(
        name="ornstein_uhlenbeck",
        spaces=density_spaces(m.size, T),
        reference=OTTO,
        **describe(path, _linear_energy(Lambda, a, T), interval(t, 0.0)),
    )


def ornstein_uhlenbeck_mixture(
    means: Any = (-2.0, 1.0),
    stds: Any = (0.4, 0.7),
    weights: Any = (0.3, 0.7),
    *,
    rate: Any = 1.0,
    temperature: float = 1.0,
    center: Any = 0.0,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Mixture of Gaussians under Ornstein-Uhlenbeck: the weights stay.

    Each component moves as in ``ornstein_uhlenbeck``, so the law is asymmetric and far
    from Gaussian, and exact.

    Parameters
    ----------
    means : (k,) or (k, d) array
    stds : float, or k entries
        Each a number, (d,) standard deviations or a (d, d) covariance.
    weights : (k,) array, optional
        None for equal weights.
    rate, temperature, center, t
        As in ``ornstein_uhlenbeck``.

    Returns
    -------
    Problem
        ``rate`` (a bound, reached as t grows) and limit as for one Gaussian. The
        exact energy is computed by quadrature for d <= 3.
    """
    w, m, S = mixture_parts(means, stds, weights)
    Lambda, T, a = _settings(rate, temperature, center, m.shape[1])
    modes = Modes.of(Lambda)
    path = GaussianPath(modes, modes, T, a, w, m, S)
    return Problem(
        name="ornstein_uhlenbeck_mixture",
        spaces=density_spaces(m.shape[1], T),
        reference=OTTO,
        **describe(path, _linear_energy(Lambda, a, T), interval(t, 0.0)),
    )
