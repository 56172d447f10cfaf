"""Tridiagonal and sparse systems, damped Newton methods, conjugate gradients."""

from flows.linear.krylov import conjugate_gradient
from flows.linear.newton import (
    NewtonFailure,
    NewtonResult,
    minimize_newton,
    newton,
)
from flows.linear.sparse import SparseFactor, sparse_factor
from flows.linear.tridiagonal import (
    BandFactor,
    CyclicTridiagonal,
    Tridiagonal,
    TridiagonalFactor,
)

__all__ = [
    "BandFactor",
    "CyclicTridiagonal",
    "NewtonFailure",
    "NewtonResult",
    "SparseFactor",
    "Tridiagonal",
    "TridiagonalFactor",
    "conjugate_gradient",
    "minimize_newton",
    "newton",
    "sparse_factor",
]
