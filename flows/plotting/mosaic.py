"""Large pictures: one big panel beside small ones, reliefs, and inks for densities."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.plotting.style import own

__all__ = ["fade", "mosaic", "plot_relief"]

MARGIN, GAP, HEAD, FOOT = 0.09, 0.08, 0.62, 0.34
"""Inches around and between the panels, for the title and for the captions."""


def mosaic(
    rows: int,
    columns: int = 1,
    *,
    aspect: float,
    title: str = "",
    captions: tuple[str, ...] = (),
    ink: str = "black",
    paper: str = "white",
    family: str = "sans-serif",
    width: float = 7.0,
) -> tuple[Any, Any, Any]:
    """Figure with one big panel on the left and rows x columns small ones beside it.

    All panels have the same shape and no frame, and fill the figure, whose height
    follows.

    Parameters
    ----------
    rows, columns : int
    aspect : float
        Height over width of a panel.
    title : str
        Above the panels.
    captions : tuple of str
        Below the big panel and below the columns of small ones.
    ink, paper : color
    family : str
        Of the font.
    width : float
        Of the figure, in inches.

    Returns
    -------
    figure : Figure
    big : Axes
    small : (rows, columns) array of Axes

    Raises
    ------
    ValueError
        For less than one row or column.
    """
    from matplotlib.figure import Figure

    if rows < 1 or columns < 1:
        raise ValueError(f"A mosaic needs rows and columns, got {rows} and {columns}.")
    # rows * tall + (rows - 1) * GAP is the height of the big panel.
    free = width - 2 * MARGIN - columns * GAP
    tall = (free - (rows - 1) * GAP / aspect) * aspect / (rows + columns)
    full = rows * tall + (rows - 1) * GAP
    foot = FOOT if captions else MARGIN
    height = foot + full + (HEAD if title else MARGIN)
    figure = Figure(figsize=(width, height), facecolor=paper)

    def panel(x: float, y: float, high: float) -> Any:
        box = (x / width, y / height, high / aspect / width, high / height)
        ax = figure.add_axes(box)
        ax.set_axis_off()
        return ax

    big = panel(MARGIN, foot, full)
    left = [
        MARGIN + full / aspect + GAP + k * (tall / aspect + GAP) for k in range(columns)
    ]
    low = [foot + (rows - 1 - k) * (tall + GAP) for k in range(rows)]
    small = np.array([[panel(x, y, tall) for x in left] for y in low])
    texts = [(MARGIN, height - 0.5 * HEAD, 15, "bold", title)]
    texts += [
        (x, 0.5 * FOOT, 9, "normal", text)
        for x, text in zip((MARGIN, *left), captions, strict=False)
    ]
    for x, y, size, weight, text in texts:
        figure.text(
            x / width,
            y / height,
            text,
            color=ink,
            size=size,
            weight=weight,
            family=family,
            va="center",
        )
    return figure, big, small


def fade(*colors: str) -> Any:
    """Colormap from transparent through the colors, for a picture on a picture.

    Raises
    ------
    ValueError
        For no colors.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    if not colors:
        raise ValueError("`fade` needs at least one color.")
    start = (*to_rgba(colors[0])[:3], 0.0)
    steps = [
        (*to_rgba(c)[:3], min(1.0, 0.35 + 0.65 * (k + 1) / len(colors)))
        for k, c in enumerate(colors)
    ]
    return LinearSegmentedColormap.from_list("fade", [start, *steps])


def plot_relief(
    heights: Any,
    ax: Any = None,
    box: Any = None,
    *,
    steepness: float = 0.015,
) -> Any:
    """Shaded relief of heights on a grid, lit from the upper left, dark where low.

    Parameters
    ----------
    heights : (nx, ny) array
        The first axis runs to the right, the second upwards, as on ``Grid``.
    box : ((left, right), (bottom, top)), optional
        By default cells of size 1.
    steepness : float
        Factor of the heights in the shading; a larger one gives deeper shadows.

    Raises
    ------
    ValueError
        For heights that are no array (nx, ny).
    """
    from matplotlib.colors import LightSource, LinearSegmentedColormap

    z = np.asarray(heights, dtype=float).T
    if z.ndim != 2:
        raise ValueError(f"`heights` must be an array (nx, ny), got shape {z.T.shape}.")
    ax = own(ax)
    soil = ["#16232e", "#25424a", "#5a6a58", "#a39a78", "#e6dcc0"]
    tint = LinearSegmentedColormap.from_list("soil", soil)
    light = LightSource(315, 38)
    image = light.shade(z, tint, blend_mode="soft", vert_exag=steepness)
    (left, right), (low, high) = box or ((0, z.shape[1]), (0, z.shape[0]))
    extent = (left, right, low, high)
    ax.imshow(image, origin="lower", extent=extent, interpolation="bilinear")
    return ax
