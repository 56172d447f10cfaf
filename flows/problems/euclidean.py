"""Gradient flows of vectors dx/dt = -grad V(x) that are known in closed form.

A point is a number or an array (n,); an array (b, n) holds b points, each with its own
path. Exact solutions are NumPy float64 arrays of that shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from flows import energies
from flows.energies import Potential
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, square, start, time, vector
from flows.problems.base import Problem
from flows.problems.modes import Modes
from flows.problems.vectors import number_or_array, separable_energy, vector_spaces

__all__ = [
    "double_well",
    "log_barrier",
    "logistic",
    "quadratic",
    "rosenbrock",
]

Array = Any
EXACT_FLOWS = (
    "U. Helmke, J. B. Moore, Optimization and Dynamical Systems, Springer 1994, "
    "doi:10.1007/978-1-4471-3467-1"
)


@dataclass(frozen=True, eq=False)
class QuadraticPath:
    """c + e^{-At}(x0 - c) + int_0^t e^{-As} b ds."""

    modes: Modes
    x0: Array
    center: Array
    b: Array

    def __call__(self, t: float) -> Array:
        y = self.x0 - self.center
        return self.center + self.modes.flow(time(t), y, self.b)

    def energy(self, t: float) -> Any:
        """Value of the quadratic along the path."""
        x = self(t)
        y = self.modes.to(x - self.center)
        return number_or_array(0.5 * np.sum(self.modes.values * y * y, -1) - x @ self.b)


def quadratic(
    A: Any = 1.0,
    x0: Any = 1.0,
    b: Any = None,
    center: Any = None,
    *,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Quadratic V(x) = (x - c).A(x - c)/2 - b.x with any symmetric A, also singular.

    The path is c + e^{-At}(x0 - c) + int_0^t e^{-As} b ds, computed in the eigenbasis:
    a component of b in the kernel of A drifts as t b, and there is no minimizer then.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
        A number is a multiple of the identity, a vector is diagonal.
    x0 : float, (n,) or (b, n) array
    b, center : float or (n,) array, optional
    t : tuple of float

    Returns
    -------
    Problem
        ``rate`` is 2 mu with mu the smallest positive eigenvalue, where V has a
        minimum. Constants: ``mu``, ``L`` (largest abs(eigenvalue)) and ``minimum``.
    """
    x = start(x0)
    n = x.shape[-1]
    raw = real_array(A, "A")
    diagonal = np.broadcast_to(raw, (n,)) if raw.ndim == 0 else raw
    if diagonal.ndim != 1 or diagonal.shape != (n,):
        diagonal = square(raw, n, "A")
    modes = Modes.of(diagonal)
    c = vector(0.0 if center is None else center, n, "center")
    force = vector(0.0 if b is None else b, n, "b")
    exact = QuadraticPath(modes, x, c, force)
    mu = modes.smallest_positive
    pull = modes.to(force)
    scale = max(float(np.abs(pull).max()), 1e-300)
    lowest = bool((modes.values >= 0).all()) and not bool(
        (np.abs(pull[modes.values == 0]) > 8 * np.finfo(float).eps * n * scale).any()
    )
    constants: dict[str, Any] = {"L": float(np.abs(modes.values).max())}
    limit = None
    if mu is not None:
        constants["mu"] = mu
    if lowest:
        stiff = modes.values > 0
        rest = np.where(stiff, pull / np.where(stiff, modes.values, 1.0), 0.0)
        y = np.where(stiff, rest, modes.to(x - c))
        limit = c + modes.back(y)
        constants["minimum"] = float(-0.5 * np.sum(pull * rest) - force @ c)
    return Problem(
        "quadratic",
        energies.quadratic(
            diagonal,
            center=None if center is None else c,
            b=None if b is None else force,
        ),
        exact,
        interval(t),
        limit=limit,
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        rate=2.0 * mu if lowest and mu is not None else None,
        constants=constants,
        reference=EXACT_FLOWS,
    )


def _double_well_path(x0: Array, t: float) -> Array:
    # With e^{2t} instead the formula overflows at t = 355, with x0^2 at x0 = 1e154.
    decay = math.exp(-2.0 * time(t, 0.0))
    size = np.hypot(np.sqrt(decay), np.abs(x0) * math.sqrt(-math.expm1(-2.0 * t)))
    return np.where(x0 == 0.0, 0.0, x0 / np.where(size > 0, size, 1.0))


def _double_well_energy(x0: Array, t: float) -> Any:
    x = _double_well_path(x0, t)
    return number_or_array(0.25 * np.sum((x * x - 1.0) ** 2, axis=-1))


def double_well(x0: Any = 0.5, *, t: tuple[float, float] = (0.0, 1.0)) -> Problem:
    """Double well V(x) = sum_i (x_i^2 - 1)^2 / 4, x = x0/sqrt(x0^2 + (1-x0^2)e^{-2t}).

    V is convex up to -x^2/2: an implicit Euler step has one solution only for h < 1.

    Parameters
    ----------
    x0 : float, (n,) or (b, n) array
        A coordinate that starts at 0 stays there.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        ``rate`` is 4 min(1, x0^2) over the coordinates that are not 0 (a bound, sharp
        for x0 = 1 + small; every solution ends with the rate 4).
    """
    x = start(x0)
    moving = np.minimum(np.abs(x[x != 0.0]), 1.0)
    return Problem(
        "double_well",
        separable_energy("(x**2 - 1)**2/4", x),
        partial(_double_well_path, x),
        interval(t, 0.0),
        limit=np.sign(x),
        spaces=vector_spaces(x),
        exact_energy=partial(_double_well_energy, x),
        rate=4.0 * float(np.min(moving)) ** 2 if moving.size else None,
        constants={"convexity": -1.0},
        reference=EXACT_FLOWS,
    )


def _logistic_path(x0: Array, t: float) -> Array:
    from scipy.special import wrightomega

    s = time(t, 0.0)
    near = np.minimum(x0, 500.0)
    c = near + np.exp(near) + s
    omega = wrightomega(c)
    # c - omega(c) = log omega(c): the first cancels for large c, the second loses
    # omega by underflow for very negative c.
    with np.errstate(divide="ignore"):
        x = np.where(c < 0.0, c - omega, np.log(omega))
    return np.where(x0 > 500.0, x0 + np.log1p(s * np.exp(-np.maximum(x0, 500.0))), x)


def _logistic_energy(x0: Array, t: float) -> Any:
    x = _logistic_path(x0, t)
    return number_or_array(np.sum(np.logaddexp(0.0, -x), axis=-1))


def logistic(x0: Any = 0.0, *, t: tuple[float, float] = (0.0, 10.0)) -> Problem:
    """Logistic loss V(x) = sum_i log(1 + e^{-x_i}): x + e^x = x0 + e^{x0} + t.

    x' = 1/(1 + e^x) is solved by the Wright omega function, x = log omega(c) with
    c = x0 + e^{x0} + t. There is no minimizer: x grows like log t and V falls like 1/t.

    Parameters
    ----------
    x0 : float, (n,) or (b, n) array
    t : tuple of float
        From t0 >= 0.

    References
    ----------
    R. M. Corless, D. J. Jeffrey, The Wright omega function, LNCS 2385 (2002),
    doi:10.1007/3-540-45470-5_10.
    """
    x = start(x0)
    return Problem(
        "logistic",
        separable_energy("softplus(-x)", x),
        partial(_logistic_path, x),
        interval(t, 0.0),
        spaces=vector_spaces(x),
        exact_energy=partial(_logistic_energy, x),
        constants={"infimum": 0.0},
        reference="Corless, Jeffrey (2002), doi:10.1007/3-540-45470-5_10",
    )


def _barrier_path(x0: Array, t: float) -> Array:
    return np.sqrt(x0 * x0 + 2.0 * time(t, 0.0))


def _barrier_energy(x0: Array, t: float) -> Any:
    return number_or_array(-np.sum(np.log(_barrier_path(x0, t)), axis=-1))


def log_barrier(x0: Any = 0.1, *, t: tuple[float, float] = (0.0, 1.0)) -> Problem:
    """Barrier V(x) = -sum_i log(x_i) on x > 0: x = sqrt(x0^2 + 2t).

    V is not bounded below, and an implicit step keeps x > 0 where others may not.

    Parameters
    ----------
    x0 : float, (n,) or (b, n) array
        Positive.
    t : tuple of float
        From t0 >= 0.

    Raises
    ------
    ValueError
        For a start that is not positive.
    """
    x = start(x0)
    if not (x > 0).all():
        raise ValueError(f"`x0` must be positive, its smallest entry is {x.min():g}.")
    return Problem(
        "log_barrier",
        separable_energy("-log(x)", x),
        partial(_barrier_path, x),
        interval(t, 0.0),
        spaces=vector_spaces(x),
        exact_energy=partial(_barrier_energy, x),
    )


def rosenbrock(
    x0: Any = (-1.2, 1.0),
    *,
    a: float = 1.0,
    b: float = 100.0,
    t: tuple[float, float] = (0.0, 50.0),
) -> Problem:
    """Rosenbrock's valley V(x, y) = (a - x)^2 + b (y - x^2)^2; only its limit is known.

    The flow is stiff: it falls into y = x^2 within 1/(2b) and creeps along it to
    (a, a^2). ``exact`` is None.

    Parameters
    ----------
    x0 : (2,) or (k, 2) array
    a, b : float
        b > 0.
    t : tuple of float

    Returns
    -------
    Problem
        Constants: the extreme eigenvalues ``mu`` and ``L`` of the Hessian at the
        minimum.

    Raises
    ------
    ValueError
        For a start that is not in the plane.

    References
    ----------
    H. H. Rosenbrock, Comput. J. 3 (1960), doi:10.1093/comjnl/3.3.175.
    """
    a, b = number(a, "a"), number(b, "b", above=0.0)
    x = start(x0)
    if x.shape[-1] != 2:
        raise ValueError(f"`x0` has shape {x.shape}, expected (2,) or (k, 2).")
    hessian = np.array([[2.0 + 8.0 * a * a * b, -4.0 * a * b], [-4.0 * a * b, 2.0 * b]])
    # det = 4b, so the small eigenvalue is found without cancellation.
    largest = float(np.linalg.eigvalsh(hessian)[1])
    return Problem(
        "rosenbrock",
        Potential("(a - x)**2 + b*(y - x**2)**2", parameters={"a": a, "b": b}),
        None,
        interval(t),
        start=x,
        limit=np.broadcast_to([a, a * a], x.shape).copy(),
        spaces=vector_spaces(x),
        constants={"mu": 4.0 * b / largest, "L": largest, "minimum": 0.0},
        reference="Rosenbrock, Comput. J. 3 (1960), doi:10.1093/comjnl/3.3.175",
    )
