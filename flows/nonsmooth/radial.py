"""Functions of the length abs(x) alone, with a proximal map by a scalar equation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace, to_numpy
from flows.nonsmooth.base import ProxField, identity
from flows.nonsmooth.norms import length, outer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EachRadial", "Radial"]

Array = Any
MOST_ITERATIONS = 300


@dataclass(frozen=True, eq=False, repr=False)
class Radial(ProxField):
    """factor phi(abs(x)), phi' nondecreasing and not negative on (0, inf).

    Parameters
    ----------
    functions : tuple of callable
        phi, phi', phi'' of NumPy arrays.
    """

    functions: tuple[Callable[[Any], Any], ...] = field(repr=False)
    text: str
    factor: float = 1.0
    radial = True

    def __repr__(self) -> str:
        return self.text

    def _at(self, order: int, r: Array) -> np.ndarray:
        wide = np.zeros(r.shape)
        with np.errstate(all="ignore"):
            wide += self.functions[order](to_numpy(r).astype(np.float64))
        wide *= self.factor
        return wide

    def value(self, x: Array, t: Any = 0.0) -> Array:
        return array_like(self._at(0, length(x))[..., 0], x)

    def least(self, x: Array, g: Array) -> Array:
        r = to_numpy(length(x)).astype(np.float64)
        alive = r > 0.0
        rate = np.where(alive, self._at(1, r) / np.where(alive, r, 1.0), 0.0)
        # At 0 the subgradients are a ball.
        kink = np.nan_to_num(self._at(1, np.full_like(r, 1e-300)))
        size = to_numpy(length(g)).astype(np.float64)
        rest = np.maximum(size - kink, 0.0) / np.where(size > 0.0, size, 1.0)
        part = array_like(np.where(alive, 1.0, rest), g)
        return part * g + array_like(rate, x) * x

    def prox(self, x: Array, h: Any) -> Array:
        r = to_numpy(length(x)).astype(np.float64)
        return array_like(self._shorter(r, h) / np.where(r > 0.0, r, 1.0), x) * x

    def _shorter(self, r: np.ndarray, h: Any) -> np.ndarray:
        """s >= 0 with s + h phi'(s) = r, or 0 where no s > 0 has it."""
        step = np.broadcast_to(to_numpy(h), r.shape).astype(np.float64)
        low = np.full_like(r, 1e-300)
        high = np.maximum(r, low)

        def excess(s: np.ndarray) -> np.ndarray:
            values: np.ndarray = s + step * self._at(1, s) - r
            return np.where(np.isnan(values), np.inf, values)

        dead = excess(low) >= 0.0
        s = high
        for _ in range(MOST_ITERATIONS):
            f = excess(s)
            low, high = np.where(f < 0.0, s, low), np.where(f < 0.0, high, s)
            with np.errstate(all="ignore"):
                guess = s - f / (1.0 + step * self._at(2, s))
            inside = (guess > low) & (guess < high)
            # The roots of steep powers lie many decades below r.
            far = high > 4.0 * low
            middle = np.where(far, np.sqrt(low) * np.sqrt(high), 0.5 * (low + high))
            new = np.where(inside, guess, middle)
            done = dead | (f == 0.0) | (np.abs(new - s) <= 2e-16 * s)
            s = np.where(done, s, new)
            if done.all():
                break
        shorter: np.ndarray = np.where(dead, 0.0, s)
        return shorter

    def derivative(self, x: Array, h: Any) -> Array:
        r = to_numpy(length(x)).astype(np.float64)
        s = self._shorter(r, h)
        alive = s > 0.0
        safe = np.where(alive, r, 1.0)
        curved = 1.0 + to_numpy(h) * self._at(2, np.where(alive, s, 1.0))
        along, across = np.where(alive, 1.0 / curved, 0.0), np.where(alive, s / safe, 0)
        n = outer(x / array_like(safe, x))
        along, across = (array_like(a, x)[..., None] for a in (along, across))
        return across * identity(x) + (along - across) * n

    def scaled(self, factor: float) -> Radial:
        text = f"{factor:g}*({self.text})" if factor != 1.0 else self.text
        return Radial(self.functions, text, factor * self.factor)


@dataclass(frozen=True, eq=False, repr=False)
class EachRadial(ProxField):
    """sum_i phi(abs(x_i)), every coordinate by itself."""

    of: Radial
    separable = True
    uniform = True

    def __repr__(self) -> str:
        return f"separable({self.of!r})"

    def value(self, x: Array, t: Any = 0.0) -> Array:
        return namespace(x).sum(self.of.value(x[..., None]), axis=-1)

    def least(self, x: Array, g: Array) -> Array:
        return self.of.least(x[..., None], g[..., None])[..., 0]

    def prox(self, x: Array, h: Any) -> Array:
        return self.of.prox(x[..., None], each(h))[..., 0]

    def derivative(self, x: Array, h: Any) -> Array:
        return self.of.derivative(x[..., None], each(h))[..., 0, 0]

    def scaled(self, factor: float) -> EachRadial:
        return EachRadial(self.of.scaled(factor))


def each(h: Any) -> Any:
    """A step (batch, 1) or (.., n) for points with one coordinate."""
    return h[..., None] if getattr(h, "ndim", 0) else h
