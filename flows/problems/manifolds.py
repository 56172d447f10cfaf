"""Flows of unit vectors, and Oja's flow, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows import energies
from flows.arrays import array_like, namespace
from flows.energies import Potential
from flows.problems.arguments import interval, square, start, time, vector
from flows.problems.base import Problem
from flows.problems.modes import Modes
from flows.problems.vectors import number_or_array

__all__ = ["HELMKE_MOORE", "oja", "rayleigh", "sphere_linear"]

Array = Any
HELMKE_MOORE = (
    "U. Helmke, J. B. Moore, Optimization and Dynamical Systems, Springer 1994, "
    "doi:10.1007/978-1-4471-3467-1"
)


def unit(x0: Any) -> Array:
    """Unit vectors along ``x0``."""
    x = start(x0)
    size = np.linalg.norm(x, axis=-1, keepdims=True)
    if not (size > 0).all():
        raise ValueError("`x0` must not be 0: it has no direction.")
    return x / size


def grown(modes: Modes, x: Array, t: float) -> tuple[Array, Array]:
    """y and c with e^{tA} x = e^{c t} e.y in the eigenbasis e, |y| of the size of x.

    c (.., 1) is the largest eigenvalue that takes part, so nothing overflows.
    """
    y = modes.to(x)
    values = np.broadcast_to(modes.values, y.shape)
    c = np.where(y != 0, values, -np.inf).max(axis=-1, keepdims=True)
    c = np.where(np.isfinite(c), c, 0.0)
    return np.where(y != 0, np.exp(np.minimum((values - c) * t, 700.0)) * y, 0.0), c


@dataclass(frozen=True, eq=False)
class RayleighPath:
    """e^{tA} x0 / |e^{tA} x0|."""

    modes: Modes
    x0: Array

    def __call__(self, t: float) -> Array:
        y = grown(self.modes, self.x0, time(t))[0]
        return self.modes.back(y / np.linalg.norm(y, axis=-1, keepdims=True))

    def energy(self, t: float) -> Any:
        """-x.A x / 2 along the path."""
        y = self.modes.to(self(t))
        return number_or_array(-0.5 * np.sum(self.modes.values * y * y, axis=-1))


def rayleigh(
    A: Any = (3.0, 2.0, -1.0),
    x0: Any = (0.1, 0.5, 1.0),
    *,
    t: tuple[float, float] = (0.0, 2.0),
) -> Problem:
    """V(x) = -x.A x / 2 on the unit sphere: x = e^{tA} x0 / |e^{tA} x0|.

    x' = A x - (x.A x) x, Oja's flow on the sphere. With A = log(W^T W) its values at
    t = 0, 1, 2, .. are the iterates of the power method for W^T W.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
        Symmetric; a vector is a diagonal.
    x0 : (n,) or (b, n) array
        Directions; they are normalized.
    t : tuple of float

    Returns
    -------
    Problem
        ``limit`` is the part of x0 in the top eigenspace that it meets. Constants:
        ``eigenvalues``, decreasing.
    """
    x = unit(x0)
    matrix = square(A, x.shape[-1], "A")
    modes = Modes.of(matrix)
    path = RayleighPath(modes, x)
    y = modes.to(x)
    top = np.where(y != 0, modes.values, -np.inf).max(axis=-1, keepdims=True)
    kept = np.where(modes.values == top, y, 0.0)
    return Problem(
        "rayleigh",
        energies.quadratic(-matrix),
        path,
        interval(t),
        limit=modes.back(kept / np.linalg.norm(kept, axis=-1, keepdims=True)),
        spaces=("Sphere",),
        exact_energy=path.energy,
        constants={"eigenvalues": np.sort(modes.values)[::-1]},
        reference=HELMKE_MOORE,
    )


@dataclass(frozen=True, eq=False)
class OjaForce:
    """A x - (x.A x) x at points (.., n)."""

    A: Array

    def __call__(self, x: Array) -> Array:
        xp = namespace(x)
        y = xp.matmul(x, array_like(self.A, x))
        return y - x * xp.sum(x * y, axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class OjaPath:
    """y / sqrt(1 + |y|^2 - |x0|^2) with y = e^{tA} x0."""

    modes: Modes
    x0: Array

    def __call__(self, t: float) -> Array:
        s = time(t)
        y, c = grown(self.modes, self.x0, s)
        missing = 1.0 - np.sum(self.x0**2, axis=-1, keepdims=True)
        with np.errstate(over="ignore", invalid="ignore"):
            rest = np.where(missing == 0, 0.0, missing * np.exp(-2.0 * c * s))
        size = np.sum(y * y, axis=-1, keepdims=True) + rest
        if not (size > 0).all():
            raise ValueError(f"The solution blows up before t = {s:g}.")
        return self.modes.back(y / np.sqrt(size))


def oja(
    A: Any = (3.0, 2.0, 1.0),
    x0: Any = (0.2, 0.6, 1.5),
    *,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Oja's flow x' = A x - (x.A x) x in R^n, from any x0, also off the sphere.

    x = y / sqrt(1 + |y|^2 - |x0|^2) with y = e^{tA} x0. |x| -> 1 where A is positive;
    where it is negative the sphere repels, and points outside it blow up.

    The flow is no gradient flow of R^n: the energy is 0 and the velocity is the
    ``drift`` among the constants, ``Euclidean().flow(p.energy, p.constants["drift"])``.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
        Symmetric; a vector is a diagonal.
    x0 : (n,) or (b, n) array
    t : tuple of float

    References
    ----------
    E. Oja, A simplified neuron model as a principal component analyzer, J. Math. Biol.
    15 (1982), doi:10.1007/BF00275687.
    """
    x = start(x0)
    matrix = square(A, x.shape[-1], "A")
    return Problem(
        "oja",
        Potential(0.0),
        OjaPath(Modes.of(matrix), x),
        interval(t),
        spaces=("Euclidean",),
        constants={"drift": OjaForce(matrix)},
        reference="Oja (1982), doi:10.1007/BF00275687",
    )


@dataclass(frozen=True, eq=False)
class GreatCircle:
    """Motion from x0 towards c/|c| at height z = tanh(|c| t + atanh z0)."""

    c: Array
    x0: Array

    def __call__(self, t: float) -> Array:
        s = time(t) * float(np.linalg.norm(self.c))
        pole = self.c / np.linalg.norm(self.c)
        z0 = np.sum(self.x0 * pole, axis=-1, keepdims=True)
        side = self.x0 - z0 * pole
        still = np.linalg.norm(side, axis=-1, keepdims=True) == 0
        T = math.tanh(s)
        scale = np.where(still, 1.0, 1.0 + z0 * T)
        height = np.where(still, z0, (z0 + T) / scale)
        return height * pole + side / (scale * math.cosh(min(s, 700.0)))

    def energy(self, t: float) -> Any:
        """-c.x along the path."""
        return number_or_array(-np.sum(self(t) * self.c, axis=-1))


def sphere_linear(
    c: Any = (0.0, 0.0, 1.0),
    x0: Any = (0.6, 0.0, -0.8),
    *,
    t: tuple[float, float] = (0.0, 2.0),
) -> Problem:
    """V(x) = -c.x on the unit sphere: x.c/|c| = tanh(|c| t + atanh z0).

    Every path is an arc of a great circle through c/|c|; from -c/|c| nothing moves.

    Parameters
    ----------
    c : (n,) array, not 0
    x0 : (n,) or (b, n) array
        Directions; they are normalized.
    t : tuple of float
    """
    x = unit(x0)
    pull = vector(c, x.shape[-1], "c")
    if not np.any(pull):
        raise ValueError("`c` must not be 0: nothing would move.")
    path = GreatCircle(pull, x)
    pole = pull / np.linalg.norm(pull)
    below = np.sum(x * pole, axis=-1, keepdims=True) <= -1.0
    return Problem(
        "sphere_linear",
        energies.quadratic(0.0, b=pull),
        path,
        interval(t),
        limit=np.where(below, x, pole),
        spaces=("Sphere",),
        exact_energy=path.energy,
    )
