"""Measures given by an unnormalized density: a formula, a function or an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import is_array, to_numpy
from flows.measures.base import Measure, Pieces
from flows.measures.checks import as_points, real_array
from flows.measures.histogram import Histogram, refuse_negative
from flows.measures.line import LineDensity
from flows.measures.region import RegionDensity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Density"]

Array = Any
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Weights of red, green and blue in Rec. 709."""


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Density(Measure):
    """Probability measure with a density proportional to ``source``.

    Parameters
    ----------
    source : str, sympy expression, callable or array
        A formula in x (and y, z, or r = abs(x)); a function of points x (.., d) that
        returns (..); or an image, an array (rows, columns) or (rows, columns, 3 or 4)
        whose first row is at the top, constant on each pixel. Colors count by their
        luminance, an alpha channel is ignored.
    support : pair (lo, hi), or d pairs, optional
        Box outside which the density is 0; infinite ends are allowed. By default it is
        the whole space, and the box that matters is searched for.
    d : int, optional
        Dimension of a formula in r alone or of a callable; 1 by default, at most 3.
    parameters : mapping, optional
        Values of the other names in a formula.
    extent : pair of pairs ((x0, x1), (y0, y1)), optional
        Where an image lies; by default pixels have size 1.
    invert : bool
        For an image, take darkness (white minus brightness) for the density. White is
        the largest integer of the dtype, for floats 1 or the largest value.

    Raises
    ------
    ValueError
        When the density is negative somewhere (with index and minimum), not finite, 0
        everywhere, or does not decay.
    TypeError
        For a source of another kind.

    Notes
    -----
    In one dimension the density is integrated on adaptive panels; cdf and quantile are
    accurate to about 1e-13, relative in the tails. In the plane and in space it is
    integrated by Gauss rules on a box. A peak much narrower than the distance from the
    origin, or than the box, can be missed: then give ``support``.

    Examples
    --------
    >>> quartic = Density("exp(-x**4)")
    >>> round(float(quartic.quantile(0.5)), 12) + 0.0
    0.0
    """

    source: Any
    function: Any
    inner: Measure

    def __init__(
        self,
        source: Any,
        support: Any = None,
        *,
        d: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        extent: Any = None,
        invert: bool = False,
    ) -> None:
        inner: Measure
        if is_array(source) or isinstance(source, (list, tuple)):
            for name, value in (("support", support), ("d", d)):
                if value is not None:
                    raise TypeError(f"An image takes `extent=`, not `{name}=`.")
            inner = _image(source, extent, invert)
            source, function = None, None
        else:
            if extent is not None or invert:
                raise TypeError(
                    "`extent` and `invert` are for images; the box of a formula is "
                    "`support=`."
                )
            function = _field(source, parameters)
            bounds = _bounds(function, support, d)
            label = f"Density({source!r})" if isinstance(source, str) else "Density"
            if bounds.shape[0] == 1:
                inner = LineDensity(function.value, bounds, label)
            else:
                inner = RegionDensity(function.value, bounds, label)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "inner", inner)

    @property
    def d(self) -> int:
        return self.inner.d

    def moments(self) -> tuple[Array, Array]:
        return self.inner.moments()

    def support_box(self) -> Array:
        return self.inner.support_box()

    def box(self, mass: float) -> Array:
        return self.inner.box(mass)

    def sample(self, n: int, rng: Any) -> Array:
        return self.inner.sample(n, rng)

    def pdf(self, x: Array) -> Array:
        return self.inner.pdf(x)

    def log_pdf(self, x: Array) -> Array:
        """Logarithm of the density, of a formula without underflow in the tails."""
        from flows.measures.potentials import DensityPotential

        if self.function is None or isinstance(self._potential, DensityPotential):
            return self.inner.log_pdf(x)
        points = as_points(x, self.d)
        points = points[..., None] if self.d == 1 else points
        lo, hi = self.support_box().T
        inside = ((points >= lo) & (points <= hi)).all(axis=-1)
        anchor = np.broadcast_to(np.clip(self.moments()[0], lo, hi), points.shape)
        safe = np.where(inside[..., None], points, anchor)
        with np.errstate(divide="ignore"):
            return np.where(inside, -self._potential.value(safe), -np.inf)

    def cdf(self, x: Array) -> Array:
        return self.inner.cdf(x)

    def survival(self, x: Array) -> Array:
        return self.inner.survival(x)

    def quantile(self, s: Array) -> Array:
        return self.inner.quantile(s)

    def upper_quantile(self, q: Array) -> Array:
        return self.inner.upper_quantile(q)

    def pieces(self) -> Pieces | None:
        return self.inner.pieces()

    def expect(self, f: Callable[[Array], Array]) -> float:
        return self.inner.expect(f)

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        return self.inner.expect_difference(g)

    def integrate(self, g: Callable[[Array], Array]) -> float:
        return self.inner.integrate(g)

    def entropy(self) -> float:
        return self.inner.entropy()

    def _cells(self, edges: tuple[Array, ...]) -> Array:
        return self.inner._cells(edges)

    def potential(self) -> Any:
        """-log pdf; a formula where ``source`` is one, with exact derivatives."""
        if self.function is None:
            return super().potential()
        return self._potential

    @cached_property
    def _potential(self) -> Any:
        from flows.measures.potentials import log_formula

        total = self.inner.total  # type: ignore[attr-defined]
        return log_formula(self.function, float(np.log(total)))

    def __repr__(self) -> str:
        if isinstance(self.inner, Histogram):
            nx, ny = self.inner.masses.shape
            (x0, x1), (y0, y1) = self.inner.support
            return (
                f"Density(<image {nx} x {ny}> on [{x0:g}, {x1:g}] x [{y0:g}, {y1:g}])"
            )
        return repr(self.inner)


def _field(source: Any, parameters: Mapping[str, Any] | None) -> Any:
    """Field of a formula or a callable that is not a number and knows no time."""
    from flows import symbolic

    function = symbolic.field(source, parameters=parameters, name="density")
    if function.time_dependent:
        raise ValueError(
            f"A density must not depend on time, got {source!r}; put a number for t."
        )
    return function


def _bounds(function: Any, support: Any, d: int | None) -> Array:
    """Bounds (d, 2) of the support, and with them the dimension."""
    named = function.dimension
    given = None
    if support is not None:
        try:
            given = np.array(support, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"`support` must be (lo, hi) or a pair for each axis, got {support!r}."
            ) from error
        given = given[None, :] if given.shape == (2,) else given
        if (
            given.ndim != 2
            or given.shape[1] != 2
            or not (given[:, 0] < given[:, 1]).all()
        ):
            raise ValueError(
                f"`support` must be (lo, hi) with lo < hi, or a pair for each axis, "
                f"got {support!r}."
            )
    if d is not None and (isinstance(d, bool) or not isinstance(d, (int, np.integer))):
        raise TypeError(f"`d` must be an int, got {d!r}.")
    size = d or named or (1 if given is None else given.shape[0])
    if not 1 <= size <= 3:
        raise ValueError(
            f"A density is integrated in dimension 1, 2 or 3, got d = {size}; use "
            "Gaussian or Mixture, or Empirical of a sample."
        )
    function.check_dimension(size)
    if given is None:
        return np.tile([-np.inf, np.inf], (size, 1))
    if given.shape[0] != size:
        raise ValueError(
            f"`support` has {given.shape[0]} pair(s) for a density on R^{size}."
        )
    return given


def _image(source: Any, extent: Any, invert: bool) -> Histogram:
    """Histogram of an image, first row at the top."""
    raw = np.asarray(to_numpy(source))
    values = real_array(raw, "source")
    if values.ndim == 3 and values.shape[2] in (3, 4):
        values = np.sum(values[..., :3] * LUMINANCE, axis=-1)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(
            f"An image has shape (rows, columns) or (rows, columns, 3 or 4), got "
            f"{raw.shape}; a density on the line is Histogram(edges, masses)."
        )
    refuse_negative(values, "source")
    if invert:
        largest = float(values.max())
        white = float(np.iinfo(raw.dtype).max) if raw.dtype.kind in "iu" else 1.0
        values = np.maximum(max(white, largest) - values, 0.0)
    rows, columns = values.shape
    box = ((0.0, columns), (0.0, rows)) if extent is None else extent
    try:
        (x0, x1), (y0, y1) = box
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`extent` must be ((x0, x1), (y0, y1)), got {extent!r}."
        ) from error
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"`extent` must increase along both axes, got {extent!r}.")
    edges = (np.linspace(x0, x1, columns + 1), np.linspace(y0, y1, rows + 1))
    return Histogram(edges, values[::-1].T)
