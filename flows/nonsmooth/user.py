"""A potential with a proximal map by the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.nonsmooth.base import ProxField

__all__ = ["UserField"]

Array = Any


@dataclass(frozen=True, eq=False, repr=False)
class UserField(ProxField):
    """A potential with the user's ``prox(x, h)`` of an unscaled V."""

    term: Any

    def __repr__(self) -> str:
        return repr(self.term)

    @property
    def dimension(self) -> Any:
        """Coordinates of the points; None for any number."""
        return self.term.function.dimension

    def value(self, x: Array, t: Any = 0.0) -> Array:
        return self.term.value_at(x, t)

    def least(self, x: Array, g: Array) -> Array:
        return g + self.term.gradient_at(x)

    def prox(self, x: Array, h: Any) -> Array:
        if getattr(h, "ndim", 0) and x.ndim == 1:
            h = float(h[0])
        v = self.term.prox(x, h * self.term.scale)
        if v is None:
            raise TypeError("`prox` returned None; did you forget `return`?")
        if tuple(getattr(v, "shape", ())) != tuple(x.shape):
            raise ValueError(
                f"`prox` returned shape {tuple(np.shape(v))} for points of shape "
                f"{tuple(x.shape)}; they must be equal."
            )
        return v

    def scaled(self, factor: float) -> UserField:
        return UserField(factor * self.term)
