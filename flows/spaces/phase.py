"""States of positions and velocities, packed along the last axis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.arrays import namespace, zeros_like
from flows.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Part",
    "drift_map",
    "drifting",
    "earliest",
    "join",
    "split",
    "square",
]

Array = Any


def split(u: Array) -> tuple[Array, Array]:
    """Positions and velocities (.., n) of states (.., 2n)."""
    n = u.shape[-1] // 2
    return u[..., :n], u[..., n:]


def join(x: Array, v: Array) -> Array:
    """States (.., 2n) of positions and velocities (.., n)."""
    return namespace(x).concat([x, v], axis=-1)


def square(x: Array) -> Array:
    """|x|^2 over the last axis."""
    return namespace(x).sum(x * x, axis=-1)


def earliest(t: Any) -> float:
    """The least of the times of a batch."""
    return float(namespace(t).min(t)) if getattr(t, "ndim", 0) else float(t)


@dataclass(frozen=True, eq=False)
class Part(Flow):
    """One of the flows that add up to a heavy ball, with its flow map."""

    space: Any = field()
    slope: Callable[[Any, Array], Array]
    map: Callable[[Any, Array, Any], Array]
    is_gradient = False

    def velocity(self, t: Any, u: Array) -> Array:
        """The part's share of the velocity."""
        return self.slope(t, u)

    def exact(self, t: Any, u: Array, h: Any, rng: Any = None) -> Array:
        """Its flow map."""
        return self.map(t, u, h)


def drifting(t: Any, u: Array) -> Array:
    """(v, 0)."""
    _, v = split(u)
    return join(v, zeros_like(v))


def drift_map(t: Any, u: Array, h: Any) -> Array:
    """(x + h v, v)."""
    x, v = split(u)
    return join(x + h * v, v)
