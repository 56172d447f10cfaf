"""Energies: frozen, algebraic, ignorant of grids, particles and array libraries.

    F(rho) = int V d rho + T int rho log rho + int U(rho) dx
             + 1/2 iint W(x - y) d rho(x) d rho(y)

``Potential``, ``Entropy``, ``Internal`` and ``Interaction`` are the kinds of term; sums
and positive or negative multiples of them are energies again. Spaces look at the kind
of each term, so a term is recognized, not merely differentiated.
"""

from __future__ import annotations

from flows.energies.recipes import (
    kl,
    porous_medium,
    quadratic,
    separable,
    total_temperature,
)
from flows.energies.sums import Energy, Sum, Term
from flows.energies.terms import Entropy, Interaction, Internal, Potential

__all__ = [
    "Energy",
    "Entropy",
    "Interaction",
    "Internal",
    "Potential",
    "Sum",
    "Term",
    "kl",
    "porous_medium",
    "quadratic",
    "separable",
    "total_temperature",
]
