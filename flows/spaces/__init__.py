"""Spaces: how a state is represented and what a small displacement costs."""

from __future__ import annotations

from flows.spaces.base import Space
from flows.spaces.euclidean import Euclidean
from flows.spaces.grid import Grid
from flows.spaces.langevin import LangevinParticles
from flows.spaces.particles import Particles
from flows.spaces.quantiles import Quantiles

__all__ = [
    "Euclidean",
    "Grid",
    "LangevinParticles",
    "Particles",
    "Quantiles",
    "Space",
]
