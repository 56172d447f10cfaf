"""Boxes that the states of a flow of vectors keep, and three ways to keep them.

``projection`` clips, so that states rest on a bound; ``logarithm`` moves coordinates in
which the bounds are infinitely far away; ``rejection`` repeats a step that ends outside
with a smaller size. Adaptive runs control their error in all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, to_numpy
from flows.spaces.bounded_flows import (
    LogarithmicFlow,
    ProjectedDrift,
    ProjectedFlow,
    RejectingFlow,
)
from flows.spaces.metrics import brief

if TYPE_CHECKING:
    from flows.flow import Flow

__all__ = [
    "Bounds",
    "Logarithm",
    "Projection",
    "Rejection",
    "check_bounds",
    "logarithm",
    "projection",
    "rejection",
]

Array = Any


@dataclass(frozen=True, eq=False, repr=False)
class Bounds:
    """lower <= x <= upper, numbers or (n,) arrays, infinite where there is no bound."""

    lower: Any = -np.inf
    upper: Any = np.inf

    def __post_init__(self) -> None:
        ends = {}
        for name in ("lower", "upper"):
            value = getattr(self, name)
            try:
                raw = np.array(to_numpy(value), dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"`{name}` must be a number or an array (n,), got {value!r}."
                ) from error
            if raw.ndim > 1 or np.isnan(raw).any():
                raise ValueError(
                    f"`{name}` must be a number or an array (n,) without NaN, got "
                    f"{value!r}."
                )
            raw.setflags(write=False)
            ends[name] = raw
        lower, upper = ends["lower"], ends["upper"]
        sizes = {raw.size for raw in ends.values() if raw.ndim}
        if len(sizes) > 1:
            raise ValueError(
                f"`lower` has {lower.size} entries and `upper` {upper.size}; they must "
                "agree."
            )
        if not np.all(lower < upper):
            raise ValueError(
                f"`lower` must be below `upper`, got {brief(lower)} and {brief(upper)}."
            )
        if not (np.isfinite(lower).any() or np.isfinite(upper).any()):
            raise ValueError("No bound is finite; leave `bounds` out.")
        for name, raw in ends.items():
            object.__setattr__(self, name, raw)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__.lower()}({brief(self.lower)}, {brief(self.upper)})"
        )

    def box(self, u: Array) -> tuple[Array, Array]:
        """Bounds (n,) in the library and dtype of u."""
        n = u.shape[-1]
        lower, upper = (np.broadcast_to(v, (n,)) for v in (self.lower, self.upper))
        return array_like(lower, u), array_like(upper, u)

    def state_error(self, u: Array) -> str | None:
        """None for a state within the bounds, else what is wrong and what to do."""
        n = u.shape[-1]
        sizes = {v.size for v in (self.lower, self.upper) if v.ndim} - {n}
        if sizes:
            return (
                f"`bounds` has {sizes.pop()} entries, but the state has {n} "
                f"coordinates; give numbers or arrays ({n},)."
            )
        x = to_numpy(u)
        for end, name, below in (
            (self.lower, "lower", self.outside(x, self.lower)),
            (self.upper, "upper", self.outside(-x, -self.upper)),
        ):
            if below.any():
                where = tuple(int(i) for i in np.argwhere(below)[0])
                index = ", ".join(map(str, where))
                bound = float(np.broadcast_to(end, (n,))[where[-1]])
                return (
                    f"`u0[{index}]` = {x[where]:g} is {self.relation} its {name} bound "
                    f"{bound:g}; {self.remedy}."
                )
        return None

    relation = "beyond"
    remedy = "start within the bounds, for instance at `np.clip(u0, lower, upper)`"

    def outside(self, x: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Where states must not be, for a lower bound."""
        return np.asarray(x < lower)

    def flow(self, flow: Any) -> Flow:
        """The flow within the bounds."""
        raise NotImplementedError


class Projection(Bounds):
    """States are clipped; made by ``projection``."""

    def flow(self, flow: Any) -> Flow:
        """The projected flow, with implicit steps where ``flow`` is a gradient flow."""
        kind = ProjectedFlow if hasattr(flow, "move") else ProjectedDrift
        return kind(flow.space, flow, self)


class Logarithm(Bounds):
    """States move in logarithmic coordinates; made by ``logarithm``."""

    relation = "on or beyond"
    remedy = (
        "logarithms need a start strictly inside; move it in, or take "
        "fl.bounds.projection for states that may rest on a bound"
    )

    def outside(self, x: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Where states must not be, for a lower bound."""
        return np.asarray((x <= lower) & np.isfinite(lower))

    def flow(self, flow: Any) -> Flow:
        """The same flow in the chart."""
        return LogarithmicFlow(flow.space, flow, self)


class Rejection(Bounds):
    """Steps that end outside are repeated; made by ``rejection``."""

    def flow(self, flow: Any) -> Flow:
        """The same flow, with ``admissible``."""
        return RejectingFlow(flow.space, flow, self)


def projection(lower: Any = -np.inf, upper: Any = np.inf) -> Projection:
    """Bounds on which states may rest: the gradient flow of V + indicator of the box.

    After a step the state is clipped; explicit schemes take the velocity without its
    components out of the box, implicit steps minimize over the box, so that the energy
    falls. The order of a scheme holds until a bound is met or left, where it is 1.

    Parameters
    ----------
    lower, upper : float or (n,) array
        -inf and inf where there is no bound.

    Raises
    ------
    TypeError, ValueError
        For bounds that are no numbers, or without room between them.

    Examples
    --------
    >>> import flows as fl
    >>> space = fl.Euclidean(bounds=fl.bounds.projection(0.0))
    >>> flow = space.flow(fl.quadratic(center=-1.0))
    >>> sol = fl.solve(flow, [1.0], (0, 5), fl.ImplicitEuler(), dt=0.1)
    >>> sol.u[-1]
    array([0.])
    """
    return Projection(lower, upper)


def logarithm(lower: Any = -np.inf, upper: Any = np.inf) -> Logarithm:
    """Bounds that are never reached: the same flow in coordinates z of its own.

    z = log(x - lower), -log(upper - x), or log((x - lower)/(upper - x)) between two
    bounds; dz/dt = velocity dz/dx. Tolerances act on z: ``rtol`` = 1e-6 keeps about six
    digits of the distance to the bound, however small it is. A path that meets a bound
    in finite time blows up in z.

    Parameters
    ----------
    lower, upper : float or (n,) array
        -inf and inf where there is no bound.

    Raises
    ------
    TypeError, ValueError
        As ``projection``.
    """
    return Logarithm(lower, upper)


def rejection(lower: Any = -np.inf, upper: Any = np.inf) -> Rejection:
    """Bounds that no accepted step crosses: one that does is repeated with a part of h.

    For flows that stay inside by themselves, like those of barriers; where the path
    leaves the box, the run ends with the last state inside.

    Parameters
    ----------
    lower, upper : float or (n,) array
        -inf and inf where there is no bound.

    Raises
    ------
    TypeError, ValueError
        As ``projection``.
    """
    return Rejection(lower, upper)


def check_bounds(bounds: Any, metric: Any) -> None:
    """Refuse what are no bounds, and projections in a metric that is not diagonal.

    Raises
    ------
    TypeError, ValueError
    """
    if bounds is None:
        return
    if not isinstance(bounds, Bounds):
        raise TypeError(
            "`bounds` must be fl.bounds.projection(lower, upper), .logarithm(..) or "
            f".rejection(..), got {bounds!r}."
        )
    full = metric is not None and metric.diagonal(np.ones(1)) is None
    if full and isinstance(bounds, Projection):
        raise ValueError(
            "fl.bounds.projection needs a diagonal metric: in another one the closest "
            "point of a box is not found by clipping. Take fl.bounds.logarithm or "
            "fl.bounds.rejection."
        )
