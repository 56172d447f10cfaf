"""Sums of functions of one coordinate each: kinks, bounds, Huber's function."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flows.arrays import array_like, namespace
from flows.nonsmooth.base import ProxField
from flows.symbolic.fields import points

__all__ = ["Box", "Huber", "Kinks"]

Array = Any


def common_size(*arrays: np.ndarray) -> int | None:
    """The number of coordinates that arrays (.., n) fix; None for one number for all.

    Raises
    ------
    ValueError
        When they disagree.
    """
    sizes = {a.shape[-1] for a in arrays if a.ndim} - {1}
    if len(sizes) > 1:
        raise ValueError(
            f"Arrays of {' and '.join(map(str, sorted(sizes)))} entries cannot belong "
            "to the same coordinates."
        )
    return sizes.pop() if sizes else None


@dataclass(frozen=True, eq=False, repr=False)
class Kinks(ProxField):
    """sum_k sum_i up_ki (x_i - p_ki)_+ + down_ki (p_ki - x_i)_+ with up + down >= 0.

    Parameters
    ----------
    up, down, place : (K, .., n) or (K, 1) array
        K kinks in every coordinate, places p in increasing order.
    text : str
        How it was typed.
    size : int, optional
        The number of coordinates, where one is fixed.
    """

    up: np.ndarray
    down: np.ndarray
    place: np.ndarray
    text: str
    size: int | None = None
    separable = True
    exact = True

    def __repr__(self) -> str:
        return self.text

    @property
    def dimension(self) -> int | None:
        """Coordinates of the points; None for any number."""
        return self.size

    @property
    def uniform(self) -> bool:
        """Whether every coordinate has the same kinks."""
        return all(
            bool(np.all(a == a[..., :1])) for a in (self.up, self.down, self.place)
        )

    @property
    def homogeneous(self) -> bool:
        """Whether all kinks are at 0."""
        return not self.place.any()

    def _layers(self, x: Array) -> list[tuple[Array, Array, Array]]:
        arrays = (array_like(a, x) for a in (self.up, self.down, self.place))
        return list(zip(*arrays, strict=True))

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        self.check_dimension(x.shape[-1])
        xp = namespace(x)
        none = xp.zeros_like(x)
        total = none
        for up, down, p in self._layers(x):
            total = (
                total + up * xp.maximum(x - p, none) + down * xp.maximum(p - x, none)
            )
        return xp.sum(total, axis=-1)

    def least(self, x: Array, g: Array) -> Array:
        self.check_dimension(x.shape[-1])
        xp = namespace(x)
        low, high = g, g
        for up, down, p in self._layers(x):
            low = low + xp.where(x > p, up, -down)
            high = high + xp.where(x < p, -down, up)
        none = xp.zeros_like(g)
        return xp.maximum(low, none) + xp.minimum(high, none)

    def prox(self, x: Array, h: Any) -> Array:
        self.check_dimension(x.shape[-1])
        xp = namespace(x)
        layers = self._layers(x)
        if len(layers) == 1:
            ((up, down, p),) = layers
            z = x - p
            right, left = z - h * up, z + h * down
            none = xp.zeros_like(z)
            v: Array = p + xp.maximum(right, none) + xp.minimum(left, none)
            return v
        # From the far left every kink that is passed slows the point down once more.
        v = x + h * sum(down for _, down, _ in layers)
        for up, down, p in layers:
            v = xp.where(v <= p, v, xp.maximum(p, v - h * (up + down)))
        return v

    def derivative(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        v = self.prox(x, h)
        free = xp.ones_like(x)
        for up, down, p in self._layers(x):
            free = xp.where((v == p) & (up + down > 0.0), 0.0 * free, free)
        return free

    def scaled(self, factor: float) -> Kinks:
        text = self.text if factor == 1.0 else f"{factor:g}*{self.text}"
        return replace(self, up=factor * self.up, down=factor * self.down, text=text)

    def expr(self, d: int) -> Any:
        """sum of up (x - p)_+ + down (p - x)_+, with Abs where they are equal."""
        import sympy

        from flows.symbolic.vocabulary import coordinates, exact

        total = sympy.Integer(0)
        for layer in zip(self.up, self.down, self.place, strict=True):
            if any(a.ndim > 1 for a in layer):
                return None
            rows = np.broadcast_arrays(*layer, np.zeros(d))[:3]
            for x, up, down, p in zip(coordinates(d), *rows, strict=True):
                z = x - exact(float(p))
                even, odd = (float(up) + down) / 2, (float(up) - down) / 2
                total += exact(even) * sympy.Abs(z) + exact(odd) * z
        return total


@dataclass(frozen=True, eq=False, repr=False)
class Box(ProxField):
    """0 where lower <= x <= upper, else infinite; bounds are numbers or (n,)."""

    lower: np.ndarray
    upper: np.ndarray
    text: str
    separable = True
    exact = True

    def __repr__(self) -> str:
        return self.text

    @property
    def dimension(self) -> int | None:
        """Coordinates of the points; None for any number."""
        return common_size(self.lower, self.upper)

    @property
    def uniform(self) -> bool:
        """Whether every coordinate has the same bounds."""
        bounds = (np.atleast_1d(self.lower), np.atleast_1d(self.upper))
        return all(bool(np.all(bound == bound[0])) for bound in bounds)

    def _bounds(self, x: Array) -> tuple[Array, Array]:
        self.check_dimension(x.shape[-1])
        zeros = namespace(x).zeros_like(x)
        return array_like(self.lower, x) + zeros, array_like(self.upper, x) + zeros

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        low, high = self._bounds(x)
        inside = xp.all((x >= low) & (x <= high), axis=-1)
        none = xp.zeros_like(x[..., 0])
        return xp.where(inside, none, xp.full_like(none, math.inf))

    def least(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        low, high = self._bounds(x)
        none = xp.zeros_like(g)
        g = xp.where(x <= low, xp.minimum(g, none), g)
        return xp.where(x >= high, xp.maximum(g, none), g)

    def prox(self, x: Array, h: Any) -> Array:
        low, high = self._bounds(x)
        xp = namespace(x)
        return xp.minimum(xp.maximum(x, low), high)

    def derivative(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        low, high = self._bounds(x)
        return xp.where((x > low) & (x < high), xp.ones_like(x), xp.zeros_like(x))

    def scaled(self, factor: float) -> Box:
        return self


@dataclass(frozen=True, eq=False, repr=False)
class Huber(ProxField):
    """a sum_i of x_i^2/2 up to abs(x_i) = delta, delta abs(x_i) - delta^2/2 beyond."""

    delta: float
    a: float = 1.0
    separable = True
    uniform = True

    def __repr__(self) -> str:
        text = f"nonsmooth.huber({self.delta:g})"
        return text if self.a == 1.0 else f"{self.a:g}*{text}"

    @property
    def lipschitz(self) -> float:
        """Largest second derivative."""
        return self.a

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        inner = xp.clip(xp.abs(x), max=self.delta)
        return self.a * xp.sum(inner * (xp.abs(x) - 0.5 * inner), axis=-1)

    def least(self, x: Array, g: Array) -> Array:
        return g + self.a * namespace(x).clip(x, min=-self.delta, max=self.delta)

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        inside = xp.where(xp.abs(x) <= self.delta, xp.ones_like(x), xp.zeros_like(x))
        return self.a * inside[..., None] * array_like(np.eye(x.shape[-1]), x)

    def prox(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        step = h * self.a
        pull = xp.clip(x / (1.0 + step), min=-self.delta, max=self.delta)
        return x - step * pull

    def derivative(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        step = h * self.a
        inner = xp.abs(x) <= self.delta * (1.0 + step)
        ones = xp.ones_like(x)
        return xp.where(inner, ones / (1.0 + step), ones)

    def scaled(self, factor: float) -> Huber:
        return replace(self, a=factor * self.a)
