"""The adjoint equation of a flow, solved backwards along the stored path."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.adjoint.backprop import Taken, check_known, taken
from flows.adjoint.differentiable import check_seen, offered, pull_back
from flows.adjoint.graphs import captured, holds, leaves
from flows.adjoint.roots import autograd_function
from flows.arrays import import_torch, rms
from flows.flow import Flow, Memory
from flows.linear import Shifted, shifted
from flows.linear.operators import Solvable, transpose
from flows.loop import Runner, State, StepFailure

if TYPE_CHECKING:
    from flows.control import Adaptive

__all__ = ["AdjointFlow", "Backwards", "Path", "check_smooth", "used_parameters"]

Array = Any
Tensor = Any

# From this order on, cubic interpolation is less accurate than the steps themselves.
QUINTIC = 4


def hermite(s: float) -> tuple[float, float, float, float]:
    """Weights of u0, u1, h u0', h u1' in the cubic at the part ``s`` of a step."""
    return (
        (1.0 + 2.0 * s) * (1.0 - s) ** 2,
        s * s * (3.0 - 2.0 * s),
        s * (1.0 - s) ** 2,
        -s * s * (1.0 - s),
    )


# Nodes 0, 1/2, 1 with values and slopes: inverse of the matrix of monomials.
_NODES = np.array([0.0, 0.5, 1.0])
_POWERS = np.arange(6)
_VALUES = _NODES[:, None] ** _POWERS
_SLOPES = _POWERS * _NODES[:, None] ** np.maximum(_POWERS - 1, 0)
_INVERSE = np.linalg.inv(np.vstack([_VALUES, _SLOPES]))


@dataclass(frozen=True, eq=False)
class Path:
    """The stored path of a run between its steps.

    Cubic Hermite interpolation of states and velocities; for schemes of order 4 and
    more the quintic through a state in the middle, which a step of half the size gives.
    """

    runner: Runner
    steps: tuple[Taken, ...]
    states: tuple[Tensor, ...]
    _known: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)

    @cached_property
    def ends(self) -> np.ndarray:
        """Times at which the steps end."""
        return np.array([step.end for step in self.steps])

    def __call__(self, t: float) -> Tensor:
        """The state in the flow's chart."""
        i = min(int(np.searchsorted(self.ends, t)), len(self.steps) - 1)
        step = self.steps[i]
        h = step.end - step.t
        s = min(max((t - step.t) / h, 0.0), 1.0)
        if s in (0.0, 1.0):
            return self.states[i + int(s)]
        if self.runner.scheme.order < QUINTIC:
            weights = hermite(s)
            parts = (*self.states[i : i + 2], *(h * v for v in self._slopes(i)))
        else:
            weights = tuple((s**_POWERS @ _INVERSE).tolist())
            parts = self._middle(i)
        total = weights[0] * parts[0]
        for weight, part in zip(weights[1:], parts[1:], strict=True):
            total = total + weight * part
        return total

    def _slopes(self, i: int) -> tuple[Tensor, ...]:
        """Velocities at both ends of step ``i``."""
        return self._slope(i), self._slope(i + 1)

    def _slope(self, i: int) -> Tensor:
        if i not in self._known:
            t = self.steps[i].t if i < len(self.steps) else self.steps[-1].end
            self._keep(i, (self._velocity(t, self.states[i]),))
        return self._known[i][0]

    def _middle(self, i: int) -> tuple[Tensor, ...]:
        """States at both ends and in the middle, then h times the velocities there."""
        if -i - 1 not in self._known:
            step = self.steps[i]
            h = step.end - step.t
            half = step._replace(h=0.5 * h)
            with import_torch("`adjoint`").no_grad():
                u = taken(self.runner, half, self.states[i], ())[0]
            slope = self._velocity(step.t + 0.5 * h, u)
            left, right = self._slopes(i)
            found = (self.states[i], u, self.states[i + 1])
            self._keep(-i - 1, (*found, h * left, h * slope, h * right))
        return self._known[-i - 1]

    def _velocity(self, t: float, u: Tensor) -> Tensor:
        with import_torch("`adjoint`").no_grad():
            return self.runner.flow.velocity(t, u).detach()

    def _keep(self, key: int, values: tuple[Tensor, ...]) -> None:
        """Remember what the last few steps needed: the path is read in one sweep."""
        if len(self._known) > 8:
            self._known.pop(next(iter(self._known)))
        self._known[key] = values


@dataclass(frozen=True, eq=False)
class AdjointFlow(Flow):
    """d lambda/ds = J^T lambda and dg/ds = (d velocity/d theta)^T lambda, s = end - t.

    A state is lambda and g, one after the other, as a vector.
    """

    space: Any = field(default=None)
    path: Any = None
    flow: Any = None
    end: float = 0.0
    parameters: tuple[Tensor, ...] = ()
    named: bool = False
    shape: tuple[int, ...] = ()
    is_gradient = False

    @property
    def size(self) -> int:
        """Number of entries of lambda."""
        return int(np.prod(self.shape))

    def velocity(self, t: float, u: Tensor) -> Tensor:
        torch = import_torch("`adjoint`")
        z = self.path(self.end - t).detach().requires_grad_()
        with torch.enable_grad():
            slope = self.flow.velocity(self.end - t, z)
        if not self.named:
            check_known([slope], [z], self.parameters)
        weight = u[: self.size].reshape(self.shape)
        return self._pulled(slope, (z, *self.parameters), weight, u)

    def _pulled(
        self, slope: Tensor, inputs: tuple[Tensor, ...], weight: Tensor, u: Tensor
    ) -> Tensor:
        """The derivatives of weight . slope by ``inputs`` as one vector like ``u``."""
        torch = import_torch("`adjoint`")
        found: tuple[Tensor | None, ...] = (None,) * len(inputs)
        if slope.requires_grad and inputs:
            # Parameters that were computed from others keep the graph that made them.
            found = torch.autograd.grad(
                slope, inputs, weight, allow_unused=True, retain_graph=True
            )
        pairs = zip(inputs, found, strict=True)
        parts = [torch.zeros_like(x) if g is None else g for x, g in pairs]
        flat = [g.reshape(-1).to(dtype=u.dtype, device=u.device) for g in parts]
        return torch.cat(flat) if flat else u[:0]

    def resolvent(
        self, t: float, w: Tensor, h: float, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """lambda = w + h J^T lambda is one linear system, g then a sum."""
        torch = import_torch("`adjoint`")
        at = self.end - t
        z = self.path(at)
        weight = pull_back(self.flow, at, z, h, w[: self.size].reshape(self.shape))
        with torch.enable_grad():
            slope = self.flow.velocity(at, z.detach().requires_grad_())
        rest = self._pulled(slope, self.parameters, weight, w)
        return torch.cat([weight.reshape(-1), w[self.size :] + h * rest]), ()

    def jacobian(self, t: float, u: Tensor) -> AdjointJacobian:
        """lambda is multiplied by the transposed Jacobian of the flow."""
        at = self.end - t
        z = self.path(at).detach().requires_grad_()
        with import_torch("`adjoint`").enable_grad():
            slope = self.flow.velocity(at, z)
        J = transpose(self.flow.jacobian(at, z.detach()))
        return AdjointJacobian(self, J, z, slope)

    def norm(self, e: Tensor) -> float:
        """The larger of the root mean squares of lambda and of g."""
        rest = e[self.size :]
        return max(rms(e[: self.size]), rms(rest) if self.parameters else 0.0)


@dataclass(frozen=True, eq=False)
class AdjointJacobian(Solvable):
    """The derivative of ``AdjointFlow`` by (lambda, g): (J^T lambda, B lambda).

    ``transposed`` is J^T as the flow stores J, ``slope`` the velocity at ``z`` with its
    graph, of which B is the transposed derivative by the parameters.
    """

    flow: AdjointFlow
    transposed: Any
    z: Tensor
    slope: Tensor

    def product(self, v: Tensor) -> Tensor:
        """(J^T lambda, B lambda) for v = (lambda, g)."""
        flow = self.flow
        weight = v[: flow.size].reshape(flow.shape)
        return flow._pulled(self.slope, (self.z, *flow.parameters), weight, v)

    def rest(self, weight: Tensor, like: Tensor) -> Tensor:
        """B lambda, also of a complex lambda."""
        torch = import_torch("`adjoint`")
        flow = self.flow
        if not weight.is_complex():
            return flow._pulled(self.slope, flow.parameters, weight, like)
        parts = (weight.real.contiguous(), weight.imag.contiguous())
        return torch.complex(*(self.rest(part, like) for part in parts))

    def shifted(self, c: Any, like: Tensor) -> AdjointStep:
        """See ``linear.shifted``."""
        return AdjointStep(self, c, shifted(self.transposed, c, self.z.detach()), like)


@dataclass(frozen=True, eq=False)
class AdjointStep:
    """Solutions of (I - c J) (lambda, g) = r: one system for lambda, then a sum."""

    J: AdjointJacobian
    c: Any
    inverse: Shifted
    like: Tensor

    def solve(self, r: Tensor) -> Tensor:
        """See ``linear.Shifted.solve``."""
        flow = self.J.flow
        weight = self.inverse.solve(r[: flow.size].reshape(flow.shape))
        rest = r[flow.size :] + self.c * self.J.rest(weight, self.like)
        return import_torch("`adjoint`").cat([weight.reshape(-1), rest])


@dataclass(frozen=True, eq=False)
class Backwards:
    """What the backward pass of a run needs."""

    path: Path
    flow: Any
    scheme: Any
    dt: float | Adaptive
    times: tuple[float, ...]
    parameters: tuple[Tensor, ...]
    named: bool

    def sweep(self, grads: list[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        """Derivatives by the first state and by the parameters.

        ``grads`` are those by the states at ``times``, where lambda jumps.
        """
        torch = import_torch("`adjoint`")
        like = self.path.states[0]
        end, begin = self.path.steps[-1].end, self.path.steps[0].t
        n, rest = like.numel(), sum(p.numel() for p in self.parameters)
        u = torch.zeros(n + rest, dtype=like.dtype, device=like.device)
        pairs = zip(self.times, grads, strict=True)
        # Times that the loss does not use would end the history of a multistep scheme.
        jumps = [(t, g) for t, g in pairs if g is not None and bool((g != 0).any())]
        # The equation is linear: scaled to 1, tolerances mean the same for every loss.
        scale = max((float(g.abs().max()) for _, g in jumps), default=0.0)
        if scale > 0.0 and np.isfinite(scale):
            flow = AdjointFlow(
                path=self.path,
                flow=self.flow,
                end=end,
                parameters=self.parameters,
                named=self.named,
                shape=tuple(like.shape),
            )
            runner = Runner(flow, self.scheme, self.dt, end=end - begin)
            u = self._run(runner, jumps[::-1], u, scale, end)
        else:
            scale = sum(float(g.abs().sum()) for _, g in jumps)
        parts = (scale * u).split([n, *(p.numel() for p in self.parameters)])
        shaped = [
            g.reshape(p.shape).to(dtype=p.dtype, device=p.device)
            for g, p in zip(parts[1:], self.parameters, strict=True)
        ]
        return parts[0].reshape(like.shape), shaped

    def _run(
        self,
        runner: Runner,
        jumps: list[tuple[float, Tensor]],
        u: Tensor,
        scale: float,
        end: float,
    ) -> Tensor:
        state = State(t=end - jumps[0][0], u=u, origin=end - jumps[0][0])
        stops = [end - t for t, _ in jumps[1:]] + [runner.end]
        for (_, grad), stop in zip(jumps, stops, strict=True):
            u = state.u.clone()
            u[: grad.numel()] += grad.reshape(-1) / scale
            state = state._replace(u=u, memory=(), origin=state.t, done=0)
            try:
                for after in runner.advance(state, stop):
                    state = after
            except StepFailure as failure:
                raise RuntimeError(
                    f"The adjoint equation was not solved: {failure} (at t = "
                    f"{end - state.t:.6g}). Give ContinuousAdjoint another scheme or "
                    "dt, or take Backprop()."
                ) from failure
            state = state._replace(t=stop)
        return state.u

    def attach(self, start: Tensor, states: list[Tensor]) -> list[Tensor]:
        """``states`` at ``times`` with their derivative by ``start`` and parameters."""
        operation = autograd_function(_forward, _backward)
        return list(operation(self, states, start, *self.parameters))


def _forward(
    ctx: Any, problem: Backwards, states: list[Tensor], *inputs: Tensor
) -> tuple[Tensor, ...]:
    ctx.problem = problem
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)
    return tuple(state.clone() for state in states)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    if import_torch("`adjoint`").is_grad_enabled():
        raise RuntimeError(
            "ContinuousAdjoint() has first derivatives only; take Backprop() for "
            "create_graph=True."
        )
    # Reading them is how torch notices parameters that were changed in place.
    _ = ctx.saved_tensors
    first, rest = ctx.problem.sweep(list(grads))
    return (None, None, first, *rest)


def used_parameters(flow: Any, state: State) -> tuple[Tensor, ...]:
    """Tensors that require grad and on which the velocity depends."""
    torch = import_torch("`adjoint`")
    u = state.u.detach().requires_grad_()
    held = captured(flow)
    with torch.enable_grad():
        ends = leaves([flow.velocity(state.t, u)], [u, *held])
    return (*held, *(x for x in ends if x is not u and not holds(held, x)))


def check_smooth(flow: Any, state: State) -> None:
    """Refuse flows without an adjoint equation; with the reason."""
    why = None
    if not offered(flow, "velocity"):
        why = "it has no velocity"
    elif offered(flow, "noise") or hasattr(flow, "draw"):
        why = "it is random"
    elif getattr(flow, "kinked", False):
        why = "its energy has a kink, where the velocity has no derivative"
    if why is not None:
        raise TypeError(
            f"ContinuousAdjoint() needs the derivative of the velocity along the path, "
            f"but {flow.functional if hasattr(flow, 'functional') else 'this flow'!r}: "
            f"{why}. Take Backprop()."
        )
    check_seen(flow, state.t, state.u)
