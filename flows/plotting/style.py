"""Colors, sizes and files: what all figures share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COLORS",
    "dress",
    "legend",
    "new_axes",
    "save",
    "time_bar",
    "time_colors",
]

COLORS: dict[str, str] = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "black": "#1A1A1A",
    "gray": "#7A7A7A",
}
"""Colors that stay apart for every kind of color vision.

References
----------
M. Okabe, K. Ito, Color Universal Design (2008), https://jfly.uni-koeln.de/color/.
"""

LABEL, TICK = 9.0, 8.0
"""Font sizes in points, legible in a column of 3.4 inches."""


def dress(ax: Any) -> Any:
    """Fonts, open frame and thin ticks of an Axes made by the library."""
    ax.set_prop_cycle(color=list(COLORS.values()))
    ax.tick_params(which="both", labelsize=TICK, width=0.6)
    ax.tick_params(length=3.0)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_fontsize(LABEL)
    ax.title.set_fontsize(LABEL)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_linewidth(0.6)
    return ax


def new_axes(
    columns: int = 1,
    *,
    width: float | None = None,
    height: float = 2.7,
    ratios: Sequence[float] | None = None,
    titles: Sequence[str] = (),
) -> Any:
    """Axes of a new figure that pyplot does not know, in one row.

    Parameters
    ----------
    columns : int
    width, height : float
        Inches; by default one column of a journal (3.4) or two (7).
    ratios : sequence of float, optional
        Relative widths of the columns.
    titles : sequence of str, optional
        Of the first axes.

    Returns
    -------
    (columns,) array of Axes

    Raises
    ------
    ValueError
        For less than one column.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if columns < 1:
        raise ValueError(f"`columns` must be at least 1, got {columns}.")
    size = (width or (3.4 if columns == 1 else 7.0), height)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.03))
    axes = figure.subplots(1, columns, squeeze=False, width_ratios=ratios)[0]
    for ax in axes:
        dress(ax)
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title, fontsize=LABEL)
    return axes


def own(ax: Any) -> Any:
    """``ax``, or a new Axes for None."""
    return new_axes()[0] if ax is None else ax


def legend(
    ax: Any,
    *,
    below: bool = False,
    columns: int = 1,
    title: str | None = None,
    where: str = "best",
) -> Any:
    """Legend of the labelled lines, without a frame, in the size of the tick labels.

    Parameters
    ----------
    ax : Axes
    below : bool
        Under the axis instead of on the picture; the layout makes room for it.
    columns : int
    title : str, optional
    where : str
        Place on the picture, as matplotlib names it: "upper left".

    Returns
    -------
    Legend
    """
    from matplotlib.transforms import ScaledTranslation

    anchor, transform = (0.0, 0.0, 1.0, 1.0), ax.transAxes
    if below:
        # Points under the picture: the tick labels and the name of the axis are there.
        room = 1.8 * (TICK * bool(len(ax.get_xticks())) + LABEL * bool(ax.get_xlabel()))
        inches = ax.figure.dpi_scale_trans
        transform = transform + ScaledTranslation(0.0, -room / 72, inches)
        where, anchor = "upper center", (0.0, 0.0, 1.0, 0.0)
    return ax.legend(
        loc=where,
        bbox_to_anchor=anchor,
        bbox_transform=transform,
        borderaxespad=0.5,
        frameon=False,
        fontsize=TICK,
        title_fontsize=TICK,
        title=title,
        ncols=columns,
        handlelength=1.8,
        columnspacing=1.4,
    )


def time_colors(count: int) -> np.ndarray:
    """(count, 4) colors from early (light green) to late (dark purple)."""
    from matplotlib import colormaps

    return np.asarray(colormaps["viridis_r"](np.linspace(0.12, 1.0, max(count, 1))))


def time_bar(ax: Any, times: Any, label: str = "time $t$") -> Any:
    """Color bar beside ``ax`` with one field for each of ``times``, early to late.

    It is as high as the picture, also where a fixed aspect makes that lower.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    n = len(times)
    colors = ListedColormap(time_colors(n))
    mappable = ScalarMappable(BoundaryNorm(np.arange(n + 1.0) - 0.5, n), colors)
    place = ax.inset_axes((1.03, 0.0, 0.03, 1.0))
    bar = ax.figure.colorbar(mappable, cax=place, ticks=np.arange(n))
    bar.ax.set_yticklabels([time_text(t) for t in times], fontsize=TICK)
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=LABEL)
    return bar


def time_text(t: float) -> str:
    """Three digits of a time."""
    return f"{float(t):.3g}"


def save(
    picture: Any,
    name: str,
    out: Any = "figures",
    *,
    dpi: float = 200,
    colors: int | None = None,
) -> Path:
    """Write the figure of an Axes (or a Figure) to ``out/name``.

    Parameters
    ----------
    picture : Axes, array of Axes or Figure
    name : str
        With the ending that chooses the format: ``.png``, ``.pdf``, ``.svg``.
    out : path
        Folder; made if it is not there.
    colors : int, optional
        Palette of a PNG, 2 to 256 colors: a third of the size for photographs.

    Raises
    ------
    ValueError
        For a palette of an impossible size, or of another format.
    """
    first = np.ravel(np.asarray(picture, dtype=object))[0]
    figure = first if hasattr(first, "savefig") else first.figure
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if colors is None:
        figure.savefig(path, dpi=dpi, facecolor=figure.get_facecolor())
        return path
    if path.suffix.lower() != ".png" or not 2 <= colors <= 256:
        raise ValueError(
            f"`colors` is a palette of 2 to 256 colors for .png, got {colors} "
            f"for {name!r}."
        )
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png", facecolor=figure.get_facecolor())
    with Image.open(buffer) as image:
        full = image.convert("RGB")
        palette = full.quantize(colors, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
        full.quantize(palette=palette).save(path, optimize=True)
    return path
