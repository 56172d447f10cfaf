"""Quadratic energies, where the modified equation is known to all orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.energies import Energy, quadratic
from flows.flow import Flow
from flows.problems.base import Problem
from flows.schemes import AverageVectorField, Gonzalez
from flows.schemes.base import Scheme
from flows.symbolic import Constant, QuadraticField
from flows.theory.modified.equation import Momentum

if TYPE_CHECKING:
    from flows.flow import Memory

__all__ = ["modified_quadratic"]

Array = Any


@dataclass(frozen=True, eq=False)
class AffineModes(Flow):
    """du/dt = rates u + 1 in every entry."""

    rates: Array

    def velocity(self, t: Any, u: Array) -> Array:
        """The right-hand side."""
        return self.rates * u + 1.0

    def jacobian(self, t: Any, u: Array) -> Array:
        """Its derivative, a diagonal matrix."""
        return np.diag(self.rates)

    def resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        """v = w + h velocity(v)."""
        v = (w + h) / (1.0 - h * self.rates)
        return v, (v,)

    def prox(self, t: Any, u: Array, h: Any, memory: Memory) -> tuple[Array, Memory]:
        """The resolvent."""
        return self.resolvent(t, u, h, memory)


RUNS_ON_MODES = {"velocity", "jacobian", "resolvent", "prox"}


def modified_quadratic(
    method: Scheme | Momentum, energy: Energy, h: float, *, dimension: int | None = None
) -> Energy:
    """The quadratic energy whose exact flow passes through the iterates of a scheme.

    With the stability function R and V(x) = x.A x/2 - b.x it has the matrix

        A_h = -log(R(-h A)) / h,    -log(1 - h A)/h for explicit Euler,

    and b_h = A_h A^{-1} b, so that the minimizer is the same.

    Parameters
    ----------
    method : Scheme or Momentum
        A one-step scheme that is a function of h A: Runge-Kutta schemes, explicit and
        implicit, Rosenbrock, Exponential (which is exact), minimizing movements,
        StepDoubling, AverageVectorField and Gonzalez. Of Momentum the smooth iterates.
    energy : Energy
        A sum of quadratic potentials, or a Problem with one.
    h : float
        Positive, and small enough that R > 0 (h lambda < 1 for explicit Euler).
    dimension : int, optional
        Of a quadratic that fits every dimension: 1 by default.

    Raises
    ------
    TypeError
        For other schemes and energies.
    ValueError
        Where a factor R is not positive: the iterates change sign from step to step,
        and no flow does that.

    Examples
    --------
    >>> import flows as fl
    >>> fl.theory.modified_quadratic(fl.Euler(), fl.quadratic(2.0), 0.25)
    quadratic(2.772588722239781)
    """
    if isinstance(energy, Problem):
        energy = energy.energy
    if not isinstance(energy, Energy) or not all(
        isinstance(getattr(term, "function", None), (QuadraticField, Constant))
        for term in energy.terms
    ):
        raise TypeError(f"`energy` must be quadratic(A, ..), got {energy!r}.")
    if not h > 0.0:
        raise ValueError(f"`h` must be positive, got {h!r}.")
    own = {term.function.dimension for term in energy.terms} - {None}
    x = np.zeros(dimension or (own.pop() if own else 1))
    terms: tuple[Any, ...] = energy.terms
    A = sum(term.hessian_at(x, 0.0) for term in terms)
    force = -sum(term.gradient_at(x, 0.0) for term in terms)
    diagonal = np.array_equal(A, np.diag(np.diag(A)))
    values, Q = (np.diag(A), np.eye(len(x))) if diagonal else np.linalg.eigh(A)
    with np.errstate(all="ignore"):
        change = growth(method, values, h)
        found = -np.log1p(change) / h
    bad = ~(change > -1.0)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"{method!r} with h = {h:g} has the factor {1 + change[i]:.4g} at the "
            f"eigenvalue {values[i]:.6g}: no flow passes through iterates whose factor "
            "is not positive. Take a smaller h."
        )
    ratio = np.where(values == 0.0, 1.0, found / np.where(values == 0.0, 1.0, values))
    pull = Q @ (ratio * (Q.T @ force))
    matrix = found if diagonal else (Q * found) @ Q.T
    if diagonal and np.ptp(found) == 0.0:
        matrix = float(found[0])
    return quadratic(matrix, b=pull if np.any(pull) else None)


def growth(method: Any, values: Array, h: float) -> Array:
    """R(-h lambda) - 1 without cancellation."""
    z = -h * values
    if isinstance(method, Momentum):
        # The root near 1 of p^2 + (1 - beta - z) p - z = 0.
        middle = 1.0 - method.beta - z
        return 2.0 * z / (middle + np.sqrt(middle * middle + 4.0 * z))
    if isinstance(method, (AverageVectorField, Gonzalez)):
        return z / (1.0 - 0.5 * z)
    if (
        not isinstance(method, Scheme)
        or method.multistep
        or not set(method.needs) <= RUNS_ON_MODES
    ):
        raise TypeError(
            f"`{method!r}` is no scheme whose step multiplies the modes of a matrix by "
            "a factor, as Euler() and Radau() are."
        )
    # One step of u' = z u + 1 from 0 is (R(z) - 1) / z.
    step = method.step(AffineModes(z), 0.0, np.zeros_like(z), 1.0, None, ())
    return z * np.asarray(step.u)
