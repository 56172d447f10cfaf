"""The errors of a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.solution import Solution

__all__ = [
    "Interrupted",
    "SolveError",
    "StepFailure",
    "describe",
    "spacing",
]


class SolveError(RuntimeError):
    """A run that failed; ``.solution`` holds every state up to the last good one."""

    solution: Solution

    def __init__(self, message: str, solution: Any = None) -> None:
        super().__init__(message)
        self.solution = solution

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.solution)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; ``.solution`` holds every state up to the last good one."""

    solution: Solution

    def __init__(self, message: str, solution: Any = None) -> None:
        super().__init__(message)
        self.solution = solution

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.solution)


class StepFailure(RuntimeError):
    """A step that could not be made; the state before it stays the last good one."""


def spacing(t: float) -> float:
    """The least step that still moves ``t`` in a sensible way."""
    return 16.0 * math.ulp(t)


def describe(failure: Exception, h: float) -> str:
    """Sentence about a failed inner solve, with its residuals."""
    residuals = getattr(failure, "residuals", None)
    why = str(failure).rstrip(".")
    text = f"the implicit equation of a step of {h:.3g} was not solved: {why}"
    if residuals:
        tail = ", ".join(f"{r:.2e}" for r in list(residuals)[-6:])
        text += f" (last residuals {tail})"
    return text
