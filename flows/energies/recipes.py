"""Energies by name: lower-case functions that return them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flows import symbolic
from flows.energies.sums import Energy
from flows.energies.terms import Entropy, Internal, Potential

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["kl", "porous_medium", "quadratic", "separable", "total_temperature"]


def total_temperature(energy: Energy) -> float:
    """Sum of the temperatures of the entropy terms, in either spelling."""
    found = (term.temperature for term in energy.terms)
    return math.fsum(T for T in found if T is not None)


def kl(target: Any, *, T: float = 1.0) -> Energy:
    """Relative entropy KL(rho | q) times T, q = exp(-V/T) or a measure.

    ``kl(V)`` omits the unknown constant log Z; ``kl(measure)`` has it, so that its
    minimum is 0.

    Parameters
    ----------
    target : str, sympy expression, callable, Potential or Measure
        The potential V = -log q, or q itself.
    """
    if isinstance(target, Potential):
        return Entropy(T) + target
    if hasattr(target, "pdf"):
        return Entropy(T) + Potential(target.potential(), scale=T)
    return Entropy(T) + Potential(target)


def porous_medium(m: float, V: Any = None) -> Energy:
    """Energy int rho^m/(m-1) dx (+ int V d rho): d_t rho = Lap rho^m (+ div(rho V')).

    Parameters
    ----------
    m : float
        Exponent, positive and not 1 (that is ``Entropy``); m < 1 is fast diffusion.
    V : potential, optional
        Anything that ``Potential`` takes.

    References
    ----------
    F. Otto, Comm. PDE 26 (2001), doi:10.1081/PDE-100002243.
    """
    internal = Internal(symbolic.PowerFunction(m))
    if V is None:
        return internal
    return internal + (V if isinstance(V, Energy) else Potential(V))


def quadratic(A: Any = 1.0, *, center: Any = None, b: Any = None) -> Potential:
    """Potential (x - center).A(x - center)/2 - b.x.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
        A vector is diagonal; a matrix must be symmetric. It may be singular.
    center, b : float or (n,) array, optional
    """
    return Potential(symbolic.QuadraticField(A, center, b))


def separable(V: str, *, parameters: Mapping[str, Any] | None = None) -> Potential:
    """Potential sum_i v(x_i) in any dimension, v typed in the variable ``x``."""
    return Potential(symbolic.SeparableField(V, parameters))
