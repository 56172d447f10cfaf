"""What a problem is: an energy, its exact flow, and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.energies import Energy
from flows.problems.arguments import interval

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Problem"]

Array = Any


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """An energy with the exact solution of its gradient flow.

    Problems pickle and may be deep-copied.

    Attributes
    ----------
    name : str
    energy : Energy or None
        None for a system that descends no single energy, which has a ``flow``.
    exact : callable or None
        ``exact(t)`` is the solution at time t: an array for vectors and particles,
        else a Measure. None where only the limit is known.
    t : tuple of float
        Recommended interval (t0, t1).
    start : array or Measure, optional
        Initial datum where ``exact`` is None.
    limit : array or Measure, optional
        Where the solution goes as t grows; None where it goes nowhere or the limit is
        not known.
    spaces : tuple of str
        Names of the spaces in which the problem makes sense, ``("Grid", "Quantiles")``.
    box : tuple of (lo, hi), optional
        For every axis, bounds that hold the solution over ``t`` to about 1e-14, or the
        walls of the problem.
    boundary : str, optional
        ``"periodic"`` or ``"no-flux"`` where the problem has walls or a period.
    exact_energy : callable, optional
        ``exact_energy(t)`` is the energy of ``exact(t)``; for an array of b points of
        R^n an array (b,).
    rate : float, optional
        A number r with F(t) - F(limit) <= exp(-r (t - s)) (F(s) - F(limit)) for
        s <= t; sharp unless the problem says otherwise.
    constants : mapping of str to number or array
        What theory knows: masses, radii, gaps, extinction times.
    reference : str
    flow : Flow, optional
        The system itself, where no space makes it of one energy: games, several
        objectives.
    """

    name: str
    energy: Any
    exact: Any
    t: tuple[float, float]
    start: Any = None
    limit: Any = None
    spaces: tuple[str, ...] = ()
    box: tuple[tuple[float, float], ...] | None = None
    boundary: str | None = None
    exact_energy: Any = None
    rate: float | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    flow: Any = None

    def __post_init__(self) -> None:
        if self.flow is None and not isinstance(self.energy, Energy):
            raise TypeError(f"`energy` must be an Energy, got {self.energy!r}.")
        for name in ("exact", "exact_energy"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(
                    f"`{name}` must be a callable of time or None, got {value!r}."
                )
        if self.exact is None and self.start is None:
            raise ValueError("A problem without `exact` needs a `start`.")
        object.__setattr__(self, "t", interval(self.t))
        object.__setattr__(self, "constants", dict(self.constants))

    @property
    def initial(self) -> Any:
        """Initial datum: ``start``, or the exact solution at ``t[0]``."""
        if self.exact is None or self.start is not None:
            return self.start
        return self.exact(self.t[0])

    def grid(self, n: int) -> Any:
        """``Grid`` of n cells along every axis of ``box``, with the right boundary.

        Raises
        ------
        TypeError
            For a problem that does not live on a grid.
        """
        from flows.spaces import Grid

        if "Grid" not in self.spaces or self.box is None:
            where = ", ".join(self.spaces) or "no space of this library"
            raise TypeError(f"{self.name} does not live on a Grid, but in: {where}.")
        axes = tuple((lo, hi, n) for lo, hi in self.box)
        return Grid(*axes, boundary=self.boundary or "no-flux")

    def __repr__(self) -> str:
        t0, t1 = self.t
        return f"Problem({self.name}, t=({t0:g}, {t1:g}))"
