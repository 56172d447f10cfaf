"""The verification report: what theory says, computed by the library itself.

Each statement is a function that returns (computed, theory, tolerance); it is
registered with a name and one sentence. ``python -m flows verify`` prints one line for
each.
"""

from __future__ import annotations

import importlib
import math
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Result", "Statement", "statement", "statements", "verify"]

# Modules that register statements when they are imported, and their headings.
CHAPTERS = {
    "euclidean": "Vectors",
    "geometry": "Geometries: mirrors, manifolds, norms",
    "nonsmooth": "Kinks and constraints",
    "inertial": "Inertia and natural gradients",
    "schemes": "What each scheme really integrates",
    "modified": "Modified equations and implicit regularization",
    "learning": "Games, several objectives, masks, averages",
    "wasserstein": "Laws on the line",
    "grid": "Densities on a grid",
    "particles": "Particles and noise",
}


@dataclass(frozen=True)
class Statement:
    """One sentence of theory and the function that computes both of its sides."""

    name: str
    text: str
    compute: Callable[[], tuple[Any, Any, float]]

    @property
    def chapter(self) -> str:
        """Heading of the chapter in which it is registered."""
        module = self.compute.__module__.rpartition(".")[2]
        return CHAPTERS.get(module, "Others")


@dataclass(frozen=True)
class Result:
    """What was computed and what theory says; arrays are compared entry by entry."""

    name: str
    text: str
    computed: Any
    theory: Any
    tolerance: float
    passed: bool
    error: str = ""

    @property
    def gap(self) -> float:
        """Largest difference of the two sides; NaN when they do not compare."""
        a, b = np.asarray(self.computed, float), np.asarray(self.theory, float)
        return float(np.abs(a - b).max()) if a.shape == b.shape else math.nan

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        if self.error:
            return f"{verdict}  {self.name:24} {'':16} {self.text}: {self.error}"
        found, size = "", np.size(self.computed)
        if not self.passed or (size <= 3 and np.any(self.theory)):
            found = f": computed {shown(self.computed)}, theory {shown(self.theory)}"
        return (
            f"{verdict}  {self.name:24} {self.gap:7.1e} {self.tolerance:8.1e} "
            f"{self.text}{found}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, for JSON, which has no NaN."""
        return {name: plain(value) for name, value in asdict(self).items()}


def plain(value: Any) -> Any:
    """``value`` with text in the place of numbers that are not finite."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


HEADER = f"{'':4}  {'statement':24} {'differ':>7} {'allowed':>8} text"


def shown(value: Any) -> str:
    """Numbers with seven digits, lists in brackets."""
    if isinstance(value, list):
        return f"({', '.join(map(shown, value))})"
    return value if isinstance(value, str) else f"{value:.7g}"


REGISTER: dict[str, Statement] = {}


def statement(name: str, text: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a function as a statement.

    Raises
    ------
    ValueError
        For a name that is taken.
    """

    def register(compute: Callable[[], Any]) -> Callable[[], Any]:
        known = REGISTER.get(name)
        if known is not None and not same(known.compute, compute):
            raise ValueError(f"The statement {name!r} exists already.")
        REGISTER[name] = Statement(name, text, compute)
        return compute

    return register


def same(a: Callable[..., Any], b: Callable[..., Any]) -> bool:
    """Whether b is the function a, perhaps of a module that was loaded again."""
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)


def statements() -> list[Statement]:
    """All statements, chapter by chapter."""
    for chapter in CHAPTERS:
        importlib.import_module(f"flows.theory.statements.{chapter}")
    order = [*CHAPTERS.values(), "Others"]
    return sorted(REGISTER.values(), key=lambda item: order.index(item.chapter))


def verify(chosen: Sequence[Statement] | None = None) -> Iterator[Result]:
    """Compute the statements one after the other."""
    for item in statements() if chosen is None else chosen:
        yield examine(item)


def examine(item: Statement) -> Result:
    """Compute one statement; an exception is a failure, never the end of the report."""
    try:
        computed, theory, tolerance = item.compute()
        a = np.asarray(computed, dtype=float)
        b = np.asarray(theory, dtype=float)
    except Exception as error:
        line = traceback.format_exception_only(error)[-1].strip()
        return Result(item.name, item.text, None, None, 0.0, False, line)
    passed = bool(a.shape == b.shape and (np.abs(a - b) <= tolerance).all())
    return Result(
        item.name, item.text, a.tolist(), b.tolist(), float(tolerance), passed
    )
