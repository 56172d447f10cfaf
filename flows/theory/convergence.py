"""Convergence studies: errors over step sizes, observed orders, tables, slopes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Convergence", "convergence"]


@dataclass(frozen=True, eq=False)
class Convergence:
    """Errors over sizes, with the observed orders.

    Attributes
    ----------
    sizes, errors : (k,) arrays
    name : str
        What the size is called in tables, for instance "h" or "1/n".
    """

    sizes: np.ndarray
    errors: np.ndarray
    name: str = "h"

    @property
    def order(self) -> np.ndarray:
        """Observed orders log(e_i / e_{i+1}) / log(h_i / h_{i+1}), (k - 1,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(self.errors[:-1] / self.errors[1:])
        return np.asarray(ratio / np.log(self.sizes[:-1] / self.sizes[1:]))

    @property
    def slope(self) -> float:
        """Slope of the least-squares line through (log h, log error)."""
        positive = self.errors > 0
        if positive.sum() < 2:
            return math.nan
        x, y = np.log(self.sizes[positive]), np.log(self.errors[positive])
        return float(np.polyfit(x, y, 1)[0])

    def rows(self) -> list[tuple[str, str, str]]:
        """The table's cells as text."""
        orders = ["", *(f"{p:.2f}" for p in self.order)]
        return [
            (f"{h:.6g}", f"{e:.3e}", p)
            for h, e, p in zip(self.sizes, self.errors, orders, strict=True)
        ]

    def __str__(self) -> str:
        lines = [f"{self.name:>12}  {'error':>10}  {'order':>6}"]
        lines += [f"{h:>12}  {e:>10}  {p:>6}" for h, e, p in self.rows()]
        return "\n".join([*lines, f"{'fitted':>12}  {'':>10}  {self.slope:6.2f}"])

    def to_latex(self) -> str:
        """Table for LaTeX with the package booktabs."""
        body = []
        for h, e, p in self.rows():
            digits, exponent = e.split("e")
            body.append(
                f"{h} & ${digits} \\times 10^{{{int(exponent)}}}$ & {p or '--'} \\\\"
            )
        return "\n".join(
            [
                "\\begin{tabular}{lll}",
                "\\toprule",
                f"${self.name}$ & error & order \\\\",
                "\\midrule",
                *body,
                "\\bottomrule",
                "\\end{tabular}",
            ]
        )

    def to_csv(self, path: Any = None) -> str:
        """Comma-separated table with all digits; also written to ``path``."""
        orders = ["", *map(repr, self.order.tolist())]
        lines = [f"{self.name},error,order"]
        lines += [
            f"{h!r},{e!r},{p}"
            for h, e, p in zip(
                self.sizes.tolist(), self.errors.tolist(), orders, strict=True
            )
        ]
        text = "\n".join(lines) + "\n"
        if path is not None:
            Path(path).write_text(text)
        return text

    def plot(self, ax: Any = None, label: str | None = None) -> Any:
        """Log-log plot of the errors with a line of the nearest integer slope."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(3.6, 3.0), layout="constrained").add_subplot()
        ax.loglog(self.sizes, self.errors, "o-", label=label or "error")
        p = round(self.slope) if math.isfinite(self.slope) else 0
        text = f"slope {p}"
        # One guide serves all curves of its slope.
        if p > 0 and text not in [t.get_text() for t in ax.texts]:
            guide = 0.6 * self.errors[-1] * (self.sizes / self.sizes[-1]) ** p
            ax.loglog(self.sizes, guide, "--", color="0.45", lw=1)
            middle = len(self.sizes) // 2
            ax.annotate(
                text,
                (self.sizes[middle], guide[middle]),
                textcoords="offset points",
                xytext=(6, -12),
                fontsize=8,
                color="0.35",
            )
        ax.set_xlabel(f"${self.name}$" if len(self.name) == 1 else self.name)
        ax.set_ylabel("error")
        return ax


def convergence(
    error: Callable[[Any], float], sizes: Sequence[float], name: str = "h"
) -> Convergence:
    """Evaluate ``error(size)`` at every size and tabulate the observed orders.

    Parameters
    ----------
    error : callable
        Error as a function of a step or mesh size.
    sizes : sequence of float
        At least two different positive sizes; they are sorted from large to small.

    Raises
    ------
    TypeError
        For an ``error`` that is no function.
    ValueError
        For fewer than two sizes, and for an error that is negative or not finite.

    Examples
    --------
    >>> import flows as fl
    >>> fl.convergence(lambda h: 3 * h**2, [0.4, 0.2, 0.1]).order.round(2)
    array([2., 2.])
    """
    if not callable(error):
        raise TypeError(f"`error` must be a function of a size, got {error!r}.")
    values = sorted((float(s) for s in sizes), reverse=True)
    if len(set(values)) < 2 or values[-1] <= 0 or not math.isfinite(values[0]):
        raise ValueError(
            f"`sizes` must hold at least two different positive numbers, got {sizes!r}."
        )
    errors = []
    for size in values:
        value = float(error(size))
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(
                f"The error at size {size:g} is {value}; it must be finite and >= 0."
            )
        errors.append(value)
    return Convergence(np.array(values), np.array(errors), name)
