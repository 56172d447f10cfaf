"""Damped Newton methods for equations and for minimization."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import all_finite, dtype_name, namespace

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "WORK",
    "NewtonFailure",
    "NewtonResult",
    "count_iterations",
    "minimize_newton",
    "newton",
]

Array = Any
HALVINGS = 50


class NewtonFailure(RuntimeError):
    """An inner solve that did not converge.

    Attributes
    ----------
    residuals : list of float
        History of the residual norms, or of the Newton decrements.
    """

    def __init__(self, message: str, residuals: list[float] | None = None) -> None:
        super().__init__(message)
        self.residuals = list(residuals or [])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.residuals)


@dataclass(frozen=True, eq=False)
class NewtonResult:
    """Solution ``x``, number of iterations and the history of the residuals."""

    x: Array
    iterations: int
    residuals: list[float]


# Where the solvers of a step count their iterations: a run sets its counters here, so
# that the Flow protocol need not carry them through every resolvent.
WORK: ContextVar[dict[str, int] | None] = ContextVar("WORK", default=None)


def count_iterations(n: int) -> None:
    """Add ``n`` iterations to the counters of the present run, if there is one."""
    work = WORK.get()
    if work is not None:
        work["newton_iterations"] = work.get("newton_iterations", 0) + n


def finished(x: Array, iterations: int, residuals: list[float]) -> NewtonResult:
    """The result of a solver that has converged, counted."""
    count_iterations(iterations)
    return NewtonResult(x, iterations, residuals)


def newton(
    residual: Callable[[Array], Array],
    solve: Callable[[Array, Array], Array],
    x0: Array,
    *,
    norm: Callable[[Array], float] | None = None,
    tol: float | None = None,
    floor: float = 0.0,
    max_iterations: int = 50,
    step_limit: Callable[[Array, Array], float] | None = None,
) -> NewtonResult:
    """Solve residual(x) = 0 by Newton's method with backtracking on the norm.

    x <- x - a J(x)^{-1} residual(x), with the first a in limit, limit/2, limit/4, ..
    for which norm(residual) falls by the factor 1 - a/10000 at least.

    Parameters
    ----------
    residual : callable
        x -> array of the shape of x. Where it is not finite, the step is shortened.
    solve : callable
        ``solve(x, r)`` = J(x)^{-1} r.
    x0 : array
        First guess, any shape; NumPy or torch.
    norm : callable, optional
        Largest absolute entry by default.
    tol : float, optional
        Converged when norm(residual) <= tol; by default, after a step of relative size
        1e-12 (float32: 1e-5) that lowered the residual tenfold. A step of rounding size
        that does not lower the residual ends the iteration in both cases.
    floor : float
        Rounding level of the residual, for instance 8 eps times the norm of its largest
        term: below it, a residual that falls no more counts as converged.
    max_iterations : int
    step_limit : callable, optional
        ``step_limit(x, p)``: largest fraction of the step p that may be taken from x,
        the safety distance included.

    Raises
    ------
    NewtonFailure
        Without convergence, with the norms of the residuals. ``solve`` may raise it or
        numpy.linalg.LinAlgError.
    """
    norm = _largest if norm is None else norm
    eps, loose = _precision(x0)
    x, r = x0, residual(x0)
    residuals = [norm(r)]
    if not np.isfinite(residuals[0]):
        raise NewtonFailure("the residual at the first guess is not finite", residuals)
    target = 0.0 if tol is None else tol
    reach = 0.0
    for iteration in range(max_iterations + 1):
        size = residuals[-1]
        if size <= target:
            return finished(x, iteration, residuals)
        if iteration == max_iterations:
            break
        step = -_solved(solve, x, r, residuals)
        fraction = _allowed(step_limit, x, step, residuals)
        # The step is Newton's own estimate of the error of x.
        error, reach = _largest(step), max(reach, _largest(x))
        for _ in range(HALVINGS):
            trial = x + fraction * step
            value = residual(trial)
            new = norm(value)
            if new < (1.0 - 1e-4 * fraction) * size and all_finite(trial):
                break
            if size <= floor or error <= 8 * eps * reach:
                return finished(x, iteration, residuals)
            fraction *= 0.5
        else:
            raise NewtonFailure(
                f"no step of Newton's method lowers the residual {size:.3g}", residuals
            )
        x, r = trial, value
        residuals.append(new)
        # A small step is a small error only where convergence is fast.
        fast = fraction == 1.0 and new <= 0.1 * size
        if tol is None and fast and error <= loose * _largest(x):
            return finished(x, iteration + 1, residuals)
    if residuals[-1] <= floor:
        return finished(x, max_iterations, residuals)
    raise NewtonFailure(
        f"Newton's method did not converge in {max_iterations} iterations: "
        f"residual {residuals[-1]:.3g}, tolerance {target:.3g}",
        residuals,
    )


def minimize_newton(
    value: Callable[[Array], float],
    gradient: Callable[[Array], Array],
    solve: Callable[[Array, Array], Array],
    x0: Array,
    *,
    tol: float | None = None,
    floor: float = 0.0,
    max_iterations: int = 100,
    step_limit: Callable[[Array, Array], float] | None = None,
) -> NewtonResult:
    """Minimize a smooth, convex function by Newton's method with an Armijo line search.

    x <- x + a p, p = -H(x)^{-1} gradient(x), with the first a in limit, limit/2, .. for
    which the value falls by a/10000 times the decrement -gradient.p = p.Hp, which is
    twice the distance of a quadratic function to its minimum. Where the decrement has
    come near the rounding error of the value, the slope along p decides instead: it
    resolves x to eps, the value only to sqrt(eps).

    Parameters
    ----------
    value : callable
        x -> float; inf or NaN outside the domain, where the step is shortened.
    gradient : callable
        x -> array of the shape of x.
    solve : callable
        ``solve(x, g)`` = H(x)^{-1} g with a positive definite H.
    x0 : array
        First guess inside the domain, any shape; NumPy or torch.
    tol : float, optional
        Converged when the decrement is at most tol, or when it stagnates at the
        rounding level. By default 1e-24 (float32: 1e-10) times the first decrement.
    floor : float
        Rounding level of the value, where it is above 8 eps |value|: the value may be
        small because its terms cancel.
    max_iterations : int
    step_limit : callable, optional
        ``step_limit(x, p)``: largest fraction of the step p that may be taken from x,
        the safety distance included.

    Returns
    -------
    NewtonResult
        ``residuals`` are the decrements.

    Raises
    ------
    NewtonFailure
        Without convergence, with the decrements. ``solve`` may raise it or
        numpy.linalg.LinAlgError.

    References
    ----------
    S. Boyd, L. Vandenberghe, Convex Optimization, Cambridge University Press (2004),
    section 9.5, doi:10.1017/CBO9780511804441.
    W. W. Hager, H. Zhang, A new conjugate gradient method with guaranteed descent and
    an efficient line search, SIAM J. Optim. 16 (2005), 170-192,
    doi:10.1137/030601880 (the slope in place of the value).
    """
    xp = namespace(x0)
    eps, loose = _precision(x0)
    x, f, g = x0, float(value(x0)), gradient(x0)
    decrements: list[float] = []
    if not np.isfinite(f):
        raise NewtonFailure(f"the value at the first guess is {f}", decrements)
    whole = False
    for iteration in range(max_iterations + 1):
        step = -_solved(solve, x, g, decrements)
        decrement = -float(xp.sum(g * step))
        decrements.append(decrement)
        if not np.isfinite(decrement):
            raise NewtonFailure("Newton's method met a non-finite slope", decrements)
        if iteration == 0 and tol is None:
            tol = loose**2 * decrement
        noise = max(floor, 8 * eps * abs(f))
        if decrement < -noise:
            raise NewtonFailure(
                f"Newton's direction points uphill (decrement {decrement:.3g}): "
                "the Hessian is not positive definite",
                decrements,
            )
        fraction = _allowed(step_limit, x, step, decrements)
        if tol is not None and decrement <= tol:
            # The last step is free and squares the error once more.
            last = x + step
            free = decrement >= 0.0 and fraction == 1.0 and all_finite(last)
            return finished(last if free else x, iteration, decrements)
        if decrement <= 1e3 * noise:
            stagnant = whole and decrement >= 0.25 * decrements[-2]
            trial = x + fraction * step
            new = gradient(trial)
            slope = abs(float(xp.sum(new * step)))
            if stagnant or not slope <= (1.0 - 0.5 * fraction) * decrement:
                return finished(x, iteration, decrements)
            f_new = float(value(trial))
        else:
            trial, f_new, fraction = _armijo(
                value, x, f, step, decrement, fraction, decrements
            )
            new = gradient(trial)
        if iteration == max_iterations:
            break
        if not np.isfinite(f_new):
            return finished(x, iteration, decrements)
        x, f, g, whole = trial, f_new, new, fraction == 1.0
    raise NewtonFailure(
        f"Newton's method did not converge in {max_iterations} iterations: "
        f"decrement {decrements[-1]:.3g}, tolerance {tol:.3g}",
        decrements,
    )


def _armijo(
    value: Callable[[Array], float],
    x: Array,
    f: float,
    step: Array,
    decrement: float,
    fraction: float,
    decrements: list[float],
) -> tuple[Array, float, float]:
    """The first admissible point on the step, its value, and the fraction taken."""
    for _ in range(HALVINGS):
        trial = x + fraction * step
        new = float(value(trial))
        lower = np.isfinite(new) and new <= f - 1e-4 * fraction * decrement
        if lower and all_finite(trial):
            return trial, new, fraction
        fraction *= 0.5
    raise NewtonFailure(
        f"no step of Newton's method lowers the value {f:.6g} as the decrement "
        f"{decrement:.3g} promises: do value, gradient and Hessian belong together?",
        decrements,
    )


def _solved(
    solve: Callable[[Array, Array], Array], x: Array, r: Array, history: list[float]
) -> Array:
    """solve(x, r), whose failures become NewtonFailure with the history."""
    try:
        step = solve(x, r)
    except np.linalg.LinAlgError as error:
        raise NewtonFailure(
            f"the linear system of Newton's method has no solution: {error}", history
        ) from error
    if not all_finite(step):
        raise NewtonFailure("the step of Newton's method is not finite", history)
    return step


def _allowed(
    step_limit: Callable[[Array, Array], float] | None,
    x: Array,
    step: Array,
    history: list[float],
) -> float:
    """Fraction of the step to begin with."""
    if step_limit is None:
        return 1.0
    limit = float(step_limit(x, step))
    if not limit > 0.0:
        raise NewtonFailure(
            f"`step_limit` allows the fraction {limit} of the step", history
        )
    return min(1.0, limit)


def _largest(x: Array) -> float:
    return float(namespace(x).max(namespace(x).abs(x)))


def _precision(x: Array) -> tuple[float, float]:
    """Spacing eps of the dtype, and the relative tolerance taken by default."""
    name = dtype_name(x)
    return float(np.finfo(name).eps), 1e-12 if name == "float64" else 1e-5
