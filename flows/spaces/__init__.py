"""Spaces: how a state is represented and what a small displacement costs."""

from __future__ import annotations

from flows.spaces import bounds, metrics, norms
from flows.spaces.base import Space
from flows.spaces.euclidean import Euclidean
from flows.spaces.grid import Grid
from flows.spaces.inertial import HeavyBall, Nesterov
from flows.spaces.jacobians import Dense, Krylov
from flows.spaces.langevin import LangevinParticles
from flows.spaces.manifolds import Sphere, Stiefel
from flows.spaces.matrices import Matrices
from flows.spaces.mirror import Mirror, MirrorMap
from flows.spaces.norms import SteepestDescent
from flows.spaces.particles import Particles
from flows.spaces.patterns import Banded, Sparse
from flows.spaces.quantiles import Quantiles
from flows.spaces.spd import SPD

__all__ = [
    "SPD",
    "Banded",
    "Dense",
    "Euclidean",
    "Grid",
    "HeavyBall",
    "Krylov",
    "LangevinParticles",
    "Matrices",
    "Mirror",
    "MirrorMap",
    "Nesterov",
    "Particles",
    "Quantiles",
    "Space",
    "Sparse",
    "Sphere",
    "SteepestDescent",
    "Stiefel",
    "bounds",
    "metrics",
    "norms",
]
