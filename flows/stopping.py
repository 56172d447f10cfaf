"""The stopping rule ``until``: where it fires, refined inside the step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows.arrays import is_array
from flows.loop import State, StepFailure

__all__ = ["Rule"]


class Rule:
    """The stopping rule of a run: a sign change or a bool, refined inside the step."""

    def __init__(self, until: Any, run: Any) -> None:
        self.until = until
        value = until(run.t, run.u)
        if value is None:
            raise TypeError("`until` returned None; did you forget `return`?")
        if is_array(value) and value.ndim > 0:
            raise TypeError(
                f"`until` must return one float or bool, got shape {value.shape}."
            )
        self.boolean = isinstance(value, (bool, np.bool_)) or "bool" in str(
            getattr(value, "dtype", "")
        )
        self.value = self.read(value)
        self.now = self.boolean and self.value > 0

    def read(self, value: Any) -> float:
        """A bool as -1 or 1, a float as itself."""
        if self.boolean:
            return 1.0 if bool(value) else -1.0
        if math.isnan(float(value)):
            raise StepFailure("`until` returned NaN")
        return float(value)

    def stops(self, run: Any) -> bool:
        """Whether the rule fired in the last step; puts the run at that moment."""
        before, value = self.value, self.read(self.until(run.t, run.u))
        self.value = value
        if not (before * value < 0 or (value == 0.0 and before != 0.0)):
            return False
        if run.runner.stream is None and value != 0.0:
            self.refine(run, before)
        return True

    def refine(self, run: Any, first: float) -> None:
        """Repeat the step with the size at which the rule fires."""
        start, end, runner = run.before, run.state, run.runner
        if start is None:
            return
        h = end.t - start.t
        count = runner.counters["steps"]

        def at(part: float) -> State:
            state: State = runner.halving(start, part * h, start.t + part * h)
            return state

        def rule(part: float) -> float:
            if part == 0.0:
                return first
            state = end if part == 1.0 else at(part)
            return self.read(self.until(state.t, runner.user(state.u)))

        if self.boolean:
            low, part = 0.0, 1.0
            while part - low > 1e-12:
                middle = 0.5 * (low + part)
                low, part = (low, middle) if rule(middle) > 0 else (middle, part)
        else:
            from scipy.optimize import brentq

            part = float(brentq(rule, 0.0, 1.0, xtol=1e-13, rtol=1e-14))
        if 0.0 < part < 1.0:
            run.state = at(part)._replace(origin=end.origin, h=end.h, error=end.error)
        runner.counters["steps"] = count
