"""Rates of convergence that theory promises, set against a run.

With f* the minimum, x* a minimizer, R = d(x_0, x*) and t the time since the start, for
convexity along geodesics:

    f convex                 f - f* <= R^2 / (4 t)
    f mu-convex, mu >= 0     d(x, x*) <= R e^(-mu t),  f - f* <= e^(-2 mu t) (f_0 - f*)
    |grad f|^2 >= 2 mu (f - f*)                        f - f* <= e^(-2 mu t) (f_0 - f*)

Proximal steps (``ImplicitEuler``, ``MinimizingMovement``) have bounds of their own:
e^(-mu t) becomes the product of 1/(1 + mu h), and R^2/(4 k h) stays.

Mirror flows have the Bregman divergence D of their map phi, and D_0 = D(x*, x_0):

    f convex                 f - f* <= D_0/t
    f - mu phi convex        D(x*, x) <= e^(-mu t) D_0,  f - f* <= mu D_0/(e^(mu t) - 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import to_numpy
from flows.problems.base import Problem
from flows.theory.bounds import Bound, approach_bound, energy_bounds
from flows.theory.evi import check_evi, check_run, cost, has_divergence, point

if TYPE_CHECKING:
    from flows.theory.checks import Finding

__all__ = ["Bound", "Rates", "rates"]

AXES = {
    "f - f*": "$f - f^*$",
    "distance": "distance to $x^*$",
    "divergence": "$D(x^*, x(t))$",
}


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
            As many as there are quantities: ``f - f*`` and the distance or divergence.

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
    ax.set_ylabel(AXES[bounds[0].name])
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
        x*, the same for a batch or one for each member; needed for distances and
        divergences, for R^2/(4t) and D_0/t.
    minimum : float or (b,) array, optional
        f*; by default the energy of ``minimizer``.
    convexity : float, optional
        A number lambda for which f - lambda d^2/2 is convex along geodesics, or in a
        ``Mirror`` space f - lambda phi along straight lines: 0 for a convex f. The
        bounds need lambda >= 0, the evolution variational inequality any.
    pl : float, optional
        mu in the Polyak-Lojasiewicz inequality abs(grad f)^2 >= 2 mu (f - f*).
    problem : Problem, optional
        Fills in what it knows: ``limit``, ``rate`` = 2 mu, and of its constants
        ``minimum`` or ``infimum`` and ``convexity``; in a ``Mirror`` space
        ``relative_convexity``, or 0 where ``convexity`` says that f is convex.
    tol : float
        Relative error of the run that the comparison forgives.

    Raises
    ------
    TypeError
        Without an energy, for flows that are no gradient flows (of inertial ones see
        ``lyapunov``), for time-dependent energies, and for other arguments.
    ValueError
        When nothing is known that could be checked, for ``pl`` <= 0, and for a
        ``minimum`` that the run goes below, and where D(x*, x_0) is infinite.

    References
    ----------
    L. Ambrosio, N. Gigli, G. Savare, Gradient Flows, Birkhauser 2008,
    doi:10.1007/978-3-7643-8722-8.
    A. B. Taylor, J. M. Hendrickx, F. Glineur, Exact worst-case performance of
    first-order methods for composite convex optimization, SIAM J. Optim. 27 (2017)
    1283-1313, doi:10.1137/16M108104X (R^2/(4 k h)).
    H. H. Bauschke, J. Bolte, M. Teboulle, A descent lemma beyond Lipschitz gradient
    continuity, Math. Oper. Res. 42 (2017) 330-348, doi:10.1287/moor.2016.0817.
    H. Lu, R. M. Freund, Yu. Nesterov, Relatively smooth convex optimization by
    first-order methods, SIAM J. Optim. 28 (2018) 333-354, doi:10.1137/16M1099546.
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
        convexity = known_convexity(sol, constants) if convexity is None else convexity
        if pl is None and problem.rate is not None:
            pl = 0.5 * problem.rate
    z = None if minimizer is None else point(sol, minimizer)
    bregman = has_divergence(sol.space)
    if bregman and z is not None and convexity is not None:
        check_inside(sol, z)
    if minimum is None and z is not None:
        minimum = to_numpy(sol.flow.energy(float(sol.t[0]), z))
    bounds = energy_bounds(sol, z, minimum, convexity, pl, tol)
    if z is not None and convexity is not None and convexity >= 0.0:
        bounds.append(approach_bound(sol, z, convexity, tol))
    evi = None
    if z is not None and convexity is not None:
        evi = check_evi(sol, z, convexity, tol)
    if not bounds and evi is None:
        relative = ", where f - convexity phi is convex for the map phi" * bregman
        raise ValueError(
            "Nothing is known to check: give `pl` and `minimum`, or `minimizer` and "
            f"`convexity` (0 for a convex f{relative}), or a `problem` that has them."
        )
    return Rates(np.asarray(sol.t, dtype=float), tuple(bounds), evi)


def known_convexity(sol: Any, constants: Any) -> float | None:
    """What a problem knows of the convexity that counts in this space."""
    known: float | None = constants.get("convexity")
    if not has_divergence(sol.space):
        return known
    # Convexity along straight lines says this much of any mirror map.
    convex = 0.0 if known is not None and known >= 0.0 else None
    relative: float | None = constants.get("relative_convexity", convex)
    return relative


def check_inside(sol: Any, z: Any) -> None:
    """Refuse a minimizer that is infinitely far by the divergence."""
    if not np.isfinite(cost(sol.space, z, sol.u[0])).all():
        raise ValueError(
            f"D(x*, x_0) is infinite: `minimizer` is at the edge of {sol.space!r}, "
            "where the bounds say nothing. Leave `convexity` out, and give `pl` and "
            "`minimum` if they are known."
        )
