"""Sums of convex functions whose proximal maps follow one after the other.

prox_{f + g} = prox_f o prox_g whenever every subgradient of g at y is one at prox_f(y)
[1]_. That holds when f is a sum of equal functions of the coordinates and g the total
variation, when f shortens the vector and g is a norm, and on the line for bounds f.

.. [1] Y. Yu, On decomposing the proximal map, NeurIPS 26 (2013), arXiv:1309.5149.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import namespace
from flows.nonsmooth.base import ProxField, identity
from flows.nonsmooth.norms import L2, Ball
from flows.nonsmooth.radial import EachRadial, Radial
from flows.nonsmooth.separable import Box, Huber, Kinks, common_size
from flows.nonsmooth.variation import TotalVariation

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Composition", "combined", "merged"]

Array = Any
# Where each kind stands in the order of the maps.
PLACES: tuple[Any, ...] = (TotalVariation, Kinks, (Huber, EachRadial), Box)


@dataclass(frozen=True, eq=False, repr=False)
class Composition(ProxField):
    """A sum whose proximal map is that of ``first``, then that of ``second``."""

    first: ProxField
    second: ProxField

    def __repr__(self) -> str:
        return f"{self.first!r} + {self.second!r}"

    @property
    def dimension(self) -> Any:
        """Coordinates of the points; None for any number."""
        return self.first.dimension or self.second.dimension

    @property
    def separable(self) -> bool:
        """Whether both are."""
        return bool(self.first.separable and self.second.separable)

    @property
    def exact(self) -> bool:
        """Whether a proximal step is the flow: for what the second leaves as it is."""
        return self.first.exact and isinstance(self.second, (Box, Ball))

    def value(self, x: Array, t: Any = 0.0) -> Array:
        return self.first.value(x, t) + self.second.value(x, t)

    def least(self, x: Array, g: Array) -> Array:
        return self.second.least(x, self.first.least(x, g))

    def prox(self, x: Array, h: Any) -> Array:
        return self.second.prox(self.first.prox(x, h), h)

    def derivative(self, x: Array, h: Any) -> Array:
        inner = self.first.derivative(x, h)
        outer = self.second.derivative(self.first.prox(x, h), h)
        if self.separable:
            return outer * inner
        full = [
            d[..., None] * identity(x) if field.separable else d
            for field, d in ((self.first, inner), (self.second, outer))
        ]
        return namespace(x).matmul(full[1], full[0])

    def scaled(self, factor: float) -> Composition:
        return Composition(self.first.scaled(factor), self.second.scaled(factor))


def combined(fields: Sequence[ProxField]) -> ProxField | None:
    """Their sum with its proximal map, or None where that is not known."""
    kinks = [f for f in fields if isinstance(f, Kinks)]
    others = [f for f in fields if not isinstance(f, Kinks)]
    if kinks:
        whole = kinks[0]
        for more in kinks[1:]:
            whole = merged(whole, more)
        others.append(whole)
    ordered = sorted(others, key=place)
    for i, later in enumerate(ordered):
        if not all(follows(earlier, later) for earlier in ordered[:i]):
            return None
    result, *rest = ordered
    for field in rest:
        result = Composition(result, field)
    return result


def place(field: ProxField) -> int:
    """Norms first, then functions of the coordinates, at last what shortens."""
    if isinstance(field, (L2, Radial, Ball)):
        return len(PLACES) + isinstance(field, Ball)
    kinds = [i for i, kind in enumerate(PLACES) if isinstance(field, kind)]
    return kinds[0] if kinds else 0


def follows(first: ProxField, second: ProxField) -> bool:
    """Whether prox of the sum is that of ``first``, then that of ``second``."""
    if first.axes != second.axes:
        return False
    if second.radial and first.homogeneous:
        return True
    if isinstance(first, TotalVariation):
        return second.separable and bool(second.uniform)
    return isinstance(first, Kinks) and isinstance(second, Box)


def merged(first: Kinks, second: Kinks) -> Kinks:
    """The sum of two, the kinks of every coordinate in order."""
    size = common_size(np.zeros(first.size or 1), np.zeros(second.size or 1))
    rows = []
    for name in ("place", "up", "down"):
        parts = [getattr(first, name), getattr(second, name)]
        shape = np.broadcast_shapes(*(p.shape[1:] for p in parts))
        rows.append(np.concatenate([_widened(p, shape) for p in parts]))
    at, up, down = np.broadcast_arrays(*rows)
    order = np.argsort(at, axis=0, kind="stable")
    at, up, down = (np.take_along_axis(a, order, axis=0) for a in (at, up, down))
    text = f"{first.text} + {second.text}"
    return replace(first, up=up, down=down, place=at, text=text, size=size)


def _widened(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(part, (part.shape[0], *shape))
