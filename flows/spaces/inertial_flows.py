"""Flows x' = v, v' = force(x) - damping(t) v over a first-order flow x' = force(x)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import (
    array_like,
    detach,
    dtype_name,
    namespace,
    numbers,
    rms,
    to_numpy,
    zeros_like,
)
from flows.flow import Flow, Memory
from flows.linear.operators import Operator, apply, is_sparse
from flows.spaces.oscillator import responses
from flows.spaces.phase import (
    Part,
    drift_map,
    drifting,
    earliest,
    join,
    split,
    square,
)
from flows.symbolic import QuadraticField

if TYPE_CHECKING:
    from flows.energies import Energy

__all__ = [
    "HeavyBallFlow",
    "InertialFlow",
    "NesterovFlow",
    "QuadraticHeavyBallFlow",
]

Array = Any
ImplicitStep = Callable[[Any, Array, Any, Memory], tuple[Array, Memory]]


@dataclass(frozen=True, eq=False)
class InertialFlow(Flow):
    """x' = v, v' = force(x) - damping(t) v; ``base`` is the flow x' = force(x)."""

    # Without `field()` the class attribute of Flow would be a default.
    space: Any = field()
    base: Any
    is_gradient = False

    @property
    def functional(self) -> Energy:
        """The energy V of the positions."""
        result: Energy = self.base.functional
        return result

    def damping(self, t: Any) -> Any:
        """Coefficient of -v in the acceleration at time t."""
        raise NotImplementedError

    def momentum(self, t: Any, h: Any) -> Any:
        """Coefficient of x_k - x_{k-1} in the discrete method with step h at time t."""
        raise NotImplementedError

    def velocity(self, t: Any, u: Array) -> Array:
        """(v, force(x) - damping(t) v)."""
        x, v = split(u)
        return join(v, self.base.velocity(t, x) - self.damping(t) * v)

    def energy(self, t: Any, u: Array) -> Any:
        """V(x): one number, or (b,). It need not fall; ``lyapunov`` does."""
        return self.base.energy(t, split(u)[0])

    def norm(self, e: Array) -> Any:
        """Root mean square: one number, or (b,) for a batch."""
        if e.ndim == 1:
            return rms(e)
        xp = namespace(e)
        return xp.sqrt(xp.mean(e * e, axis=-1))

    @property
    def resolvent(self) -> ImplicitStep:
        """u = w + h velocity(t, u), by one resolvent of the base flow.

        With w = (p, q) and c = 1/(1 + h damping) the velocity is c (q + h force(x)),
        so x = (p + h c q) + h^2 c force(x): a step of length h^2 c of the base flow.
        Raises TypeError where the base flow has none.
        """
        self.base.resolvent  # noqa: B018
        return self._resolvent

    def _resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        p, q = split(w)
        c = 1.0 / (1.0 + h * self.damping(t))
        y, step = p + (h * c) * q, (h * h) * c
        start = (split(memory[0])[0],) if memory else ()
        x, _ = self.base.resolvent(t, y, step, start)
        u = join(x, c * q + self._pull(t, x, y, step) / h)
        return u, (u,)

    def _pull(self, t: Any, x: Array, y: Array, step: Any) -> Array:
        """step * force(x), which is x - y for the solution x.

        The difference loses digits in short steps, the force at the rounded x in stiff
        ones and at kinks. Where both agree to the rounding of the difference, the force
        is the better one.
        """
        xp = namespace(x)
        difference, pull = x - y, step * self.base.velocity(t, x)
        eps = float(np.finfo(dtype_name(x)).eps)
        agree = xp.abs(pull - difference) <= 32.0 * eps * (xp.abs(x) + xp.abs(y))
        return xp.where(agree, pull, difference)

    def jacobian(self, t: Any, u: Array) -> Any:
        """[[0, I], [J, -damping I]] with the derivative J of the force, of its kind."""
        x, _ = split(u)
        J, c = self.base.jacobian(t, x), self.damping(t)
        if isinstance(J, Operator) or hasattr(J, "matvec"):

            def product(w: Array) -> Array:
                p, q = split(w)
                return join(q, apply(J, p) - c * q)

            return Operator(product, symmetric=False)
        if is_sparse(J):
            from scipy import sparse

            identity = sparse.eye_array(x.shape[-1], dtype=J.dtype)
            return sparse.block_array(
                [[None, identity], [J, -c * identity]], format="csc"
            )
        xp = namespace(J)
        identity = array_like(np.eye(x.shape[-1]), x) + zeros_like(J)
        friction = c[..., None] if getattr(c, "ndim", 0) else c
        upper = xp.concat([zeros_like(J), identity], axis=-1)
        lower = xp.concat([J, -friction * identity], axis=-1)
        return xp.concat([upper, lower], axis=-2)

    def lyapunov(
        self, t: Any, u: Array, minimizer: Any = None, minimum: Any = None
    ) -> Any:
        """A function of the state that does not rise along the flow."""
        raise NotImplementedError

    def _gap(self, t: Any, x: Array, minimizer: Any, minimum: Any) -> Array:
        """V(x) minus its minimum, by default the value at the minimizer, or 0."""
        if minimum is None:
            minimum = 0.0
            if minimizer is not None:
                minimum = self.base.energy(t, array_like(minimizer, x))
        return self.base.energy(t, x) - minimum

    def default(self) -> tuple[str, None]:
        """What the base flow takes."""
        result: tuple[str, None] = self.base.default()
        return result


@dataclass(frozen=True, eq=False)
class HeavyBallFlow(InertialFlow):
    """x' = v, v' = -friction v - grad V(x)."""

    def damping(self, t: Any) -> Any:
        """The friction."""
        return self.space.friction

    def momentum(self, t: Any, h: Any) -> Any:
        """(1 - friction h/2)/(1 + friction h/2).

        Friction 2 sqrt(mu) gives (1 - sqrt(mu) h)/(1 + sqrt(mu) h), Nesterov's choice
        for mu-strongly convex energies.
        """
        part = 0.5 * self.space.friction * h
        return (1.0 - part) / (1.0 + part)

    def lyapunov(
        self, t: Any, u: Array, minimizer: Any = None, minimum: Any = None
    ) -> Any:
        """V - V* + |v|^2/2, or with a minimizer V - V* + |v + g (x - x*)/2|^2/2.

        g is the friction. The first falls by g |v|^2 for every V. The second falls at
        least like e^{-g t/2} for mu-strongly convex V and g <= 2 sqrt(mu).

        Parameters
        ----------
        t : float
        u : (2n,) or (b, 2n) array
        minimizer : (n,) array, optional
            x*.
        minimum : float, optional
            V*: by default V(x*), or 0 without a minimizer.

        References
        ----------
        A. C. Wilson, B. Recht, M. I. Jordan, A Lyapunov analysis of accelerated methods
        in optimization, J. Mach. Learn. Res. 22 (2021) 1-34, arXiv:1611.02635.
        """
        x, v = split(u)
        gap = self._gap(t, x, minimizer, minimum)
        if minimizer is not None:
            v = v + 0.5 * self.space.friction * (x - array_like(minimizer, x))
        return numbers(gap + 0.5 * square(v))

    def parts(self) -> Mapping[str, Flow]:
        """A: x' = v. B: v' = -grad V(x). O: v' = -friction v. Each with its flow map.

        ``Splitting("BAOAB")`` has order 2. Where V depends on time, the kick B takes it
        at the middle of its step, which keeps that order.
        """
        return {
            "A": Part(self.space, drifting, drift_map),
            "B": Part(self.space, self._kick, self._kick_map),
            "O": Part(self.space, self._rub, self._rub_map),
        }

    def _kick(self, t: Any, u: Array) -> Array:
        x, _ = split(u)
        return join(zeros_like(x), self.base.velocity(t, x))

    def _kick_map(self, t: Any, u: Array, h: Any) -> Array:
        return u + h * self._kick(t + 0.5 * h, u)

    def _rub(self, t: Any, u: Array) -> Array:
        _, v = split(u)
        return join(zeros_like(v), -self.space.friction * v)

    def _rub_map(self, t: Any, u: Array, h: Any) -> Array:
        x, v = split(u)
        rubbed = -self.space.friction * h
        xp = namespace(u)
        decay = xp.exp(rubbed) if getattr(h, "ndim", 0) else float(np.exp(rubbed))
        return join(x, decay * v)


@dataclass(frozen=True, eq=False)
class QuadraticHeavyBallFlow(HeavyBallFlow):
    """Heavy ball on a quadratic V: damped oscillators in the eigenbasis of A."""

    _cache: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def _spectrum(self, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Eigenvalues and eigenvectors of A in R^n; None for a diagonal A."""
        if n not in self._cache:
            fields = [(t.scale, t.function) for t in self.functional.terms]
            fields = [(a, f) for a, f in fields if isinstance(f, QuadraticField)]
            if any(np.ndim(f.A) == 2 for _, f in fields):
                A = sum(a * f.matrix(n) for a, f in fields)
                self._cache[n] = np.linalg.eigh(A)
            else:
                diagonal = sum(a * np.broadcast_to(f.A, (n,)) for a, f in fields)
                self._cache[n] = np.zeros(n) + diagonal, None
        result: tuple[np.ndarray, np.ndarray | None] = self._cache[n]
        return result

    def exact(self, t: Any, u: Array, h: Any, rng: Any = None) -> Array:
        """The flow map: under-, over- and critically damped modes in closed form."""
        x, v = split(u)
        rates, vectors = self._spectrum(x.shape[-1])
        force = self.base.velocity(t, zeros_like(x))
        xp = namespace(u)
        Q = None if vectors is None else array_like(vectors, u)
        if Q is not None:
            x, v, force = (xp.matmul(y, Q) for y in (x, v, force))
        p, s, q = responses(rates, self.space.friction, to_numpy(h))
        stiff = rates
        new = array_like(1.0 - stiff * p, u) * x
        new = new + array_like(s, u) * v + array_like(p, u) * force
        fast = array_like(-stiff * s, u) * x
        fast = fast + array_like(q, u) * v + array_like(s, u) * force
        if Q is not None:
            new, fast = (xp.matmul(y, xp.matrix_transpose(Q)) for y in (new, fast))
        return join(new, fast)


@dataclass(frozen=True, eq=False)
class NesterovFlow(InertialFlow):
    """x' = v, v' = -(r/t) v - grad V(x), from t = 0 at rest."""

    def damping(self, t: Any) -> Any:
        """r/t.

        Raises
        ------
        ValueError
            For t <= 0, where only ``velocity`` is known, at rest.
        """
        if earliest(t) <= 0.0:
            raise ValueError(
                f"Nesterov's damping r/t is not defined at t = {earliest(t):g}; this "
                "scheme needs a start at t0 > 0. From t = 0 take an explicit one, or "
                "TRBDF2()."
            )
        return self.space.r / t

    def momentum(self, t: Any, h: Any) -> Any:
        """(t - h)/(t + (r - 1) h): (k - 1)/(k + r - 1) at t = k h, 0 at t = 0."""
        r = self.space.r
        if not getattr(t, "ndim", 0):
            return (t - h) / (t + (r - 1.0) * h) if t > 0.0 else 0.0
        xp = namespace(t)
        late = t > 0.0
        ratio = (t - h) / xp.where(late, t + (r - 1.0) * h, xp.ones_like(t))
        return xp.where(late, ratio, xp.zeros_like(t))

    def velocity(self, t: Any, u: Array) -> Array:
        """(v, -(r/t) v - grad V(x)), at t = 0 the limit (0, -grad V(x)/(1 + r)).

        Raises
        ------
        ValueError
            For t < 0, and for t = 0 with a velocity that is not 0.
        """
        first = earliest(t)
        if first > 0.0:
            return super().velocity(t, u)
        x, v = split(u)
        xp, r = namespace(u), self.space.r
        times = array_like(np.asarray(to_numpy(t), dtype=float), u)
        rest = times == 0.0
        start = detach(xp.where(rest, v, xp.zeros_like(v)))
        moving = float(xp.max(xp.abs(start)))
        if first < 0.0 or moving > 0.0:
            what = "t = 0 with a velocity" if first == 0.0 else f"t = {first:g}"
            raise ValueError(
                f"Nesterov's equation with damping r/t has no solution from {what}; "
                "start at t = 0 at rest, with `space.start(x0)`, or at t0 > 0."
            )
        force = self.base.velocity(t, x)
        late = force - (r / xp.where(rest, xp.ones_like(times), times)) * v
        return join(v, xp.where(rest, force / (1.0 + r), late))

    def lyapunov(
        self, t: Any, u: Array, minimizer: Any = None, minimum: Any = None
    ) -> Any:
        """t^2 (V - V*) + |(r - 1)(x - x*) + t v|^2/2.

        The last term is 2 |x - x* + t v/2|^2 for r = 3. It does not rise for convex V
        and r >= 3. At t = 0 it is (r - 1)^2 |x0 - x*|^2/2, so that V - V* is at most
        this number over t^2.

        Parameters
        ----------
        t : float
        u : (2n,) or (b, 2n) array
        minimizer : (n,) array, optional
            x*; 0 by default.
        minimum : float, optional
            V*: by default V(x*).

        References
        ----------
        W. Su, S. Boyd, E. J. Candes, J. Mach. Learn. Res. 17 (2016) 1-43,
        arXiv:1503.01243.
        """
        x, v = split(u)
        goal = np.zeros(x.shape[-1]) if minimizer is None else minimizer
        gap = self._gap(t, x, goal, minimum)
        times = t[..., 0] if getattr(t, "ndim", 0) == 2 else t
        pulled = (self.space.r - 1.0) * (x - array_like(goal, x)) + t * v
        return numbers(times * times * gap + 0.5 * square(pulled))
