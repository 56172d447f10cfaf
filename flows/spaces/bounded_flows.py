"""Flows of vectors within bounds: projected, in logarithms, with rejection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from flows.arrays import array_like, namespace, to_numpy
from flows.flow import Flow
from flows.linear import Operator, Tridiagonal
from flows.linear.operators import is_sparse
from flows.spaces.pointwise import inside, newton_solve, solve_equation

if TYPE_CHECKING:
    from flows.flow import Memory
    from flows.spaces.euclidean_flows import ImplicitStep

__all__ = [
    "BoundedFlow",
    "LogarithmicFlow",
    "ProjectedDrift",
    "ProjectedFlow",
    "RejectingFlow",
]

Array = Any
BENT = (
    "no implicit step is known for a V with a kink within bounds; use an explicit "
    "scheme"
)


def passed(name: str) -> Any:
    """Property that hands on what the flow without bounds offers."""
    return property(lambda self: getattr(self.free, name), doc=f"See ``{name}``.")


@dataclass(frozen=True, eq=False)
class BoundedFlow(Flow):
    """The flow ``free`` kept within ``bounds``."""

    # Without `field()` the class attribute of Flow would be a default.
    space: Any = field()
    free: Any
    bounds: Any
    is_gradient: bool = field(init=False, default=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_gradient", self.free.is_gradient)

    functional = passed("functional")
    energy = passed("energy")
    inner = passed("inner")
    norm = passed("norm")
    default = passed("default")

    def advice(self, problem: str) -> str | None:
        """As of ``free``; it knows no kinks within bounds."""
        return None if problem == "kink" else self.free.advice(problem)


class RejectingFlow(BoundedFlow):
    """Everything that ``free`` offers, and ``admissible``."""

    velocity = passed("velocity")
    resolvent = passed("resolvent")
    prox = passed("prox")
    jacobian = passed("jacobian")
    exact = passed("exact")
    stable_step = passed("stable_step")

    def admissible(self, u: Array) -> Any:
        """Whether u is within the bounds: one bool, or (b,) for b points."""
        lower, upper = self.bounds.box(u)
        found = namespace(u).all((u >= lower) & (u <= upper), axis=-1)
        return bool(found) if u.ndim == 1 else found


class ProjectedDrift(BoundedFlow):
    """The velocity of ``free`` without its components out of the box."""

    stable_step = passed("stable_step")

    def retract(self, u: Array) -> Array:
        """The closest point of the box."""
        return inside(u, self.bounds.box(u))

    def _held(self, u: Array, v: Array) -> Array:
        lower, upper = self.bounds.box(u)
        return ((u <= lower) & (v < 0.0)) | ((u >= upper) & (v > 0.0))

    def velocity(self, t: Any, u: Array) -> Array:
        """Projection of the velocity at the closest point of the box."""
        v = self.free.velocity(t, self.retract(u))
        xp = namespace(u)
        return xp.where(self._held(u, v), xp.zeros_like(v), v)


class ProjectedFlow(ProjectedDrift):
    """Gradient flow of V + indicator of the box."""

    def jacobian(self, t: Any, u: Array) -> Any:
        """Jacobian of ``free`` with rows 0 where a bound holds."""
        x = self.retract(u)
        xp = namespace(u)
        held = self._held(u, self.free.velocity(t, x))
        moves = xp.where(held, xp.zeros_like(x), xp.ones_like(x))
        return scaled(self.free.jacobian(t, x), moves, xp.ones_like(x))

    def _move(
        self, t: Any, w: Array, h: Any, memory: Memory, minimum: bool
    ) -> tuple[Array, Memory]:
        start = memory[0] if memory else w
        found: tuple[Array, Memory] = self.free.move(
            t, w, h, start, minimum, self.bounds.box(w)
        )
        return found

    @property
    def resolvent(self) -> ImplicitStep:
        """argmin over the box of V(t, v) + |w - v|^2 / 2h, w anywhere."""
        self._check_smooth()
        return lambda t, w, h, memory: self._move(t, w, h, memory, False)

    @property
    def prox(self) -> ImplicitStep:
        """argmin over the box of V(t, v) + |u - v|^2 / 2h."""
        self._check_smooth()
        return lambda t, u, h, memory: self._move(t, u, h, (), True)

    def _check_smooth(self) -> None:
        if self.free.kinked:
            raise TypeError(BENT)


class LogarithmicFlow(BoundedFlow):
    """``free`` in logarithmic coordinates z; energies are of x."""

    def advice(self, problem: str) -> str | None:
        """A path that runs into a bound, where logarithms have no numbers."""
        if problem != "blow-up":
            return super().advice(problem)
        return (
            f"Where the path runs into {self.bounds!r}, which is infinitely far away "
            "in logarithms, take fl.bounds.projection, which lets it rest on a bound; "
            "else end the run earlier, for instance by `until`."
        )

    def _kinds(self, u: Array) -> tuple[Array, Array, Array, Array]:
        lower, upper = self.bounds.box(u)
        xp = namespace(u)
        left, right = xp.isfinite(lower), xp.isfinite(upper)
        zero = xp.zeros_like(lower)
        return left, right, xp.where(left, lower, zero), xp.where(right, upper, zero)

    def encode(self, u: Array) -> Array:
        """z of a state strictly within the bounds."""
        xp = namespace(u)
        left, right, lower, upper = self._kinds(u)
        one = xp.ones_like(u)
        above, below = xp.where(left, u - lower, one), xp.where(right, upper - u, one)
        return xp.where(left | right, xp.log(above) - xp.log(below), u)

    def decode(self, z: Array) -> Array:
        """x of z."""
        xp = namespace(z)
        left, right, lower, upper = self._kinds(z)
        part = _logistic(z)
        with np.errstate(over="ignore"):
            x = xp.where(
                left, lower + xp.exp(z), xp.where(right, upper - xp.exp(-z), z)
            )
        both = xp.where(
            z < 0,
            lower + (upper - lower) * part,
            upper - (upper - lower) * _logistic(-z),
        )
        return xp.where(left & right, both, x)

    def slopes(self, z: Array) -> tuple[Array, Array]:
        """dx/dz, and its logarithmic derivative by z."""
        xp = namespace(z)
        left, right, lower, upper = self._kinds(z)
        one = xp.ones_like(z)
        part, rest = _logistic(z), _logistic(-z)
        with np.errstate(over="ignore"):
            s = xp.where(left, xp.exp(z), xp.where(right, xp.exp(-z), one))
        s = xp.where(left & right, (upper - lower) * part * rest, s)
        bend = xp.where(left, one, xp.where(right, -one, 0.0 * one))
        return s, xp.where(left & right, rest - part, bend)

    def velocity(self, t: Any, z: Array) -> Array:
        """dz/dt = velocity dz/dx."""
        return self.free.velocity(t, self.decode(z)) / self.slopes(z)[0]

    def inner(self, z: Array, a: Array, b: Array) -> Any:
        """Product of the displacements of x that a and b are at z."""
        s, _ = self.slopes(z)
        return self.free.inner(self.decode(z), s * a, s * b)

    def jacobian(self, t: Any, z: Array) -> Any:
        """Derivative of the velocity by z, in the form that ``free`` has."""
        s, bend = self.slopes(z)
        x = self.decode(z)
        own = self.free.velocity(t, x) / s * bend
        return scaled(self.free.jacobian(t, x), 1.0 / s, s, own)

    @property
    def resolvent(self) -> ImplicitStep:
        """z with z = w + h velocity(t, z), from the last one in ``memory``."""
        # Where `free` has no implicit steps its reason is raised.
        self.free.resolvent  # noqa: B018
        if self.free.kinked:
            raise TypeError(BENT)
        return self._resolvent

    def _resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        z, _ = solve_equation(
            lambda z: self.velocity(t, z),
            lambda z, r: self._solve(t, z, h, r),
            w,
            h,
            memory[0] if memory else w,
        )
        return z, (z,)

    def _solve(self, t: Any, z: Array, h: Any, r: Array) -> Array:
        """(I - h J)^{-1} r, by division where J is a diagonal."""
        if self.space.jacobian is not None or not self.free.separable:
            return newton_solve(self.jacobian(t, z), h, r)
        s, bend = self.slopes(z)
        x = self.decode(z)
        d = -self.free.coordinatewise(2, t, x)
        if self.space.metric is not None:
            d = d / self.space.metric.diagonal(x)
        return r / (1.0 - h * (d - self.free.velocity(t, x) / s * bend))

    @property
    def prox(self) -> NoReturn:
        """Refused: a minimizing movement may end on a bound."""
        raise TypeError(
            "a minimizing movement may end on a bound, which has no logarithm; take "
            "ImplicitEuler(), or fl.bounds.projection"
        )


def _logistic(z: Array) -> Array:
    """1 / (1 + exp(-z)), without overflow and with all digits of small values."""
    xp = namespace(z)
    small = xp.exp(-xp.abs(z))
    return xp.where(z >= 0.0, 1.0 / (1.0 + small), small / (1.0 + small))


def scaled(J: Any, rows: Array, columns: Array, own: Array | None = None) -> Any:
    """diag(rows) J diag(columns) - diag(own), in the form of J where it has one."""
    if isinstance(J, Operator):

        def product(v: Array) -> Array:
            result = rows * J.product(columns * v)
            return result if own is None else result - own * v

        return Operator(product, symmetric=False)
    if isinstance(J, Tridiagonal) or is_sparse(J):
        r, c = to_numpy(rows), to_numpy(columns)
        d = np.zeros_like(r) if own is None else to_numpy(own)
        if isinstance(J, Tridiagonal):
            return Tridiagonal(
                J.lower * r[1:] * c[:-1],
                J.diagonal * r * c - d,
                J.upper * r[:-1] * c[1:],
            )
        from scipy.sparse import diags_array

        return (diags_array(r) @ J @ diags_array(c) - diags_array(d)).tocsc()
    J = rows[..., :, None] * J * columns[..., None, :]
    if own is None:
        return J
    eye = array_like(np.eye(J.shape[-1]), J)
    return J - eye * own[..., None]
