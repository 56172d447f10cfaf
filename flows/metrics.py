"""Metrics for ``Euclidean(metric=...)``: matrices, functions of the point, Fisher.

    dx/dt = -M(x)^{-1} grad V(x)

>>> import flows as fl
>>> fl.Euclidean(metric=fl.metrics.fisher_cholesky(2))
Euclidean(metric=fisher_cholesky(2))
"""

from __future__ import annotations

from flows.spaces.fisher_gaussian import FisherCholesky as fisher_cholesky
from flows.spaces.fisher_gaussian import FisherCovariance as fisher_covariance
from flows.spaces.fisher_gaussian import FisherMoments as fisher_moments
from flows.spaces.fisher_gaussian import FisherNatural as fisher_natural
from flows.spaces.fisher_models import FisherCategorical as fisher_categorical
from flows.spaces.fisher_models import FisherSoftmax as fisher_softmax
from flows.spaces.fisher_models import ModuleOutputs as outputs
from flows.spaces.fisher_models import (
    fisher_classification,
    fisher_empirical,
    fisher_regression,
)
from flows.spaces.metrics import Metric, diagonal, matrix, operator, riemannian

__all__ = [
    "Metric",
    "diagonal",
    "fisher_categorical",
    "fisher_cholesky",
    "fisher_classification",
    "fisher_covariance",
    "fisher_empirical",
    "fisher_moments",
    "fisher_natural",
    "fisher_regression",
    "fisher_softmax",
    "matrix",
    "operator",
    "outputs",
    "riemannian",
]
