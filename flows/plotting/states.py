"""What of a solution is drawn: which states, which curves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from flows.arrays import to_numpy
from flows.spaces import Grid, LangevinParticles, Particles, Quantiles
from flows.spaces.inertial import Inertial
from flows.spaces.matrices import MatrixSpace

__all__ = [
    "chosen",
    "curve",
    "is_inertial",
    "is_line",
    "is_measure",
    "is_phase",
    "is_points",
    "matrix_shape",
    "places",
    "plane_paths",
    "potential_of",
    "state",
]

CANDIDATES = 200


def state(sol: Any, i: int) -> np.ndarray:
    """Saved state ``i`` in NumPy."""
    return to_numpy(sol.u[i])


def is_inertial(space: Any) -> bool:
    """Whether states are positions and velocities."""
    return isinstance(space, Inertial)


def places(sol: Any) -> np.ndarray:
    """All saved states (k, ..); of second-order flows the positions alone."""
    u = np.stack([state(sol, i) for i in range(len(sol.t))])
    return np.asarray(sol.space.split(u)[0]) if is_inertial(sol.space) else u


def is_phase(sol: Any) -> bool:
    """Whether states are a position and a velocity on the line."""
    return is_inertial(sol.space) and sol.u.shape[-1] == 2


def plane_paths(sol: Any) -> np.ndarray | None:
    """Paths (k, b, 2): of points, of positions, or in the phase plane of the line.

    None where the states are nothing of this kind.
    """
    if matrix_shape(sol.space) is not None:
        return None
    u = np.stack([state(sol, i) for i in range(len(sol.t))])
    u = u if is_phase(sol) else places(sol)
    plane = u.ndim in (2, 3) and u.shape[-1] == 2
    return u.reshape(len(sol.t), -1, 2) if plane else None


def is_line(space: Any) -> bool:
    """Whether states are densities on the line."""
    return isinstance(space, Quantiles) or (isinstance(space, Grid) and space.d == 1)


def is_points(space: Any) -> bool:
    """Whether states are particles (n, d)."""
    return isinstance(space, (Particles, LangevinParticles))


def is_measure(space: Any) -> bool:
    """Whether a state stands for a law, so that its energy is F(rho) and not V(x)."""
    return is_points(space) or isinstance(space, (Grid, Quantiles))


def matrix_shape(space: Any) -> tuple[int, int] | None:
    """(n, k) where states are matrices, else None."""
    return getattr(space, "shape", None) if isinstance(space, MatrixSpace) else None


def chosen(sol: Any, count: int) -> np.ndarray:
    """Indices of at most ``count`` saved states, first and last included.

    They are spread evenly along the path, so that a fast start and a slow end are both
    seen; where the path has no length, evenly in number.
    """
    k = len(sol.t)
    if k <= count:
        return np.arange(k)
    candidates = np.unique(np.linspace(0, k - 1, min(k, CANDIDATES)).round()).astype(
        int
    )
    states = [state(sol, i) for i in candidates]
    lengths = [float(np.abs(b - a).sum()) for a, b in pairwise(states)]
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    if is_points(sol.space) or not along[-1] > 0:
        along = np.arange(candidates.size, dtype=float)
    spread = np.linspace(0.0, along[-1], count)
    found = np.searchsorted(along, spread).clip(0, candidates.size - 1)
    return np.asarray(candidates[np.unique(found)])


def curve(space: Any, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and densities of a state on the line.

    On a grid these are the centers; between quantiles the density is 1/(n gap) at the
    midpoints of the gaps.
    """
    if isinstance(space, Grid):
        return np.asarray(space.centers, dtype=float), u
    x = np.asarray(u, dtype=float)
    with np.errstate(divide="ignore"):
        density = 1.0 / (x.size * np.diff(x))
    return 0.5 * (x[1:] + x[:-1]), density


def potential_of(sol: Any) -> Any:
    """The potential terms of the flow's energy, or None."""
    functional = getattr(sol.flow, "functional", None)
    terms = () if functional is None else functional.terms
    if not any(term.kind == "potential" for term in terms):
        return None
    return functional
