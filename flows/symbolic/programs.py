"""Compiled formulas and their evaluation at arrays of points.

Compiled code lives in caches of this module, keyed by the formula, so that the objects
that hold formulas stay small and pickle.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.arrays import array_like, detach, is_torch, namespace
from flows.symbolic import engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "elementwise",
    "gradient",
    "hessian",
    "hessian_products",
    "value",
]

Array = Any
Expr = Any


# Below this dimension loops over coordinates beat NumPy's loops over short rows.
FEW = 6
# Points evaluated together by NumPy: intermediate arrays stay in the cache, and are not
# handed back to the system after each operation. Up to 5 times faster at 1e5 points.
BLOCK = 8192


class _Program(NamedTuple):
    """Code and what it takes: which coordinates, s = r^2, time, and parameters.

    ``layout`` says what the outputs are: indices of explicit parts, then flags.
    """

    run: Callable[..., tuple[Any, ...]]
    axes: tuple[int, ...]
    square: bool
    time: bool
    names: tuple[str, ...]
    layout: Any


def _assemble(expressions: list[Expr], d: int, torch: bool, layout: Any) -> _Program:
    from flows.symbolic import derivatives, printers, vocabulary

    used = set().union(*(e.free_symbols for e in expressions))
    length = {vocabulary.RADIUS, derivatives.SAFE, derivatives.SQUARE}
    square = bool(used & length) or any(
        e.has(derivatives.at_origin) for e in expressions
    )
    axes = vocabulary.axes_of(used, d)
    known = {*length, vocabulary.TIME, *map(vocabulary.axis, axes)}
    rest = sorted(used - known, key=str)
    arguments = [vocabulary.axis(i) for i in axes]
    if square:
        arguments.append(derivatives.SQUARE)
    if vocabulary.TIME in used:
        arguments.append(vocabulary.TIME)
    text = printers.source(expressions, [*arguments, *rest], "formula", scalar=False)
    table = engines.torch_functions() if torch else engines.numpy_functions()
    return _Program(
        printers.define(text, "formula", table),
        tuple(axes),
        square,
        vocabulary.TIME in used,
        tuple(str(symbol) for symbol in rest),
        layout,
    )


@lru_cache(maxsize=512)
def _value_program(expr: Expr, d: int, torch: bool) -> _Program:
    from flows.symbolic.derivatives import split

    return _assemble([split(expr, d)[0]], d, torch, None)


@lru_cache(maxsize=512)
def _gradient_program(expr: Expr, d: int, torch: bool) -> _Program:
    from flows.symbolic.derivatives import gradient_of

    parts = gradient_of(expr, d)
    radial = [] if parts.radial is None else [parts.radial]
    layout = (tuple(parts.explicit), bool(radial))
    return _assemble([*parts.explicit.values(), *radial], d, torch, layout)


@lru_cache(maxsize=512)
def _hessian_program(expr: Expr, d: int, torch: bool) -> _Program:
    from flows.symbolic.derivatives import hessian_of

    parts = hessian_of(expr, d)
    outer = [] if parts.outer is None else [parts.outer]
    radial = [] if parts.radial is None else [parts.radial]
    flags = (bool(outer), bool(radial), parts.unit)
    layout = (tuple(parts.explicit), tuple(parts.mixed), *flags)
    expressions = [*parts.explicit.values(), *parts.mixed.values(), *outer, *radial]
    return _assemble(expressions, d, torch, layout)


@lru_cache(maxsize=512)
def _elementwise_program(expr: Expr, symbol: Expr, order: int, torch: bool) -> _Program:
    from flows.symbolic import vocabulary

    for _ in range(order):
        expr = expr.diff(symbol)
    return _assemble([expr.xreplace({symbol: vocabulary.axis(0)})], 1, torch, None)


def value(expr: Expr, x: Array, t: Any, parameters: Mapping[str, Any]) -> Array:
    """Values of a formula at points x (.., d), shape (..)."""
    if x.ndim > 1 and x.shape[0] > BLOCK and _splits(x, t, parameters):
        result = np.empty(x.shape[:-1], x.dtype)
        for some in _blocks(len(x)):
            result[some] = value(expr, x[some], t, parameters)
        return result
    program = _value_program(expr, x.shape[-1], is_torch(x))
    return _shaped(_run(program, x, t, parameters)[0], x, x.shape[:-1])


def elementwise(
    expr: Expr,
    symbol: Expr,
    order: int,
    x: Array,
    t: Any,
    parameters: Mapping[str, Any],
) -> Array:
    """Derivative of ``order`` of a formula in one variable, at each entry of x."""
    if x.ndim and x.shape[0] > BLOCK and _splits(x, t, parameters):
        result = np.empty(x.shape, x.dtype)
        for some in _blocks(len(x)):
            result[some] = elementwise(expr, symbol, order, x[some], t, parameters)
        return result
    program = _elementwise_program(expr, symbol, order, is_torch(x))
    arguments = [x] if program.axes else []
    arguments += _scalars(program, x, t, parameters)
    if is_torch(x):
        return _shaped(program.run(*arguments)[0], x, x.shape)
    with np.errstate(all="ignore"):
        return _shaped(program.run(*arguments)[0], x, x.shape)


def gradient(expr: Expr, x: Array, t: Any, parameters: Mapping[str, Any]) -> Array:
    """Gradients of a formula at points x (.., d), shape (.., d)."""
    if x.ndim > 1 and x.shape[0] > BLOCK and _splits(x, t, parameters):
        result = np.empty(x.shape, x.dtype)
        for some in _blocks(len(x)):
            result[some] = gradient(expr, x[some], t, parameters)
        return result
    torch = is_torch(x)
    program = _gradient_program(expr, x.shape[-1], torch)
    explicit, radial = program.layout
    outputs = _run(program, x, t, parameters)
    if torch:
        return _torch_gradient(x, explicit, radial, outputs)
    if radial:
        with np.errstate(all="ignore"):
            result = _times_rows(outputs[-1], x)
            for i, part in zip(explicit, outputs, strict=False):
                result[..., i] += part
        return result
    if len(explicit) < x.shape[-1]:
        result = np.zeros(x.shape, x.dtype)
    else:
        result = np.empty(x.shape, x.dtype)
    for i, part in zip(explicit, outputs, strict=True):
        result[..., i] = part
    return result


def _splits(x: Array, t: Any, parameters: Mapping[str, Any]) -> bool:
    """Whether points can be evaluated in blocks along their first axis."""
    values = (t, *parameters.values())
    return not is_torch(x) and not any(getattr(v, "ndim", 0) for v in values)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK))


def _times_rows(factor: Any, x: Array) -> Array:
    """factor (..) times each point (.., d)."""
    if x.ndim == 1 or x.shape[-1] > FEW or not getattr(factor, "ndim", 0):
        return np.asarray(_column(factor) * x, dtype=x.dtype)
    result = np.empty(x.shape, x.dtype)
    for i in range(x.shape[-1]):
        np.multiply(factor, x[..., i], out=result[..., i])
    return result


def _torch_gradient(
    x: Array, explicit: tuple[int, ...], radial: bool, outputs: tuple[Any, ...]
) -> Array:
    import torch

    if not explicit:
        return _column(outputs[-1]) * x if radial else torch.zeros_like(x)
    parts: list[Any] = [0.0] * x.shape[-1]
    for i, part in zip(explicit, outputs, strict=False):
        parts[i] = part
    shape = x.shape[:-1]
    stacked = torch.stack([_shaped(part, x, shape) for part in parts], -1)
    return stacked + _column(outputs[-1]) * x if radial else stacked


def hessian(expr: Expr, x: Array, t: Any, parameters: Mapping[str, Any]) -> Array:
    """Hessians of a formula at points x (.., d), shape (.., d, d)."""
    torch = is_torch(x)
    d = x.shape[-1]
    program = _hessian_program(expr, d, torch)
    explicit, mixed, has_outer, has_radial, unit = program.layout
    outputs = list(_run(program, x, t, parameters))
    shape = (*x.shape, d)
    result = x.new_zeros(shape) if torch else np.zeros(shape, x.dtype)
    for i, j in explicit:
        part = outputs.pop(0)
        result[..., i, j] = part
        if i != j:
            result[..., j, i] = part
    with np.errstate(all="ignore"):
        n = _direction(x) if unit and (mixed or has_outer) else x
        for i in mixed:
            part = _column(outputs.pop(0)) * n
            result[..., i, :] += part
            result[..., :, i] += part
        if has_outer:
            # In this order the product is symmetric to the last bit.
            outer = n[..., :, None] * n[..., None, :]
            result += _column(_column(outputs.pop(0))) * outer
        if has_radial:
            part = outputs.pop(0)
            for i in range(d):
                result[..., i, i] += part
    return result


def hessian_products(
    expr: Expr, x: Array, t: Any, parameters: Mapping[str, Any]
) -> Callable[[Array], Array]:
    """Map of vectors v (.., d) to the Hessians of a formula at x (.., d) times v."""
    if x.ndim > 1 and x.shape[0] > BLOCK and _splits(x, t, parameters):
        blocks = [
            (some, hessian_products(expr, x[some], t, parameters))
            for some in _blocks(len(x))
        ]

        def by_blocks(v: Array) -> Array:
            product = np.empty(x.shape, x.dtype)
            for some, part in blocks:
                product[some] = part(v[some])
            return product

        return by_blocks
    program = _hessian_program(expr, x.shape[-1], is_torch(x))
    outputs = _run(program, x, t, parameters)
    return lambda v: _product(program.layout, outputs, x, v)


def _product(layout: Any, values: tuple[Any, ...], x: Array, v: Array) -> Array:
    """Hessian times v from the outputs of a program."""
    explicit, mixed, has_outer, has_radial, unit = layout
    xp, outputs = namespace(x), list(values)
    parts: dict[int, Any] = {}

    def add(i: int, term: Any) -> None:
        parts[i] = parts[i] + term if i in parts else term

    for i, j in explicit:
        part = outputs.pop(0)
        add(i, part * v[..., j])
        if i != j:
            add(j, part * v[..., i])
    n = _direction(x) if unit and (mixed or has_outer) else x
    along = xp.sum(n * v, axis=-1) if mixed or has_outer else 0.0
    length = 0.0
    for i in mixed:
        part = outputs.pop(0)
        add(i, part * along)
        length = length + part * v[..., i]
    if has_outer:
        length = length + outputs.pop(0) * along
    result = _columns_of(parts, x)
    if mixed or has_outer:
        result = result + _column(length) * n
    return result + _column(outputs.pop(0)) * v if has_radial else result


def _columns_of(parts: Mapping[int, Any], x: Array) -> Array:
    """Array of the shape of x with some columns, the others 0."""
    xp = namespace(x)
    if not parts:
        return xp.zeros_like(x)
    if is_torch(x):
        shape = x.shape[:-1]
        columns = [_shaped(parts.get(i, 0.0), x, shape) for i in range(x.shape[-1])]
        return xp.stack(columns, axis=-1)
    result = np.zeros(x.shape, x.dtype)
    for i, part in parts.items():
        result[..., i] = part
    return result


def _direction(x: Array) -> Array:
    """x / abs(x), 0 at the origin."""
    xp = namespace(x)
    square = (x * x).sum(-1)[..., None] if is_torch(x) else _square(x)[..., None]
    return x / xp.sqrt(xp.where(square == 0, xp.ones_like(square), square))


def _run(
    program: _Program, x: Array, t: Any, parameters: Mapping[str, Any]
) -> tuple[Any, ...]:
    if x.ndim == 1:
        # Entries of a vector are NumPy scalars, several times faster than 0-d arrays.
        arguments = [x[i] for i in program.axes]
    else:
        arguments = [x[..., i] for i in program.axes]
    if is_torch(x):
        if program.square:
            arguments.append((x * x).sum(-1))
        arguments += _scalars(program, x, _last_axis(t, x), parameters)
        return program.run(*arguments)
    with np.errstate(all="ignore"):
        if program.square:
            arguments.append(_square(x))
        arguments += _scalars(program, x, _last_axis(t, x), parameters)
        return program.run(*arguments)


def _square(x: Array) -> Array:
    if x.ndim == 1:
        return x @ x
    if x.shape[-1] <= FEW:
        # Column by column: einsum is several times slower on short rows.
        total = x[..., 0] * x[..., 0]
        for i in range(1, x.shape[-1]):
            total += x[..., i] * x[..., i]
        return total
    return np.einsum("...i,...i->...", x, x)


def _last_axis(t: Any, x: Array) -> Any:
    """A time for each member, (batch, 1), without the axis of the coordinates."""
    return t[..., 0] if getattr(t, "ndim", 0) == x.ndim and x.ndim else t


def _scalars(
    program: _Program, x: Array, t: Any, parameters: Mapping[str, Any]
) -> list[Any]:
    """Time and parameters in the dtype of the points."""
    values = [t] if program.time else []
    values += [parameters[name] for name in program.names]
    if not values:
        return values
    if is_torch(x):
        return [_torch_scalar(v, x) for v in values]
    kind = x.dtype.type
    return [
        array_like(v, x) if getattr(v, "ndim", 0) else kind(float(detach(v)))
        for v in values
    ]


def _torch_scalar(v: Any, x: Array) -> Array:
    import torch

    if isinstance(v, torch.Tensor):
        return v.to(dtype=x.dtype, device=x.device)
    # A number stays on the CPU, from where it joins tensors of every device.
    device = x.device if getattr(v, "ndim", 0) else None
    return torch.as_tensor(v, dtype=x.dtype, device=device)


def _column(part: Any) -> Any:
    return part[..., None] if getattr(part, "ndim", 0) else part


def _shaped(part: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """``part``, perhaps a constant, with the given shape and the dtype of ``x``."""
    if is_torch(x):
        if not is_torch(part):
            return x.new_full(shape, part)
        if part.shape != shape or part.device != x.device:
            part = part.to(x.device).expand(shape)
        return part
    if getattr(part, "shape", None) != shape:
        return np.full(shape, part, x.dtype) if shape else x.dtype.type(part)
    return part if part.dtype == x.dtype else part.astype(x.dtype)
