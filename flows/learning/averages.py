"""Averages of the iterates, kept while a run goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.arrays import to_numpy

__all__ = ["Average", "ExponentialAverage"]

Array = Any


@dataclass
class Average:
    """Uniform average of the states after each step, the start included.

    Put it into ``on_step``; ``sol.records["average"]`` has one average for each step.
    """

    _mean: Any = field(default=None, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)
    _values: list[Any] = field(default_factory=list, init=False, repr=False)

    def start(self, run: Any) -> None:
        self._mean, self._count, self._values = 0.0, 0, []
        self.after(run)

    def after(self, run: Any) -> None:
        self._count += 1
        # In this form rounding does not grow with the sum.
        self._mean = self._mean + (to_numpy(run.u) - self._mean) / self._count
        self._values.append(self._mean)

    def values(self) -> dict[str, np.ndarray]:
        """The averages, steps first."""
        return {"average": np.array(self._values)}

    def state(self) -> dict[str, np.ndarray]:
        return {"average": np.array(self._values), "count": np.array(self._count)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._values = list(state["average"])
        self._mean, self._count = self._values[-1], int(state["count"])


@dataclass
class ExponentialAverage:
    """Exponential moving average m_k = beta m_{k-1} + (1 - beta) x_k.

    Parameters
    ----------
    beta : float
        0 <= beta < 1; the memory is about 1/(1 - beta) steps.
    corrected : bool
        With m_0 = 0 and division by 1 - beta^k (the start does not count); else
        m_0 = x_0.

    Raises
    ------
    ValueError
        For ``beta`` outside [0, 1).

    Notes
    -----
    On gradient descent of x^2 l/2, x_k = r^k x_0 with r = 1 - h l, and, with m_0 = x_0,
    m_k = beta^k x_0 + (1 - beta) r (r^k - beta^k)/(r - beta) x_0; at resonance r = beta
    the fraction is k beta^(k-1).

    References
    ----------
    B. T. Polyak, A. B. Juditsky, Acceleration of stochastic approximation by averaging,
    SIAM J. Control Optim. 30 (1992) 838-855, doi:10.1137/0330046.
    """

    beta: float
    corrected: bool = False
    _mean: Any = field(default=None, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)
    _values: list[Any] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.beta, (int, float)) or not 0.0 <= self.beta < 1.0:
            raise ValueError(f"`beta` must lie in [0, 1), got {self.beta!r}.")

    def start(self, run: Any) -> None:
        x = to_numpy(run.u)
        self._count, self._mean = 0, 0.0 * x if self.corrected else x
        self._values = [x]

    def after(self, run: Any) -> None:
        self._count += 1
        x = to_numpy(run.u)
        self._mean = self.beta * self._mean + (1.0 - self.beta) * x
        scale = 1.0 - self.beta**self._count if self.corrected else 1.0
        self._values.append(self._mean / scale)

    def values(self) -> dict[str, np.ndarray]:
        """The averages, steps first."""
        return {"exponential_average": np.array(self._values)}

    def state(self) -> dict[str, np.ndarray]:
        return {
            "values": np.array(self._values),
            "mean": np.array(self._mean),
            "count": np.array(self._count),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._values = list(state["values"])
        self._mean, self._count = state["mean"], int(state["count"])
