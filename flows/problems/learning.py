"""Games and several objectives with exact paths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.energies import Potential
from flows.energies import quadratic as quadratic_energy
from flows.learning import game, min_norm_weights, multi_objective
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, start, time
from flows.problems.base import Problem

__all__ = ["bilinear_game", "pareto_quadratics"]

Array = Any


@dataclass(frozen=True, eq=False)
class Rotation:
    """e^{-g t} (x cos st - y sin st, y cos st + x sin st)."""

    x0: Array
    speed: float
    damping: float

    def __call__(self, t: float) -> Array:
        angle, size = self.speed * time(t), math.exp(-self.damping * t)
        c, s = math.cos(angle), math.sin(angle)
        x, y = self.x0[..., 0], self.x0[..., 1]
        return size * np.stack([c * x - s * y, c * y + s * x], axis=-1)


def bilinear_game(
    sigma: float = 1.0,
    x0: Any = (1.0, 0.0),
    damping: float = 0.0,
    *,
    t: tuple[float, float] = (0.0, 2.0),
) -> Problem:
    """min_x max_y sigma x y + damping (x^2 - y^2)/2: circles, spirals with damping.

    With a = h sigma and no damping a step multiplies the distance to the saddle by
    sqrt(1 + a^2) (simultaneous descent), by sqrt(1 - a^2 + a^4) (extragradient, least
    at a = 1/sqrt 2, where it is sqrt(3)/2); the optimistic step contracts for
    a < 1/sqrt 3; alternating descent, x first, keeps x^2 + y^2 - a x y for a < 2.

    Parameters
    ----------
    sigma, damping : float
    x0 : (2,) or (b, 2) array
    t : tuple of float

    Returns
    -------
    Problem
        ``flow`` is the game of the players ``"x"`` and ``"y"``; ``energy`` is None.
        Constants: ``sigma`` and ``damping``.

    Raises
    ------
    ValueError
        For a start of another shape.
    """
    s, g = number(sigma, "sigma"), number(damping, "damping")
    x = start(x0)
    if x.shape[-1] != 2:
        raise ValueError(f"`x0` must have shape (2,) or (b, 2), got {x.shape}.")
    parameters = {"s": s, "g": g}
    loss = Potential("s*x*y + g*(x**2 - y**2)/2", parameters=parameters)
    return Problem(
        "bilinear_game",
        None,
        Rotation(x, s, g),
        interval(t),
        limit=np.zeros_like(x) if g > 0 else None,
        spaces=("Euclidean",),
        constants={"sigma": s, "damping": g},
        reference=(
            "C. Daskalakis, A. Ilyas, V. Syrgkanis, H. Zeng, Training GANs with "
            "optimism, ICLR (2018), arXiv:1711.00141"
        ),
        flow=game({"x": loss, "y": -loss}, {"x": [0], "y": [1]}),
    )


@dataclass(frozen=True, eq=False)
class Approach:
    """P + e^{-t} (x0 - P)."""

    x0: Array
    goal: Array

    def __call__(self, t: float) -> Array:
        return self.goal + math.exp(-time(t)) * (self.x0 - self.goal)


def pareto_quadratics(
    centers: Any = ((0.0, 0.0), (2.0, 0.0), (0.0, 1.0)),
    x0: Any = (3.0, 2.0),
    *,
    t: tuple[float, float] = (0.0, 2.0),
) -> Problem:
    """L_i(x) = |x - a_i|^2/2: the path is straight to the projection on conv{a_i}.

    x(t) = P + e^{-t} (x0 - P) with P the nearest point of the hull, which is the set of
    Pareto points; starts inside do not move. (The flow of the mean loss goes to the
    mean of the a_i instead.)

    Parameters
    ----------
    centers : (m, n) array
    x0 : (n,) array
    t : tuple of float

    Returns
    -------
    Problem
        ``flow`` is the multi-objective flow; ``energy`` is None. Constants:
        ``weights`` of the centers in the limit.

    Raises
    ------
    ValueError
        For shapes that do not belong together.
    """
    a = real_array(centers, "centers")
    x = start(x0)
    if a.ndim != 2 or x.shape != a.shape[1:]:
        raise ValueError(
            "`centers` must have shape (m, n) and `x0` (n,), got "
            f"{a.shape} and {x.shape}."
        )
    weights = min_norm_weights((a - x) @ (a - x).T)
    goal = weights @ a
    return Problem(
        "pareto_quadratics",
        None,
        Approach(x, goal),
        interval(t),
        limit=goal,
        spaces=("Euclidean",),
        constants={"weights": weights},
        reference="H. Attouch, G. Garrigos, X. Goudou, doi:10.1016/j.jmaa.2014.09.001",
        flow=multi_objective([quadratic_energy(1.0, center=c) for c in a]),
    )
