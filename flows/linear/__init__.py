"""Tridiagonal and sparse systems, damped Newton methods, conjugate gradients."""

from flows.linear.krylov import conjugate_gradient
from flows.linear.newton import (
    WORK,
    NewtonFailure,
    NewtonResult,
    count_iterations,
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
    "WORK",
    "BandFactor",
    "CyclicTridiagonal",
    "NewtonFailure",
    "NewtonResult",
    "SparseFactor",
    "Tridiagonal",
    "TridiagonalFactor",
    "conjugate_gradient",
    "count_iterations",
    "minimize_newton",
    "newton",
    "sparse_factor",
]
