"""Energy along a run, with the rate that theory states."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.plotting.states import is_measure
from flows.plotting.style import COLORS, LABEL, legend, own

__all__ = ["plot_energy"]


def plot_energy(
    sol: Any,
    ax: Any = None,
    *,
    floor: float | None = None,
    rate: float | None = None,
    label: str | None = None,
    color: str | None = None,
) -> Any:
    """F(rho(t)) - F_inf over time, or V(x(t)) - V_inf, on a logarithmic axis.

    Parameters
    ----------
    sol : Solution
        With an energy.
    ax : Axes, optional
    floor : float, optional
        F_inf, the least energy. None takes the lowest energy of the run: the curve is
        then right only while it is far above its end.
    rate : float, optional
        Draws (F(u_0) - F_inf) exp(-rate (t - t_0)), the bound that theory states.
    label, color : str, optional
        Of the curve; the label is written in a legend.

    Raises
    ------
    ValueError
        When the solution has no energy, or every gap is zero.
    """
    if sol.energy is None:
        raise ValueError(
            "This solution has no energy to plot (the flow is random, or its energy is "
            "infinite)."
        )
    ax = own(ax)
    energy = np.asarray(sol.energy, dtype=float)
    finite = energy[np.isfinite(energy)]
    least = float(finite.min()) if floor is None else float(floor)
    gap = energy - least
    # Below rounding of the energies the gap is noise.
    noise = 4 * np.finfo(float).eps * float(np.abs(finite).max(initial=abs(least)))
    gap = np.where(np.isfinite(gap) & (gap > noise), gap, np.nan)
    if not np.isfinite(gap).any():
        raise ValueError(
            "The energy stays at `floor` during the whole run: there is no gap to plot."
        )
    color = color or COLORS["blue"]
    if gap.ndim == 1:
        ax.semilogy(sol.t, gap, color=color, lw=1.6, label=label)
    else:
        flat = gap.reshape(len(sol.t), -1)
        alpha = max(0.15, flat.shape[1] ** -0.25)
        lines = ax.semilogy(sol.t, flat, color=color, lw=0.7, alpha=alpha)
        lines[0].set_label(label)
    if rate is not None:
        draw_rate(ax, sol.t, gap.reshape(len(sol.t), -1), float(rate))
    ax.set_xlabel("time $t$", fontsize=LABEL)
    F, u = ("F", r"\rho") if is_measure(sol.space) else ("V", "x")
    ending = rf" - \min {F}" if floor is None else rf" - {F}_\infty" if floor else ""
    ax.set_ylabel(f"${F}({u}(t)){ending}$", fontsize=LABEL)
    if label is not None or rate is not None:
        legend(ax)
    return ax


def draw_rate(ax: Any, t: np.ndarray, gap: np.ndarray, rate: float) -> None:
    """Dashed line of slope -rate through the first gap, as far down as the curve."""
    first = float(np.nanmax(gap[np.isfinite(gap).any(axis=1)][0]))
    start = float(t[np.argmax(np.isfinite(gap).any(axis=1))])
    times = np.linspace(start, float(t[-1]), 200)
    line = first * np.exp(-rate * (times - start))
    seen = line >= 0.3 * float(np.nanmin(gap))
    ax.semilogy(
        times[seen],
        line[seen],
        "--",
        color=COLORS["vermilion"],
        lw=1.2,
        label=rf"rate ${rate:.4g}$",
    )
