"""NumPy or torch, decided by the state: the one file that knows both libraries.

Library code asks ``xp = namespace(u)`` and calls ``xp.f(x)``; it never calls array
methods, which differ between the two. torch is imported only when a tensor or a
``device`` asks for it.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, cast

import array_api_compat.numpy as _numpy_namespace
import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "DTYPES",
    "all_finite",
    "array_like",
    "batch_matvec",
    "create",
    "detach",
    "device_of",
    "dtype_name",
    "first_nonfinite",
    "import_torch",
    "is_array",
    "is_torch",
    "namespace",
    "numbers",
    "rms",
    "rounding",
    "to_numpy",
    "unrecorded",
    "without_graph",
    "zeros_like",
]

Array = Any
"""A NumPy array or a torch tensor of dtype float32 or float64."""

DTYPES = ("float32", "float64")
_NAMES = {np.dtype(name): name for name in DTYPES}


def is_torch(x: Any) -> bool:
    """Whether ``x`` is a torch tensor (never imports torch)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_array(x: Any) -> bool:
    """Whether ``x`` is a NumPy array or a torch tensor."""
    return isinstance(x, np.ndarray) or is_torch(x)


def namespace(x: Any) -> ModuleType:
    """Array-API namespace of ``x``; Python numbers and lists count as NumPy."""
    if is_torch(x):
        import array_api_compat.torch as torch_namespace

        return cast("ModuleType", torch_namespace)
    return cast("ModuleType", _numpy_namespace)


def import_torch(why: str) -> ModuleType:
    """Return torch, or raise an ImportError that says what needed it.

    Parameters
    ----------
    why : str
        Start of the sentence, for instance "A callable potential".
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{why} needs torch, which is not installed: "
            "pip install 'gradient-flows[torch]'."
        ) from error
    return cast("ModuleType", torch)


def to_numpy(x: Any) -> np.ndarray:
    """NumPy array of ``x``; tensors are detached and brought to the CPU."""
    if is_torch(x):
        return np.asarray(x.detach().cpu().numpy())
    return np.asarray(x)


def detach(x: Array) -> Array:
    """``x`` without an autograd graph (the same object for NumPy)."""
    return x.detach() if is_torch(x) else x


def without_graph(u: Array) -> contextlib.AbstractContextManager[Any]:
    """Context in which torch records nothing, unless ``u`` itself requires grad."""
    if not is_torch(u) or u.requires_grad:
        return contextlib.nullcontext()
    import torch

    quiet: contextlib.AbstractContextManager[Any] = torch.no_grad()
    return quiet


def numbers(values: Array) -> Any:
    """A float for one state, the array (b,) for a batch.

    A tensor that is in a graph stays one, so that energies can be differentiated.
    """
    if getattr(values, "ndim", 0) or (is_torch(values) and values.requires_grad):
        return values
    return float(values)


def unrecorded(u: Array) -> contextlib.AbstractContextManager[Any]:
    """Context in which torch records nothing, whatever ``u`` is."""
    if not is_torch(u):
        return contextlib.nullcontext()
    import torch

    quiet: contextlib.AbstractContextManager[Any] = torch.no_grad()
    return quiet


def dtype_name(x: Array) -> str:
    """Name of the dtype without the library's prefix: ``"float64"``."""
    # NumPy takes microseconds to spell a dtype.
    name = _NAMES.get(x.dtype)
    return str(x.dtype).removeprefix("torch.") if name is None else name


def device_of(x: Array) -> str | None:
    """Device name of a tensor, None for NumPy."""
    return str(x.device) if is_torch(x) else None


def create(values: Any, device: str | None = None, dtype: str = "float64") -> Array:
    """Array of ``values``: NumPy when ``device`` is None, else a tensor there."""
    if device is None:
        return np.array(to_numpy(values), dtype=dtype, order="C")
    torch = import_torch(f"device={device!r}")
    if not is_torch(values):
        values = torch.from_numpy(np.array(values, order="C"))
    return values.to(device=device, dtype=getattr(torch, dtype), copy=True)


def array_like(values: Any, u: Array) -> Array:
    """``values`` in the library, dtype and device of ``u`` (shape of ``values``)."""
    if is_torch(u):
        import torch

        if isinstance(values, torch.Tensor):
            return values.to(device=u.device, dtype=u.dtype)
        raw = np.asarray(values)
        # torch warns about memory that it must not write to.
        raw = raw if raw.flags.writeable else raw.copy()
        return torch.as_tensor(raw, device=u.device).to(u.dtype)
    return np.asarray(to_numpy(values), dtype=u.dtype)


def zeros_like(u: Array) -> Array:
    """Zeros of the shape, dtype and device of ``u``."""
    return namespace(u).zeros_like(u)


def all_finite(u: Array) -> bool:
    """Whether every entry is finite."""
    # A finite sum proves it in one pass; only an overflow or a non-finite entry needs
    # the slow answer.
    if is_torch(u):
        xp = namespace(u)
        return bool(xp.isfinite(xp.sum(u))) or bool(xp.all(xp.isfinite(u)))
    if u.size < 1000:
        return bool(np.logical_and.reduce(np.isfinite(u), axis=None))
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduce(u, axis=None)
    return bool(np.isfinite(total)) or bool(np.isfinite(u).all())


def first_nonfinite(u: Array) -> tuple[int, tuple[int, ...]]:
    """Number of non-finite entries and the index of the first one."""
    bad = ~np.isfinite(to_numpy(u))
    index = np.unravel_index(int(np.argmax(bad)), bad.shape) if bad.ndim else ()
    return int(bad.sum()), tuple(int(i) for i in index)


def rms(e: Array) -> float:
    """Root mean square of all entries."""
    if is_torch(e):
        xp = namespace(e)
        return float(detach(xp.sqrt(xp.mean(e * e))))
    return float(np.sqrt(np.add.reduce(e * e, axis=None) / max(e.size, 1)))


def rounding(a: np.ndarray, b: np.ndarray, u: Array) -> np.ndarray:
    """What rounding may do to a - b, two energies of states like ``u``."""
    eps = float(np.finfo(dtype_name(u)).eps)
    return np.asarray(64.0 * eps * (np.abs(a) + np.abs(b)))


def batch_matvec(matrix: Array, x: Array) -> Array:
    """Matrix times vector along the last axes: (.., n, n), (.., n) -> (.., n)."""
    return namespace(x).matmul(matrix, x[..., None])[..., 0]
