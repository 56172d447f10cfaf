"""Derivatives of the solutions of equations, by the implicit function theorem.

An equation R(y) = 0 is solved without a graph. Its derivative is that of the equation:
dy = -A^{-1} dR at fixed y, A the derivative of R by y, so a gradient goes back through
one linear system with A^T and none of the iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from flows.arrays import dtype_name, import_torch
from flows.linear.operators import Operator
from flows.linear.shifted import shifted

__all__ = [
    "TWICE",
    "Derivative",
    "Equation",
    "attached",
    "autograd_function",
    "constant",
    "rows",
]

Tensor = Any
Map = Callable[[Tensor], Tensor]

# Unknowns up to which the derivative of an equation is written out as a matrix.
SMALL = 128
# Rows of a matrix from which they share a backward pass.
MANY = 8
REFINEMENTS = 4
# Set while a backward pass is recorded in order to be differentiated itself.
TWICE: ContextVar[bool] = ContextVar("TWICE", default=False)


@lru_cache(maxsize=8)
def autograd_function(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """``torch.autograd.Function`` of two functions of modules, applied."""
    torch = import_torch("`adjoint`")
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    made: Any = type(forward.__name__, (torch.autograd.Function,), methods)
    return made.apply


def constant(y: Tensor, like: Tensor) -> Tensor:
    """``y`` as a tensor that requires grad but passes none on."""
    return autograd_function(_constant, _no_gradient)(y, like)


def _constant(ctx: Any, y: Tensor, like: Tensor) -> Tensor:
    return y.clone()


def _no_gradient(ctx: Any, grad: Tensor) -> tuple[None, None]:
    return None, None


class Derivative:
    """Products with A, the derivative of ``value`` by ``y``, and with its transpose.

    Both are tensors (.., n) of one graph. It is kept, so that there may be many
    products; they can themselves be differentiated where ``graph`` says so.
    """

    def __init__(self, value: Tensor, y: Tensor, graph: bool = False) -> None:
        self.value, self.y, self.graph = value, y, graph

    def transposed(self, x: Tensor) -> Tensor:
        """A^T x."""
        return pulled(self.value, self.y, x, self.graph)

    def product(self, x: Tensor) -> Tensor:
        """A x."""
        weight, pull = self._pull
        return pulled(pull, weight, x, self.graph)

    @cached_property
    def _pull(self) -> tuple[Tensor, Tensor]:
        torch = import_torch("A derivative")
        # A^T c is linear in c, and its derivative by c is A.
        with torch.enable_grad():
            c = constant(torch.zeros_like(self.value), self.y)
            return c, pulled(self.value, self.y, c, True)


def pulled(value: Tensor, y: Tensor, x: Tensor, graph: bool) -> Tensor:
    """(d value/dy)^T x; 0 where ``value`` does not depend on y."""
    torch = import_torch("A derivative")
    if not value.requires_grad:
        return torch.zeros_like(y)
    (found,) = torch.autograd.grad(
        value, y, x, retain_graph=True, allow_unused=True, create_graph=graph
    )
    return torch.zeros_like(y) if found is None else found


def rows(derivative: Derivative) -> Tensor:
    """The matrices A (.., n, n) of vectors (.., n) that do not see one another."""
    torch = import_torch("A derivative")
    y, value = derivative.y, derivative.value
    n = y.shape[-1]
    seeds = torch.eye(n, dtype=y.dtype, device=y.device)
    seeds = seeds.reshape(n, *[1] * (y.ndim - 1), n).expand(n, *y.shape)
    if n >= MANY and value.requires_grad:
        try:
            (found,) = torch.autograd.grad(
                value,
                y,
                seeds,
                retain_graph=True,
                allow_unused=True,
                create_graph=derivative.graph,
                is_grads_batched=True,
            )
        except (RuntimeError, UserWarning):
            # Some operations of torch cannot be batched.
            found = None
        if found is not None:
            return torch.movedim(found, 0, -2)
    return torch.stack([derivative.transposed(seed) for seed in seeds], -2)


@dataclass(frozen=True, eq=False)
class Equation:
    """Linear systems with A, the derivative of an equation at its solution.

    Attributes
    ----------
    derivative : Derivative
        Products with A, of tensors (.., n).
    separate : bool
        Whether the vectors of a batch do not see one another.
    inverse : callable, optional
        Approximate inverse of A (False) or of its transpose (True): a function of
        vectors, or None. Iterative refinement makes it exact.
    preconditioner : callable, optional
        The same, for a Krylov method.
    transposed : bool
        Which of the two ``solve`` is for.
    """

    derivative: Derivative
    separate: bool = False
    inverse: Callable[[bool], Map | None] | None = None
    preconditioner: Callable[[bool], Map | None] | None = None
    transposed: bool = False

    def turned(self) -> Equation:
        """The systems with the transpose."""
        return replace(self, transposed=not self.transposed)

    def product(self, x: Tensor) -> Tensor:
        """A x, or A^T x."""
        own = self.derivative
        return own.transposed(x) if self.transposed else own.product(x)

    def solve(self, b: Tensor) -> Tensor:
        """The solution of A x = b, or of A^T x = b, without a graph.

        Raises
        ------
        linear.NewtonFailure
            When the system is not solved.
        """
        with import_torch("A derivative").no_grad():
            inverse = None if self.inverse is None else self.inverse(self.transposed)
            n = b.shape[-1] if self.separate else b.numel()
            if inverse is None and n <= SMALL:
                inverse = self._written
            if inverse is not None:
                x = refined(inverse, self.product, b)
                if x is not None:
                    return x
            return self._krylov(b)

    @cached_property
    def _written(self) -> Map:
        """Inverse of A as a matrix."""
        torch = import_torch("A derivative")
        own = self.derivative
        if self.separate or own.y.ndim == 1:
            matrix = rows(own)
            like = own.y.detach()
            flat: Map = lambda x: x  # noqa: E731
        else:
            like = own.y.detach().reshape(-1)
            seeds = torch.eye(like.shape[0], dtype=like.dtype, device=like.device)
            parts = [own.transposed(e.reshape(own.y.shape)) for e in seeds]
            matrix = torch.stack([p.reshape(-1) for p in parts])
            flat = lambda x: x.reshape(-1)  # noqa: E731
        matrix = matrix.mT if self.transposed else matrix
        eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        factor = shifted(eye - matrix, 1.0, like)
        return lambda b: factor.solve(flat(b)).reshape(b.shape)

    def _krylov(self, b: Tensor) -> Tensor:
        shape = b.shape if self.separate else (b.numel(),)
        made = self.preconditioner and self.preconditioner(self.transposed)

        def through(f: Map) -> Map:
            return lambda x: f(x.reshape(b.shape)).reshape(shape)

        operator = Operator(
            through(lambda x: x - self.product(x)),
            symmetric=False,
            preconditioner=None if not made else lambda _, r: through(made)(r),
        )
        flat = b.reshape(shape)
        found: Tensor = shifted(operator, 1.0, flat).solve(flat)
        return found.reshape(b.shape)


def refined(inverse: Map, product: Map, b: Tensor) -> Tensor | None:
    """Solution of A x = b by iterative refinement; None where it does not converge."""
    eps = float(np.finfo(dtype_name(b)).eps)
    x, before = inverse(b), np.inf
    for _ in range(REFINEMENTS):
        image = product(x)
        residual = b - image
        size = float((b.abs() + x.abs() + (x - image).abs()).max())
        error = float(residual.abs().max())
        if error <= 4 * eps * size or (before <= 1e3 * eps * size):
            return x
        if not error < 0.5 * before:
            break
        x, before = x + inverse(residual), error
    return None


def attached(
    y: Tensor,
    like: Tensor,
    residual: Map,
    equation: Callable[[Derivative], Equation],
    check: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The solution ``y`` of residual(y) = 0 with its derivative.

    Parameters
    ----------
    y : tensor (.., n)
        Without a graph.
    like : tensor
        Any tensor in the graph, so that the result is in it.
    residual : callable
        A function of y with the graph of everything else that is in it.
    equation : callable
        Makes the linear systems from the derivative of ``residual`` at y.
    check : callable, optional
        Is given residual(y), to refuse it.
    """
    z = constant(y, like)
    value = residual(z)
    if check is not None:
        check(value.detach())
    system = equation(Derivative(value, z))
    operation = autograd_function(_inverse, _inverse_backward)
    result: Tensor = y - operation(value, system, True)
    if TWICE.get():
        # A step of Newton's method with a constant matrix, from a point whose first
        # derivative is right, has the right second derivative.
        result = result - operation(residual(result), system, True)
    return result


def _inverse(ctx: Any, r: Tensor, system: Equation, unseen: bool) -> Tensor:
    """A^{-1} r; 0 with its derivative where ``unseen``: r is the residual of y."""
    ctx.system = system
    return r.new_zeros(r.shape) if unseen else system.solve(r)


def _inverse_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    torch = import_torch("A derivative")
    if torch.is_grad_enabled() and not TWICE.get():
        raise RuntimeError(
            "Third derivatives of implicit steps are not available; take an explicit "
            "scheme such as DormandPrince()."
        )
    operation = autograd_function(_inverse, _inverse_backward)
    return operation(grad, ctx.system.turned(), False), None, None
