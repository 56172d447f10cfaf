"""Tensors that compute together with NumPy arrays, for functions that torch follows.

A user's V often holds data of NumPy (``x @ A``) or calls it (``np.exp(x)``). Such a
function gets a tensor that takes arrays to its own dtype and device, and sends NumPy's
functions to those of torch.
"""

from __future__ import annotations

import functools
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_mixed"]

Array = Any

_RENAMED = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "concatenate": "concat",
    "dot": "matmul",
    "power": "pow",
}
_REDUCTIONS = frozenset({"max", "mean", "min", "prod", "std", "sum", "var"})
_SAME = _REDUCTIONS | {
    "clip",
    "concat",
    "diff",
    "einsum",
    "matmul",
    "stack",
    "trace",
    "where",
}
"""Functions of arrays, not elementwise, that mean the same in both libraries."""
_SAME_LINALG = frozenset({"cholesky", "det", "inv", "norm", "slogdet", "solve"})


def call_mixed(function: Callable[..., Any], x: Array, more: tuple[Any, ...]) -> Any:
    """``function(x, *more)`` for a tensor x beside NumPy arrays, as a plain tensor.

    Raises
    ------
    Exception
        Whatever ``function`` raises; TypeError for a function of NumPy that has no
        counterpart in torch.
    """
    import torch

    kind = _kind(x.dtype, x.device)
    result = function(x.as_subclass(kind), *more)
    is_mixed = isinstance(result, torch.Tensor)
    return result.as_subclass(torch.Tensor) if is_mixed else result


@functools.cache
def _kind(dtype: Any, device: Any) -> type:
    """Tensors that take floating arrays to ``dtype``, and all arrays to ``device``."""
    import torch

    like = torch.empty(0, dtype=dtype, device=device)

    def taken(value: Any) -> Any:
        if isinstance(value, (list, tuple)) and any(map(_foreign, value)):
            return type(value)(map(taken, value))
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.kind == "f":
            return array_like(value, like)
        return torch.tensor(value, device=device)

    class Mixed(torch.Tensor):  # type: ignore[misc]
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            args = tuple(map(taken, args))
            kwargs = {name: taken(value) for name, value in (kwargs or {}).items()}
            return super().__torch_function__(func, types, args, kwargs)

        def __array_ufunc__(
            self, ufunc: Any, method: str, *args: Any, **options: Any
        ) -> Any:
            if method != "__call__" or options:
                return NotImplemented
            name = _RENAMED.get(ufunc.__name__, ufunc.__name__)
            # `maximum` of torch takes no plain numbers.
            args = tuple(np.asarray(a) if isinstance(a, Real) else a for a in args)
            return _send(getattr(namespace(self), name, None), args, {})

        def __array_function__(
            self, func: Any, types: Any, args: Any, kwargs: Any
        ) -> Any:
            if func.__name__ in _REDUCTIONS and len(args) == 2:
                # The array API has the axis by name only.
                args, kwargs = args[:1], {**kwargs, "axis": args[1]}
            return _send(_counterpart(func, namespace(self)), args, kwargs)

    def _send(function: Any, args: Any, kwargs: Any) -> Any:
        if function is None:
            return NotImplemented
        # An array may come first, and torch asks only tensors how to take the others.
        return function(*map(taken, args), **kwargs)

    return Mixed


def _foreign(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, list, tuple))


def _counterpart(func: Any, xp: Any) -> Any:
    """Function of torch for one of NumPy; None where they differ or none is there."""
    name = _RENAMED.get(func.__name__, func.__name__)
    if func.__module__ == "numpy.linalg":
        return getattr(xp.linalg, name) if name in _SAME_LINALG else None
    return getattr(xp, name, None) if name in _SAME else None
