"""Calls of the user's functions: every result is checked, torch differentiates.

A function gets a read-only view of NumPy points, and results of the wrong kind are
errors that name the function, so that a slip does not become a wrong trajectory.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import dtype_name, import_torch, is_torch
from flows.symbolic.mixed import call_mixed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "call",
    "check_arity",
    "check_untouched",
    "slopes",
    "slopes_and_products",
    "slopes_and_rows",
]

Array = Any
MANY = 8
"""Coordinates from which the rows of a Hessian share a backward pass."""


def check_arity(function: Any, count: int, owner: str, hint: str) -> None:
    """Raise TypeError unless ``function`` can be called with ``count`` arguments."""
    if not callable(function):
        raise TypeError(f"`{owner}` must be callable, got {type(function).__name__}.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*[None] * count)
    except TypeError:
        raise TypeError(
            f"`{owner}` is called with {count} argument(s), {hint}, but its signature "
            f"is {signature}."
        ) from None


def call(
    function: Callable[..., Any],
    x: Array,
    more: tuple[Any, ...],
    shape: tuple[int, ...],
    owner: str,
) -> Array:
    """Checked result of ``function(x, *more)``, in the library and dtype of ``x``.

    Raises
    ------
    TypeError, ValueError
        When the result is None, or of another library, dtype, device or shape, or when
        the function writes into its argument.
    """
    if is_torch(x):
        return _call_torch(function, x, more, shape, owner)
    view = x.view(np.ndarray)
    view.flags.writeable = False
    try:
        result = function(view, *more)
    except ValueError as error:
        if "read-only" in str(error):
            raise _writes(owner) from error
        raise
    except (TypeError, AttributeError):
        result = _try_tensor(function, x, more)
        if result is None:
            raise
    result = _numpy_result(result, x, shape, owner)
    # A view of the points would let a later in-place operation reach the state.
    return result if result.flags.writeable else result.copy()


def _call_torch(
    function: Callable[..., Any],
    x: Array,
    more: tuple[Any, ...],
    shape: tuple[int, ...],
    owner: str,
) -> Array:
    version = None if x.is_inference() else x._version
    result = _follow(function, x, more, owner)
    if version is not None and x._version != version:
        raise _writes(owner)
    _check_tensor(result, x, shape, owner)
    return result.clone() if result.data_ptr() == x.data_ptr() else result


def _try_tensor(
    function: Callable[..., Any], x: Array, more: tuple[Any, ...]
) -> Array | None:
    """Result, as NumPy, of a function that takes tensors only; None if it fails too."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    try:
        with torch.no_grad():
            result = function(torch.from_numpy(np.array(x)), *more)
    except Exception:
        # The caller raises what the function said of NumPy points.
        return None
    return result.cpu().numpy() if is_torch(result) else None


def _numpy_result(result: Any, x: Array, shape: tuple[int, ...], owner: str) -> Array:
    if result is None:
        raise TypeError(f"`{owner}` returned None; did you forget `return`?")
    if is_torch(result):
        raise TypeError(
            f"`{owner}` returned a torch tensor for NumPy points; return an array."
        )
    found = np.asarray(result)
    if found.dtype != x.dtype:
        plain = isinstance(result, (int, float)) and not isinstance(result, np.floating)
        if not plain or isinstance(result, bool):
            raise TypeError(
                f"`{owner}` returned {_kind(result, found)} for points of dtype "
                f"{x.dtype}; it must return an array of that dtype."
            )
        found = found.astype(x.dtype)
    if found.shape != shape:
        raise ValueError(_shape_message(owner, found.shape, x.shape, shape))
    return found


def _kind(result: Any, found: Array) -> str:
    if found.dtype == object:
        return f"a {type(result).__name__}"
    return f"dtype {found.dtype}"


def _check_tensor(result: Any, x: Array, shape: tuple[int, ...], owner: str) -> None:
    if result is None:
        raise TypeError(f"`{owner}` returned None; did you forget `return`?")
    if not is_torch(result):
        raise TypeError(
            f"`{owner}` returned {type(result).__name__} for a torch tensor; "
            f"{_remedy(owner)}"
        )
    if result.dtype != x.dtype or result.device != x.device:
        raise TypeError(
            f"`{owner}` returned {dtype_name(result)} on {result.device} for points "
            f"that are {dtype_name(x)} on {x.device}; they must agree."
        )
    if result.shape != shape:
        raise ValueError(
            _shape_message(owner, tuple(result.shape), tuple(x.shape), shape)
        )


_DERIVATIVES = {"V": "`gradient=`", "W": "`gradient=`", "U": "`first=` and `second=`"}


def _remedy(owner: str) -> str:
    plain = (
        "write it with operations that torch tensors have (x**2, x[..., 0], .sum(-1))."
    )
    arguments = _DERIVATIVES.get(owner)
    if arguments is None:
        return plain
    return f"give its derivatives as functions ({arguments}), or {plain}"


def _shape_message(
    owner: str, found: tuple[int, ...], given: tuple[int, ...], shape: tuple[int, ...]
) -> str:
    hint = ""
    if shape == given[:-1]:
        hint = (
            " The last axis holds the coordinates of a point: write x[..., 0], and sum "
            "over axis -1 only."
        )
    return (
        f"`{owner}` returned shape {tuple(found)} for an argument of shape {given}; "
        f"expected {tuple(shape)}.{hint}"
    )


def _writes(owner: str) -> ValueError:
    return ValueError(
        f"`{owner}` writes into its argument, which is the state of the run; let it "
        "work on a copy."
    )


def check_untouched(x: Array, before: Array, owner: str) -> None:
    """Raise ValueError when ``x`` no longer equals its copy ``before``."""
    same = x.equal(before) if is_torch(x) else np.array_equal(x, before, equal_nan=True)
    if not same and not (is_torch(x) and bool(x.isnan().any())):
        raise _writes(owner)


def _follow(
    function: Callable[..., Any], z: Array, more: tuple[Any, ...], owner: str
) -> Any:
    """Call with a tensor, which arrays of NumPy in the function shall not disturb."""
    if not z.requires_grad:
        # Here NumPy takes a tensor without a word, and away from its dtype and device.
        result = _mixed(function, z, more)
        if result is not None:
            return result
    try:
        return function(z, *more)
    except (RuntimeError, TypeError, AttributeError) as error:
        if "in-place operation" in str(error):
            raise _writes(owner) from error
        result = _mixed(function, z, more) if z.requires_grad else None
        if result is not None:
            return result
        _explain(error, owner)
        raise


def _mixed(function: Callable[..., Any], z: Array, more: tuple[Any, ...]) -> Any | None:
    """Result with NumPy's arrays taken to torch; None if the function fails so too."""
    try:
        return call_mixed(function, z, more)
    except Exception:
        # The caller raises what the function says of a plain tensor.
        return None


def _explain(error: Exception, owner: str) -> None:
    """Raise TypeError where torch says of a function that it was made for NumPy."""
    if isinstance(error, RuntimeError):
        if "numpy()" in str(error):
            raise TypeError(
                f"`{owner}` converts its argument to NumPy, so torch cannot "
                f"differentiate it: {_remedy(owner)}"
            ) from error
        return
    raise TypeError(
        f"`{owner}` does not take torch tensors ({error}), so torch cannot "
        f"differentiate it: {_remedy(owner)}"
    ) from error


def slopes(
    function: Callable[..., Any],
    x: Array,
    more: tuple[Any, ...],
    shape: tuple[int, ...],
    owner: str,
) -> Array:
    """Derivative of the sum of ``function(x, *more)`` by x, with the shape of x."""
    torch = import_torch(f"Differentiating the callable `{owner}`")
    z, keep = _tracked(function, x)
    with torch.enable_grad():
        found = _slopes(function, z, more, shape, owner, keep)
    return found if is_torch(x) else found.detach().numpy()


def slopes_and_rows(
    function: Callable[..., Any],
    x: Array,
    more: tuple[Any, ...],
    shape: tuple[int, ...],
    owner: str,
) -> Array:
    """Second derivatives.

    For values with one axis less than x (a function of points) the Hessians (.., d, d);
    for values of the shape of x (a function of one number) its second derivative.
    """
    torch = import_torch(f"Differentiating the callable `{owner}`")
    z, keep = _tracked(function, x)
    with torch.enable_grad():
        first = _slopes(function, z, more, shape, owner, keep=True)
        if shape == tuple(x.shape):
            second = _by(first.sum(), z, keep)
        else:
            second = _rows(first, z, keep)
    return second if is_torch(x) else second.detach().numpy()


def slopes_and_products(
    function: Callable[..., Any],
    x: Array,
    more: tuple[Any, ...],
    shape: tuple[int, ...],
    owner: str,
) -> Callable[[Array], Array]:
    """Map of v (.., d) to Hessians of a function of points times v.

    The gradient and its graph are made once; a product is one more backward pass.
    """
    torch = import_torch(f"Differentiating the callable `{owner}`")
    z, keep = _tracked(function, x)
    with torch.enable_grad():
        first = _slopes(function, z, more, shape, owner, keep=True)

    def product(v: Array) -> Array:
        direction = v if is_torch(v) else torch.from_numpy(np.array(v))
        with torch.enable_grad():
            found = _by((first * direction).sum(), z, keep)
        return found if is_torch(x) else found.detach().numpy()

    return product


def _tracked(function: Any, x: Array) -> tuple[Array, bool]:
    """Tensor that torch follows, and whether the result shall be differentiable."""
    torch = import_torch("A derivative")
    if not is_torch(x):
        return torch.from_numpy(np.array(x)).requires_grad_(), False
    trained = isinstance(function, torch.nn.Module) and any(
        p.requires_grad for p in function.parameters()
    )
    keep = torch.is_grad_enabled() and (x.requires_grad or trained)
    if keep and x.requires_grad:
        return x, True
    return x.detach().requires_grad_(), keep


def _slopes(
    function: Callable[..., Any],
    z: Array,
    more: tuple[Any, ...],
    shape: tuple[int, ...],
    owner: str,
    keep: bool,
) -> Array:
    version = z._version
    result = _follow(function, z, more, owner)
    if z._version != version:
        raise _writes(owner)
    _check_tensor(result, z, shape, owner)
    if not result.requires_grad:
        raise TypeError(
            f"The result of `{owner}` does not depend on its argument by operations "
            f"that torch follows: {_remedy(owner)}"
        )
    return _by(result.sum(), z, keep)


def _rows(first: Array, z: Array, keep: bool) -> Array:
    """Hessians (.., d, d) from gradients (.., d), many rows in one backward pass."""
    import torch

    d = z.shape[-1]
    if d >= MANY and first.requires_grad:
        rows = torch.eye(d, dtype=z.dtype, device=z.device)
        shape = (d, *[1] * (z.ndim - 1), d)
        seeds = rows.reshape(shape).expand(d, *z.shape)
        try:
            (found,) = torch.autograd.grad(
                first,
                z,
                seeds,
                create_graph=keep,
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
        except (RuntimeError, UserWarning):
            # Some operations of torch cannot be batched.
            found = None
        if found is not None:
            return torch.movedim(found, 0, -2)
    return torch.stack([_by(first[..., i].sum(), z, keep) for i in range(d)], -2)


def _by(total: Array, z: Array, keep: bool) -> Array:
    """Derivative of a number by z; 0 where it does not depend on z."""
    import torch

    if not total.requires_grad:
        return torch.zeros_like(z)
    (found,) = torch.autograd.grad(
        total, z, create_graph=keep, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(z) if found is None else found
