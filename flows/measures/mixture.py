"""Mixtures of measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import cubature
from flows.measures.base import Measure, Pieces
from flows.measures.checks import (
    as_probabilities,
    as_weights,
    generator,
    sample_size,
    short,
)
from flows.measures.gaussian import Gaussian
from flows.measures.inversion import invert
from flows.measures.quadrature import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Mixture"]

Array = Any
TABLE = 8192
"""Levels from which on a table of the cdf pays for itself as a first guess."""


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Mixture(Measure):
    """Mixture sum_k w_k mu_k of measures on one space.

    Parameters
    ----------
    components : sequence of Measure
    weights : (k,) array, optional
        Not negative, with sum 1 to 1e-9; by default equal.

    Raises
    ------
    TypeError, ValueError
        For components that are no measures or live in different dimensions, and for
        weights that are no probabilities.

    Examples
    --------
    >>> two = Mixture([Gaussian(-1.0, 0.5), Gaussian(1.0, 0.5)], [0.25, 0.75])
    >>> two.mean
    0.5
    """

    components: tuple[Measure, ...]
    weights: Array

    def __init__(self, components: Sequence[Measure], weights: Any = None) -> None:
        try:
            parts = tuple(components)
        except TypeError:
            raise TypeError(
                f"`components` must be a list of measures, got {components!r}."
            ) from None
        if not parts:
            raise ValueError("`components` is empty; a mixture needs a measure.")
        for part in parts:
            if not isinstance(part, Measure):
                raise TypeError(
                    f"`components` must be measures, got {part!r}; points are "
                    "wrapped by Dirac or Empirical."
                )
        dimensions = sorted({part.d for part in parts})
        if len(dimensions) > 1:
            raise ValueError(
                f"`components` must share one dimension, got {dimensions}."
            )
        w = as_weights(weights, len(parts))
        object.__setattr__(self, "components", parts)
        object.__setattr__(self, "weights", w)

    def _charged(self) -> list[tuple[float, Measure]]:
        return [
            (float(w), c)
            for w, c in zip(self.weights, self.components, strict=True)
            if w > 0
        ]

    @property
    def d(self) -> int:
        return self.components[0].d

    @property
    def has_density(self) -> bool:
        return all(c.has_density for _, c in self._charged())

    def moments(self) -> tuple[Array, Array]:
        parts = [(w, *c.moments()) for w, c in self._charged()]
        mean = sum(w * m for w, m, _ in parts)
        cov = sum(w * (S + np.outer(m - mean, m - mean)) for w, m, S in parts)
        return mean, cov

    def support_box(self) -> Array:
        return _hull([c.support_box() for _, c in self._charged()])

    def box(self, mass: float) -> Array:
        return _hull([c.box(mass) for _, c in self._charged()])

    def sample(self, n: int, rng: Any) -> Array:
        random = generator(rng)
        counts = random.multinomial(sample_size(n), self.weights)
        drawn = [
            c.sample(int(k), random)
            for c, k in zip(self.components, counts, strict=True)
            if k
        ]
        return random.permutation(np.concatenate(drawn))

    def pdf(self, x: Array) -> Array:
        return sum(w * c.pdf(x) for w, c in self._charged())

    def log_pdf(self, x: Array) -> Array:
        from scipy.special import logsumexp

        parts = self._charged()
        logs = np.stack([c.log_pdf(x) for _, c in parts])
        weights = np.array([w for w, _ in parts])
        return logsumexp(logs.T + np.log(weights), axis=-1).T

    def cdf(self, x: Array) -> Array:
        return np.minimum(sum(w * c.cdf(x) for w, c in self._charged()), 1.0)

    def survival(self, x: Array) -> Array:
        return np.minimum(sum(w * c.survival(x) for w, c in self._charged()), 1.0)

    def pieces(self) -> Pieces | None:
        if self.d > 1:
            return None
        parts = [(w, c.pieces()) for w, c in self._charged()]
        known = [(w, p) for w, p in parts if p is not None]
        return _merge(known) if len(known) == len(parts) else None

    def quantile(self, s: Array) -> Array:
        levels = as_probabilities(s)
        return self._levels(levels, 1.0 - levels)

    def upper_quantile(self, q: Array) -> Array:
        levels = as_probabilities(q, "q")
        return self._levels(1.0 - levels, levels)

    def _levels(self, s: Array, q: Array) -> Array:
        """Quantile at level s = 1 - q, both given so that neither tail is rounded."""
        self._need_line("quantile function")
        pieces = self.pieces()
        if pieces is not None:
            upper = -pieces.mirrored().quantile(q)
            return np.where(s <= 0.5, pieces.quantile(s), upper)
        out = np.empty_like(s)
        low = s <= 0.5
        out[low] = self._solve(s[low], upper=False)
        out[~low] = self._solve(q[~low], upper=True)
        return out

    def _solve(self, levels: Array, upper: bool) -> Array:
        """Quantiles of levels <= 1/2 counted from one end."""
        parts = self._charged()
        ends = np.stack(
            [(c.upper_quantile if upper else c.quantile)(levels) for _, c in parts]
        )
        out, hi = ends.min(axis=0), ends.max(axis=0)
        if (levels == 0).any():
            out[levels == 0] = self.support_box()[0, int(upper)]
        search = np.flatnonzero((levels > 0) & (out < hi))
        sign = -1.0 if upper else 1.0
        lo, hi, s = out[search], hi[search], levels[search]
        if upper:
            lo, hi = -hi, -lo
        found, at = self._on_atoms(s, upper)
        out[search[found]] = sign * at[found]
        rest = ~found
        if rest.any():
            solved = self._between_atoms(s[rest], lo[rest], hi[rest], upper)
            out[search[rest]] = sign * solved
        return out

    def _atoms(self) -> tuple[Array, Array]:
        """Positions (sorted) and masses of the atoms on the line."""
        parts = [(w, c.pieces()) for w, c in self._charged()]
        points = [p.left[p.left == p.right] for _, p in parts if p]
        masses = [w * p.weights[p.left == p.right] for w, p in parts if p]
        if not sum(x.size for x in points):
            return np.empty(0), np.empty(0)
        positions, where = np.unique(np.concatenate(points), return_inverse=True)
        return positions, np.bincount(where, np.concatenate(masses))

    def _on_atoms(self, s: Array, upper: bool) -> tuple[Array, Array]:
        """Which levels fall on an atom, and the atom (its negative from above)."""
        x, mass = self._atoms()
        if x.size == 0:
            return np.zeros(s.size, dtype=bool), s
        if upper:
            x, mass = x[::-1], mass[::-1]
        after = self.survival(x) + mass if upper else self.cdf(x)
        i = np.minimum(np.searchsorted(after, s, "left"), x.size - 1)
        found = (s <= after[i]) & (s > after[i] - mass[i])
        return found, -x[i] if upper else x[i]

    def _between_atoms(self, s: Array, lo: Array, hi: Array, upper: bool) -> Array:
        """Quantiles, their negatives from above, where the cdf is continuous."""
        sign = -1.0 if upper else 1.0
        tail = self.survival if upper else self.cdf
        smooth = [(w, c) for w, c in self._charged() if c.has_density]

        def slope(x: Array, _: Array) -> Array:
            return sum((w * c.pdf(sign * x) for w, c in smooth), np.zeros_like(x))

        guess = None
        if s.size > TABLE:
            grid = np.linspace(lo.min(), hi.max(), TABLE)
            guess = np.interp(s, tail(sign * grid), grid)
        return invert(lambda x, _: tail(sign * x), slope, s, lo, hi, guess)

    def potential(self) -> Any:
        """-log pdf with exact derivatives, for mixtures of Gaussian measures."""
        from flows.measures.potentials import mixture_potential

        parts = [c for _, c in self._charged()]
        weights = np.array([w for w, _ in self._charged()])
        gaussian = [c for c in parts if isinstance(c, Gaussian)]
        if len(gaussian) < len(parts):
            return super().potential()
        return mixture_potential(gaussian, weights)

    def expect(self, f: Callable[[Array], Array]) -> float:
        """Expectation of f(X), component by component."""
        return float(sum(w * c.expect(f) for w, c in self._charged()))

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        """Expectation of g(X - Y); exact pairs for Gaussian and atomic components."""
        parts = self._charged()
        total = 0.0
        for k, (v, a) in enumerate(parts):
            total += v * v * a.expect_difference(g)
            for w, b in parts[:k]:
                total += v * w * _expect_cross(a, b, g)
        return float(total)

    def integrate(self, g: Callable[[Array], Array]) -> float:
        """Integral of g(pdf): adaptive for d = 1, refined Gauss rules for d = 2, 3."""
        if not self.has_density or self.d == 1:
            return super().integrate(g)
        return cubature.integrate_density(self, g)

    def _cells(self, edges: tuple[Array, ...]) -> Array:
        return sum(w * c._cells(edges) for w, c in self._charged())

    def __repr__(self) -> str:
        if len(self.components) > 4:
            return f"Mixture({len(self.components)} components in R^{self.d})"
        parts = ", ".join(map(repr, self.components))
        return f"Mixture([{parts}], {short(self.weights)})"


def _hull(boxes: list[Array]) -> Array:
    """Smallest box that contains all of ``boxes``."""
    stacked = np.stack(boxes)
    lo, hi = stacked[..., 0].min(axis=0), stacked[..., 1].max(axis=0)
    return np.stack([lo, hi], axis=-1)


def _expect_cross(a: Measure, b: Measure, g: Callable[[Array], Array]) -> float:
    """E g(X - Y) + E g(Y - X) for independent X, Y of different laws."""
    if isinstance(a, Gaussian) and isinstance(b, Gaussian):
        S = a.covariance + b.covariance
        m = a.center - b.center
        return Gaussian(m, S).expect(g) + Gaussian(-m, S).expect(g)

    def outer(x: Array) -> Array:
        flat = x.reshape(-1, x.shape[-1])
        return np.array([both_ways(p) for p in flat]).reshape(x.shape[:-1])

    def both_ways(p: Array) -> float:
        return b.expect(lambda y: evaluate(g, p - y) + evaluate(g, y - p))

    return a.expect(outer)


def _merge(parts: list[tuple[float, Pieces]]) -> Pieces:
    """Pieces of a mixture: densities add up between all ends, atoms stay atoms."""
    left = np.concatenate([p.left for _, p in parts])
    right = np.concatenate([p.right for _, p in parts])
    mass = np.concatenate([w * p.weights for w, p in parts])
    atom = left == right
    edges = np.unique(np.concatenate([left[~atom], right[~atom], left[atom]]))
    middle = 0.5 * (edges[:-1] + edges[1:])
    width = np.diff(edges)
    spread = np.zeros(width.size)
    for w, p in parts:
        wide = p.right > p.left
        if not wide.any():
            continue
        a, b, m = p.left[wide], p.right[wide], w * p.weights[wide]
        i = np.clip(np.searchsorted(a, middle, "right") - 1, 0, a.size - 1)
        inside = (middle > a[i]) & (middle < b[i])
        spread += np.where(inside, m[i] * (width / (b[i] - a[i])), 0.0)
    used = spread > 0
    positions, where = np.unique(left[atom], return_inverse=True)
    atoms = np.bincount(where, mass[atom], minlength=positions.size)
    left = np.concatenate([edges[:-1][used], positions])
    right = np.concatenate([edges[1:][used], positions])
    mass = np.concatenate([spread[used], atoms])
    order = np.lexsort((right, left))
    return Pieces(mass[order] / mass.sum(), left[order], right[order])
