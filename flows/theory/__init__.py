"""Verification: observed orders, identities along a run, and the report of theory."""

from __future__ import annotations

from flows.theory.checks import (
    Finding,
    check_descent,
    check_dissipation,
    check_gradient,
    check_mass,
    check_positive,
)
from flows.theory.convergence import Convergence, convergence
from flows.theory.envelope import moreau_envelope
from flows.theory.evi import check_de_giorgi, check_evi, evi_gap
from flows.theory.inertial import lyapunov, nesterov_iterate, polyak_iterate
from flows.theory.modified import (
    ModifiedEquation,
    Momentum,
    modified_equation,
    modified_quadratic,
)
from flows.theory.rates import Bound, Rates, rates

__all__ = [
    "Bound",
    "Convergence",
    "Finding",
    "ModifiedEquation",
    "Momentum",
    "Rates",
    "check_de_giorgi",
    "check_descent",
    "check_dissipation",
    "check_evi",
    "check_gradient",
    "check_mass",
    "check_positive",
    "convergence",
    "evi_gap",
    "lyapunov",
    "modified_equation",
    "modified_quadratic",
    "moreau_envelope",
    "nesterov_iterate",
    "polyak_iterate",
    "rates",
]
