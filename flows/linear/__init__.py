"""Linear systems and exponentials of matrices in all forms, and Newton methods."""

from flows.linear.krylov import conjugate_gradient
from flows.linear.newton import (
    WORK,
    NewtonFailure,
    NewtonResult,
    count_iterations,
    minimize_newton,
    newton,
)
from flows.linear.operators import Operator, apply
from flows.linear.phi import Exponentials, exponentials
from flows.linear.shifted import Shifted, shifted
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
    "Exponentials",
    "NewtonFailure",
    "NewtonResult",
    "Operator",
    "Shifted",
    "SparseFactor",
    "Tridiagonal",
    "TridiagonalFactor",
    "apply",
    "conjugate_gradient",
    "count_iterations",
    "exponentials",
    "minimize_newton",
    "newton",
    "shifted",
    "sparse_factor",
]
