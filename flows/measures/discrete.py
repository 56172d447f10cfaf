"""Measures made of atoms: a Dirac mass and weighted points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import quadrature
from flows.measures.base import Measure, Pieces
from flows.measures.checks import (
    as_points,
    as_probabilities,
    as_weights,
    generator,
    real_array,
    sample_size,
    short,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Atomic", "Dirac", "Empirical"]

Array = Any
PAIR_CHUNK = 1 << 20


class Atomic(Measure):
    """Common part of measures with finitely many atoms."""

    @property
    def atoms(self) -> Array:
        """Positions (n, d)."""
        raise NotImplementedError

    @property
    def masses(self) -> Array:
        """Masses (n,) of the atoms, with sum 1."""
        raise NotImplementedError

    @property
    def d(self) -> int:
        return int(self.atoms.shape[1])

    @property
    def has_density(self) -> bool:
        return False

    def moments(self) -> tuple[Array, Array]:
        x, w = self.atoms, self.masses
        # Centering first keeps the digits of points that are far from the origin.
        shift = x[0]
        m = w @ (x - shift)
        centered = x - shift - m
        S = (w[:, None] * centered).T @ centered
        return shift + m, 0.5 * (S + S.T)

    def support_box(self) -> Array:
        x = self.atoms[self.masses > 0]
        return np.stack([x.min(axis=0), x.max(axis=0)], axis=1)

    def box(self, mass: float) -> Array:
        """The whole support, whatever ``mass`` is."""
        return self.support_box()

    def log_pdf(self, x: Array) -> Array:
        raise self._lacks(
            "density", "it has atoms; use a Histogram of it, or compare its moments"
        )

    def _sorted(self) -> tuple[Array, Array]:
        self._need_line("cdf or quantile function")
        x, w = self.atoms[:, 0], self.masses
        order = np.argsort(x, kind="stable")
        return x[order], w[order]

    def _charged(self) -> tuple[Array, Array]:
        """Sorted points of positive mass."""
        x, w = self._sorted()
        positive = w > 0
        return (x, w) if positive.all() else (x[positive], w[positive])

    def pieces(self) -> Pieces | None:
        if self.d > 1:
            return None
        x, w = self._charged()
        return Pieces(w, x, x)

    def cdf(self, x: Array) -> Array:
        points, w = self._sorted()
        mass = np.concatenate([[0.0], np.cumsum(w)])
        mass[-1] = 1.0
        return np.minimum(mass[np.searchsorted(points, as_points(x, 1), "right")], 1.0)

    def survival(self, x: Array) -> Array:
        points, w = self._sorted()
        mass = np.concatenate([np.cumsum(w[::-1])[::-1], [0.0]])
        return np.minimum(mass[np.searchsorted(points, as_points(x, 1), "right")], 1.0)

    def quantile(self, s: Array) -> Array:
        points, w = self._charged()
        levels = as_probabilities(s)
        i = np.searchsorted(np.cumsum(w), levels * (1.0 - _slack(w)), "left")
        return points[np.minimum(i, points.size - 1)]

    def upper_quantile(self, q: Array) -> Array:
        points, w = self._charged()
        levels = as_probabilities(q, "q")
        i = np.searchsorted(np.cumsum(w[::-1]), levels * (1.0 + _slack(w)), "right")
        return points[::-1][np.minimum(i, points.size - 1)]

    def expect(self, f: Callable[[Array], Array]) -> float:
        """Weighted sum of f over the atoms; f takes (n, d) and returns (n,)."""
        return quadrature.mean(self.masses, quadrature.evaluate(f, self.atoms))

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        """Double sum of w_i w_j g(x_i - x_j).

        The self pairs i = j count when g(0) is finite.
        """
        x, w = self.atoms, self.masses
        n = x.shape[0]
        rows = max(1, PAIR_CHUNK // (n * x.shape[1]))
        total = 0.0
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            with np.errstate(divide="ignore", invalid="ignore"):
                y = quadrature.evaluate(g, x[part, None] - x[None])
            own = np.arange(start, min(start + rows, n))
            diagonal = y[own - start, own]
            if not np.isfinite(diagonal).all():
                y = y.copy()
                y[own - start, own] = np.where(np.isfinite(diagonal), diagonal, 0.0)
            total += float(w[part] @ (y @ w))
        return total

    def _cells(self, edges: tuple[Array, ...]) -> Array:
        # Not np.histogramdd: it sums the weights of a million points ten times slower.
        shape = tuple(e.size - 1 for e in edges)
        inside = np.ones(self.masses.size, dtype=bool)
        index = np.zeros(self.masses.size, dtype=np.intp)
        for e, x, n in zip(edges, self.atoms.T, shape, strict=True):
            i = np.searchsorted(e, x, "right") - 1
            i[x == e[-1]] = n - 1
            inside &= (i >= 0) & (i < n)
            index = index * n + i
        counts = np.bincount(
            index[inside], self.masses[inside], minlength=int(np.prod(shape))
        )
        return counts.reshape(shape)


def _slack(w: Array) -> float:
    """Rounding of cumulative masses: level 3/10 must hit the third of ten atoms."""
    return float(np.finfo(float).eps * max(4, w.size))


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Dirac(Atomic):
    """Unit mass at a point.

    Parameters
    ----------
    point : float or (d,) array

    Examples
    --------
    >>> Dirac([1.0, 2.0]).mean
    array([1., 2.])
    """

    point: Array

    def __init__(self, point: Any = 0.0) -> None:
        p = real_array(point, "point")
        if p.ndim > 1 or p.size == 0:
            raise ValueError(f"`point` has shape {p.shape}, expected a number or (d,).")
        object.__setattr__(self, "point", np.atleast_1d(p))

    @property
    def atoms(self) -> Array:
        return self.point[None, :]

    @property
    def masses(self) -> Array:
        return np.ones(1)

    def moments(self) -> tuple[Array, Array]:
        return self.point, np.zeros((self.d, self.d))

    def factors(self) -> tuple[Measure, ...] | None:
        return tuple(Dirac(float(p)) for p in self.point)

    def sample(self, n: int, rng: Any = 0) -> Array:
        """The point, n times; ``rng`` is not used."""
        return np.tile(self.point, (sample_size(n), 1))

    def __repr__(self) -> str:
        return f"Dirac({short(self.point if self.d > 1 else self.point[0])})"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Empirical(Atomic):
    """Weighted points, sum_i w_i delta_{x_i}.

    Parameters
    ----------
    points : (n, d) or (n,) array
        A vector holds n points of the line.
    weights : (n,) array, optional
        Not negative, with sum 1 to 1e-9; by default 1/n each.

    Raises
    ------
    ValueError
        For empty or non-finite points, and for weights that are no probabilities.
    """

    points: Array
    weights: Array | None

    def __init__(self, points: Any, weights: Any = None) -> None:
        x = real_array(points, "points")
        if x.ndim not in (1, 2) or x.size == 0:
            raise ValueError(
                f"`points` has shape {x.shape}, expected (n, d), or (n,) on the line, "
                "with at least one point."
            )
        x = x[:, None] if x.ndim == 1 else x
        w = None if weights is None else as_weights(weights, x.shape[0])
        object.__setattr__(self, "points", x)
        object.__setattr__(self, "weights", w)

    @property
    def atoms(self) -> Array:
        return self.points

    @property
    def masses(self) -> Array:
        n = self.points.shape[0]
        return np.full(n, 1.0 / n) if self.weights is None else self.weights

    def sample(self, n: int, rng: Any) -> Array:
        """n points drawn with replacement."""
        count = self.points.shape[0]
        i = generator(rng).choice(count, size=sample_size(n), p=self.weights)
        return self.points[i]

    def __repr__(self) -> str:
        kind = "" if self.weights is None else "weighted "
        return f"Empirical({self.points.shape[0]} {kind}points in R^{self.d})"
