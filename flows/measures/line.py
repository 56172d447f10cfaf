"""A density on the line given by a formula: normalization, cdf and its inverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures.base import Measure
from flows.measures.checks import as_points, as_probabilities, generator, sample_size
from flows.measures.inversion import invert
from flows.measures.quadrature import (
    adaptive,
    evaluate,
    gauss_legendre,
    kronrod_panels,
    pairs,
    panel_nodes,
    weighted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LineDensity", "checked_values"]

Array = Any
ROWS = 1 << 14
DOUBLINGS = 300
PARTIAL = 16


def checked_values(values: Array, x: Array, largest: float) -> Array:
    """Density values: finite and not negative, else a ValueError that shows where.

    Negative values within rounding of 0 (1e-12 of the largest) count as 0.
    """
    bad = ~np.isfinite(values)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"The density is {values.ravel()[i]} at x = {_place(x, i)}; it must be "
            "finite on its support (give `support=`, or scale the formula down)."
        )
    lowest = float(values.min(initial=0.0))
    if lowest < -1e-12 * largest:
        i = int(np.argmin(values))
        raise ValueError(
            f"The density must not be negative; its minimum is {lowest:g}, at index "
            f"{i} of {values.size} sampled points, x = {_place(x, i)}."
        )
    return np.maximum(values, 0.0)


def _place(x: Array, i: int) -> str:
    point = np.asarray(x).reshape(-1, np.asarray(x).shape[-1])[i]
    return ", ".join(f"{c:g}" for c in point)


class LineDensity(Measure):
    """Panels on which a density is resolved, with the mass on either side of each end.

    Parameters
    ----------
    f : callable
        Unnormalized density of points (.., 1), returns (..).
    bounds : (1, 2) array
        Ends of the support, possibly infinite.
    label : str
        Text for messages.

    Raises
    ------
    ValueError
        When f is negative, not finite, zero wherever it was sampled, or does not decay
        fast enough to be integrated.
    """

    def __init__(self, f: Callable[[Array], Array], bounds: Array, label: str) -> None:
        self.f = f
        self.bounds = bounds
        self.label = label
        self.lo, self.hi = (float(end) for end in bounds[0])
        self.largest = 0.0
        edges = self._first_panels()
        edges, masses = self._resolve(edges)
        self.total = float(np.sum(masses))
        used = np.flatnonzero(masses)
        keep = slice(used[0], used[-1] + 1)
        self.edges = edges[used[0] : used[-1] + 2]
        self.masses = masses[keep] / self.total
        self.below = np.concatenate([[0.0], np.cumsum(self.masses)])
        self.above = np.concatenate([np.cumsum(self.masses[::-1])[::-1], [0.0]])

    def values(self, x: Array) -> Array:
        """Unnormalized density at numbers x, checked."""
        points = np.asarray(x, dtype=np.float64)[..., None]
        y = np.asarray(self.f(points), dtype=np.float64)
        finite = y[np.isfinite(y)]
        self.largest = max(self.largest, float(finite.max(initial=0.0)))
        return checked_values(y, points, self.largest)

    def _first_panels(self) -> Array:
        """Panels that reach from end to end, or to where the tails are negligible."""
        if np.isfinite(self.lo) and np.isfinite(self.hi):
            return np.linspace(self.lo, self.hi, 129)
        x = self._probes()
        with np.errstate(all="ignore"):
            y = np.asarray(self.f(x[:, None]), dtype=np.float64)
        # Far out a formula may overflow to inf * 0; that is no news about its bulk.
        y = np.where(np.isfinite(y), y, 0.0)
        y = checked_values(y, x[:, None], float(y.max()))
        if not (y > 0).any():
            raise ValueError(
                "The density is 0 at every sampled point; give `support=` where it "
                "is positive."
            )
        seeds = x[y > 1e-12 * y.max()]
        peak = float(x[np.argmax(y)])
        left, right = float(seeds.min()), float(seeds.max())
        width = max(right - left, abs(peak), 2.0**-20)
        middle = np.linspace(left, right, 65) if right > left else np.array([peak])
        mass = self._mass(middle) if middle.size > 1 else 0.0
        parts = [middle]
        for sign, start, end in ((-1.0, left, self.lo), (1.0, right, self.hi)):
            out, extra = self._reach(sign, start, end, width, mass)
            parts.append(out)
            mass += extra
        return np.unique(np.concatenate(parts))

    def _probes(self) -> Array:
        """Points at all scales from 2^-20 to 2^20 around 0 or around a finite end."""
        scales = np.multiply.outer(2.0 ** np.arange(-20, 20), 1.0 + np.arange(32) / 32)
        out = scales.ravel()
        if np.isfinite(self.lo):
            return self.lo + out
        if np.isfinite(self.hi):
            return self.hi - out
        return np.concatenate([-out[::-1], [0.0], out])

    def _reach(
        self, sign: float, start: float, end: float, width: float, mass: float
    ) -> tuple[Array, float]:
        """Ends of doubling panels from ``start`` outwards, and the mass in them."""
        out, step, gained = [start], width / 16.0, 0.0
        for _ in range(DOUBLINGS):
            x = out[-1] + sign * step
            if (end - x) * sign <= 0:
                return np.array([*out, end]), gained
            out.append(x)
            part = self._mass(np.sort([out[-2], x]))
            gained += part
            if part <= 1e-18 * (mass + gained) and len(out) > 4:
                return np.array(out), gained
            step *= 2.0
        raise ValueError(
            f"The density does not decay towards {sign * np.inf}: it was followed to "
            f"x = {out[-1]:.3g}; give `support=`."
        )

    def _mass(self, edges: Array) -> float:
        x, w = panel_nodes(edges, 15)
        with np.errstate(all="ignore"):
            y = np.asarray(self.f(x[:, None]), dtype=np.float64)
        return float(w @ np.where(np.isfinite(y), np.maximum(y, 0.0), 0.0))

    def _resolve(self, edges: Array) -> tuple[Array, Array]:
        """Panels halved until each is integrated to 1e-13 of itself."""
        a, b = edges[:-1], edges[1:]
        done: list[tuple[Array, Array, Array]] = []
        total = 0.0
        for level in range(60):
            value, _, error = kronrod_panels(
                lambda x, i: self.values(x), a, b, np.zeros(a.size, dtype=int), 15
            )
            scale = total + float(np.sum(value))
            # Tails are resolved by their own size; only a jump is left at its place.
            floor = 1e-16 * scale if level >= 12 else 1e-300 * scale
            keep = error <= np.maximum(1e-13 * value, floor)
            done.append((a[keep], b[keep], value[keep]))
            total += float(np.sum(value[keep]))
            a, b = a[~keep], b[~keep]
            if a.size == 0 or a.size > 100_000:
                break
            middle = 0.5 * (a + b)
            a, b = np.concatenate([a, middle]), np.concatenate([middle, b])
        if a.size:
            raise ValueError(
                "The density is too rough or too singular to be integrated; give "
                "`support=` without its singular points, or use a Histogram."
            )
        if not total > 0:
            raise ValueError(
                "The density integrates to 0 on its support; a measure needs a "
                "positive mass."
            )
        left, right, mass = (
            np.concatenate(column) for column in zip(*done, strict=True)
        )
        order = np.argsort(left)
        return np.append(left[order], right[order][-1]), mass[order]

    def _partial(self, x: Array, start: Array) -> Array:
        """Normalized mass between ``start`` and x, both in one panel."""
        u, w = gauss_legendre(PARTIAL)
        h = x - start
        y = self.values(start[:, None] + h[:, None] * u)
        return np.abs(h) * (y @ w) / self.total

    def _tail(self, x: Array, upper: bool) -> Array:
        """P(X <= x), or P(X > x) if ``upper``, for numbers x of any shape."""
        flat = np.clip(x.ravel(), self.edges[0], self.edges[-1])
        k = np.clip(
            np.searchsorted(self.edges, flat, "right") - 1, 0, self.masses.size - 1
        )
        out = np.empty(flat.size)
        for rows in _chunks(flat.size):
            i, z = k[rows], flat[rows]
            if upper:
                out[rows] = self.above[i + 1] + self._partial(z, self.edges[i + 1])
            else:
                out[rows] = self.below[i] + self._partial(z, self.edges[i])
        return np.minimum(out, 1.0).reshape(x.shape)

    def _inverse(self, levels: Array, upper: bool) -> Array:
        """Point with the mass ``levels`` below it, or above it if ``upper``."""
        flat = levels.ravel()
        out = np.empty(flat.size)
        if upper:
            from_end, marks = self.above[::-1], -self.edges[::-1]
        else:
            from_end, marks = self.below, self.edges
        # Rounding of the cumulative sum must not leave the last level outside.
        k = np.clip(
            np.searchsorted(from_end, flat, "left") - 1, 0, self.masses.size - 1
        )
        sign = -1.0 if upper else 1.0
        for rows in _chunks(flat.size):
            i, s = k[rows], flat[rows]
            lo, hi = marks[i], marks[i + 1]
            fraction = (s - from_end[i]) / (from_end[i + 1] - from_end[i])
            base = from_end[i]
            out[rows] = invert(
                lambda x, j, base=base, lo=lo: (  # type: ignore[misc]
                    base[j] + self._partial(sign * x, sign * lo[j])
                ),
                lambda x, j: self.values(sign * x) / self.total,
                s,
                lo,
                hi,
                lo + np.clip(fraction, 0.0, 1.0) * (hi - lo),
            )
        out = np.where(flat <= 0.0, -self.hi if upper else self.lo, out)
        return (sign * out).reshape(levels.shape)

    @property
    def d(self) -> int:
        return 1

    def __repr__(self) -> str:
        return self.label

    def support_box(self) -> Array:
        return self.bounds

    def moments(self) -> tuple[Array, Array]:
        x, w = panel_nodes(self.edges, PARTIAL)
        w = w * self.values(x) / self.total
        mean = float(w @ x)
        return np.array([mean]), np.array([[w @ (x - mean) ** 2]])

    def pdf(self, x: Array) -> Array:
        points = as_points(x, 1)
        inside = (points >= self.lo) & (points <= self.hi)
        middle = self.edges[self.masses.size // 2]
        y = self.values(np.where(inside, points, middle).ravel()) / self.total
        return np.where(inside, y.reshape(points.shape), 0.0)

    def log_pdf(self, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self.pdf(x))

    def cdf(self, x: Array) -> Array:
        return self._tail(as_points(x, 1), upper=False)

    def survival(self, x: Array) -> Array:
        return self._tail(as_points(x, 1), upper=True)

    def quantile(self, s: Array) -> Array:
        levels = as_probabilities(s)
        return self._levels(levels, 1.0 - levels)

    def upper_quantile(self, q: Array) -> Array:
        levels = as_probabilities(q, "q")
        return self._levels(1.0 - levels, levels)

    def _levels(self, s: Array, q: Array) -> Array:
        """Quantile at level s = 1 - q, solved from the nearer end."""
        out = np.empty_like(s)
        low = s <= 0.5
        out[low] = self._inverse(s[low], upper=False)
        out[~low] = self._inverse(q[~low], upper=True)
        return out

    def sample(self, n: int, rng: Any) -> Array:
        return self.quantile(generator(rng).random(sample_size(n)))[:, None]

    def expect(self, f: Callable[[Array], Array]) -> float:
        return adaptive(
            lambda x, i: weighted(self.pdf(x), evaluate(f, x[..., None])),
            self.edges,
        )

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        if self.edges.size > 400:
            return super().expect_difference(g)
        return pairs(lambda x: x, self.pdf, self.edges, g)

    def integrate(self, g: Callable[[Array], Array]) -> float:
        return adaptive(lambda x, i: np.asarray(g(self.pdf(x))), self.edges)


def _chunks(n: int) -> list[slice]:
    return [slice(k, k + ROWS) for k in range(0, n, ROWS)]
