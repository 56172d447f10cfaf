"""What the problems of vectors share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows import energies
from flows.energies import Potential

if TYPE_CHECKING:
    from flows.energies import Energy

__all__ = ["number_or_array", "separable_energy", "vector_spaces"]

Array = Any


def vector_spaces(x0: Array) -> tuple[str, ...]:
    """Spaces for a point (n,) or points (b, n)."""
    return ("Euclidean",) if x0.ndim == 1 else ("Euclidean", "Particles")


def separable_energy(
    text: str, x0: Array, parameters: dict[str, float] | None = None
) -> Energy:
    """The potential sum_i v(x_i), written plainly on the line."""
    if x0.shape[-1] == 1:
        return Potential(text, parameters=parameters)
    return energies.separable(text, parameters=parameters)


def number_or_array(values: Array) -> Any:
    """A float for one value, the array for many."""
    return float(values) if np.ndim(values) == 0 else values
