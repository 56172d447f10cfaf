"""Energies with the exact solutions of their gradient flows.

Each function makes a ``Problem``: the energy, ``exact(t)``, a recommended interval, and
what theory knows about it.

>>> import flows as fl
>>> p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
>>> p.exact(0.0)
Gaussian(1.5, 0.5)
"""

from __future__ import annotations

from flows.problems.base import Problem
from flows.problems.bounded import periodic_heat, reflected_heat
from flows.problems.euclidean import (
    double_well,
    log_barrier,
    logistic,
    quadratic,
    rosenbrock,
)
from flows.problems.fokker_planck import (
    heat,
    ornstein_uhlenbeck,
    ornstein_uhlenbeck_mixture,
)
from flows.problems.gibbs import gibbs, metastable
from flows.problems.interaction import aggregation_quadratic, attraction_repulsion
from flows.problems.learning import bilinear_game, pareto_quadratics
from flows.problems.mckean_vlasov import (
    mckean_vlasov_mixture,
    mckean_vlasov_quadratic,
)
from flows.problems.nonlinear import barenblatt, confined_barenblatt
from flows.problems.nonsmooth import absolute_value, lasso, power
from flows.problems.spectral import spectral_gap

__all__ = [
    "Problem",
    "absolute_value",
    "aggregation_quadratic",
    "attraction_repulsion",
    "barenblatt",
    "bilinear_game",
    "confined_barenblatt",
    "double_well",
    "gibbs",
    "heat",
    "lasso",
    "log_barrier",
    "logistic",
    "mckean_vlasov_mixture",
    "mckean_vlasov_quadratic",
    "metastable",
    "ornstein_uhlenbeck",
    "ornstein_uhlenbeck_mixture",
    "pareto_quadratics",
    "periodic_heat",
    "power",
    "quadratic",
    "reflected_heat",
    "rosenbrock",
    "spectral_gap",
]
