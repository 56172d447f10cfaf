"""Total variation along a line, and its proximal map in linear time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace, to_numpy
from flows.nonsmooth.base import ProxField, shown
from flows.nonsmooth.strings import taut_string
from flows.symbolic.fields import points

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TotalVariation"]

Array = Any


@dataclass(frozen=True, eq=False, repr=False)
class TotalVariation(ProxField):
    """a sum_i abs(x_{i+1} - x_i)."""

    a: float
    homogeneous = True
    exact = True

    def __repr__(self) -> str:
        return f"nonsmooth.total_variation({shown(self.a)})"

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        return self.a * xp.sum(xp.abs(x[..., 1:] - x[..., :-1]), axis=-1)

    def least(self, x: Array, g: Array) -> Array:
        # On each plateau the free subgradients make a proximal step of their own.
        signs = np.sign(np.diff(to_numpy(x), axis=-1)).astype(np.float64)
        end = np.zeros((*signs.shape[:-1], 1))
        pull = np.concatenate([end, signs], axis=-1)
        pull -= np.concatenate([signs, end], axis=-1)
        y = to_numpy(g).astype(np.float64) + self.a * pull
        return array_like(strings(y, self.a * (signs == 0.0)), g)

    def prox(self, x: Array, h: Any) -> Array:
        y = to_numpy(x).astype(np.float64)
        step = np.broadcast_to(self.a * to_numpy(h), (*y.shape[:-1], 1))
        edges = np.broadcast_to(step, (*y.shape[:-1], max(y.shape[-1] - 1, 0)))
        return array_like(strings(y, edges), x)

    def derivative(self, x: Array, h: Any) -> Array:
        v = to_numpy(self.prox(x, h))
        new = np.diff(v, axis=-1) != 0.0
        start = np.zeros((*v.shape[:-1], 1), dtype=int)
        plateau = np.concatenate([start, np.cumsum(new, axis=-1)], axis=-1)
        same = (plateau[..., :, None] == plateau[..., None, :]).astype(np.float64)
        return array_like(same / same.sum(axis=-1, keepdims=True), x)

    def scaled(self, factor: float) -> TotalVariation:
        return replace(self, a=factor * self.a)


def strings(y: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Rows of y (.., n) through ``taut_string`` with weights (.., n - 1)."""
    rows = np.ascontiguousarray(y).reshape(-1, y.shape[-1])
    weights = np.ascontiguousarray(edges).reshape(rows.shape[0], -1)
    solve: Callable[..., np.ndarray] = taut_string
    solved = [solve(row, own) for row, own in zip(rows, weights, strict=True)]
    return np.array(solved).reshape(y.shape)
