"""Exact derivatives of a run: recorded steps, repeated backwards segment by segment."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.adjoint.differentiable import check_seen, lost, offered
from flows.adjoint.graphs import captured, holds, leaves
from flows.adjoint.roots import TWICE, autograd_function
from flows.arrays import import_torch, is_torch
from flows.linear import NewtonFailure
from flows.loop import Runner, State

if TYPE_CHECKING:
    from flows.flow import Memory, Step

__all__ = [
    "Recorder",
    "Segment",
    "Taken",
    "backpropagated",
    "check_known",
    "find_parameters",
    "taken",
]

Array = Any
Tensor = Any


class Taken(NamedTuple):
    """A step that was accepted: from t to ``end`` with step h, ``number`` before it."""

    t: float
    h: float
    number: int
    end: float


@dataclass
class Recorder(Runner):
    """A Runner that remembers the size of each step and some of the states.

    It keeps the states after every ``spacing`` steps. Where they become more than
    ``most``, or without it more than twice the spacing, every other one is dropped: of
    N steps about sqrt(N) states are left. With ``most = 0`` all are kept.
    """

    most: int | None = None
    spacing: int = 1
    first: int = 0
    tried: float = 0.0
    steps: dict[int, list[Taken]] = field(default_factory=dict)
    kept: dict[int, State] = field(default_factory=dict)

    @classmethod
    def of(cls, runner: Runner, state: State, most: int | None) -> Recorder:
        """The recorder that takes the place of ``runner`` at ``state``."""
        values = {f.name: getattr(runner, f.name) for f in fields(runner) if f.init}
        kept = {state.step: state}
        return cls(**values, most=most, first=state.step, kept=kept)

    def attempt(self, state: State, h: Any) -> Step:
        step = super().attempt(state, h)
        self.tried = h
        return step

    def commit(self, state: State, step: Step, *rest: Any) -> State:
        new = super().commit(state, step, *rest)
        taken = Taken(state.t, self.tried, state.step, new.t)
        self.steps.setdefault(state.step, []).append(taken)
        if (new.step - self.first) % self.spacing == 0:
            self.kept[new.step] = new
            self._thin()
        return new

    def _thin(self) -> None:
        if self.most == 0:
            return
        while len(self.kept) > (self.most or 2 * self.spacing):
            self.spacing *= 2
            self.kept = {
                n: state
                for n, state in self.kept.items()
                if (n - self.first) % self.spacing == 0
            }

    def path(self, end: State) -> list[Taken]:
        """The steps that led to ``end``; refined and halved ones replace the others."""
        path: list[Taken] = []
        t = end.t
        for number in range(end.step - 1, self.first - 1, -1):
            step = next(s for s in reversed(self.steps[number]) if s.end == t)
            path.append(step)
            t = step.t
        return path[::-1]

    def boundaries(self, path: list[Taken]) -> list[State]:
        """The states kept along ``path``, its end left out."""
        found = [self.kept.get(step.number) for step in path]
        pairs = zip(path, found, strict=True)
        return [s for step, s in pairs if s is not None and s.t == step.t]


def taken(runner: Runner, step: Taken, u: Tensor, memory: Memory) -> tuple[Any, Memory]:
    """One step repeated: the state and the memory after it."""
    rng = None if runner.stream is None else runner.stream.at(step.number)
    made = runner.try_step(step.t, u, step.h, rng, memory)
    return made.u, () if runner.forget else made.memory


@dataclass(frozen=True, eq=False)
class Segment:
    """Steps between two kept states, as one operation of autograd.

    Its inputs are the state and the tensors of the memory at the beginning, and the
    ``parameters``; its outputs the states to be saved, in the user's coordinates, and
    state and memory at the end, unless it is the last.
    """

    runner: Runner
    begin: State
    end: State | None
    steps: tuple[Taken, ...]
    saved: frozenset[int]
    parameters: tuple[Tensor, ...]

    def inputs(self) -> list[Tensor]:
        """The tensors of the state at the beginning."""
        return tensors_of(self.begin)

    def replay(self, inputs: list[Tensor]) -> list[Tensor]:
        """The outputs, computed again."""
        u = inputs[0]
        memory = filled(self.begin.memory, inputs[1:])
        outputs = []
        for step in self.steps:
            u, memory = taken(self.runner, step, u, memory)
            if step.number in self.saved:
                outputs.append(self.runner.user(u))
        if self.end is not None:
            outputs += [u, *filter(is_torch, memory)]
        return outputs


def tensors_of(state: State) -> list[Tensor]:
    """State and the tensors in its memory."""
    return [state.u, *filter(is_torch, state.memory)]


def filled(memory: Memory, values: list[Tensor]) -> Memory:
    """``memory`` with other tensors, its numbers kept."""
    rest = iter(values)
    return tuple(next(rest) if is_torch(x) else x for x in memory)


def _forward(
    ctx: Any, segment: Segment, values: list[Tensor], *inputs: Tensor
) -> tuple[Tensor, ...]:
    ctx.segment = segment
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)
    return tuple(value.clone() for value in values)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    import torch

    segment: Segment = ctx.segment
    # A double backward differentiates the repetition itself, inputs included.
    twice = torch.is_grad_enabled()
    count = len(ctx.saved_tensors) - len(segment.parameters)
    inputs = [
        x if twice and x.requires_grad else x.detach().requires_grad_()
        for x in ctx.saved_tensors[:count]
    ]
    recorded = TWICE.set(twice)
    try:
        found = derivatives(segment, inputs, grads, twice)
    finally:
        TWICE.reset(recorded)
    rest = with_zeros(found[count:], segment.parameters)
    return (None, None, *found[:count], *rest)


def derivatives(
    segment: Segment,
    inputs: list[Tensor],
    grads: tuple[Tensor | None, ...],
    twice: bool,
) -> tuple[Tensor | None, ...]:
    """Derivatives by inputs and parameters, from those by the outputs."""
    import torch

    with torch.enable_grad():
        outputs = segment.replay(inputs)
    check_known(outputs, inputs, segment.parameters)
    wanted = [*inputs, *segment.parameters]
    pairs = [
        (output, grad)
        for output, grad in zip(outputs, grads, strict=True)
        if grad is not None and output.requires_grad
    ]
    if not pairs:
        return (None,) * len(wanted)
    # A parameter may itself be computed, by a graph that is needed again.
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        [output for output, _ in pairs],
        wanted,
        [grad for _, grad in pairs],
        allow_unused=True,
        retain_graph=True,
        create_graph=twice,
    )
    return found


def with_zeros(
    grads: tuple[Tensor | None, ...], parameters: tuple[Tensor, ...]
) -> list[Tensor]:
    """Derivatives by parameters; 0 for those that the velocity does not depend on."""
    import torch

    pairs = zip(grads, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


def check_known(
    outputs: list[Tensor], inputs: list[Tensor], parameters: tuple[Tensor, ...]
) -> None:
    """Refuse steps that use a tensor which the first one did not."""
    known = [*inputs, *parameters]
    for tensor in leaves(outputs, known):
        if not holds(known, tensor):
            raise RuntimeError(
                f"The flow uses a tensor of shape {tuple(tensor.shape)} that requires "
                "grad and that the first step did not use, so its derivative would be "
                "lost. Let every step use it, for instance as `+ 0*tensor`."
            )


def apply(segment: Segment, values: list[Tensor], inputs: list[Tensor]) -> Any:
    """The outputs ``values`` of a segment, with its derivative."""
    operation = autograd_function(_forward, _backward)
    return operation(segment, values, *inputs, *segment.parameters)


def backpropagated(
    runner: Recorder,
    start: Tensor,
    times: np.ndarray,
    states: Tensor,
    final: State,
    parameters: tuple[Tensor, ...],
) -> Tensor:
    """The saved ``states`` (k, ...) with their derivative by ``start`` and parameters.

    Parameters
    ----------
    runner : Recorder
        Of the finished run.
    start : tensor
        The first state in the flow's chart, with its graph.
    times : (k,) array
        Times of the saved states.
    final : State
        The last state of the run.
    """
    torch = import_torch("`adjoint`")
    path = runner.path(final)
    bounds = runner.boundaries(path)
    index = dict(zip(times.tolist(), range(len(times)), strict=True))
    saved = frozenset(step.number for step in path if step.end in index)
    outputs: list[Tensor] = []
    if len(times) and times[0] == (path[0].t if path else final.t):
        outputs.append(runner.user(start))
    inputs = [start]
    for i, begin in enumerate(bounds):
        end = bounds[i + 1] if i + 1 < len(bounds) else None
        stop = final.step if end is None else end.step
        steps = tuple(path[begin.step - runner.first : stop - runner.first])
        segment = Segment(runner, begin, end, steps, saved, parameters)
        values = [states[index[s.end]] for s in steps if s.number in saved]
        count = len(values)
        values += [] if end is None else tensors_of(end)
        if values:
            found = apply(segment, values, inputs)
            outputs += found[:count]
            inputs = list(found[count:])
    return torch.stack(outputs)


def find_parameters(runner: Runner, state: State, h: float) -> tuple[Tensor, ...]:
    """Tensors that the first step uses; TypeError when derivatives are lost in it.

    The step is made once with a graph, in which the tensors are found; those that the
    flow visibly holds are taken as they are, even when they were computed from others.
    """
    torch = import_torch("`adjoint`")
    u = state.u.detach().requires_grad_()
    held = captured(runner.flow)
    step = Taken(state.t, h, state.step, state.t + h)
    # The work of this step is not the run's.
    runner = replace(runner, counters={})
    with torch.enable_grad():
        v = runner.user(probe(runner, step, u))
        ends = leaves([v], [u, *held])
        slopes = []
        if offered(runner.flow, "velocity"):
            check_seen(runner.flow, state.t, u)
            slopes = leaves([runner.flow.velocity(state.t, u)], [u, *held])
    if not holds(ends, u):
        raise lost("a step computes its result outside torch")
    try:
        torch.autograd.grad(v.sum(), u, retain_graph=True)
    except (RuntimeError, np.linalg.LinAlgError) as error:
        # For instance a proximal map that writes into its own results.
        raise lost(f"autograd does not go back through a step ({error})") from error
    missed = [x for x in slopes if not holds(ends, x)]
    if missed:
        raise lost(
            f"a step does not see the tensor of shape {tuple(missed[0].shape)} on "
            "which the velocity depends"
        )
    return (*held, *(x for x in ends if x is not u and not holds(held, x)))


def probe(runner: Runner, step: Taken, u: Tensor) -> Tensor:
    """A step of a size at which the inner solver succeeds."""
    for _ in range(8):
        try:
            return taken(runner, step, u, ())[0]
        except (NewtonFailure, np.linalg.LinAlgError):
            step = step._replace(h=0.1 * step.h)
    return taken(runner, step, u, ())[0]
