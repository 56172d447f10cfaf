"""Several objectives at once: the flow along which none of them rises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace, to_numpy
from flows.energies import Energy, Potential
from flows.flow import Flow
from flows.learning.hull import min_norm_weights
from flows.spaces import Euclidean
from flows.spaces.base import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MultiObjectiveFlow", "multi_objective"]

Array = Any


def multi_objective(objectives: Sequence[Energy]) -> MultiObjectiveFlow:
    """dx/dt = -(point of least norm in the convex hull of grad L_1, .., grad L_m).

    Along it dL_i/dt <= -|dx/dt|^2 for every i, with equality where L_i has a positive
    weight; it rests where some convex combination of the gradients vanishes (Pareto
    stationary points).

    Parameters
    ----------
    objectives : sequence of energies
        Sums of Potentials.

    Returns
    -------
    MultiObjectiveFlow
        ``energy`` has one entry for each objective.

    Raises
    ------
    TypeError, ValueError
        For fewer than one objective, and for other kinds of term.

    References
    ----------
    H. Attouch, G. Garrigos, X. Goudou, A dynamic gradient approach to Pareto
    optimization with nonsmooth convex objective functions, J. Math. Anal. Appl. 422
    (2015) 741-771, doi:10.1016/j.jmaa.2014.09.001.
    """
    if isinstance(objectives, Energy):
        raise TypeError(
            "`objectives` must be a sequence of energies, [L1, L2, ..], got one energy."
        )
    chosen = tuple(objectives)
    if not chosen:
        raise ValueError("`objectives` is empty; give at least one energy.")
    space = Euclidean()
    for i, energy in enumerate(chosen):
        if not isinstance(energy, Energy):
            raise TypeError(f"`objectives[{i}]` must be an energy, got {energy!r}.")
        for term in energy.terms:
            if not isinstance(term, Potential):
                raise refuse(term, space, "a vector has no density and no pairs")
    return MultiObjectiveFlow(space, chosen)


def total(energy: Energy, name: str, t: float, u: Array) -> Array:
    """Sum over the terms of ``value_at`` or ``gradient_at``."""
    return sum(getattr(term, name)(u, t) for term in energy.terms)


@dataclass(frozen=True, eq=False)
class MultiObjectiveFlow(Flow):
    """The flow of the least convex combination of gradients; one state (n,)."""

    space: Euclidean = field()
    objectives: tuple[Energy, ...]
    is_gradient = False

    def gradients(self, t: float, u: Array) -> Array:
        """Gradients of the objectives, (m, n)."""
        if u.ndim != 1:
            raise ValueError(
                f"`u0` has shape {tuple(u.shape)}; several objectives take one point "
                "(n,), each of a batch needs weights of its own."
            )
        rows = [total(energy, "gradient_at", t, u) for energy in self.objectives]
        return namespace(u).stack(rows)

    def weights(self, t: float, u: Array) -> np.ndarray:
        """The convex combination (m,) of the gradients that moves the state."""
        g = to_numpy(self.gradients(t, u)).astype(float)
        return min_norm_weights(g @ g.T)

    def velocity(self, t: float, u: Array) -> Array:
        """Minus the point of least norm in the hull of the gradients."""
        g = self.gradients(t, u)
        a = array_like(self.weights(t, u), u)
        return -namespace(u).sum(a[:, None] * g, axis=0)

    def energy(self, t: float, u: Array) -> Array:
        """The objectives, (m,)."""
        values = [float(total(energy, "value_at", t, u)) for energy in self.objectives]
        return np.array(values)

    def default(self) -> tuple[str, None]:
        """Bogacki-Shampine: the velocity is continuous, its derivative is not."""
        return "BogackiShampine", None
