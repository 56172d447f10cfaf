"""Piecewise constant densities on rectangular grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import cubature, quadrature
from flows.measures.base import Measure, Pieces
from flows.measures.cells import check_edges
from flows.measures.checks import (
    as_points,
    as_probabilities,
    generator,
    real_array,
    sample_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Histogram", "refuse_negative"]

Array = Any
CELL_NODES = {1: 8, 2: 4, 3: 3}


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Histogram(Measure):
    """Law with a constant density on each cell of a rectangular grid.

    Parameters
    ----------
    edges : (n+1,) array, or a tuple of d arrays (n_k+1,)
        Increasing cell boundaries along each axis.
    masses : (n,) or (n1, .., nd) array
        Mass of each cell, not negative. They are divided by their sum, which is kept
        as ``total``.

    Raises
    ------
    ValueError
        For negative masses (with index and minimum), a total of 0, or wrong shapes.

    Examples
    --------
    >>> Histogram([0.0, 1.0, 3.0], [1.0, 1.0]).quantile([0.25, 0.75])
    array([0.5, 2. ])
    """

    edges: tuple[Array, ...]
    masses: Array
    total: float

    def __init__(self, edges: Any, masses: Any) -> None:
        values = real_array(masses, "masses")
        if values.ndim == 0 or values.size == 0:
            raise ValueError(
                f"`masses` has shape {values.shape}, expected (n,) or (n1, .., nd)."
            )
        axes = check_edges(edges, values.ndim)
        shape = tuple(e.size - 1 for e in axes)
        if values.shape != shape:
            raise ValueError(
                f"`masses` has shape {values.shape}, but `edges` make {shape} cells."
            )
        refuse_negative(values, "masses")
        largest = float(values.max())
        if largest == 0.0:
            raise ValueError("`masses` are all 0; a measure needs a positive mass.")
        # Scaling by the largest first keeps sums of huge or tiny masses finite.
        total = float(np.sum(values / largest))
        normalized = values / largest / total
        normalized.setflags(write=False)
        object.__setattr__(self, "edges", axes)
        object.__setattr__(self, "masses", normalized)
        object.__setattr__(self, "total", total * largest)

    @property
    def d(self) -> int:
        return len(self.edges)

    @property
    def density(self) -> Array:
        """Density in the cells, shape of ``masses``."""
        density = self.masses
        for k, e in enumerate(self.edges):
            density = density / _along(np.diff(e), k, self.d)
        return density

    def moments(self) -> tuple[Array, Array]:
        centers = [0.5 * (e[:-1] + e[1:]) for e in self.edges]
        m = np.array([np.sum(self._marginal(k) * c) for k, c in enumerate(centers)])
        S = np.empty((self.d, self.d))
        for k, (c, e) in enumerate(zip(centers, self.edges, strict=True)):
            spread = (c - m[k]) ** 2 + np.diff(e) ** 2 / 12.0
            S[k, k] = np.sum(self._marginal(k) * spread)
            for j in range(k):
                others = tuple(i for i in range(self.d) if i not in (j, k))
                joint = self.masses.sum(axis=others)
                S[j, k] = S[k, j] = (centers[j] - m[j]) @ joint @ (c - m[k])
        return m, S

    def _marginal(self, axis: int) -> Array:
        return self.masses.sum(axis=tuple(k for k in range(self.d) if k != axis))

    def support_box(self) -> Array:
        bounds = []
        for k, e in enumerate(self.edges):
            used = np.flatnonzero(self._marginal(k))
            bounds.append((e[used[0]], e[used[-1] + 1]))
        return np.array(bounds)

    def box(self, mass: float) -> Array:
        """The whole support, whatever ``mass`` is."""
        return self.support_box()

    def pdf(self, x: Array) -> Array:
        points = as_points(x, self.d)
        coordinates = (points,) if self.d == 1 else np.moveaxis(points, -1, 0)
        inside: Array = True
        index = []
        for e, c in zip(self.edges, coordinates, strict=True):
            inside = inside & (c >= e[0]) & (c <= e[-1])
            index.append(np.clip(np.searchsorted(e, c, "right") - 1, 0, e.size - 2))
        return np.where(inside, self.density[tuple(index)], 0.0)

    def log_pdf(self, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self.pdf(x))

    def cdf(self, x: Array) -> Array:
        self._need_line("cdf")
        below = np.concatenate([[0.0], np.cumsum(self.masses)])
        below[-1] = 1.0
        return np.interp(as_points(x, 1), self.edges[0], np.minimum(below, 1.0))

    def survival(self, x: Array) -> Array:
        self._need_line("cdf")
        above = np.concatenate([np.cumsum(self.masses[::-1])[::-1], [0.0]])
        above[0] = 1.0
        return np.interp(as_points(x, 1), self.edges[0], np.minimum(above, 1.0))

    def pieces(self) -> Pieces | None:
        return self._charged() if self.d == 1 else None

    def _charged(self) -> Pieces:
        self._need_line("quantile function")
        e, used = self.edges[0], self.masses > 0
        return Pieces(self.masses[used], e[:-1][used], e[1:][used])

    def quantile(self, s: Array) -> Array:
        return self._charged().quantile(as_probabilities(s))

    def upper_quantile(self, q: Array) -> Array:
        return -self._charged().mirrored().quantile(as_probabilities(q, "q"))

    def sample(self, n: int, rng: Any) -> Array:
        random = generator(rng)
        flat = random.choice(
            self.masses.size, size=sample_size(n), p=self.masses.ravel()
        )
        index = np.unravel_index(flat, self.masses.shape)
        u = random.random((flat.size, self.d))
        corners = [e[i] for e, i in zip(self.edges, index, strict=True)]
        widths = [np.diff(e)[i] for e, i in zip(self.edges, index, strict=True)]
        return np.stack(corners, axis=-1) + u * np.stack(widths, axis=-1)

    def expect(self, f: Callable[[Array], Array]) -> float:
        """Expectation of f(X): adaptive for d = 1, Gauss rules in the cells else."""
        if self.d == 1:
            e, rho = self.edges[0], self.density
            return quadrature.adaptive(
                lambda x, i: quadrature.weighted(
                    rho[i], quadrature.evaluate(f, x[..., None])
                ),
                e,
            )
        points, volumes = self._nodes()
        return quadrature.mean(volumes, quadrature.evaluate(f, points))

    def _nodes(self) -> tuple[Array, Array]:
        """Gauss nodes (N, d) of all cells and the mass (N,) that each stands for."""
        if self.d > 3:
            raise self._lacks("quadrature", "use Empirical(measure.sample(n, rng))")
        q = CELL_NODES[self.d]
        rules = [quadrature.panel_nodes(e, q) for e in self.edges]
        points, volumes = cubature.tensor([x for x, _ in rules], [w for _, w in rules])
        rho = self.density
        for k in range(self.d):
            rho = np.repeat(rho, q, axis=k)
        return points, volumes * rho.ravel()

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        """Expectation of g(X - Y).

        On equal cells the law of X - Y is a sum of hat functions, whose coefficients
        an FFT gives; unequal cells are paired in one dimension only.
        """
        steps = [np.diff(e) for e in self.edges]
        if all(np.ptp(h) <= 1e-9 * h.max() for h in steps) and self.d <= 3:
            return self._expect_by_hats(g, [float(np.mean(h)) for h in steps])
        if self.d > 1:
            raise self._lacks("rule for pairs", "use cells of equal size")
        rho = self.density
        e = self.edges[0]

        def density(x: Array) -> Array:
            return rho[np.clip(np.searchsorted(e, x, "right") - 1, 0, rho.size - 1)]

        return quadrature.pairs(lambda x: x, density, e, g, order=6)

    def _expect_by_hats(self, g: Callable[[Array], Array], h: list[float]) -> float:
        shape = tuple(2 * n - 1 for n in self.masses.shape)
        axes = tuple(range(self.d))
        power = np.abs(np.fft.rfftn(self.masses, shape, axes)) ** 2
        # Padded, so no shift wraps around; shift 0 is moved to the middle.
        A = np.fft.fftshift(np.fft.irfftn(power, shape, axes))
        A = np.maximum(A, 0.0)
        shifts = [
            (np.arange(n) - n // 2) * step for n, step in zip(A.shape, h, strict=True)
        ]
        centers = cubature.tensor(shifts, [np.ones(n) for n in A.shape])[0]
        coefficients = A.ravel()
        near = (np.abs(centers) < 1.5 * np.array(h)).all(axis=1)
        far = ~near & (coefficients > 1e-17 * coefficients.max())
        q = CELL_NODES[self.d]
        total = 0.0
        # The difference 0, where g may be singular, lies in the hats next to it.
        for part, n in ((near, 3 * q), (far, q)):
            hat, weight = quadrature.hat_rule(n, graded=part is near)
            offsets, weights = cubature.tensor(
                [hat * step for step in h], [weight] * self.d
            )
            total += _weighted_sum(
                g, centers[part], coefficients[part], offsets, weights
            )
        return total

    def integrate(self, g: Callable[[Array], Array]) -> float:
        """Integral of g(pdf): the sum over cells of volume times g(density)."""
        rho = self.density
        values = np.asarray(g(rho), dtype=float)
        for k, e in enumerate(self.edges):
            values = values * _along(np.diff(e), k, self.d)
        return float(np.sum(values))

    def entropy(self) -> float:
        """Sum over the cells of mass times log density."""
        used = self.masses > 0
        return float(np.sum(self.masses[used] * np.log(self.density[used])))

    def _cells(self, edges: tuple[Array, ...]) -> Array:
        masses = self.masses
        if self.d == 1:
            from flows.measures.cells import line

            return line(self, edges[0])
        for k, (own, new) in enumerate(zip(self.edges, edges, strict=True)):
            masses = np.moveaxis(
                np.tensordot(_overlap(own, new), masses, axes=(0, k)), 0, k
            )
        return masses

    def __repr__(self) -> str:
        cells = " x ".join(str(n) for n in self.masses.shape)
        box = " x ".join(f"[{e[0]:g}, {e[-1]:g}]" for e in self.edges)
        return f"Histogram({cells} cells on {box})"


def refuse_negative(values: Array, name: str) -> None:
    """ValueError with index and minimum when some value is negative."""
    lowest = float(values.min())
    if lowest < 0:
        index = tuple(
            int(i) for i in np.unravel_index(int(np.argmin(values)), values.shape)
        )
        raise ValueError(
            f"`{name}` must not be negative; the minimum is {lowest:g} at index "
            f"{index if len(index) > 1 else index[0]}."
        )


def _along(values: Array, axis: int, d: int) -> Array:
    """Vector shaped to broadcast along one of d axes."""
    return values.reshape(tuple(-1 if k == axis else 1 for k in range(d)))


def _overlap(own: Array, new: Array) -> Array:
    """Fraction of each own cell inside each new cell, (n_own, n_new)."""
    a = np.maximum(own[:-1, None], new[None, :-1])
    b = np.minimum(own[1:, None], new[None, 1:])
    return np.maximum(b - a, 0.0) / np.diff(own)[:, None]


def _weighted_sum(
    g: Callable[[Array], Array],
    centers: Array,
    coefficients: Array,
    offsets: Array,
    weights: Array,
) -> float:
    """Sum of c_i w_k g(center_i + offset_k), in chunks."""
    total = 0.0
    rows = max(1, quadrature.CHUNK // offsets.shape[0])
    for start in range(0, coefficients.size, rows):
        part = slice(start, start + rows)
        values = quadrature.evaluate(g, centers[part, None] + offsets)
        total += float(coefficients[part] @ (values @ weights))
    return total
