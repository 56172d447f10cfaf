"""Flows inside autograd: which tensors they use, and derivatives of implicit steps.

An implicit step v = w + h velocity(t, v) is solved without a graph. Its derivative is
that of the equation: dv = (I - h J)^{-1} (dw + h d_theta velocity), J the derivative of
the velocity at v, so a gradient goes back through one linear system with I - h J^T.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from flows.arrays import dtype_name, import_torch, is_torch, to_numpy
from flows.flow import offers
from flows.linear.operators import Operator
from flows.linear.shifted import shifted

__all__ = [
    "TWICE",
    "Differentiable",
    "autograd_function",
    "captured",
    "leaves",
    "lost",
    "offered",
    "pull_back",
]

Array = Any
Tensor = Any

# Unknowns up to which the derivative of a velocity is written out as a matrix.
SMALL = 128
REFINEMENTS = 4
# Set while a backward pass is recorded in order to be differentiated itself.
TWICE: ContextVar[bool] = ContextVar("TWICE", default=False)


class Differentiable:
    """A flow whose implicit steps carry derivatives; all else is the flow's own.

    The members of a batch share their steps, the worst of them decides, and there is
    no fused path: every accepted step is seen.
    """

    def __init__(self, flow: Any) -> None:
        self.flow = flow

    def __getattr__(self, name: str) -> Any:
        if name in ("flow", "advance") or name.startswith("__"):
            raise AttributeError(name)
        own = getattr(self.flow, name)
        match name:
            case "resolvent" | "prox":
                return partial(self._implicit, name, own)
            case "norm":
                return lambda e: worst(own(e))
            case "parts":
                return lambda: {k: Differentiable(part) for k, part in own().items()}
            case "draw":
                return lambda rng: Differentiable(own(rng))
        return own

    def _implicit(
        self, name: str, own: Any, t: Any, w: Tensor, h: Any, memory: tuple[Any, ...]
    ) -> tuple[Tensor, tuple[Any, ...]]:
        torch = import_torch("A derivative")
        if not (torch.is_grad_enabled() and w.requires_grad):
            found: tuple[Tensor, tuple[Any, ...]] = own(t, w, h, memory)
            return found
        if self._composed:
            v, kept = own(t, w, h, memory)
            if not v.requires_grad:
                raise lost(f"its `{name}` is computed outside torch")
            return v, kept
        with torch.no_grad():
            v, kept = own(t, w.detach(), h, memory)
            v = v.detach()
        right = w + h * self.flow.velocity(t, constant(v, w))
        check_solved(name, v, right)
        equation = Implicit(self.flow, t, v, h)
        result = v + equation.inverse(right)
        if TWICE.get():
            # A step of Newton's method with a constant matrix, from a point whose first
            # derivative is right, has the right second derivative.
            right = w + h * self.flow.velocity(t, result)
            result = result - equation.inverse(result - right)
        return result, kept

    @cached_property
    def _composed(self) -> bool:
        """Whether implicit steps are formulas or proximal maps, not iterations."""
        flow = self.flow
        if getattr(flow, "kinked", False) or not offered(flow, "velocity"):
            return True
        return offered(flow, "exact") and not captured(flow)


def worst(size: Any) -> Any:
    """The largest of the norms of a batch."""
    return float(to_numpy(size).max()) if getattr(size, "ndim", 0) else size


def offered(flow: Any, name: str) -> bool:
    """Whether ``flow`` has the method; False where a reason says no."""
    try:
        return offers(flow, name)
    except TypeError:
        return False


def lost(why: str) -> TypeError:
    """The error of a step through which no derivative goes."""
    return TypeError(
        f"`adjoint` cannot differentiate this flow with this scheme: {why}. Take an "
        "explicit scheme such as DormandPrince() if the velocity is made of torch's "
        "operations, or adjoint=None."
    )


def check_solved(name: str, v: Tensor, right: Tensor) -> None:
    """Refuse steps that solve something else than v = w + h velocity(t, v)."""
    loose = 1e-2 if dtype_name(v) == "float32" else 1e-5
    gap = (v - right.detach()).abs()
    size = 1.0 + v.abs() + right.detach().abs()
    if not bool((gap <= loose * size).all()):
        raise lost(
            f"its `{name}` does not solve v = w + h velocity(t, v), as at a kink or in "
            "a metric that depends on the state"
        )


@lru_cache(maxsize=8)
def autograd_function(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """``torch.autograd.Function`` of two functions of modules, applied."""
    torch = import_torch("`adjoint`")
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    made: Any = type(forward.__name__, (torch.autograd.Function,), methods)
    return made.apply


def constant(v: Tensor, like: Tensor) -> Tensor:
    """``v`` as a tensor that requires grad but passes none on."""
    return autograd_function(_constant, _no_gradient)(v, like)


def _constant(ctx: Any, v: Tensor, like: Tensor) -> Tensor:
    return v.clone()


def _no_gradient(ctx: Any, grad: Tensor) -> tuple[None, None]:
    return None, None


@dataclass(frozen=True, eq=False)
class Implicit:
    """The linear system I - h J of a solved step, J the derivative at v."""

    flow: Any
    t: Any
    v: Tensor
    h: Any
    transposed: bool = False

    def inverse(self, r: Tensor) -> Tensor:
        """0 with the derivative of (I - h J)^{-1} r: v is solved already."""
        return autograd_function(_inverse, _inverse_backward)(r, self, True)

    def solve(self, r: Tensor) -> Tensor:
        """The solution for the right-hand side r."""
        method = pull_back if self.transposed else push
        return method(self.flow, self.t, self.v, self.h, r)


def _inverse(ctx: Any, r: Tensor, equation: Implicit, unseen: bool) -> Tensor:
    ctx.equation = equation
    return r.new_zeros(r.shape) if unseen else equation.solve(r)


def _inverse_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    torch = import_torch("A derivative")
    if torch.is_grad_enabled() and not TWICE.get():
        raise RuntimeError(
            "Third derivatives of implicit steps are not available; take an explicit "
            "scheme such as DormandPrince()."
        )
    own = ctx.equation
    equation = replace(own, transposed=not own.transposed)
    operation = autograd_function(_inverse, _inverse_backward)
    return operation(grad, equation, False), None, None


def pull_back(flow: Any, t: Any, v: Tensor, h: Any, b: Tensor) -> Tensor:
    """x with x - h J(t, v)^T x = b, J the derivative of the velocity.

    The flow's own Jacobian, where it has one, gives the solution, products with J^T by
    autograd the residual: the result is exact to rounding even for a Jacobian of
    finite differences.

    Raises
    ------
    linear.NewtonFailure
        When the system is not solved.
    """
    return solved(flow, t, v, h, b, transposed=True)


def push(flow: Any, t: Any, v: Tensor, h: Any, b: Tensor) -> Tensor:
    """x with x - h J(t, v) x = b; see ``pull_back``."""
    return solved(flow, t, v, h, b, transposed=False)


def solved(
    flow: Any, t: Any, v: Tensor, h: Any, b: Tensor, *, transposed: bool
) -> Tensor:
    """Solution of the system with the Jacobian or with its transpose."""
    torch = import_torch("A derivative")
    z = v.detach().requires_grad_()
    with torch.enable_grad():
        slope = flow.velocity(t, z)
        if transposed:
            product = derivative(slope, z)
        else:
            # J^T c is linear in c, and its derivative by c is J.
            c = torch.zeros_like(z).requires_grad_()
            product = derivative(derivative(slope, z, graph=True)(c), c)
    with torch.no_grad():
        inverse = approximate(flow, t, v.detach(), h, product, transposed)
        return refined(inverse, product, h, b)


def derivative(
    slope: Tensor, z: Tensor, graph: bool = False
) -> Callable[[Tensor], Tensor]:
    """Products x -> (d slope/dz)^T x; 0 where ``slope`` does not depend on z."""
    torch = import_torch("A derivative")

    def product(x: Tensor) -> Tensor:
        if not slope.requires_grad:
            return torch.zeros_like(x)
        (found,) = torch.autograd.grad(
            slope, z, x, retain_graph=True, allow_unused=True, create_graph=graph
        )
        return torch.zeros_like(x) if found is None else found

    return product


def refined(
    solve: Callable[[Tensor], Tensor] | None,
    product: Callable[[Tensor], Tensor],
    h: Any,
    b: Tensor,
) -> Tensor:
    """Iterative refinement of an approximate inverse; a Krylov method without one."""
    eps = float(np.finfo(dtype_name(b)).eps)
    if solve is not None:
        x, before = solve(b), np.inf
        for _ in range(REFINEMENTS):
            pulled = h * product(x)
            residual = b - x + pulled
            size = float((b.abs() + x.abs() + pulled.abs()).max())
            error = float(residual.abs().max())
            if error <= 4 * eps * size or (before <= 1e3 * eps * size):
                return x
            if not error < 0.5 * before:
                break
            x, before = x + solve(residual), error
    shape = b.shape
    operator = Operator(
        lambda x: product(x.reshape(shape)).reshape(-1), symmetric=False
    )
    flat = b.reshape(-1)
    return shifted(operator, h, flat).solve(flat).reshape(shape)


def approximate(
    flow: Any,
    t: Any,
    v: Tensor,
    h: Any,
    product: Callable[[Tensor], Tensor],
    transposed: bool,
) -> Callable[[Tensor], Tensor] | None:
    """Inverse of I - h J or its transpose, up to errors of the flow's Jacobian."""
    if offered(flow, "jacobian"):
        J = flow.jacobian(t, v)
        if isinstance(J, Operator) and not J.symmetric:
            return None
        if transposed and is_torch(J):
            J = J.mT
        elif transposed and hasattr(J, "tocsc"):
            J = J.T
        inverse: Callable[[Tensor], Tensor] = shifted(J, h, v).solve
        return inverse
    n = int(v.numel())
    if n > SMALL:
        return None
    torch = import_torch("A derivative")
    identity = torch.eye(n, dtype=v.dtype, device=v.device)
    columns = [product(e.reshape(v.shape)).reshape(-1) for e in identity]
    factor = shifted(torch.stack(columns, -1), h, v.reshape(-1))
    return lambda b: factor.solve(b.reshape(-1)).reshape(b.shape)


def leaves(outputs: Iterable[Tensor], stops: Iterable[Tensor] = ()) -> list[Tensor]:
    """Tensors on which ``outputs`` depend by their graph: its leaves, or ``stops``."""
    roots: dict[Any, list[Tensor]] = {}
    found: dict[int, Tensor] = {}
    for tensor in stops:
        if tensor.grad_fn is not None:
            roots.setdefault(tensor.grad_fn, []).append(tensor)
    pending = []
    for output in outputs:
        if output.grad_fn is not None:
            pending.append(output.grad_fn)
        elif output.requires_grad:
            found[id(output)] = output
    seen = set(pending)
    while pending:
        node = pending.pop()
        if node in roots:
            found.update((id(tensor), tensor) for tensor in roots[node])
            continue
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                pending.append(after)
    return list(found.values())


def captured(owner: Any) -> list[Tensor]:
    """Tensors that require grad and are held by an object: its fields and closures.

    Attributes, containers, modules, partial and bound functions, and what the code of
    a function names are looked through. It need not be complete: the leaves of a graph
    are found by ``leaves``.
    """
    torch = import_torch("`adjoint`")
    found: dict[int, Tensor] = {}
    seen: dict[int, Any] = {}
    pending = [owner]
    while pending:
        x = pending.pop()
        if id(x) in seen:
            continue
        seen[id(x)] = x
        if isinstance(x, torch.Tensor):
            if x.requires_grad:
                found[id(x)] = x
        elif isinstance(x, torch.nn.Module):
            pending += [*x.parameters(), *vars(x).values()]
        else:
            pending += contents(x)
    return list(found.values())


def contents(x: Any) -> list[Any]:
    """What an object of Python holds."""
    if isinstance(x, Mapping):
        return list(x.values())
    if isinstance(x, (list, tuple, set, frozenset)):
        return list(x)
    if isinstance(x, partial):
        return [x.func, *x.args, *x.keywords.values()]
    if isinstance(x, types.MethodType):
        return [x.__self__, x.__func__]
    if isinstance(x, types.FunctionType):
        cells = [c.cell_contents for c in x.__closure__ or () if not empty(c)]
        named = [x.__globals__[n] for n in x.__code__.co_names if n in x.__globals__]
        return [*cells, *named, *(x.__defaults__ or ())]
    foreign = type(x).__module__.split(".")[0] in ("numpy", "sympy", "torch", "scipy")
    if foreign or isinstance(x, (type, types.ModuleType)):
        return []
    return list(getattr(x, "__dict__", {}).values())


def empty(cell: Any) -> bool:
    """Whether the name of a closure has no value yet."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False
