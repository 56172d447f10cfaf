"""Particles with noise: overdamped Langevin and McKean-Vlasov dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.energies import Entropy, Interaction, Internal, Potential, total_temperature
from flows.spaces.base import refuse, terms_of
from flows.spaces.cloud import CloudFlow, CloudSpace, is_linear, relaxed

if TYPE_CHECKING:
    from flows.energies import Energy
    from flows.spaces.cloud import Drift

__all__ = ["LangevinParticles"]

Array = Any


@dataclass(frozen=True, repr=False)
class LangevinParticles(CloudSpace):
    """Particles x (n, d) with noise at temperature T, the sum of the Entropy terms.

        dx_i = -grad V(x_i) dt - (1/n) sum_j grad W(x_i - x_j) dt + sqrt(2 T) dB_i

    Without W the particles are independent and their law solves the Fokker-Planck
    equation of V and T; with W the law tends to the McKean-Vlasov equation as n grows.

    Parameters
    ----------
    n : int
        Number of particles; the dimension d is that of the state.
    device, dtype : str, optional
        None follows the state; measures become NumPy float64.

    Notes
    -----
    The flow has no ``energy``: the entropy of points is infinite. Compare measures.

    Examples
    --------
    >>> import numpy as np, flows as fl
    >>> flow = fl.LangevinParticles(1).flow(fl.Entropy(0.5) + fl.Potential("x**2/2"))
    >>> flow.velocity(0.0, np.array([[2.0]])), flow.noise(0.0, None)
    (array([[-2.]]), 1.0)
    """

    def flow(self, energy: Energy, drift: Drift | None = None) -> LangevinFlow:
        """The flow of Potential, Entropy and Interaction terms, plus ``drift(x)``.

        Raises
        ------
        TypeError
            For Internal: points have no density; and for a negative temperature.
        """
        for term in terms_of(energy):
            match term:
                case Potential() | Interaction() | Entropy():
                    continue
                case Internal() if term.temperature is not None:
                    continue
                case _:
                    raise refuse(term, self, "points have no density")
        T = total_temperature(energy)
        if T < 0.0:
            first = next(t for t in energy.terms if (t.temperature or 0.0) < 0.0)
            raise refuse(first, self, "the temperature would be negative")
        linear = drift is None and is_linear(energy) and T > 0.0
        return (LinearLangevinFlow if linear else LangevinFlow)(self, energy, drift)

    def distance(self, u: Array, v: Array) -> float:
        """W_2 of the two empirical measures: noise makes labels meaningless.

        Sorting on the line; an assignment in higher dimension, cubic in n.
        """
        # scipy's assignment loads slowly, and only this method needs it.
        from flows.transport import wasserstein

        return wasserstein(self.measure(u), self.measure(v))


@dataclass(frozen=True, eq=False)
class LangevinFlow(CloudFlow):
    """dx_i = (-grad V - grad W * rho + drift)(x_i) dt + sqrt(2 T) dB_i."""

    @property
    def temperature(self) -> float:
        """T of the noise sqrt(2 T)."""
        if "temperature" not in self._cache:
            self._cache["temperature"] = total_temperature(self.functional)
        return float(self._cache["temperature"])

    def noise(self, t: float, u: Array) -> float:
        """sqrt(2 T)."""
        return math.sqrt(2.0 * self.temperature)

    @property
    def prox(self) -> Any:
        """Refused: the free energy of points is infinite."""
        raise TypeError(
            "particles with noise have no finite energy to minimize; take Quantiles(n) "
            "for minimizing movements"
        )

    def default(self) -> tuple[str, float]:
        """Leimkuhler-Matthews with step 0.01."""
        return "LeimkuhlerMatthews", 0.01


@dataclass(frozen=True, eq=False)
class LinearLangevinFlow(LangevinFlow):
    """Quadratic V and W: an Ornstein-Uhlenbeck process of all particles."""

    def exact(self, t: float, u: Array, h: float, rng: Any) -> Array:
        """A sample of the state at t + h given ``u``, exact for every h and n.

        The mean of the particles and the deviations from it are independent
        Ornstein-Uhlenbeck processes of rates A and A + K.
        """
        linear = self._linear(u.shape[1])
        moved = linear.apply(u, lambda a: np.exp(-a * h), lambda a: relaxed(a, h))
        normal = rng.normal(tuple(u.shape), like=u)
        T = self.temperature
        return moved + linear.apply(
            normal, lambda a: np.sqrt(2.0 * T * relaxed(2.0 * a, h))
        )

    def stable_step(self, t: float, u: Array) -> float:
        """2 / largest eigenvalue of A and A + K."""
        largest = self._linear(u.shape[1]).stiffness
        return 2.0 / largest if largest > 0.0 else np.inf

    def default(self) -> tuple[str, float]:
        """Leimkuhler-Matthews with a twentieth of the stable step."""
        points = (*self.potentials, *self.interactions)
        d = max((term.function.dimension or 1 for term in points), default=1)
        stable = self.stable_step(0.0, np.zeros((1, d)))
        return "LeimkuhlerMatthews", 0.05 * stable if stable < np.inf else 0.01
