"""States between the steps of a run, with the order of its scheme."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from flows.arrays import all_finite

__all__ = ["Between"]

Array = Any
HIGHEST = 8


class Piece(NamedTuple):
    """Values and slopes (times the step) at the nodes in one step."""

    values: list[Array]
    slopes: list[Array]


@lru_cache(maxsize=8)
def nodes(inner: int) -> tuple[float, ...]:
    """Equidistant nodes in [0, 1], ``inner`` of them inside."""
    return tuple(j / (inner + 1) for j in range(inner + 2))


def hermite(places: tuple[float, ...], s: float) -> tuple[list[float], list[float]]:
    """Weights of values and slopes of the Hermite interpolant at ``s``."""
    values, slopes = [], []
    for j, x in enumerate(places):
        others = [y for k, y in enumerate(places) if k != j]
        lagrange = math.prod((s - y) / (x - y) for y in others)
        rise = sum(1.0 / (x - y) for y in others)
        values.append((1.0 - 2.0 * rise * (s - x)) * lagrange**2)
        slopes.append((s - x) * lagrange**2)
    return values, slopes


class Between:
    """Dense output of one solution; what is computed in a step is kept.

    In a step of a scheme of order p the state is the Hermite polynomial of degree 3
    (p <= 4), 5 (p <= 6) or 7 (p <= 8) through the ends of the step and 0, 1 or 2 points
    inside, which the scheme reaches from the left end by a shorter step. Multistep
    schemes have the cubic only: order 4.

    Where the flow has no velocity, where the energy has kinks, and where a velocity is
    not finite, the state is what the scheme gives for a shorter step from the left end:
    for minimizing movements De Giorgi's interpolation. It costs a step each time.
    """

    def __init__(self, flow: Any, scheme: Any, t: np.ndarray, u: Array) -> None:
        self.flow, self.scheme, self.t, self.u = flow, scheme, t, u
        self.pieces: dict[int, Piece] = {}
        self.slopes: dict[int, Array] = {}
        one_step = scheme is not None and not scheme.multistep and not scheme.random
        self.one_step = one_step and not scheme.draws_noise(flow)
        smooth = hasattr(flow, "velocity") and not getattr(flow, "kinked", False)
        exact = one_step and scheme.order >= sys.maxsize
        self.partial = self.one_step and (exact or not smooth)

    def __call__(self, t: float) -> Array:
        """The state at time ``t``, in the user's coordinates."""
        if t == self.t[-1]:
            return self.u[-1]
        # After a jump the later one of two states at one time.
        i = int(np.searchsorted(self.t, t, side="right")) - 1
        if t == self.t[i]:
            return self.u[i]
        with np.errstate(all="ignore"):
            z = self.stepped(i, t) if self.partial else self.hermite(i, t)
            if not all_finite(z) and self.one_step:
                z = self.stepped(i, t)
        if not all_finite(z):
            a, b = float(self.t[i]), float(self.t[i + 1])
            raise ValueError(
                f"The velocity in [{a:g}, {b:g}] is not finite, so there is no dense "
                "output in this step."
            )
        return self.flow.decode(z) if hasattr(self.flow, "decode") else z

    def stepped(self, i: int, t: float) -> Array:
        """A shorter step of the scheme from the left end."""
        a = float(self.t[i])
        z = self.scheme.step(self.flow, a, self.charted(i), t - a, None, ()).u
        return self.flow.retract(z) if hasattr(self.flow, "retract") else z

    def hermite(self, i: int, t: float) -> Array:
        """The Hermite polynomial of step ``i``."""
        a, b = float(self.t[i]), float(self.t[i + 1])
        piece = self.pieces.get(i)
        if piece is None:
            piece = self.pieces[i] = self.piece(i, a, b)
        places = nodes(len(piece.values) - 2)
        values, slopes = hermite(places, (t - a) / (b - a))
        z = 0.0
        for w, v in zip(values + slopes, piece.values + piece.slopes, strict=True):
            z = z + w * v
        return self.flow.retract(z) if hasattr(self.flow, "retract") else z

    def piece(self, i: int, a: float, b: float) -> Piece:
        """Values and slopes at the nodes of step ``i``."""
        h = b - a
        order = min(self.scheme.order, HIGHEST) if self.one_step else 0
        inner = max(0, math.ceil((order - 4) / 2))
        values, slopes = [self.charted(i)], [h * self.slope(i)]
        for s in nodes(inner)[1:-1]:
            z = self.stepped(i, a + s * h)
            values.append(z)
            slopes.append(h * self.flow.velocity(a + s * h, z))
        values.append(self.charted(i + 1))
        slopes.append(h * self.slope(i + 1))
        return Piece(values, slopes)

    def charted(self, i: int) -> Array:
        """Saved state ``i`` in the chart where states may be added."""
        encode = getattr(self.flow, "encode", None)
        return self.u[i] if encode is None else encode(self.u[i])

    def slope(self, i: int) -> Array:
        """Velocity at the saved state ``i``."""
        if i not in self.slopes:
            velocity = self.flow.velocity(float(self.t[i]), self.charted(i))
            self.slopes[i] = velocity
        return self.slopes[i]
