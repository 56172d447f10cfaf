"""The elementary functions of generated code: NumPy, torch, and numbers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import import_torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SCALAR_HELPERS", "numba_functions", "numpy_functions", "torch_functions"]

Array = Any

_LOG2 = math.log(2.0)
_NAMES = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
}
_SHARED = (
    *("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
    *("log1p", "expm1", "where", "maximum", "minimum"),
    *_NAMES,
)


@lru_cache(maxsize=1)
def numpy_functions() -> dict[str, Any]:
    """Functions of NumPy arrays under the names of generated code."""
    from scipy import special

    def softplus(u: Array) -> Array:
        return np.logaddexp(u, 0.0 * u)

    def logcosh(u: Array) -> Array:
        size = np.abs(u)
        half = np.sinh(0.5 * np.minimum(size, 1.0))
        large = size + np.log1p(np.exp(-2.0 * size)) - _LOG2
        return np.where(size < 1.0, np.log1p(2.0 * half * half), large)

    def curvature(slope: Array, second: Array) -> Array:
        return np.where((slope == 0.0) & np.isfinite(second), second, 0.0)

    table = {name: getattr(np, _NAMES.get(name, name)) for name in _SHARED}
    return table | {
        "abs": np.abs,
        "sign": np.sign,
        "heaviside": lambda u: 0.5 * np.sign(u) + 0.5,
        "erf": special.erf,
        "erfc": special.erfc,
        "sigmoid": special.expit,
        "softplus": softplus,
        "logcosh": logcosh,
        "curvature": curvature,
        "nan": math.nan,
    }


@lru_cache(maxsize=1)
def torch_functions() -> dict[str, Any]:
    """Functions of torch tensors under the names of generated code."""
    torch = import_torch("A formula of a tensor")

    def sign(u: Array) -> Array:
        # torch's own sign of NaN is 0, which would hide it.
        return torch.where(u == u, torch.sign(u), u)

    def softplus(u: Array) -> Array:
        return torch.logaddexp(u, torch.zeros_like(u))

    def logcosh(u: Array) -> Array:
        size = torch.abs(u)
        half = torch.sinh(0.5 * torch.clamp(u, -1.0, 1.0))
        large = size + torch.log1p(torch.exp(-2.0 * size)) - _LOG2
        return torch.where(size < 1.0, torch.log1p(2.0 * half * half), large)

    def curvature(slope: Array, second: Array) -> Array:
        second = torch.as_tensor(second, dtype=slope.dtype)
        there = (slope == 0.0) & torch.isfinite(second)
        return torch.where(there, second, 0.0)

    def of_two(function: Callable[..., Array]) -> Callable[..., Array]:
        def pair(u: Array, v: Array) -> Array:
            if not isinstance(v, torch.Tensor):
                v = torch.as_tensor(v, dtype=u.dtype, device=u.device)
            if not isinstance(u, torch.Tensor):
                u = torch.as_tensor(u, dtype=v.dtype, device=v.device)
            return function(u, v)

        return pair

    table = {name: getattr(torch, name) for name in _SHARED}
    return table | {
        "abs": torch.abs,
        "sign": sign,
        "heaviside": lambda u: 0.5 * sign(u) + 0.5,
        "maximum": of_two(torch.maximum),
        "minimum": of_two(torch.minimum),
        "erf": torch.erf,
        "erfc": torch.erfc,
        "sigmoid": torch.sigmoid,
        "softplus": softplus,
        "logcosh": logcosh,
        "curvature": curvature,
        "nan": math.nan,
    }


def _sign(u: float) -> float:
    return 1.0 if u > 0.0 else (-1.0 if u < 0.0 else u)


def _heaviside(u: float) -> float:
    return 1.0 if u > 0.0 else (0.0 if u < 0.0 else 0.5)


def _maximum(u: float, v: float) -> float:
    return u if u >= v or u != u else v


def _minimum(u: float, v: float) -> float:
    return u if u <= v or u != u else v


def _sigmoid(u: float) -> float:
    if u >= 0.0:
        return 1.0 / (1.0 + math.exp(-u))
    return math.exp(u) / (1.0 + math.exp(u))


def _softplus(u: float) -> float:
    return math.log1p(math.exp(-abs(u))) + (u if u > 0.0 else 0.0)


def _logcosh(u: float) -> float:
    size = abs(u)
    if size < 1.0:
        half = math.sinh(0.5 * size)
        return math.log1p(2.0 * half * half)
    return size + math.log1p(math.exp(-2.0 * size)) - 0.6931471805599453


def _curvature(slope: float, second: float) -> float:
    return second if slope == 0.0 and abs(second) < math.inf else 0.0


SCALAR_HELPERS: dict[str, Callable[..., float]] = {
    "sign": _sign,
    "heaviside": _heaviside,
    "maximum": _maximum,
    "minimum": _minimum,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "logcosh": _logcosh,
    "curvature": _curvature,
}
_MATH = (
    *("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
    *("asin", "acos", "atan", "asinh", "acosh", "atanh"),
    *("erf", "erfc", "log1p", "expm1", "nan"),
)


@lru_cache(maxsize=1)
def numba_functions() -> dict[str, Any]:
    """Functions of numbers under the names of generated code, for numba."""
    from numba import njit

    table = {name: getattr(math, name) for name in _MATH} | {"abs": abs}
    compiled = {
        name: njit(error_model="numpy")(f) for name, f in SCALAR_HELPERS.items()
    }
    return table | compiled


def scalar_functions() -> dict[str, Any]:
    """Functions of numbers under the names of generated code, for plain Python."""
    table = {name: getattr(math, name) for name in _MATH} | {"abs": abs}
    return table | SCALAR_HELPERS
