"""Conjugate gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import dtype_name, namespace
from flows.linear.newton import NewtonFailure, NewtonResult

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["conjugate_gradient"]

Array = Any


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    b: Array,
    x0: Array | None = None,
    *,
    tol: float | None = None,
    max_iterations: int | None = None,
    preconditioner: Callable[[Array], Array] | None = None,
) -> NewtonResult:
    """Solve A x = b for a symmetric positive definite operator A.

    Parameters
    ----------
    matvec : callable
        x -> A x, for x of the shape of ``b`` (any shape).
    b : array
    x0 : array, optional
        First guess; zero by default.
    tol : float, optional
        Bound of |b - A x| / |b| in Euclidean norms: 1e-12 in float64, 1e-5 in float32.
    max_iterations : int, optional
        Ten times the number of unknowns by default.
    preconditioner : callable, optional
        r -> M r with M symmetric positive definite, near A^{-1}.

    Returns
    -------
    NewtonResult
        ``x``, ``iterations``, and ``residuals``: the norms |b - A x|.

    Raises
    ------
    NewtonFailure
        Without convergence, or when A or M is found not to be positive definite; with
        the residuals.

    References
    ----------
    M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear
    systems, J. Res. Nat. Bur. Standards 49 (1952), 409-436, doi:10.6028/jres.049.044.
    """
    xp = namespace(b)

    def dot(x: Array, y: Array) -> float:
        return float(xp.sum(x * y))

    tol = (1e-12 if dtype_name(b) == "float64" else 1e-5) if tol is None else tol
    target = tol * dot(b, b) ** 0.5
    x = xp.zeros_like(b) if x0 is None else x0
    r = b if x0 is None else b - matvec(x)
    limit = 10 * int(np.prod(b.shape)) if max_iterations is None else max_iterations
    residuals = [dot(r, r) ** 0.5]
    p, rho_old = xp.zeros_like(b), 1.0
    for iteration in range(limit + 1):
        if residuals[-1] <= target:
            return NewtonResult(x, iteration, residuals)
        if iteration == limit or not np.isfinite(residuals[-1]):
            break
        z = r if preconditioner is None else preconditioner(r)
        rho = dot(r, z)
        p = z + (rho / rho_old) * p
        Ap = matvec(p)
        curvature = dot(p, Ap)
        if not (rho > 0.0 and curvature > 0.0):
            raise NewtonFailure(
                f"conjugate gradients met p.Ap = {curvature:.3g} and r.Mr = {rho:.3g}: "
                "the matrix and the preconditioner must be positive definite",
                residuals,
            )
        x = x + (rho / curvature) * p
        r = r - (rho / curvature) * Ap
        rho_old = rho
        residuals.append(dot(r, r) ** 0.5)
    raise NewtonFailure(
        f"conjugate gradients did not converge in {len(residuals) - 1} iterations: "
        f"residual {residuals[-1]:.3g}, target {target:.3g}",
        residuals,
    )
