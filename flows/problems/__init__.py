"""Problems: energies with their exact solutions, one file a family."""

from __future__ import annotations

from flows.problems.base import Problem
from flows.problems.euclidean import (
    absolute_value,
    double_well,
    lasso,
    logistic,
    power,
    quadratic,
    rosenbrock,
)
from flows.problems.fokker_planck import (
    heat,
    ornstein_uhlenbeck,
    ornstein_uhlenbeck_mixture,
)
from flows.problems.gibbs import gibbs, metastable, spectral_gap
from flows.problems.interaction import (
    aggregation_quadratic,
    attraction_repulsion,
    mckean_vlasov_quadratic,
)
from flows.problems.nonlinear import barenblatt, confined_barenblatt
from flows.problems.series import periodic_heat, reflected_heat

__all__ = [
    "Problem",
    "absolute_value",
    "aggregation_quadratic",
    "attraction_repulsion",
    "barenblatt",
    "confined_barenblatt",
    "double_well",
    "gibbs",
    "heat",
    "lasso",
    "logistic",
    "mckean_vlasov_quadratic",
    "metastable",
    "ornstein_uhlenbeck",
    "ornstein_uhlenbeck_mixture",
    "periodic_heat",
    "power",
    "quadratic",
    "reflected_heat",
    "rosenbrock",
    "spectral_gap",
]
