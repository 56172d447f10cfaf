"""A density on R^2 or R^3 given by a formula: its box, nodes and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import cubature
from flows.measures.base import Measure
from flows.measures.checks import as_points, generator, sample_size
from flows.measures.line import checked_values
from flows.measures.quadrature import evaluate, mean, panel_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RegionDensity"]

Array = Any
PANELS = {2: (6, 12, 24, 48, 96), 3: (4, 8, 12)}
CELLS = {2: 128, 3: 32}
DOUBLINGS = 40


class RegionDensity(Measure):
    """Gauss nodes on a box that resolve a density on R^2 or R^3.

    Parameters
    ----------
    f : callable
        Unnormalized density of points (.., d), returns (..).
    bounds : (d, 2) array
        Box of the support, possibly infinite.
    label : str
        Text for messages.

    Raises
    ------
    ValueError
        When f is negative, not finite, zero wherever it was sampled, does not decay,
        or is too rough for Gauss rules.
    """

    def __init__(self, f: Callable[[Array], Array], bounds: Array, label: str) -> None:
        self.f = f
        self.support_bounds = bounds
        self.label = label
        self.largest = 0.0
        self.bounds = self._find_box(bounds)
        previous = np.inf
        for count in PANELS[self.d]:
            points, volumes = self._rule(count)
            values = self.values(points)
            total = float(volumes @ values)
            change = abs(total - previous)
            if change <= 1e-11 * total:
                break
            previous = total
        if not total > 0:
            raise ValueError(
                "The density integrates to 0 on its support; a measure needs a "
                "positive mass."
            )
        if change > 1e-3 * total:
            raise ValueError(
                f"The integral of the density did not settle: {total:.6g} with a "
                f"change of {change:.2g}; give a tighter `support=`."
            )
        self.total = total
        used = values > 0
        self.points, self.volumes = points[used], volumes[used]
        self.density = values[used] / total

    def values(self, x: Array) -> Array:
        """Unnormalized density at points (.., d), checked."""
        y = np.asarray(self.f(x), dtype=np.float64)
        finite = y[np.isfinite(y)]
        self.largest = max(self.largest, float(finite.max(initial=0.0)))
        return checked_values(y, x, self.largest)

    def _rule(self, count: int) -> tuple[Array, Array]:
        rules = [panel_nodes(np.linspace(a, b, count + 1), 8) for a, b in self.bounds]
        return cubature.tensor([x for x, _ in rules], [w for _, w in rules])

    def _raw(self, axes: list[Array]) -> tuple[Array, Array]:
        """Points of a tensor grid and the density there, 0 where it is not finite."""
        points = cubature.tensor(axes, [np.ones(a.size) for a in axes])[0]
        with np.errstate(all="ignore"):
            y = np.asarray(self.f(points), dtype=np.float64)
        return points, np.where(np.isfinite(y), y, 0.0)

    def _find_box(self, bounds: Array) -> Array:
        """Finite box: infinite sides move out until the density is negligible there."""
        if np.isfinite(bounds).all():
            return bounds
        points, y = self._raw([_probes(lo, hi, self.d) for lo, hi in bounds])
        y = checked_values(y, points, float(y.max()))
        if not (y > 0).any():
            raise ValueError(
                "The density is 0 at every sampled point; give `support=` where it "
                "is positive."
            )
        seeds = points[y > 1e-9 * y.max()]
        box = np.stack([seeds.min(axis=0), seeds.max(axis=0)], axis=1)
        size = max(float(np.max(np.diff(box))), 2.0**-10)
        box = np.where(np.isfinite(bounds), bounds, box)
        step = np.full((self.d, 2), size / 8.0)
        for _ in range(DOUBLINGS):
            grow = self._faces_that_matter(box) & ~np.isfinite(bounds)
            if not grow.any():
                return box
            box = np.where(grow, box + step * np.array([-1.0, 1.0]), box)
            step = np.where(grow, 1.5 * step, step)
        raise ValueError(
            f"The density does not decay: it was followed to the box {box.tolist()}; "
            "give `support=`."
        )

    def _faces_that_matter(self, box: Array) -> Array:
        """Which faces (d, 2) see more than 1e-17 of the largest density."""
        inner = [np.linspace(lo, hi, 49) for lo, hi in box]
        y = self._raw(inner)[1]
        self.largest = max(self.largest, float(y.max()))
        matter = np.zeros(box.shape, dtype=bool)
        for k in range(self.d):
            for side in range(2):
                face = list(inner)
                face[k] = box[k, side : side + 1]
                level = float(self._raw(face)[1].max())
                matter[k, side] = level > 1e-17 * self.largest
        return matter

    @property
    def d(self) -> int:
        return int(self.support_bounds.shape[0])

    def __repr__(self) -> str:
        return self.label

    def support_box(self) -> Array:
        return self.support_bounds

    def box(self, mass: float) -> Array:
        """The box outside which the density is negligible, whatever ``mass`` is."""
        return self.bounds

    def moments(self) -> tuple[Array, Array]:
        w = self.volumes * self.density
        center = w @ self.points
        z = self.points - center
        return center, (w[:, None] * z).T @ z

    def pdf(self, x: Array) -> Array:
        points = as_points(x, self.d)
        lo, hi = self.support_bounds.T
        inside = ((points >= lo) & (points <= hi)).all(axis=-1)
        safe = np.where(inside[..., None], points, self.points[0])
        return np.where(inside, self.values(safe) / self.total, 0.0)

    def log_pdf(self, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self.pdf(x))

    def expect(self, f: Callable[[Array], Array]) -> float:
        return mean(self.volumes * self.density, evaluate(f, self.points))

    def integrate(self, g: Callable[[Array], Array]) -> float:
        return float(self.volumes @ np.asarray(g(self.density), dtype=float))

    def sample(self, n: int, rng: Any) -> Array:
        """Independent points: a cell by its mass, then rejection inside the cell."""
        n, random = sample_size(n), generator(rng)
        count = CELLS[self.d]
        axes = [np.linspace(lo, hi, count + 1) for lo, hi in self.bounds]
        masses, bound = self._cell_table(axes)
        cells = random.choice(masses.size, size=n, p=masses / masses.sum())
        low = np.stack([a[:-1] for a in axes], axis=-1)
        width = np.array([a[1] - a[0] for a in axes])
        index = np.stack(np.unravel_index(cells, (count,) * self.d), axis=-1)
        corner = np.take_along_axis(low, index, axis=0)
        out = np.empty((n, self.d))
        waiting = np.arange(n)
        while waiting.size:
            x = corner[waiting] + random.random((waiting.size, self.d)) * width
            level = random.random(waiting.size) * bound[cells[waiting]]
            accept = level <= self.values(x)
            out[waiting[accept]] = x[accept]
            waiting = waiting[~accept]
        return out

    def _cell_table(self, axes: list[Array]) -> tuple[Array, Array]:
        """Masses of cells and a bound of the density in each, flat."""
        rules = [panel_nodes(a, 3) for a in axes]
        points, volumes = cubature.tensor([x for x, _ in rules], [w for _, w in rules])
        values = self.values(points)
        split = [m for a in axes for m in (a.size - 1, 3)]
        inner = tuple(range(1, 2 * self.d, 2))
        masses = (values * volumes).reshape(split).sum(axis=inner)
        bound = values.reshape(split).max(axis=inner)
        corners = self._raw(axes)[1].reshape([a.size for a in axes])
        for shift in np.ndindex(*(2,) * self.d):
            part = tuple(
                slice(s, s + a.size - 1) for s, a in zip(shift, axes, strict=True)
            )
            bound = np.maximum(bound, corners[part])
        return masses.ravel(), 1.05 * bound.ravel()


def _probes(lo: float, hi: float, d: int) -> Array:
    """Coordinates at many scales around 0 or a finite end."""
    if np.isfinite(lo) and np.isfinite(hi):
        return np.linspace(lo, hi, 33)
    fine = 8 if d == 2 else 3
    scales = np.multiply.outer(2.0 ** np.arange(-6, 11), 1.0 + np.arange(fine) / fine)
    out = scales.ravel()
    if np.isfinite(lo):
        return lo + out
    if np.isfinite(hi):
        return hi - out
    return np.concatenate([-out[::-1], [0.0], out])
