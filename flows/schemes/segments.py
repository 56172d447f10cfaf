"""The mean velocity over a segment of states, and its derivative."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, is_array, namespace, to_numpy
from flows.flow import offers
from flows.linear import NewtonFailure
from flows.linear.operators import Operator, is_sparse
from flows.linear.shifted import shifted

if TYPE_CHECKING:
    from flows.flow import Flow

__all__ = ["Segment", "chosen", "column", "members"]

Array = Any


def members(value: Any) -> np.ndarray:
    """Numbers of the members as float64, (b,) or ()."""
    return np.asarray(to_numpy(value), dtype=np.float64)


def column(value: np.ndarray, u: Array) -> Any:
    """Numbers of the members as factors of arrays like ``u``."""
    if value.ndim == 0:
        return float(value)
    shape = (-1,) + (1,) * (u.ndim - 1)
    return array_like(value.reshape(shape), u)


def chosen(mask: np.ndarray, a: Array, b: Array) -> Array:
    """a for the members of the mask, b for the others."""
    if mask.ndim == 0:
        return a if mask else b
    wide = array_like(mask.reshape((-1,) + (1,) * (a.ndim - 1)), a) != 0
    return namespace(a).where(wide, a, b)


@dataclass(eq=False)
class Segment:
    """The velocity of a flow between x and x + d, averaged with a rule on [0, 1].

    Numbers that belong to a member of a batch (energies, products, step sizes) are
    NumPy arrays (b,), of shape () for one state.
    """

    flow: Flow
    t: Any
    x: Array
    h: Any
    rule: tuple[tuple[float, float], ...]
    work: dict[str, int] = field(
        default_factory=lambda: {"velocity_calls": 0}, kw_only=True
    )

    @cached_property
    def eps(self) -> float:
        """Rounding unit of the state."""
        return float(np.finfo(dtype_name(self.x)).eps)

    @cached_property
    def start(self) -> np.ndarray:
        """Energy at x."""
        return members(self.flow.energy(self.t, self.x))

    @cached_property
    def reach(self) -> np.ndarray:
        """Length of x, whose rounding limits what can be asked of d."""
        return np.asarray(np.sqrt(self.inner(0.0 * self.x, self.x, self.x)))

    @cached_property
    def step(self) -> np.ndarray:
        """h of each member."""
        h = to_numpy(self.h)[..., 0] if is_array(self.h) and self.h.ndim else self.h
        return members(h)

    def velocity(self, u: Array) -> Array:
        """The flow's velocity, counted."""
        self.work["velocity_calls"] += 1
        return self.flow.velocity(self.t, u)

    def end(self, d: Array) -> np.ndarray:
        """Energy at x + d."""
        return members(self.flow.energy(self.t, self.x + d))

    def inner(self, d: Array, a: Array, b: Array) -> np.ndarray:
        """The metric at the midpoint, where it may depend on the state."""
        return members(self.flow.inner(self.x + 0.5 * d, a, b))

    def gap(self, d: Array) -> np.ndarray:
        """What is missing from the balance, F(x + d) - F(x) + <d, d>/h."""
        return np.asarray(self.end(d) - self.start + self.inner(d, d, d) / self.step)

    def mean_velocity(self, d: Array) -> Array:
        """sum_k w_k v(x + s_k d)."""
        total: Array = None
        for s, w in self.rule:
            v = self.velocity(self.x + s * d)
            total = (w * v if w != 1.0 else v) if total is None else total + w * v
        return total

    def difference(self, d: Array, w: Array) -> Array:
        """Derivative of the mean velocity along w by a central difference."""
        scale = np.sqrt(self.inner(d, w, w))
        size = self.reach + np.sqrt(self.inner(d, d, d))
        size = np.where(size > 0.0, size, 1.0)
        e = self.eps ** (1 / 3) * size / np.where(scale > 0.0, scale, 1.0)
        shift = column(e, w) * w
        change = self.mean_velocity(d + shift) - self.mean_velocity(d - shift)
        return column(0.5 / e, w) * change

    @cached_property
    def has_jacobian(self) -> bool:
        """Whether the flow has a Jacobian; a refusal with a reason counts as no."""
        try:
            return offers(self.flow, "jacobian")
        except TypeError:
            return False

    def jacobian(self, d: Array) -> tuple[Any, float]:
        """Derivative of the mean velocity by d, and the factor it still needs."""
        if not self.has_jacobian:
            return Operator(lambda w: self.difference(d, w), symmetric=False), 1.0
        if len(self.rule) == 1:
            ((s, w),) = self.rule
            return self.flow.jacobian(self.t, self.x + s * d), s * w
        parts = [
            (s * w, self.flow.jacobian(self.t, self.x + s * d)) for s, w in self.rule
        ]
        return combined(parts), 1.0

    def solver(self, d: Array, c: np.ndarray) -> Any:
        """Inverse of I - c J with J the derivative of the mean velocity at d.

        Raises
        ------
        NewtonFailure
            For a singular system.
        """
        J, factor = self.jacobian(d)
        shift = column(c * factor, d)
        try:
            if isinstance(J, Operator):
                # Differences are no better, and Newton's method asks for no more.
                tol = 1e-3 if self.eps > 1e-10 else 1e-6
                make = whole if self.start.ndim == 0 else shifted
                return Careful(make(J, shift, d, tol=tol))
            return Careful(shifted(J, shift, d))
        except np.linalg.LinAlgError as error:
            raise unsolvable(error) from error


def unsolvable(error: Exception) -> NewtonFailure:
    """A singular system as a failure of Newton's method."""
    return NewtonFailure(f"the linear system has no solution: {error}")


@dataclass(frozen=True, eq=False)
class Careful:
    """A solver whose singular systems are failures of Newton's method."""

    inverse: Any

    def solve(self, r: Array) -> Array:
        """The solution, of the shape of r."""
        try:
            return self.inverse.solve(r)
        except np.linalg.LinAlgError as error:
            raise unsolvable(error) from error


@dataclass(frozen=True, eq=False)
class Whole:
    """A solver of flat vectors, for states of several axes that are one member."""

    flat: Any

    def solve(self, r: Array) -> Array:
        """The solution, of the shape of r."""
        xp = namespace(r)
        return xp.reshape(self.flat.solve(xp.reshape(r, (-1,))), r.shape)


def whole(J: Operator, c: Any, like: Array, *, tol: float) -> Any:
    """``shifted`` for an operator that couples all entries of the state."""
    xp, shape = namespace(like), like.shape

    def flat(f: Any) -> Any:
        return lambda v: xp.reshape(f(xp.reshape(v, shape)), (-1,))

    given = J.preconditioner
    made = None if given is None else lambda c, r: flat(lambda v: given(c, v))(r)
    operator = Operator(flat(J.product), J.symmetric, made)
    return Whole(shifted(operator, c, xp.reshape(like, (-1,)), tol=tol))


def combined(parts: list[tuple[float, Any]]) -> Any:
    """Weighted sum of Jacobians of one kind."""
    c, first = parts[0]
    if isinstance(first, Operator):
        return Operator(
            lambda v: sum(c * J.product(v) for c, J in parts),
            symmetric=first.symmetric,
            preconditioner=first.preconditioner,
        )
    if hasattr(first, "diagonal") and hasattr(first, "lower") and not is_sparse(first):
        names = ("lower", "diagonal", "upper")
        return type(first)(*(sum(c * getattr(J, n) for c, J in parts) for n in names))
    total = c * first
    for c, J in parts[1:]:
        total = total + c * J
    return total
