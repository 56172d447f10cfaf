"""Functions of a point that the user wrote in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import batch_matvec, is_torch, namespace, to_numpy
from flows.symbolic import autodiff
from flows.symbolic.fields import Field, points

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallableField"]

Array = Any


@dataclass(frozen=True, eq=False, repr=False, init=False)
class CallableField(Field):
    """A Python function of points x (.., d) that returns values (..).

    Parameters
    ----------
    function : callable
        ``function(x)``, or ``function(x, t)`` when time dependent.
    gradient : callable, optional
        Same arguments, returns (.., d). By default torch differentiates ``function``,
        which then must take tensors; with NumPy points it gets a float tensor of the
        same dtype and the result comes back as NumPy.
    hessian : callable, optional
        Same arguments, returns (.., d, d). By default torch differentiates twice, or,
        when ``gradient`` is given, central differences of it with a step of
        eps^(1/3) max(1, abs(x_i)), accurate to about 1e-9 in float64, symmetrized.
        Products with a vector are one difference along it, of the same accuracy.
    time_dependent : bool
        Whether the functions take the time as second argument, a number. A batch whose
        members have times of their own calls them for each time.
    name : str
        Name of the function, for messages.

    Raises
    ------
    TypeError
        When a function cannot be called with these arguments; on evaluation, when its
        result is None, of another library, dtype or device.
    ValueError
        On evaluation, for a result of the wrong shape, or a function that writes into
        its argument.

    Notes
    -----
    With tensors that require grad, or a ``torch.nn.Module`` whose parameters do, the
    derivatives can be differentiated again; parameters in a closure are not seen.
    """

    function: Callable[..., Any]
    # Not called `gradient` and `hessian`, which are the methods.
    first: Callable[..., Any] | None = None
    second: Callable[..., Any] | None = None
    time_dependent: bool = False
    name: str = "V"

    def __init__(
        self,
        function: Callable[..., Any],
        gradient: Callable[..., Any] | None = None,
        hessian: Callable[..., Any] | None = None,
        time_dependent: bool = False,
        name: str = "V",
    ) -> None:
        count, hint = (2, "(x, t)") if time_dependent else (1, "(x)")
        if not time_dependent:
            hint += " (with time_dependent=True also the time)"
        derivatives = ((gradient, "gradient"), (hessian, "hessian"))
        for one, owner in ((function, name), *derivatives):
            if one is not None or owner == name:
                autodiff.check_arity(one, count, owner, hint)
        values = (function, gradient, hessian, bool(time_dependent), name)
        fields = ("function", "first", "second", "time_dependent", "name")
        for field, value in zip(fields, values, strict=True):
            object.__setattr__(self, field, value)

    @property
    def smooth(self) -> bool:
        """True: a Python function is taken at its word."""
        return True

    @property
    def differences(self) -> bool:
        """Whether a gradient is given and no Hessian."""
        return self.first is not None and self.second is None

    def _more(self, t: Any) -> tuple[Any, ...]:
        return (t,) if self.time_dependent else ()

    def _own_times(self, t: Any) -> bool:
        return self.time_dependent and getattr(t, "ndim", 0) > 0

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        if self._own_times(t):
            return by_time(self.value, t, x)
        shape = tuple(x.shape[:-1])
        return autodiff.call(self.function, x, self._more(t), shape, self.name)

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        if self._own_times(t):
            return by_time(self.gradient, t, x)
        if self.first is not None:
            shape = tuple(x.shape)
            return autodiff.call(self.first, x, self._more(t), shape, "gradient")
        shape = tuple(x.shape[:-1])
        return autodiff.slopes(self.function, x, self._more(t), shape, self.name)

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        if self._own_times(t):
            return by_time(self.hessian, t, x)
        if self.second is not None:
            shape = (*x.shape, x.shape[-1])
            return autodiff.call(self.second, x, self._more(t), shape, "hessian")
        if self.first is not None:
            return self._differences(x, t)
        shape = tuple(x.shape[:-1])
        return autodiff.slopes_and_rows(
            self.function, x, self._more(t), shape, self.name
        )

    def hessian_product(self, x: Array, v: Array, t: Any = 0.0) -> Array:
        if self._own_times(t):
            return by_time(self.hessian_product, t, points(x), v)
        return self.products(x, t)(v)

    def products(
        self, x: Array, t: Any = 0.0, slope: Array | None = None
    ) -> Callable[[Array], Array]:
        x = points(x)
        if self._own_times(t):
            return lambda v: self.hessian_product(x, v, t)
        if self.second is not None:
            H = self.hessian(x, t)
            return lambda v: batch_matvec(H, v)
        if self.first is not None:
            return lambda v: self._difference_along(x, v, t, slope)
        shape = tuple(x.shape[:-1])
        return autodiff.slopes_and_products(
            self.function, x, self._more(t), shape, self.name
        )

    def _difference_along(
        self, x: Array, v: Array, t: Any, slope: Array | None
    ) -> Array:
        """Difference of the gradient along v, of one step at each point.

        One-sided where the gradient at x is given, else central.
        """
        xp = namespace(x)
        size = xp.max(xp.abs(v), axis=-1, keepdims=True)
        reach = xp.clip(xp.max(xp.abs(x), axis=-1, keepdims=True), min=1.0)
        eps = float(xp.finfo(x.dtype).eps)
        size = xp.where(size > 0.0, size, xp.ones_like(size))
        if slope is not None:
            step = eps**0.5 * reach / size
            return (self.gradient(x + step * v, t) - slope) / step
        step = eps ** (1 / 3) * reach / size
        change = self.gradient(x + step * v, t) - self.gradient(x - step * v, t)
        return change / (2.0 * step)

    def _differences(self, x: Array, t: Any) -> Array:
        xp = namespace(x)
        base = float(xp.finfo(x.dtype).eps) ** (1 / 3)
        columns = []
        for i in range(x.shape[-1]):
            forward, backward = _copy(x), _copy(x)
            step = base * xp.clip(xp.abs(x[..., i]), min=1.0)
            forward[..., i] += step
            backward[..., i] -= step
            width = (forward[..., i] - backward[..., i])[..., None]
            change = self.gradient(forward, t) - self.gradient(backward, t)
            columns.append(change / width)
        H = xp.stack(columns, axis=-1)
        return 0.5 * (H + (H.mT if is_torch(H) else np.swapaxes(H, -1, -2)))

    def probe(self, x: Array, t: float = 0.0, derivatives: int = 1) -> None:
        """Call each function that will be used once, on a copy, and check its result.

        Raises
        ------
        TypeError, ValueError
            Naming the function (V, ``gradient``, ``hessian``) and what is wrong.
        """
        x = points(x)
        functions = ((self.function, self.name), (self.first, "gradient"))
        for function, owner in functions[: derivatives + 1]:
            if function is None:
                continue
            before, after = _copy(x), _copy(x)
            if is_torch(x):
                before, after = before.detach(), after.detach()
            shape = x.shape[:-1] if owner == self.name else x.shape
            autodiff.call(function, after, self._more(t), tuple(shape), owner)
            autodiff.check_untouched(after, before, owner)
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            self._check_axes(x, t)
        super().probe(x, t, derivatives)

    def _check_axes(self, x: Array, t: Any) -> None:
        """As many points as coordinates hide a mix-up of axes; one more shows it."""
        more = namespace(x).concat([_copy(x), x[:1]], axis=0)
        try:
            found = tuple(np.shape(self.function(more, *self._more(t))))
        except Exception:
            # V may hold data of its own for each of the points.
            return
        if found and found != (x.shape[0] + 1,):
            raise ValueError(
                f"`{self.name}` returned shape {found} for an argument of shape "
                f"{tuple(more.shape)}; expected {(x.shape[0] + 1,)}. The last axis "
                "holds the coordinates of a point: write x[..., 0], and sum over axis "
                "-1 only."
            )

    def __repr__(self) -> str:
        inner = getattr(self.function, "__qualname__", None) or repr(self.function)
        return inner.replace("<locals>.", "")


def by_time(function: Callable[..., Array], t: Array, *arrays: Array) -> Array:
    """function(*arrays, t) for arrays (b, d) whose members have the times t (b, 1).

    The members of one time are evaluated together. Broadcasting ``t`` would be right
    for gradients or for values, never for both.
    """
    times = to_numpy(t).reshape(len(arrays[0]))
    found, place = np.unique(times, return_inverse=True)
    groups = [np.flatnonzero(place == i) for i in range(len(found))]
    parts = [
        function(*(a[rows] for a in arrays), float(time))
        for rows, time in zip(groups, found, strict=True)
    ]
    back = np.argsort(np.concatenate(groups), kind="stable")
    return namespace(parts[0]).concat(parts, axis=0)[back]


def _copy(x: Array) -> Array:
    return x.clone() if is_torch(x) else x.copy()
