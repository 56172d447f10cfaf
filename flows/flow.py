"""The Flow protocol: the one waist between spaces and schemes.

A flow is any object with ``space`` (or None) and ``velocity(t, u)``, or else ``prox``,
or ``parts`` and ``exact``. Everything else is optional, and a flow offers only what it
defines: a scheme's ``needs`` are checked before the first step. The class below lists
the whole interface; it implements nothing, so subclassing it adds no capability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Flow", "Memory", "Step", "missing", "offers"]

Array = Any
Memory = tuple[Any, ...]
"""History of a scheme: arrays and numbers only, so that a checkpoint can hold it."""


class Step(NamedTuple):
    """What a scheme returns for one step.

    ``error`` is an estimate of the local error with the shape of ``u``, or None;
    ``stats`` counts work, for instance ``{"velocity_calls": 4}``. ``error_order`` is
    the exponent of h in this estimate where it is not the scheme's (variable orders).
    """

    u: Array
    error: Array | None = None
    memory: Memory = ()
    stats: Mapping[str, int] = {}
    error_order: int | None = None


class Flow:
    """du/dt = velocity(t, u) and whatever else is known about it.

    Attributes
    ----------
    space : Space or None
        Where the states live.
    is_gradient : bool
        Whether the velocity is minus the gradient of ``energy`` in the metric of
        ``space``; False with a drift, for games and for masks.

    Methods (all optional, see the module's first paragraph)
    --------------------------------------------------------
    velocity(t, u)
        The right-hand side, shape of ``u``.
    energy(t, u)
        One number for each state, independent of the scheme; an array for several
        objectives or a batch. Absent where it is infinite and for games.
    resolvent(t, w, h, memory) -> (v, memory)
        v = w + h velocity(t, v): ``t`` is the time at which the velocity is
        evaluated (implicit Euler passes t + h). ``w`` is any right-hand side and need
        not be a state. ``memory`` is ``()`` or ``(v,)`` with the last state, from
        which Newton starts.
    prox(t, u, h, memory) -> (v, memory)
        argmin_v energy(t, v) + distance(u, v)^2 / 2h.
    exact(t, u, h, rng)
        The flow map from t to t + h where it is known.
    parts()
        Mapping of names to flows that add up to this one.
    draw(rng) -> Flow
        For random coefficients: drawn once a step, seen by all stages.
    noise(t, u)
        sigma in du = velocity dt + sigma dW: a number or an array that broadcasts.
    log_density(t, u)
        For Metropolis corrections.
    variation(t, u)
        First variation of the energy at cells or particles.
    jacobian(t, u)
        Derivative of the velocity: dense (.., n, n), ``linear.Tridiagonal``, scipy
        sparse, or a ``linear.Operator`` that acts on arrays of the shape of u.
    inner(u, a, b)
        The metric's product of two displacements at u: one number, or one for each
        batch member. Along a gradient flow d/dt energy = -inner(u, v, v).
    generator()
        Matrix L of a linear flow du/dt = L u.
    linearizable(u)
        Whether implicit steps from states like ``u`` are no more than v = w + h
        velocity(t, v) with a smooth velocity and a ``jacobian`` that is a matrix, so
        that a scheme may solve them by itself.
    stable_step(t, u)
        Largest stable step of *explicit Euler*, 2 / |largest eigenvalue|; absent when
        it is not known. A scheme scales it by its own real stability interval.
    norm(e)
        Error norm: one number, or one for each batch member. With one for each, t and
        h may be arrays (batch, 1): every member has its own time and step.
    admissible(u)
        Whether a state is allowed (one bool for each batch member): a step that ends
        elsewhere is rejected or halved.
    base
        Of a second-order flow, the first-order flow of the same energy.
    encode(u), decode(z)
        A chart in which states may be added: all but ``energy`` take z; the loop steps
        z, the user sees u.
    flat
        Where the chart is an isometry (entries of matrices): the flow of z, which has
        no chart; its ``energy`` takes z.
    retract(u)
        Back to the manifold after a step.
    discrete_gradient_step(t, u, h, memory) -> (v, memory)
        A dissipative step of the space's own.
    advice(problem) -> str or None
        What to try when a run ends with "outside", a state that is not admitted, or
        with "max_steps"; None for the usual advice.
    default() -> (name of a scheme, dt or None)
        What ``solve`` takes when the user names neither; None is ``Adaptive()``. A
        name, because spaces do not know the schemes.
    advance(scheme, dt, t0, t1, u, rng) -> (u, stats) | None
        Fused path between two save times; None when it does not apply. ``dt`` is a
        number or the ``Adaptive`` of the run: then the counts have "steps" and
        "rejected", of the member with the most in a batch with own steps.
    """

    space: Any = None
    is_gradient: bool = True

    if TYPE_CHECKING:

        def velocity(self, t: float, u: Array) -> Array: ...
        def energy(self, t: float, u: Array) -> Any: ...
        def resolvent(
            self, t: float, w: Array, h: float, memory: Memory
        ) -> tuple[Array, Memory]: ...
        def prox(
            self, t: float, u: Array, h: float, memory: Memory
        ) -> tuple[Array, Memory]: ...
        def exact(self, t: float, u: Array, h: float, rng: Any) -> Array: ...
        def parts(self) -> Mapping[str, Flow]: ...
        def draw(self, rng: Any) -> Flow: ...
        def noise(self, t: float, u: Array) -> Any: ...
        def log_density(self, t: float, u: Array) -> Array: ...
        def variation(self, t: float, u: Array) -> Array: ...
        def jacobian(self, t: float, u: Array) -> Any: ...
        def generator(self) -> Any: ...
        def stable_step(self, t: float, u: Array) -> float: ...
        def inner(self, u: Array, a: Array, b: Array) -> Any: ...
        def norm(self, e: Array) -> Any: ...
        def linearizable(self, u: Array) -> bool: ...
        def admissible(self, u: Array) -> Any: ...
        @property
        def base(self) -> Flow: ...
        @property
        def flat(self) -> Flow: ...
        def encode(self, u: Array) -> Array: ...
        def decode(self, z: Array) -> Array: ...
        def retract(self, u: Array) -> Array: ...
        def discrete_gradient_step(
            self, t: float, u: Array, h: float, memory: Memory
        ) -> tuple[Array, Memory]: ...
        def advice(self, problem: str) -> str | None: ...
        def default(self) -> tuple[str, float | None]: ...
        def advance(
            self, scheme: Any, dt: float, t0: float, t1: float, u: Array, rng: Any
        ) -> tuple[Array, Mapping[str, int]] | None: ...


def offers(flow: Any, name: str) -> bool:
    """Whether ``flow`` defines the optional method ``name``.

    A property that raises TypeError with the reason may stand in for a method that
    this particular flow cannot have; the reason then reaches the user.
    """
    return getattr(flow, name, None) is not None


def missing(flow: Any, needs: tuple[str, ...]) -> list[str]:
    """Names in ``needs`` that ``flow`` does not offer."""
    return [name for name in needs if not offers(flow, name)]
