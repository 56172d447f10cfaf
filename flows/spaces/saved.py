"""Spaces and their parts by class name, from which files are read."""

from __future__ import annotations

from typing import Any

from flows import spaces
from flows.spaces import bounds, costs, fisher_gaussian, fisher_models, metrics
from flows.spaces.mirror_maps import Burg, Entropy, Simplex
from flows.spaces.p_norms import PNorm

__all__ = ["PARTS"]

LISTED = (
    *(getattr(spaces, name) for name in spaces.__all__),
    *(getattr(fisher_gaussian, name) for name in fisher_gaussian.__all__),
    *(costs.L1, costs.L2, costs.Linf, costs.MetricNorm, costs.Spectral),
    *(bounds.Projection, bounds.Logarithm, bounds.Rejection),
    *(metrics.Diagonal, metrics.Matrix),
    *(fisher_models.FisherCategorical, fisher_models.FisherSoftmax),
    *(Burg, Entropy, PNorm, Simplex),
)
PARTS: dict[str, Any] = {c.__name__: c for c in LISTED if isinstance(c, type)}
