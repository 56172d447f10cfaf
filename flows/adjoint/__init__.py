"""Derivatives of a run: through its steps, or by the adjoint equation."""

from __future__ import annotations

from flows.adjoint.methods import Backprop, ContinuousAdjoint

__all__ = ["Backprop", "ContinuousAdjoint"]
