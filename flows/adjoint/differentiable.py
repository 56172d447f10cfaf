"""Flows inside autograd: what they solve for a scheme carries derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from flows.adjoint.graphs import captured, holds, leaves
from flows.adjoint.roots import Derivative, Equation, Map, attached, rows
from flows.arrays import dtype_name, import_torch, to_numpy
from flows.flow import offers
from flows.linear import Exponentials, Shifted, exponentials, shifted
from flows.linear.operators import Solvable, transpose
from flows.linear.phi import DENSE

__all__ = [
    "Differentiable",
    "check_seen",
    "lost",
    "offered",
    "pull_back",
]

Array = Any
Tensor = Any
Approximate = Callable[[bool], Callable[[list[Tensor]], list[Tensor]] | None]


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
            case "jacobian":
                return self._jacobian
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
        flow = self.flow
        result = attached(
            v,
            w,
            lambda y: y - h * flow.velocity(t, y) - w,
            partial(resolvent_equation, flow, t, v, h),
            partial(
                check_solved,
                v,
                w,
                f"its `{name}` does not solve v = w + h velocity(t, v), as at a kink "
                "or in a metric that depends on the state",
            ),
        )
        return result, kept

    def _jacobian(self, t: Any, u: Tensor) -> Any:
        torch = import_torch("A derivative")
        if not (torch.is_grad_enabled() and u.requires_grad):
            return self.flow.jacobian(t, u)
        return Linearization(self.flow, t, u)

    def implicit_root(
        self,
        u: Tensor,
        residual: Callable[[list[Tensor]], list[Tensor]],
        unknowns: list[Tensor],
        approximate: Approximate | None,
    ) -> list[Tensor]:
        """The solution of a scheme's equations with its derivative.

        See ``schemes.base.rooted``.
        """
        torch = import_torch("A derivative")
        if not (torch.is_grad_enabled() and u.requires_grad):
            return unknowns
        sizes = [x.shape[-1] for x in unknowns]

        def packed(f: Callable[[list[Tensor]], list[Tensor]]) -> Map:
            return lambda y: torch.cat(f(list(y.split(sizes, -1))), -1)

        def preconditioner(transposed: bool) -> Map | None:
            made = None if approximate is None else approximate(transposed)
            return None if made is None else packed(made)

        y = attached(
            torch.cat([x.detach() for x in unknowns], -1),
            u,
            packed(residual),
            lambda derivative: Equation(
                derivative, apart(self.flow, u), preconditioner=preconditioner
            ),
        )
        return list(y.split(sizes, -1))

    @cached_property
    def _composed(self) -> bool:
        """Whether implicit steps are formulas or proximal maps, not iterations."""
        flow = self.flow
        if getattr(flow, "kinked", False) or not offered(flow, "velocity"):
            return True
        return offered(flow, "exact") and not captured(flow)


class Linearization(Solvable):
    """The Jacobian of a flow at a state inside autograd, as derivative of ``velocity``.

    The flow's own ``jacobian`` solves the systems; products by autograd give the
    derivative of the solution, whatever the storage of the former.
    """

    def __init__(self, flow: Any, t: Any, u: Tensor) -> None:
        torch = import_torch("A derivative")
        self.flow, self.t, self.u = flow, t, u
        with torch.no_grad():
            self.own = flow.jacobian(t, u.detach())
        value = flow.velocity(t, u)
        self.derivative = Derivative(value, u, graph=True)
        self.separate = apart(flow, u)
        self._solvers: dict[tuple[Any, bool], Shifted | None] = {}

    def product(self, v: Tensor) -> Tensor:
        """J v."""
        return self.derivative.product(v)

    def shifted(self, c: Any, like: Tensor) -> Shifted:
        """(I - c J)^{-1}; see ``linear.shifted``."""
        return LinearStep(self, c)

    def solver(self, c: Any, transposed: bool) -> Shifted | None:
        """The inverse by the flow's own Jacobian; None for some transposes."""
        key = (c, transposed)
        if key not in self._solvers:
            J = transpose(self.own) if transposed else self.own
            made = None if J is None else shifted(J, c, self.u.detach())
            self._solvers[key] = made
        return self._solvers[key]

    def exponentials(self, h: Any, like: Tensor) -> Exponentials:
        """phi functions of h J; see ``linear.exponentials``."""
        n = int(like.shape[-1])
        if not (self.separate or like.ndim == 1) or n > DENSE:
            raise lost(
                f"exponentials have a derivative for vectors of up to {DENSE} unknowns "
                f"only, and the state has shape {tuple(like.shape)}"
            )
        return exponentials(rows(self.derivative), h, like)


class LinearStep:
    """Solutions of (I - c J) x = r that carry derivatives by r and by J."""

    def __init__(self, J: Linearization, c: Any) -> None:
        self.J, self.c = J, c

    def solve(self, r: Tensor) -> Tensor:
        """See ``linear.Shifted.solve``."""
        J, c = self.J, self.c
        own = J.solver(c, False)
        with import_torch("A derivative").no_grad():
            x = r.detach() if own is None else own.solve(r.detach())

        def inverse(transposed: bool) -> Map | None:
            found = J.solver(c, transposed)
            return None if found is None else found.solve

        why = "its `jacobian` is not the derivative of its velocity"
        return attached(
            x,
            J.u,
            lambda y: y - c * J.product(y) - r,
            lambda derivative: Equation(derivative, J.separate, inverse),
            partial(check_solved, x, r, why),
        )


def resolvent_equation(
    flow: Any, t: Any, v: Tensor, h: Any, derivative: Derivative
) -> Equation:
    """Systems with I - h J(t, v), solved by the flow's own Jacobian where it has one.

    Products by autograd make the result exact to rounding even for a Jacobian of
    finite differences.
    """

    def inverse(transposed: bool) -> Map | None:
        if not offered(flow, "jacobian"):
            return None
        J = flow.jacobian(t, v.detach())
        J = transpose(J) if transposed else J
        return None if J is None else shifted(J, h, v.detach()).solve

    return Equation(derivative, apart(flow, v), inverse)


def pull_back(flow: Any, t: Any, v: Tensor, h: Any, b: Tensor) -> Tensor:
    """x with x - h J(t, v)^T x = b, J the derivative of the velocity.

    Raises
    ------
    linear.NewtonFailure
        When the system is not solved.
    """
    torch = import_torch("A derivative")
    z = v.detach().requires_grad_()
    with torch.enable_grad():
        value = z - h * flow.velocity(t, z)
    return resolvent_equation(flow, t, v, h, Derivative(value, z)).turned().solve(b)


def apart(flow: Any, u: Tensor) -> bool:
    """Whether the members of a batch do not see one another: each has its norm."""
    if u.ndim < 2 or not offered(flow, "norm"):
        return False
    return getattr(flow.norm(u.detach()), "ndim", 0) > 0


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


def check_seen(flow: Any, t: Any, u: Tensor) -> None:
    """Refuse a velocity that depends on the state but does not say so by its graph.

    A function that leaves torch, or detaches its argument, would count as a constant.
    """
    torch = import_torch("A derivative")
    z = u.detach().requires_grad_()
    with torch.enable_grad():
        slope = flow.velocity(t, z)
    if holds(leaves([slope], [z]), z):
        return
    with torch.no_grad():
        near = flow.velocity(t, z + 1e-3 * (1.0 + z.abs()))
    if not bool(torch.isclose(near, slope.detach(), equal_nan=True).all()):
        raise lost("its velocity is computed outside torch")


def check_solved(y: Tensor, right: Tensor, why: str, residual: Tensor) -> None:
    """Refuse steps that solve something else than residual(y) = 0."""
    loose = 1e-2 if dtype_name(y) == "float32" else 1e-5
    size = 1.0 + y.abs() + right.detach().abs()
    if not bool((residual.abs() <= loose * size).all()):
        raise lost(why)
