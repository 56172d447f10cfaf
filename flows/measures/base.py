"""What every measure is: a law on R^d with moments, samples and perhaps a density."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.measures import quadrature
from flows.measures.checks import as_probabilities, per_axis

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Measure", "Pieces"]

Array = Any
_HALF = np.array([0, 1, 2, 3, 4, 5, 6.5, 8, 10, 13, 17, 23, 30, 37.5])
NORMAL_PANELS = np.concatenate([-_HALF[:0:-1], _HALF])
"""Panels of a standard normal variable; the law outside has mass 1e-307."""


class Pieces(NamedTuple):
    """A quantile function that is linear on pieces, in increasing order.

    Piece i has mass ``weights[i]`` > 0, and there the quantile runs from ``left[i]``
    to ``right[i]``; an atom has both equal, a gap between pieces is a jump.
    """

    weights: Array
    left: Array
    right: Array

    def quantile(self, s: Array) -> Array:
        """Smallest x with P(X <= x) >= s."""
        below = np.concatenate([[0.0], np.cumsum(self.weights)])
        below[-1] = 1.0
        below = np.minimum(below, 1.0)
        i = np.searchsorted(below, s, "left") - 1
        i = np.clip(i, 0, self.weights.size - 1)
        # A level in (below[i], below[i+1]] finds this difference positive, however
        # light the piece; level 0 falls into the first piece, which has mass.
        fraction = np.clip((s - below[i]) / (below[i + 1] - below[i]), 0.0, 1.0)
        inside = self.left[i] + fraction * (self.right[i] - self.left[i])
        return np.where(np.asarray(s) >= 1.0, self.right[-1], inside)

    def mirrored(self) -> Pieces:
        """The pieces of -X."""
        return Pieces(self.weights[::-1], -self.right[::-1], -self.left[::-1])


class Measure:
    """Probability measure on R^d.

    Points are arrays (.., d), except that in one dimension ``pdf``, ``log_pdf``,
    ``cdf`` and ``quantile`` are functions of numbers: they take an array of any shape
    and return that shape. Measures compute in NumPy float64. Methods that a measure
    cannot have raise a TypeError that says why and what to do.

    A subclass defines ``d``, ``moments``, ``sample``, ``support_box``, ``box`` and,
    where they exist, ``log_pdf``, ``cdf``, ``survival``, ``quantile`` and
    ``upper_quantile``; expectations, integrals and cell masses follow.
    """

    @property
    def d(self) -> int:
        """Dimension of the space."""
        raise NotImplementedError

    @property
    def has_density(self) -> bool:
        """Whether ``pdf`` exists."""
        return True

    def moments(self) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d), arrays in every dimension."""
        raise NotImplementedError

    def support_box(self) -> Array:
        """Bounds (d, 2) of the smallest box that carries the measure; inf allowed."""
        raise NotImplementedError

    def box(self, mass: float) -> Array:
        """Bounds (d, 2) of a box outside which the mass is at most 1 - ``mass``."""
        tail = 0.5 * (1.0 - mass)
        lo, hi = float(self.quantile(tail)), float(self.upper_quantile(tail))
        return np.array([[lo, hi]])

    def sample(self, n: int, rng: Any) -> Array:
        """Independent points (n, d).

        Parameters
        ----------
        n : int
        rng : int or numpy.random.Generator
        """
        raise NotImplementedError

    @property
    def mean(self) -> Any:
        """Mean: a number for d = 1, an array (d,) for d >= 2."""
        m = self.moments()[0]
        return float(m[0]) if self.d == 1 else m

    @property
    def cov(self) -> Any:
        """Covariance: the variance for d = 1, an array (d, d) for d >= 2."""
        S = self.moments()[1]
        return float(S[0, 0]) if self.d == 1 else S

    @property
    def support(self) -> Any:
        """Bounds (lo, hi) for d = 1, one such pair for each axis for d >= 2."""
        return per_axis(self.support_box())

    def interval(self, mass: float = 1.0 - 1e-12) -> Any:
        """Finite bounds that hold at least ``mass``, in the form of ``support``.

        Raises
        ------
        ValueError
            When ``mass`` is not in (0, 1], or is 1 and the support is unbounded.
        """
        if not 0.0 < mass <= 1.0:
            raise ValueError(f"`mass` must be in (0, 1], got {mass}.")
        box = self.support_box() if mass == 1.0 else self.box(mass)
        if not np.isfinite(box).all():
            raise ValueError(
                f"{self!r} is not carried by a bounded set; take `mass` below 1."
            )
        return per_axis(box)

    def pdf(self, x: Array) -> Array:
        """Density at points x, see the class for shapes."""
        return np.exp(self.log_pdf(x))

    def log_pdf(self, x: Array) -> Array:
        """Logarithm of the density, -inf outside the support."""
        raise self._lacks("density", "use its samples, or a Histogram of them")

    def cdf(self, x: Array) -> Array:
        """P(X <= x), in one dimension."""
        raise self._lacks("cdf", "use `cell_masses` for the mass of boxes")

    def survival(self, x: Array) -> Array:
        """P(X > x), accurate in the upper tail, in one dimension."""
        return 1.0 - self.cdf(x)

    def quantile(self, s: Array) -> Array:
        """Smallest x with P(X <= x) >= s, in one dimension."""
        raise self._lacks("quantile function", "only measures on the line have one")

    def upper_quantile(self, q: Array) -> Array:
        """``quantile(1 - q)``, accurate for small q."""
        return self.quantile(1.0 - as_probabilities(q, "q"))

    def from_normal(self, z: Array) -> Array:
        """Increasing map that takes a standard normal variable to this law (d = 1).

        It is quantile(Phi(z)), accurate in both tails.
        """
        from scipy.special import ndtr

        z = np.asarray(z, dtype=np.float64)
        below = z < 0
        out = np.empty_like(z)
        out[below] = self.quantile(ndtr(z[below]))
        out[~below] = self.upper_quantile(ndtr(-z[~below]))
        return out

    def pieces(self) -> Pieces | None:
        """The quantile function where it is piecewise linear (d = 1), else None."""
        return None

    def factors(self) -> tuple[Measure, ...] | None:
        """Laws of the coordinates if these are independent, else None."""
        return (self,) if self.d == 1 else None

    def potential(self) -> Any:
        """-log pdf as a function with value, gradient and Hessian, for ``kl(self)``."""
        raise TypeError(
            f"{self!r} has no differentiable log-density; Gaussian, Mixture of them "
            "and Density of a formula have one."
        )

    def expect(self, f: Callable[[Array], Array]) -> float:
        """Expectation of f(X) by quadrature.

        Parameters
        ----------
        f : callable
            Takes points (.., d), also for d = 1, and returns (..).

        Returns
        -------
        float
            About 1e-12 relative in one dimension, kinks and jumps included; in higher
            dimension for smooth f. ``inf`` where f is.

        Raises
        ------
        ValueError
            When f is NaN on the support or the quadrature does not settle.
        TypeError
            When no quadrature is known for this measure.
        """
        if self.d > 1:
            raise self._lacks(
                "quadrature", "use Empirical(measure.sample(n, rng)).expect(f)"
            )
        return quadrature.adaptive(
            lambda z, i: (
                normal_density(z)
                * quadrature.evaluate(f, self.from_normal(z)[..., None])
            ),
            NORMAL_PANELS,
        )

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        """Expectation of g(X - Y) for Y an independent copy of X.

        Parameters
        ----------
        g : callable
            Takes differences (.., d) and returns (..); it may have a kink or an
            integrable singularity at 0.
        """
        if self.d > 1:
            raise self._lacks(
                "quadrature for pairs",
                "use Empirical(measure.sample(n, rng)).expect_difference(g)",
            )
        return quadrature.pairs(self.from_normal, normal_density, NORMAL_PANELS, g)

    def integrate(self, g: Callable[[Array], Array]) -> float:
        """Integral of g(pdf(x)) dx, where g(0) = 0.

        Parameters
        ----------
        g : callable
            Function of densities, any shape, that returns the same shape.
        """
        if not self.has_density:
            raise self._lacks(
                "density", "an integral of a function of the density is infinite"
            )

        def ratio(x: Array) -> Array:
            p = self.pdf(x[..., 0] if self.d == 1 else x)
            return over_density(g, p)

        return self.expect(ratio)

    def entropy(self) -> float:
        """Integral of pdf log pdf (the negative of Shannon's differential entropy)."""
        if not self.has_density:
            raise self._lacks("density", "its entropy is infinite")
        return self.expect(lambda x: self.log_pdf(x[..., 0] if self.d == 1 else x))

    def cell_masses(self, edges: Any) -> Array:
        """Mass of every cell of a rectangular grid; see ``flows.measures.cell_masses``.

        Parameters
        ----------
        edges : (n+1,) array for d = 1, or a tuple of d such arrays

        Returns
        -------
        (n1, .., nd) array
            Not normalized: what lies outside the grid is missing.
        """
        from flows.measures.cells import cell_masses

        return cell_masses(self, edges)

    def _cells(self, edges: tuple[Array, ...]) -> Array:
        """Cell masses for checked ``edges``."""
        from flows.measures import cells

        factors = self.factors()
        if factors is not None:
            return cells.outer(
                [cells.line(m, e) for m, e in zip(factors, edges, strict=True)]
            )
        return cells.by_quadrature(
            self.pdf, edges, self.box(1.0 - 1e-15), self._resolution()
        )

    def _resolution(self) -> float:
        """Length below which the density is well approximated by a polynomial."""
        return float(np.min(np.diff(self.box(1.0 - 1e-15)))) / 32.0

    def _need_line(self, what: str) -> None:
        if self.d > 1:
            raise self._lacks(what, "only measures on the line have one")

    def _lacks(self, what: str, remedy: str) -> TypeError:
        return TypeError(f"{self!r} has no {what}: {remedy}.")


def normal_density(z: Array) -> Array:
    """Standard normal density."""
    return np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)


def over_density(g: Callable[[Array], Array], p: Array) -> Array:
    """g(p)/p where p > 0, else 0: what is averaged to integrate g(p)."""
    inside = p > 0
    safe = np.where(inside, p, 1.0)
    return np.where(inside, np.asarray(g(safe)) / safe, 0.0)
