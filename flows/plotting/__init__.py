"""Figures of solutions, with matplotlib and without any global state.

``plot(sol)`` chooses by the space; the other functions draw one thing each. Every one
takes ``ax=None`` and returns an Axes; None makes a figure of its own (``ax.figure``)
outside pyplot, so nothing is shown and nothing has to be closed. ``save`` writes it.
"""

from __future__ import annotations

from flows.plotting.animation import animate
from flows.plotting.mosaic import fade, mosaic, plot_relief
from flows.plotting.pictures import (
    plot,
    plot_components,
    plot_density,
    plot_image,
    plot_particles,
    plot_path,
)
from flows.plotting.plane import plot_levels
from flows.plotting.style import (
    COLORS,
    legend,
    new_axes,
    save,
    time_bar,
    time_colors,
)
from flows.plotting.traces import plot_energy

__all__ = [
    "COLORS",
    "animate",
    "fade",
    "legend",
    "mosaic",
    "new_axes",
    "plot",
    "plot_components",
    "plot_density",
    "plot_energy",
    "plot_image",
    "plot_levels",
    "plot_particles",
    "plot_path",
    "plot_relief",
    "save",
    "time_bar",
    "time_colors",
]
