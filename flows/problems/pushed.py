"""Measures pushed forward by the maps that interaction flows make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import Histogram, Measure, Pieces
from flows.measures.checks import as_points, as_probabilities, generator, sample_size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Affine", "Spread", "spread_pieces"]

Array = Any


@dataclass(frozen=True, eq=False, repr=False)
class Affine(Measure):
    """Law of factor X + shift for X of law ``inner``, factor > 0, shift (d,)."""

    inner: Measure
    factor: float
    shift: Array

    @property
    def d(self) -> int:
        return self.inner.d

    @property
    def has_density(self) -> bool:
        return self.inner.has_density

    def _push(self, x: Array) -> Array:
        return self.factor * x + (self.shift[0] if self.d == 1 else self.shift)

    def _pull(self, x: Array) -> Array:
        points = as_points(x, self.d)
        return (points - (self.shift[0] if self.d == 1 else self.shift)) / self.factor

    def moments(self) -> tuple[Array, Array]:
        m, S = self.inner.moments()
        return self.factor * m + self.shift, self.factor**2 * S

    def support_box(self) -> Array:
        return self.factor * self.inner.support_box() + self.shift[:, None]

    def box(self, mass: float) -> Array:
        return self.factor * self.inner.box(mass) + self.shift[:, None]

    def sample(self, n: int, rng: Any) -> Array:
        return self.factor * self.inner.sample(n, rng) + self.shift

    def log_pdf(self, x: Array) -> Array:
        return self.inner.log_pdf(self._pull(x)) - self.d * np.log(self.factor)

    def cdf(self, x: Array) -> Array:
        return self.inner.cdf(self._pull(x))

    def survival(self, x: Array) -> Array:
        return self.inner.survival(self._pull(x))

    def quantile(self, s: Array) -> Array:
        return self._push(self.inner.quantile(s))

    def upper_quantile(self, q: Array) -> Array:
        return self._push(self.inner.upper_quantile(q))

    def pieces(self) -> Pieces | None:
        inner = self.inner.pieces()
        if inner is None:
            return None
        return Pieces(inner.weights, self._push(inner.left), self._push(inner.right))

    def expect(self, f: Callable[[Array], Array]) -> float:
        return self.inner.expect(lambda x: f(self.factor * x + self.shift))

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        return self.inner.expect_difference(lambda z: g(self.factor * z))

    def integrate(self, g: Callable[[Array], Array]) -> float:
        volume = self.factor**self.d
        return volume * self.inner.integrate(lambda p: g(p / volume))

    def entropy(self) -> float:
        return self.inner.entropy() - self.d * float(np.log(self.factor))

    def _cells(self, edges: tuple[Array, ...]) -> Array:
        pulled = zip(edges, self.shift, strict=True)
        return self.inner._cells(tuple((e - c) / self.factor for e, c in pulled))

    def _resolution(self) -> float:
        return self.factor * self.inner._resolution()

    def __repr__(self) -> str:
        return f"<{self.factor:g} * {self.inner!r}, shifted>"


def spread_pieces(
    pieces: Pieces, factor: float, shift: float, opened: float
) -> Histogram:
    """Law of ``Spread`` when the quantile function of ``inner`` is piecewise linear."""
    above = np.cumsum(pieces.weights)
    # The ends of neighbours are equal to the bit where the pieces touch.
    level = np.concatenate([[0.0], above[:-1], [1.0]])
    rise = shift + opened * (2.0 * level - 1.0)
    left, right = factor * pieces.left + rise[:-1], factor * pieces.right + rise[1:]
    edges = np.unique(np.concatenate([left, right]))
    masses = np.zeros(edges.size - 1)
    # A block too thin for its ends to differ joins the cell on its right.
    cell = np.minimum(np.searchsorted(edges, left), masses.size - 1)
    np.add.at(masses, cell, pieces.weights)
    return Histogram(edges, masses)


@dataclass(frozen=True, eq=False, repr=False)
class Spread(Measure):
    """Law with the quantile function factor X(s) + shift + opened (2s - 1).

    X(s) is the quantile function of ``inner``, a measure on the line with a density p;
    the density at the image of x is p(x) / (factor + 2 opened p(x)).
    """

    inner: Measure
    factor: float
    shift: float
    opened: float
    _difference: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def d(self) -> int:
        return 1

    def moments(self) -> tuple[Array, Array]:
        if not self._difference:
            self._difference["mean"] = self.inner.expect_difference(
                lambda z: np.abs(z[..., 0])
            )
        m, S = self.inner.moments()
        variance = self.factor**2 * S + self.opened**2 / 3.0
        variance = variance + self.factor * self.opened * self._difference["mean"]
        return self.factor * m + self.shift, variance

    def support_box(self) -> Array:
        box = self.factor * self.inner.support_box() + self.shift
        return box + self.opened * np.array([-1.0, 1.0])

    def sample(self, n: int, rng: Any) -> Array:
        return self.quantile(generator(rng).random((sample_size(n), 1)))

    def quantile(self, s: Array) -> Array:
        levels = as_probabilities(s)
        rise = self.shift + self.opened * (2.0 * levels - 1.0)
        return self.factor * self.inner.quantile(levels) + rise

    def upper_quantile(self, q: Array) -> Array:
        levels = as_probabilities(q, "q")
        rise = self.shift + self.opened * (1.0 - 2.0 * levels)
        return self.factor * self.inner.upper_quantile(levels) + rise

    def expect(self, f: Callable[[Array], Array]) -> float:
        def pulled(x: Array) -> Array:
            level = 2.0 * self.inner.cdf(x) - 1.0
            return f(self.factor * x + self.shift + self.opened * level)

        return self.inner.expect(pulled)

    def _origin(self, x: Array) -> Array:
        """Where mass now at x started: the map is increasing, its bracket known."""
        y = (as_points(x, 1) - self.shift) / self.factor
        reach = self.opened / self.factor
        lo, hi = y - reach, y + reach
        for _ in range(80):
            middle = 0.5 * (lo + hi)
            above = middle + reach * (2.0 * self.inner.cdf(middle) - 1.0) > y
            lo, hi = np.where(above, lo, middle), np.where(above, middle, hi)
            if not (hi - lo > 2.0 * np.spacing(np.abs(middle))).any():
                break
        return 0.5 * (lo + hi)

    def log_pdf(self, x: Array) -> Array:
        p = self.inner.pdf(self._origin(x))
        with np.errstate(divide="ignore"):
            return np.log(p / (self.factor + 2.0 * self.opened * p))

    def cdf(self, x: Array) -> Array:
        return self.inner.cdf(self._origin(x))

    def survival(self, x: Array) -> Array:
        return self.inner.survival(self._origin(x))

    def __repr__(self) -> str:
        return (
            f"<{self.factor:g} * {self.inner!r}, spread over "
            f"{2.0 * self.opened:g} by its levels>"
        )
