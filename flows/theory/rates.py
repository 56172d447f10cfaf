"""Rates of convergence that theory promises, set against a run.

With f* the minimum, x* a minimizer, R = d(x_0, x*) and t the time since the start:

    f convex                 f - f* <= R^2 / (4 t)
    f mu-convex, mu >= 0     d(x, x*) <= R e^(-mu t),  f - f* <= e^(-2 mu t) (f_0 - f*)
    |grad f|^2 >= 2 mu (f - f*)                        f - f* <= e^(-2 mu t) (f_0 - f*)

Proximal steps (``ImplicitEuler``, ``MinimizingMovement``) have bounds of their own:
e^(-mu t) becomes the product of 1/(1 + mu h), and R^2/(4 k h) stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import dtype_name, to_numpy
from flows.problems.base import Problem
from flows.theory.evi import PROXIMAL, check_evi, check_run, point, spread

if TYPE_CHECKING:
    from flows.theory.checks import Finding

__all__ = ["Bound", "Rates", "rates"]

Array = Any


@dataclass(frozen=True, eq=False)
class Bound:
    """A curve of a run and what bounds it, (k,) or (k, b).

    ``tol`` times the bound plus ``rounding`` is what the comparison forgives.

    Attributes
    ----------
    name : str
        "f - f*" or "distance".
    formula : str
        The inequality, as it is printed.
    curve, bound, rounding : (k,) or (k, b) array
    tol : float
    """

    name: str
    formula: str
    curve: np.ndarray
    bound: np.ndarray
    rounding: np.ndarray
    tol: float

    @property
    def holds(self) -> bool:
        """Whether the curve stays below the bound."""
        return bool((self.curve <= (1.0 + self.tol) * self.bound + self.rounding).all())

    @property
    def tightness(self) -> float:
        """Largest curve / bound after the start, where the bound is above rounding."""
        seen = (self.bound > 1e3 * self.rounding) & np.isfinite(self.bound)
        seen[0] = False
        ratio = self.curve / np.where(seen, self.bound, 1.0)
        return float(ratio[seen].max()) if seen.any() else math.nan


@dataclass(frozen=True, eq=False)
class Rates:
    """The bounds that apply to a run; true in a boolean context when all hold.

    Attributes
    ----------
    t : (k,) array
        Times of the run.
    bounds : tuple of Bound
    evi : Finding or None
        The evolution variational inequality against the minimizer.
    """

    t: np.ndarray
    bounds: tuple[Bound, ...]
    evi: Finding | None = None

    @property
    def holds(self) -> bool:
        """Whether every bound holds."""
        return all(b.holds for b in self.bounds) and (
            self.evi is None or bool(self.evi)
        )

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        width = max([len(b.formula) for b in self.bounds], default=5)
        lines = [f"{'':4}  {'bound':{width}}  {'largest ratio':>13}"]
        for b in self.bounds:
            verdict = "pass" if b.holds else "FAIL"
            lines.append(f"{verdict}  {b.formula:{width}}  {b.tightness:13.6g}")
        return "\n".join(lines if self.evi is None else [*lines, str(self.evi)])

    def plot(self, ax: Any = None) -> Any:
        """The run against its bounds on logarithmic scales, one picture a quantity.

        Parameters
        ----------
        ax : one or several matplotlib Axes, optional
            As many as there are quantities: ``f - f*`` and the distance.

        Returns
        -------
        list of Axes

        Raises
        ------
        ValueError
            For another number of axes, and where there is no bound to draw.
        """
        names = list(dict.fromkeys(b.name for b in self.bounds))
        if not names:
            raise ValueError(
                "There is no bound to draw, only an inequality to print: give `pl`, or "
                "`convexity` >= 0."
            )
        if ax is None:
            from matplotlib.figure import Figure

            figure = Figure(figsize=(3.8 * len(names), 3.0), layout="constrained")
            ax = [figure.add_subplot(1, len(names), i + 1) for i in range(len(names))]
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != len(names):
            raise ValueError(f"`ax` must hold {len(names)} axes, got {len(axes)}.")
        for one, name in zip(axes, names, strict=True):
            draw(one, self.t, [b for b in self.bounds if b.name == name])
        return axes


def draw(ax: Any, t: np.ndarray, bounds: list[Bound]) -> None:
    """One quantity and its bounds."""
    curve = bounds[0].curve
    visible = np.where(curve > 0.0, curve, np.nan)
    ax.semilogy(t, visible, color="#0072B2", lw=1.6)[0].set_label("run")
    styles = (("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"))
    for b, (color, dashes) in zip(bounds, styles, strict=False):
        shown = np.where((b.bound > 0.0) & np.isfinite(b.bound), b.bound, np.nan)
        lines = ax.semilogy(t, shown, dashes, color=color, lw=1.4)
        lines[0].set_label(b.formula.split("<=")[1].strip())
    finite = visible[np.isfinite(visible)]
    if finite.size:
        # Rounding at the end of a run would fill the picture.
        ax.set_ylim(bottom=max(0.3 * finite.min(), 1e-16 * finite.max()))
        ax.set_ylim(top=20 * finite.max())
    ax.set_xlabel("time $t$")
    ax.set_ylabel("$f - f^*$" if bounds[0].name == "f - f*" else "distance to $x^*$")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)


def rates(
    sol: Any,
    *,
    minimizer: Any = None,
    minimum: Any = None,
    convexity: float | None = None,
    pl: float | None = None,
    problem: Problem | None = None,
    tol: float = 1e-6,
) -> Rates:
    """Check the rates that theory knows against a run.

    Parameters
    ----------
    sol : Solution
        Of a gradient flow whose energy f does not depend on time.
    minimizer : array or Measure, optional
        x*, the same for a batch or one for each member; needed for distances and for
        R^2/(4t).
    minimum : float or (b,) array, optional
        f*; by default the energy of ``minimizer``.
    convexity : float, optional
        A number lambda for which f - lambda d^2/2 is convex along geodesics; the
        bounds need lambda >= 0, the evolution variational inequality any.
    pl : float, optional
        mu in the Polyak-Lojasiewicz inequality abs(grad f)^2 >= 2 mu (f - f*).
    problem : Problem, optional
        Fills in what it knows: ``limit``, ``rate`` = 2 mu, and of its constants
        ``minimum`` or ``infimum`` and ``convexity``.
    tol : float
        Relative error of the run that the comparison forgives.

    Raises
    ------
    TypeError
        Without an energy, for flows that are no gradient flows (of inertial ones see
        ``lyapunov``), for time-dependent energies, and for other arguments.
    ValueError
        When nothing is known that could be checked, for ``pl`` <= 0, and for a
        ``minimum`` that the run goes below.

    References
    ----------
    L. Ambrosio, N. Gigli, G. Savare, Gradient Flows, Birkhauser 2008,
    doi:10.1007/978-3-7643-8722-8.
    A. B. Taylor, J. M. Hendrickx, F. Glineur, Exact worst-case performance of
    first-order methods for composite convex optimization, SIAM J. Optim. 27 (2017)
    1283-1313, doi:10.1137/16M108104X (R^2/(4 k h)).
    """
    check_run(sol)
    for name, value in (("convexity", convexity), ("pl", pl)):
        if value is not None and not isinstance(value, (int, float, np.floating)):
            raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if pl is not None and not pl > 0.0:
        raise ValueError(f"`pl` must be positive, got {pl!r}.")
    if problem is not None:
        if not isinstance(problem, Problem):
            raise TypeError(f"`problem` must be a Problem, got {problem!r}.")
        constants = problem.constants
        minimizer = problem.limit if minimizer is None else minimizer
        if minimum is None:
            minimum = constants.get("minimum", constants.get("infimum"))
        convexity = constants.get("convexity") if convexity is None else convexity
        if pl is None and problem.rate is not None:
            pl = 0.5 * problem.rate
    z = None if minimizer is None else point(sol, minimizer)
    if minimum is None and z is not None:
        minimum = to_numpy(sol.flow.energy(float(sol.t[0]), z))
    bounds = energy_bounds(sol, z, minimum, convexity, pl, tol)
    if z is not None and convexity is not None and convexity >= 0.0:
        bounds.append(distance_bound(sol, z, convexity, tol))
    evi = None
    if z is not None and convexity is not None:
        evi = check_evi(sol, z, convexity, tol)
    if not bounds and evi is None:
        raise ValueError(
            "Nothing is known to check: give `pl` and `minimum`, or `minimizer` and "
            "`convexity`, or a `problem` that has them."
        )
    return Rates(np.asarray(sol.t, dtype=float), tuple(bounds), evi)


def factors(sol: Any, mu: float, power: int, per_step: float) -> np.ndarray:
    """e^(-power mu t), or for proximal steps the product of (1 + a mu h)^(-b).

    ``per_step`` is a; b is ``power`` for a = 1.
    """
    t = np.asarray(sol.t, dtype=float)
    if sol.stats.get("scheme") not in PROXIMAL:
        return np.asarray(np.exp(-power * mu * (t - t[0])))
    b = power if per_step == 1.0 else 1
    spans, dt = np.diff(t), sol.stats.get("dt")
    # An unknown number of steps counts as one, whose factor is the largest.
    count = np.ones_like(spans)
    if isinstance(dt, float):
        count = np.maximum(1.0, np.ceil(spans / dt - 1e-9))
    logs = -b * count * np.log1p(per_step * mu * spans / count)
    return np.asarray(np.exp(np.concatenate([[0.0], np.cumsum(logs)])))


def energy_bounds(
    sol: Any,
    z: Array | None,
    minimum: Any,
    convexity: float | None,
    pl: float | None,
    tol: float,
) -> list[Bound]:
    """What bounds f - f*."""
    if minimum is None:
        return []
    energy = np.asarray(to_numpy(sol.energy), dtype=float)
    lowest = np.asarray(minimum, dtype=float)
    excess = energy - lowest
    eps = float(np.finfo(dtype_name(sol.u[0])).eps)
    rounding = 64 * eps * (np.abs(energy) + np.abs(lowest))
    # Below by more than what a discretization does: not the minimum.
    if (excess < -1e-3 * np.ptp(energy, axis=0) - rounding).any():
        raise ValueError(
            f"`minimum` is {minimum!r}, but the energy of the run falls to "
            f"{energy.min():.9g}: give the lowest value of the energy."
        )
    convex = convexity is not None and convexity >= 0.0
    found = []

    def add(formula: str, bound: np.ndarray) -> None:
        found.append(Bound("f - f*", formula, excess, bound, rounding, tol))

    if convex and z is not None:
        start = np.asarray(to_numpy(sol.space.distance(sol.u[0], z)), dtype=float)
        elapsed = spread(np.asarray(sol.t, float) - float(sol.t[0]), excess)
        # At t = 0 there is no bound, also where R = 0.
        later = np.where(elapsed > 0.0, elapsed, 1.0)
        bound = np.where(elapsed > 0.0, start**2 / (4.0 * later), np.inf)
        add("f - f* <= R^2/(4 t)", bound)
    proximal = sol.stats.get("scheme") in PROXIMAL
    if convexity is not None and convexity > 0.0:
        text = "prod (1 + mu h)^-2" if proximal else "e^(-2 mu t)"
        decay = spread(factors(sol, convexity, 2, 1.0), excess)
        add(f"f - f* <= {text} (f_0 - f*)", decay * excess[0])
    if pl is not None and pl > 0.0:
        a = 2.0 if convex else 1.0
        text = f"prod 1/(1 + {'2 ' if convex else ''}m h)" if proximal else "e^(-2 m t)"
        if proximal and not convex:
            decay = spread(factors(sol, pl, 1, 1.0), excess)
        else:
            decay = spread(factors(sol, pl, 2, a), excess)
        add(f"f - f* <= {text} (f_0 - f*) by PL", decay * excess[0])
    return found


def distance_bound(sol: Any, z: Array, convexity: float, tol: float) -> Bound:
    """d(x, x*) <= e^(-lambda t) R."""
    distance = sol.space.distance
    curve = np.array([to_numpy(distance(u, z)) for u in sol.u], dtype=float)
    bound = spread(factors(sol, convexity, 1, 1.0), curve) * curve[0]
    proximal = sol.stats.get("scheme") in PROXIMAL
    text = "prod 1/(1 + mu h)" if proximal else "e^(-mu t)"
    eps = float(np.finfo(dtype_name(sol.u[0])).eps)
    size = np.array([to_numpy(distance(u, 0.0 * u)) for u in (z, sol.u[0])])
    rounding = np.full(curve.shape, 64 * eps * size.max())
    text = "R" if convexity == 0.0 else f"{text} R"
    return Bound("distance", f"d(x, x*) <= {text}", curve, bound, rounding, tol)
