"""Difference quotients of the energy along one coordinate after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, to_numpy
from flows.linear import NewtonFailure
from flows.schemes.segments import column, members

if TYPE_CHECKING:
    from flows.flow import Flow

__all__ = ["directions", "entries", "sweep"]

Array = Any
Point = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A length along the line, phi there, and the energy."""
DOUBLINGS = 200
HALVINGS = 60
REFINEMENTS = 80


def entries(flow: Flow, u: Array) -> tuple[int, bool]:
    """Coordinates of one member, and whether the state is a batch."""
    batch = members(flow.inner(u, u, u)).ndim == 1
    size = int(np.prod(u.shape[1:] if batch else u.shape))
    return size, batch


def unit(u: Array, i: int, batch: bool, values: np.ndarray | None = None) -> Array:
    """Displacement of every member along coordinate ``i``, or the given one (n,)."""
    shape = tuple(u.shape)
    flat = np.zeros(
        (shape[0] if batch else 1, int(np.prod(shape[1 if batch else 0 :])))
    )
    if values is None:
        flat[:, i] = 1.0
    else:
        flat[:] = values
    return array_like(flat.reshape(shape), u)


def directions(flow: Flow, u: Array) -> np.ndarray:
    """Axes that are orthonormal in the flow's metric.

    The lengths (n,) of the scaled coordinate axes where the metric is diagonal, else
    the columns (n, n) that Gram and Schmidt make of them.
    """
    n, batch = entries(flow, u)

    def product(a: Array, b: Array) -> float:
        values = members(flow.inner(u, a, b)).reshape(-1)
        if np.ptp(values) > 1e-9 * np.abs(values).max():
            raise TypeError(
                "The metric differs from member to member of the batch; run them one "
                "by one, or take AverageVectorField() or Gonzalez()."
            )
        return float(values[0])

    axes = [unit(u, i, batch) for i in range(n)]
    diagonal = np.array([product(e, e) for e in axes])
    if not (np.isfinite(diagonal) & (diagonal > 0.0)).all():
        raise NewtonFailure("the metric is not positive", [])
    # A matrix with zeros off its diagonal passes any number of such trials.
    rng = np.random.default_rng(0)
    for _ in range(3):
        p, q = rng.choice([-1.0, 1.0], n), rng.normal(size=n)
        found = product(unit(u, 0, batch, p), unit(u, 0, batch, q))
        scale = float(np.sum(diagonal * np.abs(p * q)))
        tolerance = 64 * n * float(np.finfo(dtype_name(u)).eps)
        if abs(found - float(np.sum(diagonal * p * q))) > tolerance * scale:
            break
    else:
        return np.asarray(1.0 / np.sqrt(diagonal))
    gram = np.diag(diagonal)
    for i in range(n):
        for j in range(i):
            gram[i, j] = gram[j, i] = product(axes[i], axes[j])
    return np.asarray(np.linalg.inv(np.linalg.cholesky(gram)).T)


def sweep(
    flow: Flow, t: Any, u: Array, h: np.ndarray, axes: np.ndarray
) -> tuple[Array, int]:
    """State after one move along each axis, and the number of energies it took."""
    n, batch = entries(flow, u)
    eps = float(np.finfo(dtype_name(u)).eps)
    energy = members(flow.energy(t, u))
    calls = 1
    for i in range(n):
        if axes.ndim == 1:
            p = unit(u, i, batch) * float(axes[i])
            length = float(axes[i])
        else:
            p = unit(u, i, batch, axes[:, i])
            length = float(np.linalg.norm(axes[:, i]))
        line = Line(flow, t, u, p, energy, h, eps)
        a, energy = line.solve(reach(u, i, batch, eps) / length)
        u = u + column(a, u) * p
        calls += line.calls
    return u, calls


def reach(u: Array, i: int, batch: bool, eps: float) -> np.ndarray:
    """Length at which difference quotients along coordinate ``i`` are best."""
    x = np.abs(to_numpy(u).astype(np.float64))
    x = x.reshape((x.shape[0], -1) if batch else (-1,))
    largest = x.max(axis=-1)
    size = x[..., i] + 0.1 * largest
    return np.asarray(eps ** (1 / 3) * np.where(largest > 0.0, size, 1.0))


@dataclass(eq=False)
class Line:
    """The scalar equation phi(a) = F(z + a p) - F(z) + a^2/h = 0, a != 0, by member."""

    flow: Flow
    t: Any
    z: Array
    p: Array
    energy: np.ndarray
    h: np.ndarray
    eps: float
    calls: int = 0

    def phi(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """phi and the energy; infinite outside the domain."""
        self.calls += 1
        there = members(self.flow.energy(self.t, self.z + column(a, self.z) * self.p))
        value = there - self.energy + a * a / self.h
        return np.where(np.isfinite(value), value, np.inf), there

    def small(self, there: np.ndarray) -> np.ndarray:
        """Rounding error of phi."""
        size = np.abs(self.energy) + np.where(np.isfinite(there), np.abs(there), 0.0)
        return np.asarray(2 * self.eps * size)

    def solve(self, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The move a, 0 at rest, and the energy after it."""
        guess, rest = self.guess(np.broadcast_to(delta, self.energy.shape))
        side = np.where(guess < 0.0, -1.0, 1.0)
        lo, hi, rest = self.bracket(np.abs(guess), side, rest)
        return self.refine(lo, hi, side, rest)

    def guess(self, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Root for the parabola through three points, and who stays where he is."""
        _, ahead = self.phi(delta)
        _, behind = self.phi(-delta)
        noise = self.small(ahead)
        top = np.where(np.isfinite(ahead), ahead, np.inf)
        bottom = np.where(np.isfinite(behind), behind, np.inf)
        lowest = np.minimum(top, bottom)
        usable = np.isfinite(top) & np.isfinite(bottom)
        slope = np.where(usable, (top - bottom) / (2 * delta), 0.0)
        bend = np.where(usable, (top - 2 * self.energy + bottom) / delta**2, 0.0)
        below = 1.0 / self.h + 0.5 * bend
        inside = np.where(below > 0.0, -slope / np.where(below > 0.0, below, 1.0), 0.0)
        outside = np.where(top < bottom, delta, -delta)
        a = np.where((below > 0.0) & usable, inside, outside)
        level = np.abs(np.where(usable, top - bottom, np.inf)) <= noise
        rest = (level & (lowest >= self.energy - noise)) | (a == 0.0)
        # A kink: higher on both sides, at every distance.
        kink = (lowest > self.energy) & (np.abs(a) > 0.0) & usable
        closer = np.where(kink, np.sign(a) * np.minimum(np.abs(a), 1e-3 * delta), a)
        value, _ = self.phi(closer)
        rest = rest | (kink & (value > 0.0) & (np.abs(a) < 1e-3 * delta))
        return np.where(rest, delta, a), rest

    def bracket(
        self, size: np.ndarray, side: np.ndarray, rest: np.ndarray
    ) -> tuple[Point, Point, np.ndarray]:
        """Lengths at which phi is negative and positive, with phi and the energy."""
        value, there = self.phi(side * size)
        low = value < 0.0
        lo = (size, value, there)
        hi = (size, value, there)
        outwards = low & ~rest
        for _ in range(DOUBLINGS):
            if not outwards.any():
                break
            size = np.where(outwards, 2.0 * hi[0], hi[0])
            value, there = self.phi(side * size)
            lo = merged(outwards, hi, lo)
            hi = merged(outwards, (size, value, there), hi)
            outwards = outwards & (value < 0.0)
        if outwards.any():
            raise NewtonFailure("the energy has no lower bound along a coordinate", [])
        inwards = ~low & ~rest & (np.abs(hi[1]) > self.small(hi[2]))
        for _ in range(HALVINGS):
            if not inwards.any():
                break
            size = np.where(inwards, 0.5 * lo[0], lo[0])
            value, there = self.phi(side * size)
            hi = merged(inwards & (value > 0.0), (size, value, there), hi)
            lo = merged(inwards, (size, value, there), lo)
            inwards = inwards & ~(value < 0.0)
        return lo, hi, rest | inwards

    def refine(
        self,
        lo: Point,
        hi: Point,
        side: np.ndarray,
        rest: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The root of phi(a)/a between the two, by false position with bisection."""
        best = merged(np.abs(lo[1]) < np.abs(hi[1]), lo, hi)
        last = hi[0] - lo[0]
        for k in range(REFINEMENTS):
            width = hi[0] - lo[0]
            open_ = (np.abs(best[1]) > self.small(best[2])) & ~rest
            open_ = open_ & (width > 2 * self.eps * hi[0])
            if not open_.any():
                break
            # phi(a)/a is nearly linear where phi has two roots, one of them 0.
            left, right = lo[1] / lo[0], hi[1] / hi[0]
            secant = lo[0] - left * width / np.where(right > left, right - left, np.inf)
            middle = 0.5 * (lo[0] + hi[0])
            good = np.isfinite(secant) & (secant > lo[0]) & (secant < hi[0])
            slow = (k % 3 == 2) & (width > 0.5 * last)
            size = np.where(good & ~slow, secant, middle)
            last = np.where(k % 3 == 2, width, last)
            value, there = self.phi(side * size)
            new = (size, value, there)
            lo = merged(open_ & (value < 0.0), new, lo)
            hi = merged(open_ & (value >= 0.0), new, hi)
            best = merged(open_ & (np.abs(value) < np.abs(best[1])), new, best)
        size, value, there = best
        allowed = 2048 * self.small(there)
        if not (rest | (np.abs(value) <= allowed)).all():
            worst = float(np.max(np.where(rest, 0.0, np.abs(value))))
            raise NewtonFailure(
                f"the energy balance is missed by {worst:.3g}: the energy jumps along "
                "a coordinate",
                [worst],
            )
        a: np.ndarray = np.where(rest, 0.0, side * size)
        return a, np.where(rest, self.energy, there)


def merged(where: np.ndarray, new: Point, old: Point) -> Point:
    """``new`` for the members in ``where``, else ``old``."""
    a, b, c = (np.where(where, x, y) for x, y in zip(new, old, strict=True))
    return a, b, c
