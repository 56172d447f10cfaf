"""Differentiating through a flow: ``solve(..., adjoint=...)`` inside autograd."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flows.adjoint.backprop import Recorder, backpropagated, find_parameters
from flows.adjoint.differentiable import Differentiable, offered
from flows.adjoint.sensitivity import (
    AdjointFlow,
    Backwards,
    Path,
    check_smooth,
    used_parameters,
)
from flows.arrays import import_torch, is_torch
from flows.control import Adaptive, positive
from flows.linear.operators import transpose
from flows.loop.door import choose
from flows.schemes import BDF, TRBDF2, Exponential, Radau, Rosenbrock
from flows.solution import Solution

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.loop import Runner, State

__all__ = ["Backprop", "ContinuousAdjoint", "differentiable", "differentiate"]

Tensor = Any


@dataclass(frozen=True)
class Backprop:
    """``adjoint=Backprop()``: exact derivatives of the steps that a run took.

    ``sol.u`` then is a tensor in the graph of autograd, back to ``u0`` and to every
    tensor that the energy uses: ``parameters={...}`` of formulas, tensors that a
    callable captures, parameters of a ``torch.nn.Module``.

    The run goes forward without a graph and keeps some states; the backward pass
    repeats the steps from one to the next with a graph. Of N steps that takes the time
    of about four runs and the memory of O(sqrt(N)) steps. Implicit steps are
    differentiated by the implicit function theorem: one linear system each, with the
    transposed matrix, and no graph through Newton's method.

    Parameters
    ----------
    checkpoints : int, optional
        The most states to keep, besides those that are saved; by default about
        sqrt(N). With 1 the backward pass has the graph of the whole run.

    Notes
    -----
    Times and steps count as constants: nothing is differentiated by dt, by the choice
    of adaptive steps, or by the time at which ``until`` ends the run. So does noise.
    Where a scheme or a proximal map has a kink, the derivative is that of the branch
    that was taken. The members of a batch share their steps. All saved states are in
    the result, so give ``save_at`` for long runs. Second derivatives (with
    ``create_graph=True``) are exact too. ``ItohAbe``, steps that leave torch, and jumps
    of events are refused. ``sol.energy`` is NumPy; ``sol.flow.energy(t, u)`` of a saved
    state is in the graph.

    Raises
    ------
    TypeError
        By ``solve``: for NumPy states, and for steps that are computed outside torch.

    References
    ----------
    A. Griewank, Achieving logarithmic growth of temporal and spatial complexity in
    reverse automatic differentiation, Optim. Methods Softw. 1 (1992) 35-54,
    doi:10.1080/10556789208805505.

    Examples
    --------
    >>> import torch, flows as fl
    >>> k = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    >>> flow = fl.Euclidean().flow(fl.Potential("k*x**2/2", parameters={"k": k}))
    >>> u0 = torch.ones(1, dtype=torch.float64)
    >>> sol = fl.solve(flow, u0, (0, 1), fl.RK4(), dt=0.01, adjoint=fl.Backprop())
    >>> sol.u[-1, 0].backward()
    >>> round(float(k.grad), 6)  # -exp(-2)
    -0.135335
    """

    checkpoints: int | None = None

    def __post_init__(self) -> None:
        n = self.checkpoints
        if n is None:
            return
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"`checkpoints` must be a positive integer, got {n!r}.")
        if n < 1:
            raise ValueError(f"`checkpoints` must be a positive integer, got {n}.")


@dataclass(frozen=True, eq=False)
class ContinuousAdjoint:
    """``adjoint=ContinuousAdjoint()``: derivatives from the adjoint equation.

    The backward pass solves, from the last saved time to the first,

        -lambda' = J(t, u(t))^T lambda,   dL/dtheta = int lambda . d velocity/dtheta dt

    with J the derivative of the velocity and a jump of lambda by dL/du(t_k) at each
    saved time t_k; lambda(t0) is dL/du0. The path u(t) is the stored one, all accepted
    steps and interpolation between them. It is not integrated backwards, which would
    save that memory: gradient flows contract, so backwards they amplify rounding by
    exp(t times the largest curvature), and after a few relaxation times nothing of the
    path is left. The equation for lambda is as stable backwards as the flow is
    forwards.

    The gradient is that of the flow, not of its steps: it differs from ``Backprop`` by
    the errors of both integrations. Its backward pass chooses its own steps and does
    not build a graph.

    Parameters
    ----------
    scheme : Scheme, optional
        For lambda. By default that of the run, where it needs nothing but ``velocity``
        or ``resolvent``; else ``TRBDF2()``, and for a run of an order above 2
        ``Rosenbrock()`` or ``Radau()``, or where the flow has no Jacobian that can be
        transposed ``BDF(order)``.
    dt : float or Adaptive, optional
        For lambda, which is scaled to size 1; by default that of the run.
    parameters : sequence of tensors or nn.Module, optional
        What theta is, where it shall not be all that the velocity depends on.

    Notes
    -----
    As ``Backprop`` it finds parameters of formulas, tensors in closures and parameters
    of modules, in the graph of the first velocity; a tensor that enters later is an
    error in the backward pass. Second derivatives are not available.

    Raises
    ------
    TypeError
        By ``solve``: as ``Backprop``; also for flows with noise, without velocity, and
        for energies with kinks.

    References
    ----------
    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, Neural ordinary
    differential equations, NeurIPS 2018, arXiv:1806.07366.
    D. Onken, L. Ruthotto, Discretize-optimize vs. optimize-discretize for time-series
    regression and continuous normalizing flows, arXiv:2005.13420.
    """

    scheme: Any = None
    dt: float | Adaptive | None = None
    parameters: Any = None

    def __post_init__(self) -> None:
        if self.dt is not None and not isinstance(self.dt, Adaptive):
            object.__setattr__(self, "dt", positive("dt", self.dt))
        if self.parameters is not None:
            object.__setattr__(self, "parameters", chosen(self.parameters))


def chosen(parameters: Any) -> tuple[Tensor, ...]:
    """The tensors that the user names."""
    if hasattr(parameters, "parameters") and callable(parameters.parameters):
        parameters = parameters.parameters()
    if is_torch(parameters):
        parameters = (parameters,)
    found = tuple(parameters)
    for p in found:
        if not is_torch(p) or not p.requires_grad:
            raise TypeError(
                "`parameters` must be tensors that require grad, or a torch.nn.Module; "
                f"got {type(p).__name__}"
                + (" that does not require grad." if is_torch(p) else ".")
            )
    return found


def differentiable(adjoint: Any, flow: Any, u0: Any) -> Any:
    """The flow that ``solve`` runs for an adjoint; checks what can be checked early."""
    if isinstance(adjoint, type):
        raise TypeError(
            f"`adjoint` is the class {adjoint.__name__}; write `{adjoint.__name__}()`."
        )
    if not isinstance(adjoint, (Backprop, ContinuousAdjoint)):
        raise TypeError(
            "`adjoint` must be None, fl.Backprop() or fl.ContinuousAdjoint(), got "
            f"{adjoint!r}."
        )
    if isinstance(u0, Solution):
        raise TypeError(
            "`adjoint` starts from a state: give `sol.u[-1]`, which keeps its graph, "
            "instead of the solution."
        )
    return Differentiable(flow)


def differentiate(
    adjoint: Backprop | ContinuousAdjoint,
    run: Any,
    u0: Any,
    execute: Callable[[Any], Solution],
) -> Solution:
    """Execute a prepared run so that its states carry a graph."""
    if not is_torch(run.state.u):
        raise TypeError(
            "`adjoint` differentiates torch tensors, but the state is a NumPy array: "
            "give `torch.as_tensor(u0)`, or a space with device='cpu'."
        )
    if import_torch("`adjoint`").is_grad_enabled():
        method = by_steps if isinstance(adjoint, Backprop) else by_equation
        sol = method(adjoint, run, first_state(u0, run), execute)
    else:
        sol = execute(run)
    # The user's flow, not the one that differentiates its steps.
    return replace(sol, flow=run.flow.flow)


def by_steps(
    adjoint: Any, run: Any, start: Tensor, execute: Callable[[Any], Solution]
) -> Solution:
    """``Backprop``: the solution with the derivative of its steps."""
    begin = run.state
    if not composed(run.runner.scheme):
        raise TypeError(
            f"Backprop() does not go through {run.runner.scheme!r}, which solves "
            "equations of its own: take ContinuousAdjoint(), or a scheme such as "
            "DormandPrince(), TRBDF2() or SDIRK3()."
        )
    run.runner = runner = Recorder.of(run.runner, begin, adjoint.checkpoints)
    parameters = find_parameters(runner, begin, first_size(run))
    sol = execute(run)
    if not (start.requires_grad or parameters):
        return sol
    u = backpropagated(runner, start, sol.t, sol.u, sol.final, parameters)
    return replace(sol, u=u)


def by_equation(
    adjoint: Any, run: Any, start: Tensor, execute: Callable[[Any], Solution]
) -> Solution:
    """``ContinuousAdjoint``: the solution with the derivative of the flow."""
    begin = run.state
    check_smooth(run.flow, begin)
    parameters = adjoint.parameters
    if parameters is None:
        parameters = used_parameters(run.flow, begin)
    scheme, dt = adjoint_scheme(adjoint, run.runner, begin)
    run.runner = runner = Recorder.of(run.runner, begin, 0)
    sol = execute(run)
    if not (start.requires_grad or parameters):
        return sol
    path = path_of(runner, sol)
    times = tuple(float(t) for t in sol.t)
    outputs = [start] if times[0] == begin.t else []
    if later := times[len(outputs) :]:
        problem = Backwards(
            path=path,
            flow=runner.flow,
            scheme=scheme,
            dt=dt,
            times=later,
            parameters=parameters,
            named=adjoint.parameters is not None,
        )
        outputs += problem.attach(start, [path(t) for t in later])
    torch = import_torch("`adjoint`")
    return replace(sol, u=torch.stack([runner.user(z) for z in outputs]))


def path_of(runner: Recorder, sol: Solution) -> Path:
    """All states of a finished run."""
    steps = tuple(runner.path(sol.final))
    states = [runner.kept[step.number].u for step in steps]
    return Path(runner, steps, (*states, sol.final.u))


def composed(scheme: Any) -> bool:
    """Whether autograd goes through the steps of ``scheme`` and those inside it."""
    inner = getattr(scheme, "inner", None)
    parts = list(inner.values()) if isinstance(inner, dict) else [inner]
    parts.append(getattr(scheme, "scheme", None))
    return bool(scheme.composed) and all(composed(s) for s in parts if s is not None)


def first_state(u0: Any, run: Any) -> Tensor:
    """The first state in the flow's chart, with the graph that ``u0`` has."""
    u = run.u
    if is_torch(u0):
        u = u0.to(device=u.device, dtype=u.dtype)
    flow = run.flow
    return flow.encode(u) if hasattr(flow, "encode") else u


def first_size(run: Any) -> float:
    """A step to try."""
    dt = run.runner.dt
    if not isinstance(dt, Adaptive):
        return float(dt)
    span = run.t1 - run.t0
    return 1e-3 * span if 0.0 < span < math.inf else 1e-3


def adjoint_scheme(
    adjoint: ContinuousAdjoint, runner: Runner, state: State
) -> tuple[Any, float | Adaptive]:
    """Scheme and step for lambda: the user's, else those of the run."""
    scheme = adjoint.scheme
    if scheme is None:
        scheme = usual_scheme(runner, state)
    elif "jacobian" in getattr(scheme, "needs", ()):
        if isinstance(scheme, Exponential):
            raise TypeError(
                "ContinuousAdjoint() has no exponentials of the adjoint equation; take "
                "`scheme=Rosenbrock()` or `scheme=Radau()`."
            )
        if not has_transpose(runner.flow, state):
            raise TypeError(
                f"ContinuousAdjoint(scheme={scheme!r}) needs the transpose of a "
                "Jacobian, which this flow does not have; take `scheme=BDF()` or "
                "`scheme=TRBDF2()`."
            )
    dt = runner.dt if adjoint.dt is None else adjoint.dt
    found = choose(AdjointFlow(), scheme, dt)
    return found[0], found[1]


def has_transpose(flow: Any, state: State) -> bool:
    """Whether the transposed Jacobian of ``flow`` can be solved with."""
    if not offered(flow, "jacobian"):
        return False
    return transpose(flow.jacobian(state.t, state.u.detach())) is not None


def usual_scheme(runner: Runner, state: State) -> Any:
    """The scheme for lambda: the run's own, or one of its order up to 5."""
    own = runner.scheme
    if set(own.needs) <= {"velocity", "resolvent"} and not own.random:
        return own
    if own.order <= 2:
        return TRBDF2()
    if has_transpose(runner.flow, state):
        return Rosenbrock() if own.order <= 4 else Radau()
    return BDF(min(own.order, 5))
