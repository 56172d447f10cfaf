"""Laws on intervals with walls, on circles, and on products of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import Measure, cubature, quadrature
from flows.measures.checks import as_points, as_probabilities, generator, sample_size
from flows.measures.inversion import invert

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Images", "OnInterval", "Product", "Waves"]

Array = Any


class OnInterval(Measure):
    """A smooth law on [lo, hi] given by density and distribution function."""

    lo: float
    hi: float

    def _density(self, x: Array) -> Array:
        """Density at points inside."""
        raise NotImplementedError

    def _mass(self, a: Array, b: Array) -> Array:
        """Mass of [a, b] for ends inside."""
        raise NotImplementedError

    def _panels(self) -> Array:
        """Panels on which quadrature starts."""
        return np.linspace(self.lo, self.hi, 17)

    @property
    def d(self) -> int:
        return 1

    def moments(self) -> tuple[Array, Array]:
        m = self.expect(lambda x: x[..., 0])
        variance = self.expect(lambda x: (x[..., 0] - m) ** 2)
        return np.array([m]), np.array([[variance]])

    def support_box(self) -> Array:
        return np.array([[self.lo, self.hi]])

    def box(self, mass: float) -> Array:
        return self.support_box()

    def sample(self, n: int, rng: Any) -> Array:
        return self.quantile(generator(rng).random((sample_size(n), 1)))

    def pdf(self, x: Array) -> Array:
        points = as_points(x, 1)
        inside = (points >= self.lo) & (points <= self.hi)
        return np.where(inside, self._density(np.clip(points, self.lo, self.hi)), 0.0)

    def log_pdf(self, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self.pdf(x))

    def cdf(self, x: Array) -> Array:
        y = np.clip(as_points(x, 1), self.lo, self.hi)
        return np.clip(self._mass(np.full_like(y, self.lo), y), 0.0, 1.0)

    def survival(self, x: Array) -> Array:
        y = np.clip(as_points(x, 1), self.lo, self.hi)
        return np.clip(self._mass(y, np.full_like(y, self.hi)), 0.0, 1.0)

    def quantile(self, s: Array) -> Array:
        return self._invert(as_probabilities(s), 1.0)

    def upper_quantile(self, q: Array) -> Array:
        return self._invert(as_probabilities(q, "q"), -1.0)

    def _invert(self, levels: Array, sign: float) -> Array:
        ends = sorted((sign * self.lo, sign * self.hi))
        out = np.where(levels <= 0.0, ends[0], ends[1])
        inner = (levels > 0.0) & (levels < 1.0)
        count = int(inner.sum())
        tail = self.cdf if sign > 0 else self.survival
        out[inner] = invert(
            lambda x, i: tail(sign * x),
            lambda x, i: self.pdf(sign * x),
            levels[inner],
            np.full(count, ends[0]),
            np.full(count, ends[1]),
        )
        return sign * out

    def expect(self, f: Callable[[Array], Array]) -> float:
        return quadrature.adaptive(
            lambda x, i: self._density(x) * quadrature.evaluate(f, x[..., None]),
            self._panels(),
        )

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        return quadrature.pairs(lambda x: x, self._density, self._panels(), g)

    def integrate(self, g: Callable[[Array], Array]) -> float:
        return quadrature.adaptive(
            lambda x, i: np.asarray(g(self._density(x)), dtype=float), self._panels()
        )

    def entropy(self) -> float:
        from scipy.special import xlogy

        return self.integrate(lambda p: xlogy(p, p))


@dataclass(frozen=True, eq=False, repr=False)
class Images(OnInterval):
    """A Gaussian folded at walls or wrapped around a circle, by its images.

    All terms are positive, so that tails have full relative accuracy. Good for std up
    to about the length; ``Waves`` takes over beyond.
    """

    lo: float
    hi: float
    centers: Array
    std: float

    def _density(self, x: Array) -> Array:
        z = (x[..., None] - self.centers) / self.std
        scale = self.std * math.sqrt(2.0 * math.pi)
        return np.sum(np.exp(-0.5 * z * z), axis=-1) / scale

    def _mass(self, a: Array, b: Array) -> Array:
        from scipy.special import ndtr

        za = (a[..., None] - self.centers) / self.std
        zb = (b[..., None] - self.centers) / self.std
        # Differences in the nearer tail do not cancel.
        right = ndtr(-za) - ndtr(-zb)
        return np.sum(np.where(za > 0, right, ndtr(zb) - ndtr(za)), axis=-1)

    def _panels(self) -> Array:
        reach = self.std * np.array([0, 0.5, 1, 2, 3, 4, 6, 9, 13, 18, 25, 37])
        marks = self.centers[:, None] + np.concatenate([-reach[::-1], reach[1:]])
        inside = marks[(marks > self.lo) & (marks < self.hi)]
        return np.unique(np.concatenate([[self.lo, self.hi], inside]))

    def _resolution(self) -> float:
        return 0.5 * self.std

    def __repr__(self) -> str:
        return (
            f"<Gaussian with std {self.std:g} folded into ({self.lo:g}, {self.hi:g})>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Waves(OnInterval):
    """Density (1 + sum_k a_k cos(w_k (x - lo)) + b_k sin(w_k (x - lo))) / (hi - lo).

    The w_k are multiples of ``frequency``, pi/L between walls and 2 pi/L on a circle.
    """

    lo: float
    hi: float
    frequency: float
    cosines: Array
    sines: Array

    def _angles(self, x: Array) -> tuple[Array, Array]:
        w = self.frequency * np.arange(1, self.cosines.size + 1)
        return w, w * (x[..., None] - self.lo)

    def _density(self, x: Array) -> Array:
        _, angle = self._angles(x)
        sums = np.cos(angle) @ self.cosines + np.sin(angle) @ self.sines
        return np.maximum(1.0 + sums, 0.0) / (self.hi - self.lo)

    def _mass(self, a: Array, b: Array) -> Array:
        w, left = self._angles(a)
        _, right = self._angles(b)
        # Products of the half sum and half difference, as b may be close to a.
        half, middle = np.sin(0.5 * (right - left)), 0.5 * (right + left)
        sums = (np.cos(middle) * half) @ (2.0 * self.cosines / w)
        sums += (np.sin(middle) * half) @ (2.0 * self.sines / w)
        return (b - a + sums) / (self.hi - self.lo)

    def _panels(self) -> Array:
        return np.linspace(self.lo, self.hi, 17 + 2 * self.cosines.size)

    def _resolution(self) -> float:
        return float(0.5 / (self.frequency * max(self.cosines.size, 1)))

    def __repr__(self) -> str:
        count = self.cosines.size
        return f"<{count} Fourier mode(s) on ({self.lo:g}, {self.hi:g})>"


@dataclass(frozen=True, eq=False, repr=False)
class Product(Measure):
    """Law of independent coordinates."""

    axes: tuple[Measure, ...]

    @property
    def d(self) -> int:
        return len(self.axes)

    @property
    def has_density(self) -> bool:
        return all(axis.has_density for axis in self.axes)

    def factors(self) -> tuple[Measure, ...] | None:
        return self.axes

    def moments(self) -> tuple[Array, Array]:
        parts = [axis.moments() for axis in self.axes]
        mean = np.concatenate([m for m, _ in parts])
        return mean, np.diag([float(S[0, 0]) for _, S in parts])

    def support_box(self) -> Array:
        return np.concatenate([axis.support_box() for axis in self.axes])

    def box(self, mass: float) -> Array:
        return np.concatenate([axis.box(mass) for axis in self.axes])

    def sample(self, n: int, rng: Any) -> Array:
        random = generator(rng)
        return np.concatenate([axis.sample(n, random) for axis in self.axes], axis=1)

    def log_pdf(self, x: Array) -> Array:
        points = as_points(x, self.d)
        return sum(axis.log_pdf(points[..., k]) for k, axis in enumerate(self.axes))

    def expect(self, f: Callable[[Array], Array]) -> float:
        if self.d > 3:
            return super().expect(f)
        sizes = (2, 4, 8, 16, 32, 64) if self.d == 2 else (1, 2, 4, 8)
        return cubature.converged_expectation(self._rule, f, sizes)

    def _rule(self, panels: int) -> tuple[Array, Array]:
        nodes, weights = [], []
        for axis in self.axes:
            lo, hi = axis.support_box()[0]
            x, w = quadrature.panel_nodes(np.linspace(lo, hi, panels + 1), 10)
            nodes.append(x)
            weights.append(w * axis.pdf(x))
        return cubature.tensor(nodes, weights)

    def integrate(self, g: Callable[[Array], Array]) -> float:
        return cubature.integrate_density(self, g)

    def entropy(self) -> float:
        """Sum of the entropies of the coordinates."""
        return math.fsum(axis.entropy() for axis in self.axes)

    def __repr__(self) -> str:
        return "Product(" + ", ".join(map(repr, self.axes)) + ")"
