"""argmin_v S(v) + R(v) + |v - u|^2 / 2h with S smooth and R of known proximal map.

In closed form where S is diagonal; else by a semismooth Newton method for the equation
v = prox(v - gradient step) [1]_, or by accelerated forward-backward steps with restarts
[2]_ where the derivative of the map is not known or the matrix would be large.

.. [1] L. Qi, J. Sun, A nonsmooth version of Newton's method, Math. Program. 58 (1993)
   353-367, doi:10.1007/BF01581275.
.. [2] B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes,
   Found. Comput. Math. 15 (2015) 715-732, doi:10.1007/s10208-013-9150-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace
from flows.linear import NewtonFailure, count_iterations
from flows.symbolic import Constant, QuadraticField

if TYPE_CHECKING:
    from flows.energies import Potential
    from flows.nonsmooth import ProxField

__all__ = ["LARGEST_NEWTON", "composite_step"]

Array = Any
Potentials = tuple["Potential", ...]
LARGEST_NEWTON = 1000
"""Coordinates up to which the equations are solved with a dense matrix."""
MOST_NEWTON = 200
MOST_STEPS = 50_000
MOST_HALVINGS = 60
MOST_PARTS = 12


def composite_step(
    smooth: Potentials, rough: ProxField, t: Any, u: Array, h: Any, start: Array | None
) -> Array:
    """The proximal step of the sum at points u (.., n).

    Parameters
    ----------
    smooth : tuple of Potential
    rough : ProxField
        R at this time.
    h : float or array (batch, 1)
    start : array or None
        Where iterations start.

    Raises
    ------
    NewtonFailure
        When the step is not found, with the residuals.
    """
    if not smooth:
        return rough.prox(u, h)
    diagonal = diagonal_parts(smooth, u)
    if diagonal is not None and (rough.separable or diagonal[0].ndim == 0):
        return diagonal_step(rough, *diagonal, u, h)
    step = Step(smooth, rough, t, u, h)
    if getattr(h, "ndim", 0) and h.shape[-1] != 1:
        raise TypeError(
            "Steps that differ between coordinates need a smooth part that is a sum "
            "over them."
        )
    if u.shape[-1] <= LARGEST_NEWTON and has_derivatives(step):
        return semismooth(step, start)
    return accelerated(step, start)


def diagonal_parts(smooth: Potentials, u: Array) -> tuple[Array, Array] | None:
    """a and g of S = sum a_i v_i^2/2 - g_i v_i, a of shape () or (n,); None if not."""
    a, g = np.zeros(()), np.zeros(())
    for term in smooth:
        function = term.function
        if isinstance(function, Constant):
            continue
        if not isinstance(function, QuadraticField) or np.ndim(function.A) > 1:
            return None
        function.check_dimension(u.shape[-1])
        A = np.asarray(function.A, dtype=float)
        a = a + term.scale * A
        g = g + term.scale * (A * np.asarray(function.center) + np.asarray(function.b))
    return array_like(a, u), array_like(g, u)


def diagonal_step(rough: ProxField, a: Array, g: Array, u: Array, h: Any) -> Array:
    """prox of R with step h/(1 + h a) at (u + h g)/(1 + h a)."""
    scale = 1.0 + h * a
    if not bool(namespace(u).all(scale > 0.0)):
        raise NewtonFailure(
            "V + |v - u|^2/2h has no minimum for so long a step: the smooth part is "
            "too concave"
        )
    return rough.prox((u + h * g) / scale, h / scale)


def has_derivatives(step: Step) -> bool:
    """Whether the derivatives are known: second ones of S, that of the map of R."""
    try:
        step.rough.derivative(step.u, step.h)
        step.total("hessian_at", step.u)
    except TypeError:
        return False
    return True


def dot(a: Array, b: Array) -> Array:
    """Inner product of every member, (.., 1)."""
    return namespace(a).sum(a * b, axis=-1, keepdims=True)


def largest(a: Array) -> Array:
    """Largest entry of every member, (.., 1)."""
    return namespace(a).max(a, axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Step:
    """h S(v) + h R(v) + |v - u|^2 / 2; numbers of a member have shape (.., 1)."""

    smooth: Potentials
    rough: ProxField
    t: Any
    u: Array
    h: Any

    def total(self, name: str, v: Array) -> Array:
        """Sum over the smooth potentials of a method."""
        first, *rest = self.smooth
        result = getattr(first, name)(v, self.t)
        for term in rest:
            result = result + getattr(term, name)(v, self.t)
        return result

    def gradient(self, v: Array) -> Array:
        """Of the smooth part, v - u + h grad S(v)."""
        return v - self.u + self.h * self.total("gradient_at", v)

    def even(self, v: Array) -> Array:
        """The smooth part, h S(v) + |v - u|^2/2."""
        S = self.total("value_at", v)[..., None]
        return self.h * S + 0.5 * dot(v - self.u, v - self.u)

    def forward_backward(self, v: Array, g: Array, L: Array) -> Array:
        """prox(v - g/L) with step h/L."""
        return self.rough.prox(v - g / L, self.h / L)

    def envelope(self, v: Array, w: Array, g: Array, L: Array) -> Array:
        """Value at w of the parabola that touches the smooth part at v, plus h R."""
        move = w - v
        smooth = self.even(v) + dot(g, move) + 0.5 * L * dot(move, move)
        return smooth + self.h * self.rough.value(w)[..., None]

    def below_parabola(self, v: Array, g: Array, L: Array) -> tuple[Array, Array]:
        """L, doubled until the smooth part at w = prox(v - g/L) is below, and w."""
        xp = namespace(v)
        here = self.even(v)
        eps = float(np.finfo(dtype_name(v)).eps)
        slack = 8.0 * eps * (xp.abs(here) + dot(self.u, self.u))
        for _ in range(MOST_HALVINGS):
            w = self.forward_backward(v, g, L)
            move = w - v
            with np.errstate(all="ignore"):
                above = here + dot(g, move) + 0.5 * L * dot(move, move) + slack
                steep = ~(self.even(w) <= above)
            if not bool(xp.any(steep)):
                break
            L = xp.where(steep, 2.0 * L, L)
        return L, w

    def error(self, v: Array, w: Array, g: Array, L: Array) -> Array:
        """|v - w| in units of what rounding may do to it, (.., 1)."""
        xp = namespace(v)
        force = (1.0 + xp.abs(self.u) + xp.abs(g)) / L
        eps = float(np.finfo(dtype_name(v)).eps)
        return largest(xp.abs(v - w) / (xp.abs(v) + xp.abs(w) + force)) / eps

    def begin(self, start: Array | None) -> Array:
        """A first state where R is finite."""
        first = self.rough.prox(self.u, self.h)
        if start is None:
            return first
        xp = namespace(first)
        known = xp.isfinite(self.rough.value(start))[..., None]
        return xp.where(known, start, first)


def semismooth(step: Step, start: Array | None) -> Array:
    """Newton's method for v = prox(v - gradient/L), with descent of the envelope.

    Where it comes to no end, as for a smooth part whose L is far too local, accelerated
    steps take over.
    """
    xp = namespace(step.u)
    v = step.begin(start)
    eye = array_like(np.eye(v.shape[-1]), v)
    history: list[float] = []
    h = step.h[..., None] if getattr(step.h, "ndim", 0) else step.h
    for iteration in range(MOST_NEWTON):
        g = step.gradient(v)
        matrix = eye + h * step.total("hessian_at", v)
        L = 1.05 * xp.max(xp.sum(xp.abs(matrix), axis=-1), axis=-1)[..., None]
        L = xp.maximum(L, xp.ones_like(L))
        L, w = step.below_parabola(v, g, L)
        history.append(float(xp.max(step.error(v, w, g, L))))
        if settled(history, 8.0, 5):
            count_iterations(iteration + 1)
            return w
        v = searched(step, v, w, g, L, newton_step(step, v, g, L, matrix))
    return accelerated(step, v)


def searched(step: Step, v: Array, w: Array, g: Array, L: Array, d: Array) -> Array:
    """The point between v + d and w, by halving, at which the envelope is lower [3]_.

    The envelope is the parabola of w = prox(v - g/L) at its minimum; its minimizers are
    those of the objective, and the forward-backward step w lowers it.

    .. [3] L. Stella, A. Themelis, P. Sopasakis, P. Patrinos, A simple and efficient
       algorithm for nonlinear model predictive control, CDC 2017, arXiv:1709.06487.
    """
    xp = namespace(v)
    eps = float(np.finfo(dtype_name(v)).eps)
    before = step.envelope(v, w, g, L)
    slack = 16.0 * eps * (xp.abs(before) + dot(step.u, step.u))
    move = w - v
    bound = before - 1e-3 * L * dot(move, move) + slack
    found, open_ = w, xp.ones_like(L) > 0.0
    part = 1.0
    for _ in range(MOST_PARTS):
        x = v + (1.0 - part) * move + part * d
        with np.errstate(all="ignore"):
            g_x = step.gradient(x)
            value = step.envelope(x, step.forward_backward(x, g_x, L), g_x, L)
            good = open_ & (value <= bound)
        found = xp.where(good, x, found)
        open_ = open_ & ~good
        if not bool(xp.any(open_)):
            break
        part *= 0.5
    return found


def newton_step(step: Step, v: Array, g: Array, L: Array, matrix: Array) -> Array:
    """J^{-1} (w - v), w = prox(v - g/L) and J a generalized derivative of v - w."""
    xp = namespace(v)
    y = v - g / L
    w = step.rough.prox(y, step.h / L)
    D = step.rough.derivative(y, step.h / L)
    eye = array_like(np.eye(v.shape[-1]), v)
    inner = eye - matrix / L[..., None]
    J = eye - (D[..., None] * inner if step.rough.separable else xp.matmul(D, inner))
    try:
        if step.rough.separable and v.ndim == 1:
            return solve_moving(J, w - v, D != 0.0)
        return xp.linalg.solve(J, (w - v)[..., None])[..., 0]
    except Exception as error:
        # NumPy's and torch's LinAlgError have no common base.
        if type(error).__name__ not in ("LinAlgError", "_LinAlgError"):
            raise
        return w - v


def solve_moving(J: Array, r: Array, moving: Array) -> Array:
    """J^{-1} r for one point, where rows that do not move are those of the identity."""
    xp = namespace(r)
    d = xp.where(moving, xp.zeros_like(r), r)
    if not bool(xp.any(moving)):
        return d
    rows = J[moving]
    found = xp.linalg.solve(rows[:, moving], (r[moving] - xp.matmul(rows, d))[:, None])
    d[moving] = found[:, 0]
    return d


def settled(history: list[float], enough: float, patience: int) -> bool:
    """Whether the error is within rounding, or has come to rest near it."""
    last = history[-1]
    if last <= enough:
        return True
    if last != last or len(history) <= patience:
        return False
    resting = min(history[-patience:]) > 0.5 * min(history[:-patience])
    return resting and last <= 1e5


def accelerated(step: Step, start: Array | None) -> Array:
    """Forward-backward steps with momentum, for an objective of curvature 1 or more.

    The step 1/L is halved until the parabola above v lies above the smooth part.
    """
    xp = namespace(step.u)
    v = z = step.begin(start)
    one = xp.ones_like(largest(v))
    L = one
    history: list[float] = []
    for iteration in range(MOST_STEPS):
        g = step.gradient(z)
        L, w = step.below_parabola(z, g, L)
        history.append(float(xp.max(step.error(z, w, g, L))))
        if settled(history, 8.0, 200):
            count_iterations(iteration + 1)
            return w
        root = xp.sqrt(L)
        momentum = (root - one) / (root + one)
        # Momentum that points uphill is dropped.
        uphill = dot(z - w, w - v) > 0.0
        momentum = xp.where(uphill, 0.0 * one, momentum)
        v, z = w, w + momentum * (w - v)
    raise NewtonFailure("the proximal step did not converge", history[-50:])
