"""Natural gradient flows of Kullback-Leibler divergences between Gaussian laws.

The law moves in the same way in all coordinates; ``exact(t)`` is written in those of
the metric, and ``metric.unpack`` gives mean and covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.measures import Gaussian
from flows.problems.arguments import interval, time
from flows.problems.base import Problem
from flows.spaces.fisher import GaussianFisher
from flows.spaces.fisher_gaussian import FisherCholesky

__all__ = ["forward_kl", "reverse_kl"]

Array = Any
AMARI = (
    "S. Amari, Natural gradient works efficiently in learning, Neural Comput. 10 "
    "(1998) 251-276, doi:10.1162/089976698300017746"
)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Coordinates that are linear in e^{-t}, between those of two Gaussian laws."""

    metric: GaussianFisher
    law: Gaussian
    target: Gaussian
    energy_of: Any

    def blend(self, a: float) -> tuple[Array, Array]:
        """Mean and covariance where the weight of the start is ``a``."""
        raise NotImplementedError

    def __call__(self, t: float) -> Array:
        return self.metric.pack(*self.blend(math.exp(-time(t, 0.0))))

    def step(self, h: float, k: int) -> Array:
        """After k explicit steps h in the coordinates that relax linearly."""
        return self.metric.pack(*self.blend((1.0 - h) ** k))

    def energy(self, t: float) -> float:
        """The divergence at time t."""
        return float(self.energy_of.value_at(self(t)))


class ForwardPath(Relaxation):
    """E x and E x x^T relax."""

    def blend(self, a: float) -> tuple[Array, Array]:
        m0, m1 = self.law.center, self.target.center
        S0, S1 = self.law.covariance, self.target.covariance
        m, gap = a * m0 + (1.0 - a) * m1, m0 - m1
        # E x x^T - m m^T without cancellation.
        return m, a * S0 + (1.0 - a) * S1 + a * (1.0 - a) * np.outer(gap, gap)


class ReversePath(Relaxation):
    """P and P m relax."""

    def blend(self, a: float) -> tuple[Array, Array]:
        P0, P1 = (np.linalg.inv(g.covariance) for g in (self.law, self.target))
        S = np.linalg.inv(a * P0 + (1.0 - a) * P1)
        S = 0.5 * (S + S.T)
        pull = a * P0 @ self.law.center + (1.0 - a) * P1 @ self.target.center
        return S @ pull, S


def forward_kl(
    law: Gaussian | None = None,
    target: Gaussian | None = None,
    metric: GaussianFisher | None = None,
    *,
    t: tuple[float, float] = (0.0, 5.0),
) -> Problem:
    """Natural gradient flow of KL(target | law): maximum likelihood.

    E x = e^{-t} E_0 x + (1 - e^{-t}) E_target x, and the same for E x x^T, in any
    dimension. In the coordinates ``fisher_moments`` explicit Euler with step h has
    (1 - h)^k in the place of e^{-t}, exactly.

    Parameters
    ----------
    law, target : Gaussian
        Not singular; by default N((1.5, ..), 0.4^2) on the line and N(0, 1).
    metric : GaussianFisher, optional
        The coordinates; ``fl.metrics.fisher_cholesky(d)`` by default.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constants: ``metric``; run ``Euclidean(metric=...).flow(p.energy)``.
        ``exact.step(h, k)`` is the discrete solution.
    """
    first, last, chart = checked(law, target, metric)
    energy = chart.forward_kl(last)
    return natural("forward_kl", ForwardPath(chart, first, last, energy), energy, t)


def reverse_kl(
    law: Gaussian | None = None,
    target: Gaussian | None = None,
    metric: GaussianFisher | None = None,
    *,
    t: tuple[float, float] = (0.0, 5.0),
) -> Problem:
    """Natural gradient flow of KL(law | target): Gaussian variational inference.

    P = e^{-t} P_0 + (1 - e^{-t}) P_target for the precision, and the same for P m. In
    the coordinates ``fisher_natural`` explicit Euler with step h has (1 - h)^k in the
    place of e^{-t}, exactly. This is the Fisher-Rao flow of KL; along the Wasserstein
    flow the variance S itself relaxes linearly, with e^{-2t} for a standard normal
    target.

    Parameters
    ----------
    law, target : Gaussian
        Not singular; by default N(1.5, 0.4^2) on the line and N(0, 1).
    metric : GaussianFisher, optional
        The coordinates; ``fl.metrics.fisher_cholesky(d)`` by default.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constants: ``metric``; run ``Euclidean(metric=...).flow(p.energy)``.
        ``exact.step(h, k)`` is the discrete solution.
    """
    first, last, chart = checked(law, target, metric)
    energy = chart.reverse_kl(last)
    return natural("reverse_kl", ReversePath(chart, first, last, energy), energy, t)


def checked(
    law: Any, target: Any, metric: Any
) -> tuple[Gaussian, Gaussian, GaussianFisher]:
    """The arguments with their defaults, of one dimension."""
    first = Gaussian(1.5, 0.4) if law is None else law
    for name, value in (("law", first), ("target", target)):
        if value is not None and not isinstance(value, Gaussian):
            raise TypeError(f"`{name}` must be a Gaussian, got {value!r}.")
    last = Gaussian(np.zeros(first.d), 1.0) if target is None else target
    if last.d != first.d:
        raise ValueError(
            f"`target` lives in R^{last.d}, but `law` in R^{first.d}; they must agree."
        )
    chart = FisherCholesky(first.d) if metric is None else metric
    if not isinstance(chart, GaussianFisher):
        raise TypeError(
            "`metric` must be a Fisher metric of Gaussians such as "
            f"fl.metrics.fisher_natural({first.d}), got {metric!r}."
        )
    chart.check(first.d + first.d * (first.d + 1) // 2)
    return first, last, chart


def natural(name: str, exact: Relaxation, energy: Any, t: Any) -> Problem:
    """The problem of one of the two relaxations."""
    return Problem(
        name,
        energy,
        exact,
        interval(t, 0.0),
        limit=exact.metric.start(exact.target),
        spaces=("Euclidean",),
        exact_energy=exact.energy,
        constants={"metric": exact.metric},
        reference=AMARI,
    )
