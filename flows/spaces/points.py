"""What spaces of points share: initial points, shapes, drifts, energy and norm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import namespace, numbers, to_numpy
from flows.flow import Flow
from flows.measures import Dirac, Empirical
from flows.spaces.base import Space
from flows.spaces.cloud import drift_at
from flows.spaces.euclidean_flows import total

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy

__all__ = [
    "DrivenFlow",
    "PointFlow",
    "PointSpace",
    "checked_drift",
    "law_of",
    "points_of",
]

Array = Any


def points_of(measure: Any, space: Any) -> np.ndarray:
    """The point (n,) of a Dirac measure, or the points (b, n) of an empirical one.

    Raises
    ------
    TypeError, ValueError
        For other measures, and for points of different weights.
    """
    if isinstance(measure, Dirac):
        return np.atleast_1d(np.asarray(measure.mean, dtype=float))
    if isinstance(measure, Empirical):
        if np.ptp(measure.masses) > 0.0:
            raise ValueError(
                f"{measure!r} has weights, but {space!r} moves each point by itself; "
                "give its `points`."
            )
        return np.asarray(measure.atoms)
    raise TypeError(
        f"{space!r} takes an array or a Dirac measure as `u0`, got {measure!r}; "
        "measures live on Grid, Quantiles or Particles."
    )


def law_of(x: Array) -> Any:
    """Dirac measure at a point (n,), or the empirical measure of (b, n)."""
    x = to_numpy(x)
    return Dirac(x) if x.ndim == 1 else Empirical(x)


def checked_drift(drift: Any) -> None:
    """Refuse a drift that cannot be called."""
    if drift is not None and not callable(drift):
        raise TypeError(f"`drift` must be callable(x), got {drift!r}.")


class PointSpace(Space):
    """A space whose state (n,) is one point and (b, n) b points."""

    def project(self, measure: Any, rng: Any = None) -> Array:
        """The point of a Dirac measure, or the points (b, n) of an empirical one.

        Raises
        ------
        TypeError, ValueError
            For other measures, for weights, and for what is no state here.
        """
        u = self.create(points_of(measure, self))
        problem = self.shape_error(u)
        if problem:
            raise ValueError(problem)
        return u

    def measure(self, u: Array) -> Any:
        """Dirac measure at a point (n,), or the empirical measure of (b, n)."""
        return law_of(u)

    def points(self, u: Array) -> Array:
        """Where the potential is evaluated: the state itself."""
        return u

    def rank_error(self, u: Array, one: str, many: str) -> str | None:
        """What is wrong with the number of axes; ``one`` and ``many`` name states."""
        if u.ndim in (1, 2):
            return None
        return (
            f"`u0` has shape {tuple(u.shape)}; {self!r} takes (n,), {one}, or (b, n), "
            f"{many}."
        )


@dataclass(frozen=True, eq=False)
class PointFlow(Flow):
    """A flow of points under potentials: energy, error norm, Dormand-Prince."""

    # Without `field()` the class attribute of Flow would be a default.
    space: Any = field()
    functional: Energy

    def energy(self, t: Any, u: Array) -> Any:
        """V: one number, or (b,) for a batch."""
        return numbers(total(self.functional, "value_at", t, self.space.points(u)))

    def norm(self, e: Array) -> Any:
        """Root mean square: one number, or one for each member of a batch."""
        xp = namespace(e)
        return numbers(xp.sqrt(xp.mean(e * e, axis=-1)))

    def default(self) -> tuple[str, None]:
        """Dormand-Prince with adaptive steps."""
        return "DormandPrince", None


@dataclass(frozen=True, eq=False)
class DrivenFlow(PointFlow):
    """A flow of points under the force drift - grad V."""

    drift: Callable[[Array], Array] | None = field(default=None, repr=False)

    @property
    def is_gradient(self) -> bool:  # type: ignore[override]
        return self.drift is None

    def force(self, t: Any, x: Array) -> Array:
        """drift - grad V at points (.., n)."""
        slope = -total(self.functional, "gradient_at", t, x)
        return slope if self.drift is None else slope + drift_at(self.drift, x)
