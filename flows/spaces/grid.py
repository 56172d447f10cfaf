"""Densities on rectangular grids: finite volumes in one and two dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.arrays import array_like, namespace, to_numpy
from flows.energies import (
    Energy,
    Entropy,
    Interaction,
    Internal,
    Potential,
    total_temperature,
)
from flows.measures import Histogram, cell_masses
from flows.spaces.base import Space, check_device, refuse, terms_of
from flows.spaces.cloud import check_drift
from flows.spaces.diffusion import refuse_backward
from flows.spaces.grid_flows import GridFlow, LinearGridFlow
from flows.spaces.grid_nonlinear import NonlinearGridFlow
from flows.transport import wasserstein

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Grid"]

Array = Any
BOUNDARIES = ("no-flux", "periodic")
INSIDE = 0.99
"""Share of a measure that must lie inside the box of a grid."""
SLIGHTLY = 1e-3
"""Negative densities up to this share of the maximum count as 0 in a measure."""


@dataclass(frozen=True, init=False, repr=False)
class Grid(Space):
    """Cell averages of a density on a rectangular grid, with the Wasserstein metric.

        d_t rho = div(rho grad(V + U'(rho))) + T Lap rho

    Parameters
    ----------
    *axes : (low, high, n)
        Bounds and number of equal cells of each of the one or two axes.
    boundary : str or tuple of str
        ``"no-flux"`` or ``"periodic"``, for all axes or one name for each.
    device, dtype : str, optional
        None follows the state; measures become NumPy float64.

    Attributes
    ----------
    centers, edges : (n,) and (n + 1,) arrays, or tuples of two
        NumPy float64 whatever the device.
    volume : float
        Volume of a cell.
    spacing : tuple of float
        Widths of a cell.

    Raises
    ------
    ValueError
        For bounds that do not increase, fewer than 2 cells (3 on a periodic axis), an
        unknown boundary, or more than two axes.

    Notes
    -----
    States have shape (n,) or (n1, n2), any positive mass, which every flow keeps, and
    the density is constant in a cell. Potentials are evaluated at the centers. On a
    periodic axis V may jump across the wrap: the jump acts between the centers of the
    last and the first cell, a drift there at the upper edge.

    Examples
    --------
    >>> grid = Grid((0, 1, 4))
    >>> grid.centers
    array([0.125, 0.375, 0.625, 0.875])
    """

    axes: tuple[tuple[float, float, int], ...]
    boundary: tuple[str, ...]
    device: str | None
    dtype: str | None
    # Potentials enter by their values at the centers alone.
    probed: ClassVar[int] = 0

    def __init__(
        self,
        *axes: tuple[float, float, int],
        boundary: str | tuple[str, ...] = "no-flux",
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if len(axes) == 3 and not any(map(np.ndim, axes)):
            raise ValueError(
                f"An axis is one tuple (low, high, n): write Grid({axes!r}) with two "
                "pairs of parentheses."
            )
        if len(axes) not in (1, 2):
            raise ValueError(
                f"Grid takes one or two axes (low, high, n), got {len(axes)}: "
                "grids are 1-D and 2-D; in higher dimension use particles."
            )
        names = check_boundary(boundary, len(axes))
        check_device(device, dtype)
        checked = tuple(
            check_axis(axis, name) for axis, name in zip(axes, names, strict=True)
        )
        values = {"axes": checked, "boundary": names, "device": device, "dtype": dtype}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        parts = [f"({_text(a)}, {_text(b)}, {n})" for a, b, n in self.axes]
        names = set(self.boundary)
        if names != {"no-flux"}:
            shown = self.boundary if len(names) > 1 else self.boundary[0]
            parts.append(f"boundary={shown!r}")
        return self.written(*parts)

    @property
    def d(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a state."""
        return tuple(n for _, _, n in self.axes)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Width of the cells along each axis."""
        return tuple((b - a) / n for a, b, n in self.axes)

    @property
    def volume(self) -> float:
        """Volume of a cell."""
        return math.prod(self.spacing)

    @property
    def edges(self) -> Any:
        """Cell boundaries (n + 1,), or a tuple of two."""
        edges = tuple(np.linspace(a, b, n + 1) for a, b, n in self.axes)
        return edges[0] if self.d == 1 else edges

    @property
    def centers(self) -> Any:
        """Cell centers (n,), or a tuple of two."""
        centers = tuple(
            a + (b - a) * ((np.arange(n) + 0.5) / n) for a, b, n in self.axes
        )
        return centers[0] if self.d == 1 else centers

    def points(self, u: Array) -> Array:
        """Cell centers as points (n, 1) or (n1, n2, 2), where ``u`` lives."""
        axes = (self.centers,) if self.d == 1 else self.centers
        return array_like(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), u)

    def shape_error(self, u: Array) -> str | None:
        """None for a density, else what was expected."""
        if tuple(u.shape) != self.shape:
            return (
                f"`u0` has shape {tuple(u.shape)}; {self!r} takes the cell averages of "
                f"a density, shape {self.shape}."
            )
        x = to_numpy(u)
        if x.min() < 0:
            index = tuple(int(i) for i in np.unravel_index(x.argmin(), x.shape))
            return (
                f"`u0` is a density with the negative minimum {x.min():.4g} at index "
                f"{index}; it must be >= 0."
            )
        if x.max() <= 0:
            return "`u0` is a density without mass; it must be positive somewhere."
        return None

    def project(self, measure: Any, rng: Any = None) -> Array:
        """Exact cell averages of a measure, normalized to mass 1.

        Raises
        ------
        ValueError
            When less than 99 per cent of the mass is inside the box, or when the
            dimension is not that of the grid.
        TypeError
            For what is not a measure.
        """
        if not hasattr(measure, "sample"):
            raise TypeError(
                f"{self!r} projects measures, got {measure!r}. Give the cell averages "
                "of a function as an array, f(grid.centers), or make it a measure, "
                "Density(f)."
            )
        if measure.d != self.d:
            raise ValueError(
                f"{measure!r} is a measure on R^{measure.d}, but {self!r} has {self.d} "
                f"{'axis' if self.d == 1 else 'axes'}."
            )
        masses = to_numpy(cell_masses(measure, self.edges))
        total = float(masses.sum())
        if not total >= INSIDE:
            raise ValueError(
                f"{1 - total:.2%} of the mass of {measure!r} lies outside {self!r}; "
                f"enlarge the box until at most {1 - INSIDE:.0%} does."
            )
        return self.create(masses / (total * self.volume))

    def measure(self, u: Array) -> Histogram:
        """The piecewise constant density, normalized.

        Negative densities of at most a thousandth of the maximum, which second order
        in time leaves behind, count as 0.

        Raises
        ------
        ValueError
            For lower densities.
        """
        x = to_numpy(u).astype(np.float64)
        if not x.min() >= -SLIGHTLY * x.max():
            raise ValueError(
                f"The density has the negative minimum {x.min():.4g} (maximum "
                f"{x.max():.4g}) and is no measure."
            )
        return Histogram(self.edges, np.maximum(x, 0.0) * self.volume)

    def mass(self, u: Array) -> float:
        """Total mass."""
        xp = namespace(u)
        return float(xp.sum(u, dtype=xp.float64)) * self.volume

    def minimum(self, u: Array) -> float:
        """Smallest density."""
        return float(namespace(u).min(u))

    def l1(self, u: Array, v: Array) -> float:
        """int |u - v| dx."""
        xp = namespace(u)
        return float(xp.sum(xp.abs(u - v), dtype=xp.float64)) * self.volume

    def distance(self, u: Array, v: Array) -> float:
        """W_2 = min (int |x - y|^2 d pi)^(1/2) between densities of equal mass.

        Exact for densities that are constant in the cells.

        Raises
        ------
        TypeError
            In two dimensions and on a circle; use ``l1``.
        ValueError
            When the masses differ by more than 1e-6 of the mass.
        """
        if self.d != 1 or self.boundary[0] == "periodic":
            where = "a circle" if self.d == 1 else "the plane"
            raise TypeError(
                f"No exact W_2 between densities on {where} is available for {self!r}; "
                "use `grid.l1(u, v)`."
            )
        mass, other = self.mass(u), self.mass(v)
        if not abs(mass - other) <= 1e-6 * abs(mass):
            raise ValueError(
                f"W_2 is between equal masses, got {mass:.8g} and {other:.8g}; rescale "
                "one density."
            )
        between = wasserstein(self.measure(u), self.measure(v))
        return math.sqrt(mass) * float(between)

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> GridFlow:
        """d_t rho = div(rho grad(V + U'(rho)) - rho drift) + T Lap rho.

        Linear without internal terms: rates of Scharfetter and Gummel. The drift is
        evaluated on the faces, once.

        Raises
        ------
        TypeError
            For an Interaction, and for diffusion that is backward somewhere.
        ValueError
            Where the potential or the drift is not finite in the box.
        """
        check_drift(drift)
        internal = []
        for term in terms_of(energy):
            match term:
                case Potential() | Entropy():
                    pass
                case Internal():
                    if term.temperature is None and term.scale != 0.0:
                        internal.append(term)
                case Interaction():
                    raise refuse(term, self, "densities on grids feel no pairs yet")
                case _:
                    raise refuse(term, self)
        temperature = total_temperature(energy)
        refuse_backward(energy, self)
        kind = NonlinearGridFlow if internal else LinearGridFlow
        return kind(self, energy, temperature, tuple(internal), drift)


def check_boundary(boundary: Any, d: int) -> tuple[str, ...]:
    """One valid name for each of d axes."""
    several = isinstance(boundary, (tuple, list))
    names = tuple(boundary) if several else (boundary,) * d
    for name in names:
        if name not in BOUNDARIES:
            raise ValueError(
                f"`boundary` must be one of {', '.join(map(repr, BOUNDARIES))} or a "
                f"tuple with one for each axis, got {boundary!r}."
            )
    if len(names) != d:
        raise ValueError(
            f"`boundary` has {len(names)} names for {d} axes; give one name, or one "
            "for each axis."
        )
    return names


def check_axis(axis: Any, boundary: str) -> tuple[float, float, int]:
    """One axis (low, high, n) as two floats and an int."""
    try:
        low, high, n = axis
        low, high = float(low), float(high)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "An axis of a Grid is (low, high, n), for instance (-8, 8, 400); got "
            f"{axis!r}."
        ) from error
    if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)):
        raise ValueError(
            f"The number of cells must be an integer, got {n!r} in the axis {axis!r}."
        )
    n = int(n)
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(
            f"The axis {axis!r} needs finite bounds low < high: (low, high, n)."
        )
    least = 3 if boundary == "periodic" else 2
    if n < least:
        raise ValueError(
            f"The axis {axis!r} has {n} cell(s); a {boundary} axis needs at least "
            f"{least}."
        )
    if not (high - low) / n > 4.0 * np.spacing(max(abs(low), abs(high))):
        raise ValueError(
            f"The cells of the axis {axis!r} are smaller than the spacing of floats "
            "there; shift the axis towards 0 or take fewer cells."
        )
    return low, high, n


def _text(x: float) -> str:
    """A number as one types it."""
    return str(int(x)) if x.is_integer() and abs(x) < 1e15 else repr(x)
