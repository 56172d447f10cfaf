"""Pictures of states: densities, images, particles, paths, level sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.plotting.plane import box_around, label_plane, plot_levels
from flows.plotting.states import (
    chosen,
    curve,
    is_line,
    is_phase,
    is_points,
    matrix_shape,
    places,
    plane_paths,
    potential_of,
    state,
)
from flows.plotting.style import (
    COLORS,
    LABEL,
    TICK,
    legend,
    new_axes,
    own,
    time_bar,
    time_colors,
    time_text,
)
from flows.plotting.traces import plot_energy
from flows.spaces import Grid

__all__ = [
    "plot",
    "plot_components",
    "plot_density",
    "plot_image",
    "plot_particles",
    "plot_path",
]

MOST_POINTS = 20_000
"""Particles drawn in one picture; more only make it darker and the file larger."""


def plot(
    sol: Any, ax: Any = None, *, floor: float | None = None, rate: float | None = None
) -> Any:
    """Picture of a solution, chosen by its space.

    - the plane: level sets of V and the paths; R^n: components over time;
    - a density on the line (``Grid``, ``Quantiles``): curves from early to late;
    - a density in the plane: an image; three times when ``ax`` is None;
    - particles: a histogram on the line, points over the level sets in the plane.

    Parameters
    ----------
    sol : Solution
    ax : Axes, optional
        Where to draw. None makes a figure and draws the energy too, if there is one.
    floor, rate : float, optional
        For the energy, see ``plot_energy``.

    Returns
    -------
    Axes, or an array of Axes when ``ax`` is None
    """
    draw = picture_for(sol)
    if ax is not None:
        return draw(sol, ax)
    energy = has_gap(sol, floor)
    if draw is plot_image:
        which = chosen(sol, 3)
        axes = new_axes(which.size + energy, height=2.3)
        for part, i in zip(axes[: which.size], which, strict=True):
            plot_image(sol, part, i=int(i))
    else:
        axes = new_axes(1 + energy)
        draw(sol, axes[0])
    if energy:
        plot_energy(sol, axes[-1], floor=floor, rate=rate)
    return axes


def picture_for(sol: Any) -> Any:
    """The function that draws states of this space."""
    space = sol.space
    if is_line(space):
        return plot_density
    if isinstance(space, Grid):
        return plot_image
    if is_points(space):
        return plot_particles
    return plot_components if plane_paths(sol) is None else plot_path


def has_gap(sol: Any, floor: float | None) -> bool:
    """Whether there is an energy that changes."""
    if sol.energy is None:
        return False
    finite = sol.energy[np.isfinite(sol.energy)]
    least = finite.min(initial=np.inf) if floor is None else floor
    noise = 4 * np.finfo(float).eps * np.abs(finite).max(initial=0.0)
    return bool(finite.size and finite.max() - least > noise)


def plot_density(
    sol: Any,
    ax: Any = None,
    *,
    count: int = 8,
    exact: Any = None,
    label: str = "exact",
    bar: bool = True,
) -> Any:
    """Densities on the line at up to ``count`` saved times, early light, late dark.

    Parameters
    ----------
    sol : Solution
        On a one-dimensional ``Grid`` or on ``Quantiles``.
    count : int
        The times are chosen evenly along the path of the solution.
    exact : Measure, optional
        Its density is drawn dashed over the rest.
    label : str
        Of that density in the legend.
    bar : bool
        A color bar with the times.

    Raises
    ------
    TypeError
        For states that are no densities on the line.
    """
    if not is_line(sol.space):
        raise TypeError(
            f"plot_density draws densities on the line, not states of {sol.space!r}; "
            "plot(sol) chooses by the space."
        )
    ax = own(ax)
    which = chosen(sol, count)
    for i, color in zip(which, time_colors(which.size), strict=True):
        x, rho = curve(sol.space, state(sol, int(i)))
        ax.plot(x, rho, color=color, lw=1.4)
    if exact is not None:
        left, right = ax.get_xlim()
        x = np.linspace(left, right, 801)
        ax.plot(x, exact.pdf(x), "--", color=COLORS["vermilion"], lw=1.3, label=label)
        legend(ax)
    ax.set_xlabel("$x$", fontsize=LABEL)
    ax.set_ylabel(r"density $\rho(t, x)$", fontsize=LABEL)
    ax.set_ylim(bottom=0.0)
    if bar:
        time_bar(ax, sol.t[which])
    return ax


def plot_image(
    sol: Any, ax: Any = None, *, i: int = -1, cmap: Any = "cividis", bar: bool = False
) -> Any:
    """Density on a two-dimensional grid at saved time ``i`` as an image.

    Raises
    ------
    TypeError
        For states that are no densities in the plane.
    """
    space = sol.space
    if not isinstance(space, Grid) or space.d != 2:
        raise TypeError(
            f"plot_image draws densities on a two-dimensional Grid, not {space!r}; "
            "plot(sol) chooses by the space."
        )
    ax = own(ax)
    image = ax.imshow(
        state(sol, i).T,
        origin="lower",
        extent=extent(space),
        cmap=cmap,
        vmin=0.0,
        interpolation="nearest",
    )
    label_plane(ax, sol.t[i])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if bar:
        field = ax.figure.colorbar(image, ax=ax, pad=0.02, shrink=0.85)
        field.set_label(r"density $\rho$", fontsize=LABEL)
        field.ax.tick_params(labelsize=TICK)
        field.outline.set_visible(False)
    return ax


def extent(space: Any) -> tuple[float, ...]:
    """(left, right, bottom, top) of a two-dimensional grid."""
    return tuple(float(e) for axis in space.edges for e in (axis[0], axis[-1]))


def plot_path(sol: Any, ax: Any = None, *, levels: bool = True) -> Any:
    """Paths in the plane, from circle to dot, over the level sets of V.

    Of second-order flows these are the positions in the plane; on the line position and
    velocity.

    Raises
    ------
    TypeError
        For states that are no points of the plane.
    """
    paths, phase = plane_paths(sol), is_phase(sol)
    if paths is None:
        raise TypeError(
            f"plot_path draws points of the plane, got states "
            f"{tuple(sol.u.shape[1:])}; use plot_components."
        )
    from matplotlib.collections import LineCollection

    ax = own(ax)
    paths = paths.transpose(1, 0, 2)
    energy = None if phase else potential_of(sol)
    if levels and energy is not None:
        plot_levels(energy, ax, box_around(paths.reshape(-1, 2)), t=float(sol.t[-1]))
    many = paths.shape[0]
    width = 1.6 if many < 20 else 0.7
    color = COLORS["vermilion"]
    ax.add_collection(LineCollection(list(paths), colors=color, linewidths=width))
    if many < 20:
        ax.plot(*paths[:, 0].T, "o", mfc="white", mec=color, ms=4.5, zorder=3)
    ax.plot(*paths[:, -1].T, "o", color=color, ms=4.5 if many < 20 else 2, zorder=3)
    ax.autoscale_view()
    label_plane(ax, phase=phase)
    return ax


def plot_components(sol: Any, ax: Any = None, *, most: int = 60) -> Any:
    """Components of the state over time; at most ``most`` curves are drawn.

    Of second-order flows these are the positions.
    """
    ax = own(ax)
    u = places(sol)
    matrix = matrix_shape(sol.space)
    n = u.shape[-1] if u.ndim > 1 else 1
    u = u.reshape(len(sol.t), -1)
    texts = [f"{j + 1}" for j in range(n)]
    if matrix is not None:
        texts = [f"{i + 1},{j + 1}" for i in range(matrix[0]) for j in range(matrix[1])]
        n = len(texts)
    shown = np.unique(np.linspace(0, u.shape[1] - 1, min(most, u.shape[1])).round())
    names = list(COLORS.values())
    for j in shown.astype(int):
        label = f"$x_{{{texts[j]}}}$" if 1 < n <= len(names) and j < n else None
        ax.plot(sol.t, u[:, j], color=names[j % n % len(names)], lw=1.3, label=label)
    if 1 < n <= len(names):
        legend(ax, columns=2 if n > 3 else 1)
    ax.set_xlabel("time $t$", fontsize=LABEL)
    ax.set_ylabel("components $x_i(t)$" if n > 1 else "$x(t)$", fontsize=LABEL)
    return ax


def plot_particles(sol: Any, ax: Any = None, *, i: int = -1, exact: Any = None) -> Any:
    """Particles at saved time ``i``: histogram on the line, points in the plane.

    In more dimensions the first two coordinates are drawn.

    Parameters
    ----------
    exact : Measure, optional
        On the line its density is drawn over the histogram.

    Raises
    ------
    TypeError
        For states that are no particles in the plane.
    """
    x = state(sol, i)
    if x.ndim != 2:
        raise TypeError(f"plot_particles draws particles (n, d), got shape {x.shape}.")
    ax = own(ax)
    if x.shape[1] == 1:
        return draw_histogram(ax, x[:, 0], sol.t[i], exact)
    energy = potential_of(sol)
    if x.shape[1] == 2 and energy is not None:
        plot_levels(energy, ax, box_around(x), t=float(sol.t[i]))
    step = -(-x.shape[0] // MOST_POINTS)
    shown = x[::step, :2]
    size = float(np.clip(600.0 / shown.shape[0], 0.4, 9.0))
    ax.scatter(
        *shown.T,
        s=size,
        color=COLORS["vermilion"],
        alpha=float(np.clip(2000.0 / shown.shape[0], 0.15, 0.9)),
        linewidths=0,
        rasterized=True,
        zorder=2,
    )
    label_plane(ax, sol.t[i])
    if x.shape[1] > 2:
        ax.set_xlabel("$x_1$", fontsize=LABEL)
        ax.set_ylabel("$x_2$", fontsize=LABEL)
    return ax


def bins_for(x: np.ndarray) -> np.ndarray:
    """Edges of a histogram: Scott's width, between 10 and 120 bins.

    References
    ----------
    D. W. Scott, Biometrika 66 (1979) 605-610, doi:10.1093/biomet/66.3.605.
    """
    low, high = float(x.min()), float(x.max())
    width = 3.49 * float(x.std()) * x.size ** (-1.0 / 3.0)
    if not width > 0.0:
        return np.linspace(low - 0.5, high + 0.5, 11)
    return np.linspace(low, high, int(np.clip((high - low) / width, 10, 120)) + 1)


def draw_histogram(ax: Any, x: np.ndarray, t: float, exact: Any) -> Any:
    """Filled histogram of particles on the line."""
    edges = bins_for(x)
    counts, _ = np.histogram(x, edges, density=True)
    sky = COLORS["sky"]
    ax.stairs(counts, edges, fill=True, color=sky, alpha=0.6, label="particles")
    if exact is not None:
        points = np.linspace(edges[0], edges[-1], 801)
        color = COLORS["vermilion"]
        ax.plot(points, exact.pdf(points), "--", color=color, lw=1.3, label="exact")
        legend(ax)
    ax.set_xlabel("$x$", fontsize=LABEL)
    ax.set_ylabel(r"density $\rho(t, x)$", fontsize=LABEL)
    ax.set_title(f"$t = {time_text(t)}$", fontsize=LABEL)
    return ax
