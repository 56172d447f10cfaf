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
from flows.problems.deep_linear import (
    deep_scalar_network,
    linear_network,
    matrix_factorization,
    two_weights,
)
from flows.problems.definite import log_determinant
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
from flows.problems.inertial import heavy_ball, nesterov
from flows.problems.interaction import aggregation_quadratic, attraction_repulsion
from flows.problems.learning import bilinear_game, pareto_quadratics
from flows.problems.manifolds import oja, rayleigh, sphere_linear
from flows.problems.matrix_flows import (
    brockett,
    oja_subspace,
    orthogonality,
    toda,
)
from flows.problems.mckean_vlasov import (
    mckean_vlasov_mixture,
    mckean_vlasov_quadratic,
)
from flows.problems.natural import forward_kl, reverse_kl
from flows.problems.nonlinear import barenblatt, confined_barenblatt
from flows.problems.nonsmooth import (
    absolute_value,
    huber,
    lasso,
    power,
    power_step,
)
from flows.problems.norms import greedy_flow, normalized_flow, sign_flow, spectral_flow
from flows.problems.proximal import (
    box_quadratic,
    simplex_quadratic,
    total_variation,
)
from flows.problems.simplex import (
    replicator,
    rock_paper_scissors,
    simplex_kl,
    simplex_linear,
)
from flows.problems.singular import nuclear_norm, spectral_norm
from flows.problems.spectral import spectral_gap
from flows.problems.stiff import log_cosh, sine_valley, stiff_quartic

__all__ = [
    "Problem",
    "absolute_value",
    "aggregation_quadratic",
    "attraction_repulsion",
    "barenblatt",
    "bilinear_game",
    "box_quadratic",
    "brockett",
    "confined_barenblatt",
    "deep_scalar_network",
    "double_well",
    "forward_kl",
    "gibbs",
    "greedy_flow",
    "heat",
    "heavy_ball",
    "huber",
    "lasso",
    "linear_network",
    "log_barrier",
    "log_cosh",
    "log_determinant",
    "logistic",
    "matrix_factorization",
    "mckean_vlasov_mixture",
    "mckean_vlasov_quadratic",
    "metastable",
    "nesterov",
    "normalized_flow",
    "nuclear_norm",
    "oja",
    "oja_subspace",
    "ornstein_uhlenbeck",
    "ornstein_uhlenbeck_mixture",
    "orthogonality",
    "pareto_quadratics",
    "periodic_heat",
    "power",
    "power_step",
    "quadratic",
    "rayleigh",
    "reflected_heat",
    "replicator",
    "reverse_kl",
    "rock_paper_scissors",
    "rosenbrock",
    "sign_flow",
    "simplex_kl",
    "simplex_linear",
    "simplex_quadratic",
    "sine_valley",
    "spectral_flow",
    "spectral_gap",
    "spectral_norm",
    "sphere_linear",
    "stiff_quartic",
    "toda",
    "total_variation",
    "two_weights",
]
