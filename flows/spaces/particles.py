"""Deterministic particles that feel potentials and each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import namespace
from flows.energies import Interaction, Potential
from flows.linear import NewtonFailure
from flows.spaces.base import refuse, terms_of
from flows.spaces.cloud import CloudFlow, CloudSpace, is_linear, relaxed
from flows.spaces.implicit import NO_DERIVATIVE, obstacle, solve_points

if TYPE_CHECKING:
    from flows.energies import Energy
    from flows.flow import Memory
    from flows.spaces.cloud import Drift

__all__ = ["Particles"]

Array = Any
ImplicitStep = Callable[[float, Array, float, "Memory"], tuple[Array, "Memory"]]


@dataclass(frozen=True, repr=False)
class Particles(CloudSpace):
    """Particles x (n, d) of mass 1/n in a potential, that attract or repel each other.

        dx_i/dt = -grad V(x_i) - (1/n) sum_j grad W(x_i - x_j)

    The law of the particles follows the Wasserstein gradient flow of
    int V d rho + 1/2 iint W(x - y) d rho d rho without diffusion.

    Parameters
    ----------
    n : int
        Number of particles; the dimension d is that of the state.
    device, dtype : str, optional
        None follows the state; measures become NumPy float64.

    Notes
    -----
    Coincident particles exert no force on each other, also where W is singular at 0.
    Quadratic W costs O(n), abs(x) on the line O(n log n), every other W all pairs.

    Examples
    --------
    >>> import numpy as np, flows as fl
    >>> flow = fl.Particles(2).flow(fl.Interaction("r**2/2"))
    >>> flow.velocity(0.0, np.array([[0.0], [2.0]]))
    array([[ 1.],
           [-1.]])
    """

    def flow(self, energy: Energy, drift: Drift | None = None) -> ParticleFlow:
        """The flow of Potential and Interaction terms, plus ``drift(x)``.

        Raises
        ------
        TypeError
            For Entropy and Internal: particles without noise have no density.
        """
        for term in terms_of(energy):
            match term:
                case Potential() | Interaction():
                    continue
                case _:
                    raise refuse(term, self, "points without noise have no density")
        linear = drift is None and is_linear(energy)
        return (LinearParticleFlow if linear else ParticleFlow)(self, energy, drift)

    def distance(self, u: Array, v: Array) -> float:
        """sqrt(mean |u_i - v_i|^2): particles are labelled, i stays i.

        It bounds the Wasserstein distance of the two measures from above, and equals
        it as long as the flow does not turn particles around each other.
        """
        xp = namespace(u)
        return float(xp.sqrt(xp.sum((u - v) ** 2) / self.n))


@dataclass(frozen=True, eq=False)
class ParticleFlow(CloudFlow):
    """dx_i/dt = -grad V(x_i) - (1/n) sum_j grad W(x_i - x_j) + drift(x_i)."""

    def energy(self, t: float, u: Array) -> Any:
        """mean V(x_i) + (1/2n^2) sum_ij W(x_i - x_j)."""
        return self._energy(t, u)

    @property
    def resolvent(self) -> ImplicitStep:
        """``resolvent(t, w, h, memory)``; raises TypeError where it is not known."""
        self._check_implicit()
        return self._implicit

    @property
    def prox(self) -> ImplicitStep:
        """``prox(t, u, h, memory)``: the metric is flat, so it is the resolvent."""
        self._check_implicit()
        return self._implicit

    def _check_implicit(self) -> None:
        if self.drift is not None:
            raise TypeError(NO_DERIVATIVE)
        # The dimension is known at the first step; the terms name the least one.
        self._check_dimension(
            max(term.function.dimension or 1 for term in self.functional.terms)
        )

    def _check_dimension(self, d: int) -> None:
        if ("obstacle", d) not in self._cache:
            reason = obstacle(self.potentials, self.pairs(d), d)
            self._cache["obstacle", d] = reason
        if self._cache["obstacle", d] is not None:
            raise TypeError(self._cache["obstacle", d])

    def _implicit(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        d = w.shape[1]
        self._check_dimension(d)
        start = memory[0] if memory else w
        v = solve_points(self.potentials, self.pairs(d), t, w, h, start)
        return v, (v,)

    def default(self) -> tuple[str, None]:
        """Dormand-Prince with adaptive steps."""
        return "DormandPrince", None


@dataclass(frozen=True, eq=False)
class LinearParticleFlow(ParticleFlow):
    """Quadratic V and W: dx_i/dt = g - A x_i - K (x_i - mean x)."""

    def exact(self, t: float, u: Array, h: float, rng: Any = None) -> Array:
        """The flow map: the mean relaxes by A, the deviations by A + K."""
        linear = self._linear(u.shape[1])
        return linear.apply(u, lambda a: np.exp(-a * h), lambda a: relaxed(a, h))

    def _implicit(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        linear = self._linear(w.shape[1])
        lowest = min(linear.mean[0].min(), linear.deviation[0].min())
        if 1.0 + h * lowest <= 0.0:
            raise NewtonFailure(
                f"the energy plus |v - u|^2/2h has no minimum, h = {h:g}"
            )
        v = linear.apply(w, lambda a: 1.0 / (1.0 + h * a), lambda a: h / (1.0 + h * a))
        return v, (v,)

    def stable_step(self, t: float, u: Array) -> float:
        """2 / largest eigenvalue of A and A + K."""
        largest = self._linear(u.shape[1]).stiffness
        return 2.0 / largest if largest > 0.0 else np.inf
