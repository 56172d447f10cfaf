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

__all__ = [
    "Convergence",
    "Finding",
    "check_descent",
    "check_dissipation",
    "check_gradient",
    "check_mass",
    "check_positive",
    "convergence",
]
