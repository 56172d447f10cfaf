"""Which tensors a flow uses: those it holds, and those in the graph of a result."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from flows.arrays import import_torch

__all__ = ["captured", "holds", "leaves"]

Tensor = Any


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


def holds(tensors: list[Tensor], x: Tensor) -> bool:
    """Whether the very tensor ``x`` is among them."""
    return any(x is y for y in tensors)
