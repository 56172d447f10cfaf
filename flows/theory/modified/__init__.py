"""Modified equations: what a scheme with the step h really integrates."""

from __future__ import annotations

from flows.theory.modified.equation import (
    ModifiedEquation,
    Momentum,
    modified_equation,
)
from flows.theory.modified.quadratic import modified_quadratic

__all__ = ["ModifiedEquation", "Momentum", "modified_equation", "modified_quadratic"]
