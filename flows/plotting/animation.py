"""Animations as GIF files, written frame by frame with Pillow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flows.plotting.pictures import MOST_POINTS, bins_for, extent
from flows.plotting.plane import box_around, label_plane, plot_levels
from flows.plotting.states import (
    curve,
    is_line,
    is_phase,
    is_points,
    places,
    plane_paths,
    potential_of,
    state,
)
from flows.plotting.style import COLORS, LABEL, new_axes, time_text
from flows.spaces import Grid

__all__ = ["animate"]

Update = Callable[[int], None]


def animate(sol: Any, path: str | Path, frames: int = 60, *, fps: int = 20) -> Path:
    """Write an animation of a solution as a GIF.

    Parameters
    ----------
    sol : Solution
        The frames are saved states, evenly spaced in number, so that ``save_at`` sets
        the clock.
    path : path
        Ends in ``.gif``.
    frames, fps : int
        At most this many frames; frames a second.

    Raises
    ------
    ValueError
        For another ending, and for fewer than 2 frames.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"`path` must end in .gif, got {path.name!r}.")
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 2:
        raise ValueError(f"`frames` must be an integer of at least 2, got {frames!r}.")
    from matplotlib.animation import PillowWriter

    (ax,) = new_axes(1, width=4.4, height=3.2)
    which = np.unique(np.linspace(0, len(sol.t) - 1, frames).round()).astype(int)
    update = scene(sol, ax, which)
    # The layout must not move with the title from frame to frame.
    ax.set_title("$t = 0.000$", fontsize=LABEL)
    ax.figure.draw_without_rendering()
    ax.figure.set_layout_engine("none")
    writer = PillowWriter(fps=fps)
    with writer.saving(ax.figure, str(path), 120):
        for i in which:
            update(int(i))
            ax.set_title(f"$t = {time_text(sol.t[i])}$", fontsize=LABEL)
            writer.grab_frame()
    return path


def scene(sol: Any, ax: Any, which: np.ndarray) -> Update:
    """Draw the first frame with limits for all; the result redraws state i."""
    space = sol.space
    if is_line(space):
        return density_scene(sol, ax, which)
    if isinstance(space, Grid):
        return image_scene(sol, ax)
    if is_points(space):
        flat = sol.u.shape[-1] == 1
        return (histogram_scene if flat else points_scene)(sol, ax, which)
    paths = plane_paths(sol)
    return components_scene(sol, ax) if paths is None else path_scene(sol, ax, paths)


def density_scene(sol: Any, ax: Any, which: np.ndarray) -> Update:
    """A density on the line, and the first one in gray behind it."""
    curves = {int(i): curve(sol.space, state(sol, int(i))) for i in which}
    (line,) = ax.plot(*curves[int(which[0])], color=COLORS["blue"], lw=1.8)
    (first,) = ax.plot(*curves[int(which[0])], color=COLORS["gray"], lw=0.8)
    first.set_zorder(0)
    tops = [float(np.max(y[np.isfinite(y)], initial=0.0)) for _, y in curves.values()]
    # A start close to a Dirac would flatten everything that follows.
    ax.set_ylim(0.0, 1.08 * min(max(tops), 4.0 * float(np.median(tops))))
    ax.set_xlim(
        min(float(x[0]) for x, _ in curves.values()),
        max(float(x[-1]) for x, _ in curves.values()),
    )
    ax.set_xlabel("$x$", fontsize=LABEL)
    ax.set_ylabel(r"density $\rho(t, x)$", fontsize=LABEL)
    return lambda i: line.set_data(*curves[i])


def image_scene(sol: Any, ax: Any) -> Update:
    """A density in the plane, each frame with colors up to its own maximum.

    Raises
    ------
    TypeError
        For a grid of three dimensions.
    """
    if sol.space.d != 2:
        raise TypeError("Animations of grids need one or two dimensions.")
    image = ax.imshow(
        state(sol, 0).T, origin="lower", extent=extent(sol.space), cmap="cividis"
    )
    label_plane(ax)

    def update(i: int) -> None:
        u = state(sol, i)
        image.set_data(u.T)
        image.set_clim(0.0, float(u.max()))

    return update


def histogram_scene(sol: Any, ax: Any, which: np.ndarray) -> Update:
    """Particles on the line, in the same bins in all frames."""
    edges = bins_for(np.concatenate([state(sol, int(i))[:, 0] for i in which]))

    def counts(i: int) -> np.ndarray:
        return np.histogram(state(sol, i)[:, 0], edges, density=True)[0]

    sky = COLORS["sky"]
    bars = ax.stairs(counts(int(which[0])), edges, fill=True, color=sky, alpha=0.7)
    tops = [float(counts(int(i)).max()) for i in which]
    ax.set_ylim(0.0, 1.08 * min(max(tops), 4.0 * float(np.median(tops))))
    ax.set_xlabel("$x$", fontsize=LABEL)
    ax.set_ylabel(r"density $\rho(t, x)$", fontsize=LABEL)
    return lambda i: bars.set_data(counts(i))


def points_scene(sol: Any, ax: Any, which: np.ndarray) -> Update:
    """The first two coordinates of particles, in a box around the start and the end."""
    ends = np.concatenate([state(sol, int(i))[:, :2] for i in (which[0], which[-1])])
    box = box_around(ends)
    energy = potential_of(sol)
    if energy is not None and sol.u.shape[-1] == 2:
        plot_levels(energy, ax, box)
    step = -(-sol.u.shape[1] // MOST_POINTS)
    (dots,) = ax.plot(
        *state(sol, 0)[::step, :2].T,
        "o",
        color=COLORS["vermilion"],
        ms=1.5,
        mec="none",
        alpha=0.5,
    )
    ax.set_xlim(*box[0])
    ax.set_ylim(*box[1])
    label_plane(ax)
    return lambda i: dots.set_data(*state(sol, i)[::step, :2].T)


def path_scene(sol: Any, ax: Any, paths: np.ndarray) -> Update:
    """Paths (k, b, 2) that grow from their starts."""
    box, phase = box_around(paths.reshape(-1, 2)), is_phase(sol)
    energy = None if phase else potential_of(sol)
    if energy is not None:
        plot_levels(energy, ax, box)
    color = COLORS["vermilion"]
    lines = [ax.plot(*p.T, color=color, lw=1.2)[0] for p in paths.transpose(1, 0, 2)]
    (dots,) = ax.plot(*paths[0].T, "o", color=color, ms=4)
    ax.set_xlim(*box[0])
    ax.set_ylim(*box[1])
    label_plane(ax, phase=phase)

    def update(i: int) -> None:
        for j, line in enumerate(lines):
            line.set_data(*paths[: i + 1, j].T)
        dots.set_data(*paths[i].T)

    return update


def components_scene(sol: Any, ax: Any) -> Update:
    """At most 60 components over time, as curves that grow."""
    u = places(sol).reshape(len(sol.t), -1)
    names = list(COLORS.values())
    lines = [
        ax.plot(sol.t, u[:, j], color=names[j % len(names)], lw=1.2)[0]
        for j in range(min(u.shape[1], 60))
    ]
    ax.set_xlabel("time $t$", fontsize=LABEL)
    ax.set_ylabel("components $x_i(t)$", fontsize=LABEL)

    def update(i: int) -> None:
        for j, line in enumerate(lines):
            line.set_data(sol.t[: i + 1], u[: i + 1, j])

    return update
