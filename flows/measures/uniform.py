"""Uniform measures on intervals and boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import cubature, quadrature
from flows.measures.base import Measure, Pieces
from flows.measures.checks import (
    as_points,
    as_probabilities,
    generator,
    real_array,
    sample_size,
    short,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Uniform"]

Array = Any


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Uniform(Measure):
    """Uniform law on an interval or a box.

    Parameters
    ----------
    low, high : float or (d,) array
        Opposite corners, low < high in every coordinate.

    Examples
    --------
    >>> Uniform(-1.0, 1.0).cov * 3
    1.0
    """

    low: Array
    high: Array

    def __init__(self, low: Any = 0.0, high: Any = 1.0) -> None:
        a, b = real_array(low, "low"), real_array(high, "high")
        if a.ndim > 1 or b.ndim > 1 or a.size == 0 or b.size == 0:
            raise ValueError(
                f"`low` and `high` have shapes {a.shape} and {b.shape}, expected "
                "numbers or (d,)."
            )
        try:
            a, b = (np.atleast_1d(c) for c in np.broadcast_arrays(a, b))
        except ValueError as error:
            raise ValueError(
                f"`low` has {a.size} coordinates and `high` {b.size}."
            ) from error
        if not (a < b).all():
            i = int(np.argmin(b - a))
            raise ValueError(
                f"`low` must be less than `high`; in coordinate {i} they are {a[i]:g} "
                f"and {b[i]:g}."
            )
        for name, array in (("low", np.array(a)), ("high", np.array(b))):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def d(self) -> int:
        return int(self.low.size)

    def moments(self) -> tuple[Array, Array]:
        half = 0.5 * (self.high - self.low)
        return self.low + half, np.diag(half**2 / 3.0)

    def support_box(self) -> Array:
        return np.stack([self.low, self.high], axis=1)

    def box(self, mass: float) -> Array:
        """The whole support, whatever ``mass`` is."""
        return self.support_box()

    def log_pdf(self, x: Array) -> Array:
        points = as_points(x, self.d)
        points = points[..., None] if self.d == 1 else points
        inside = ((points >= self.low) & (points <= self.high)).all(axis=-1)
        return np.where(inside, -np.sum(np.log(self.high - self.low)), -np.inf)

    def _fraction(self, x: Array, start: Array, length: Array) -> Array:
        self._need_line("cdf")
        return np.clip((as_points(x, 1) - start[0]) / length[0], 0.0, 1.0)

    def cdf(self, x: Array) -> Array:
        return self._fraction(x, self.low, self.high - self.low)

    def survival(self, x: Array) -> Array:
        return self._fraction(x, self.high, self.low - self.high)

    def pieces(self) -> Pieces | None:
        return Pieces(np.ones(1), self.low, self.high) if self.d == 1 else None

    def quantile(self, s: Array) -> Array:
        self._need_line("quantile function")
        levels = as_probabilities(s)
        return (1.0 - levels) * self.low[0] + levels * self.high[0]

    def upper_quantile(self, q: Array) -> Array:
        self._need_line("quantile function")
        levels = as_probabilities(q, "q")
        return levels * self.low[0] + (1.0 - levels) * self.high[0]

    def factors(self) -> tuple[Measure, ...] | None:
        pairs = zip(self.low, self.high, strict=True)
        return tuple(Uniform(float(a), float(b)) for a, b in pairs)

    def sample(self, n: int, rng: Any) -> Array:
        u = generator(rng).random((sample_size(n), self.d))
        return self.low + u * (self.high - self.low)

    def expect(self, f: Callable[[Array], Array]) -> float:
        """Expectation of f(X): adaptive for d = 1, tensor Gauss rules else."""
        if self.d == 1:
            edges = np.append(self.low, self.high)
            return quadrature.adaptive(
                lambda x, i: quadrature.evaluate(f, x[..., None]), edges
            ) / float(edges[1] - edges[0])
        fallback = (lambda: self._expect_rough(f)) if self.d == 2 else None
        return cubature.converged_expectation(self._gauss, f, self._sizes(1), fallback)

    def _expect_rough(self, f: Callable[[Array], Array]) -> float:
        """Expectation in the plane of a function with kinks."""
        rows, columns = np.linspace(self.low, self.high, 9).T
        area = float(np.prod(self.high - self.low))
        return cubature.plane(lambda x: quadrature.evaluate(f, x), rows, columns) / area

    def _sizes(self, halves: int) -> tuple[int, ...]:
        tried = (3, 4, 6, 9, 14, 21, 32, 48, 72, 108, 162)
        sizes = tuple(n for n in tried if (halves * n) ** self.d < 2**21)
        if len(sizes) < 2:
            raise self._lacks("quadrature", "use Empirical(measure.sample(n, rng))")
        return sizes

    def _gauss(self, n: int) -> tuple[Array, Array]:
        u, w = quadrature.gauss_legendre(n)
        points, weights = cubature.tensor([u] * self.d, [w] * self.d)
        return self.low + points * (self.high - self.low), weights

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        """Expectation of g(X - Y), whose density is a product of hat functions."""
        if self.d == 1:
            length = float(self.high[0] - self.low[0])

            def hat(z: Array, _: Array) -> Array:
                weight = (1.0 - np.abs(z) / length) / length
                return weight * quadrature.evaluate(g, z[..., None])

            return quadrature.adaptive(hat, length * np.array([-1.0, 0.0, 1.0]))
        return cubature.converged_expectation(self._hats, g, self._sizes(2))

    def _hats(self, n: int) -> tuple[Array, Array]:
        nodes, weights = quadrature.hat_rule(n, graded=True)
        points, weights = cubature.tensor([nodes] * self.d, [weights] * self.d)
        return points * (self.high - self.low), weights

    def integrate(self, g: Callable[[Array], Array]) -> float:
        """Integral of g(pdf): volume times g(1/volume)."""
        volume = float(np.prod(self.high - self.low))
        return volume * float(np.asarray(g(np.array([1.0 / volume])))[0])

    def entropy(self) -> float:
        """-log of the volume."""
        return -float(np.sum(np.log(self.high - self.low)))

    def __repr__(self) -> str:
        a, b = (self.low, self.high) if self.d > 1 else (self.low[0], self.high[0])
        return f"Uniform({short(a)}, {short(b)})"
