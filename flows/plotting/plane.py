"""The plane: its axes, boxes, and the level sets of a potential."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.plotting.style import LABEL, own, time_text

__all__ = ["box_around", "label_plane", "plot_levels"]


def label_plane(ax: Any, t: float | None = None, *, phase: bool = False) -> None:
    """Axis names of the plane, or of position and velocity, and the time above."""
    ax.set_xlabel("$x$", fontsize=LABEL)
    ax.set_ylabel("velocity $v$" if phase else "$y$", fontsize=LABEL)
    if t is not None:
        ax.set_title(f"$t = {time_text(t)}$", fontsize=LABEL)


def plot_levels(
    energy: Any,
    ax: Any = None,
    box: Any = ((-2.0, 2.0), (-2.0, 2.0)),
    *,
    t: float = 0.0,
    count: int = 14,
) -> Any:
    """Level sets of the potential of an energy in the plane.

    Parameters
    ----------
    energy : Energy
        Its potential terms are added; other terms are left out.
    box : ((left, right), (bottom, top))
    count : int
        Number of levels, at equal fractions of the area: a narrow valley shows as well
        as a wide one.

    Raises
    ------
    ValueError
        For an energy without a potential.
    """
    terms = [term for term in energy.terms if term.kind == "potential"]
    if not terms:
        raise ValueError(f"{energy!r} has no potential, so there are no level sets.")
    ax = own(ax)
    (left, right), (bottom, top) = box
    x, y = np.linspace(left, right, 241), np.linspace(bottom, top, 241)
    points = np.stack(np.meshgrid(x, y), axis=-1)
    V = np.zeros(points.shape[:-1])
    for term in terms:
        V += term.value_at(points, t)
    inside = V[np.isfinite(V)]
    levels = np.unique(np.quantile(inside, np.linspace(0.0, 1.0, count + 1)))
    if levels.size > 2:
        from matplotlib import colormaps
        from matplotlib.colors import BoundaryNorm, ListedColormap

        # The white end of the map would read as a place without values.
        shades = ListedColormap(colormaps["bone"](np.linspace(0.0, 0.85, 256)))
        ax.contourf(
            x,
            y,
            V,
            levels,
            cmap=shades,
            norm=BoundaryNorm(levels, 256),
            alpha=0.45,
            zorder=0,
        )
        ax.contour(x, y, V, levels[1:-1], colors="white", linewidths=0.6, zorder=0)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    label_plane(ax)
    return ax


def box_around(points: np.ndarray, margin: float = 0.12) -> Any:
    """Box of the points with a margin, not thinner than a third of its length."""
    low, high = points.min(axis=0), points.max(axis=0)
    center, half = 0.5 * (low + high), 0.5 * (high - low)
    half = np.maximum(half, half.max() / 3.0) * (1.0 + 2.0 * margin)
    half = np.where(half > 0.0, half, 1.0)
    return tuple(zip(center - half, center + half, strict=True))
