"""Quadratic functions of a point, in any dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from flows.arrays import array_like, is_torch, namespace, to_numpy
from flows.symbolic.fields import Field, points

__all__ = ["QuadraticField"]

Array = Any
Expr = Any


@dataclass(frozen=True, eq=False, repr=False)
class QuadraticField(Field):
    """V(x) = (x - center).A(x - center)/2 - b.x.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
        A number times the identity, a diagonal, or a symmetric matrix; it may be
        singular or indefinite.
    center, b : float or (n,) array, optional
        0 by default; a number stands for a vector of equal entries.

    Tensors that require grad are kept: at tensors, values and gradients have a graph
    back to them. An optimizer that changes them needs a new field after each step.

    Raises
    ------
    ValueError
        When A is not symmetric, something is not finite, or sizes differ.

    Examples
    --------
    >>> QuadraticField([1.0, 4.0]).gradient([3.0, 2.0])
    array([3., 8.])
    """

    A: Any = 1.0
    center: Any = None
    b: Any = None
    name: str = "V"

    def __post_init__(self) -> None:
        given = (self.A, self.center, self.b)
        if any(is_torch(v) and v.requires_grad for v in given):
            # Values and gradients at tensors can be differentiated by these.
            versions = tuple(v._version if is_torch(v) else 0 for v in given)
            object.__setattr__(self, "_given", (given, versions))
        A = _coefficients(self.A, "A", 2)
        center = 0.0 if self.center is None else _coefficients(self.center, "center", 1)
        b = 0.0 if self.b is None else _coefficients(self.b, "b", 1)
        if np.ndim(A) == 2:
            if A.shape[0] != A.shape[1]:
                raise ValueError(f"`A` must be a square matrix, got shape {A.shape}.")
            gap = np.abs(A - A.T).max()
            if gap > 1e-12 * np.abs(A).max():
                raise ValueError(
                    f"`A` must be symmetric, but |A - A.T| reaches {gap:.3g}; only the "
                    "symmetric part has an energy: give (A + A.T)/2."
                )
        sizes = {np.shape(v)[0] for v in (A, center, b) if np.ndim(v)}
        if len(sizes) > 1:
            raise ValueError(
                "`A`, `center` and `b` must have the same size, got shapes "
                f"{np.shape(A)}, {np.shape(center)}, {np.shape(b)}."
            )
        for name, value in (("A", A), ("center", center), ("b", b)):
            object.__setattr__(self, name, value)

    @property
    def dimension(self) -> int | None:
        sizes = [np.shape(v)[0] for v in (self.A, self.center, self.b) if np.ndim(v)]
        return sizes[0] if sizes else None

    def matrix(self, d: int) -> Array:
        """A as a symmetric (d, d) NumPy matrix."""
        self.check_dimension(d)
        A = np.asarray(self.A)
        return A.copy() if A.ndim == 2 else np.diag(np.broadcast_to(A, (d,)))

    def linear(self, d: int) -> Array:
        """The vector A center + b (d,), so that the gradient is A x minus it."""
        center = np.broadcast_to(np.asarray(self.center), (d,))
        return self.matrix(d) @ center + self.b

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        self.check_dimension(x.shape[-1])
        A, center, b = _cast(self, x)
        z = x - center
        return namespace(x).sum(z * _times(A, z) * 0.5 - b * x, axis=-1)

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        self.check_dimension(x.shape[-1])
        A, center, b = _cast(self, x)
        return _times(A, x - center) - b

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        d = x.shape[-1]
        A = array_like(self.matrix(d), x)
        shape = (*x.shape, d)
        return (
            A.expand(shape).clone() if is_torch(x) else np.tile(A, (*shape[:-2], 1, 1))
        )

    def hessian_product(self, x: Array, v: Array, t: Any = 0.0) -> Array:
        x = points(x)
        self.check_dimension(x.shape[-1])
        return _times(_cast(self, x)[0], v)

    def expr(self, d: int) -> Expr:
        import sympy

        from flows.symbolic.vocabulary import coordinates, exact

        A = self.matrix(d)
        x = sympy.Matrix(coordinates(d))
        center, b = (
            np.broadcast_to(np.asarray(v), (d,)) for v in (self.center, self.b)
        )
        z = x - sympy.Matrix([exact(float(v)) for v in center])
        form = sympy.Matrix(d, d, lambda i, j: exact(float(A[i, j])))
        linear = sympy.Matrix([exact(float(v)) for v in b])
        return sympy.Add(
            *[form[i, i] * z[i] ** 2 / 2 for i in range(d)],
            *[form[i, j] * z[i] * z[j] for i in range(d) for j in range(i)],
            -(linear.T * x)[0, 0],
        )

    def latex(self, d: int | None = None) -> str:
        """LaTeX of the formula, in vectors when ``d`` is not given."""
        import sympy

        from flows.symbolic.vocabulary import exact

        if d is not None:
            return str(sympy.latex(self.expr(d)))
        z = r"\left(x - c\right)" if np.any(self.center) else "x"
        if np.ndim(self.A):
            form = rf"\frac{{1}}{{2}} {z} \cdot A {z}"
        else:
            half = exact(self.A) / 2
            form = "" if half == 1 else sympy.latex(half) + " "
            form += rf"\left|{z if z == 'x' else 'x - c'}\right|^{{2}}"
        return form + (r" - b \cdot x" if np.any(self.b) else "")

    def __repr__(self) -> str:
        text = _brief(self.A)
        for name in ("center", "b"):
            value = getattr(self, name)
            if np.any(value):
                text += f", {name}={_brief(value)}"
        return f"QuadraticField({text})"


def _coefficients(value: Any, name: str, most: int) -> Any:
    """Float, or read-only float64 copy of an array with 1 to ``most`` axes."""
    raw = np.asarray(to_numpy(value))
    if raw.dtype.kind not in "iuf":
        raise TypeError(f"`{name}` must be a number or an array, got {value!r}.")
    if raw.ndim > most or 0 in raw.shape:
        shapes = "a number, (n,) or (n, n)" if most == 2 else "a number or (n,)"
        raise ValueError(f"`{name}` must be {shapes}, got shape {raw.shape}.")
    array = np.array(raw, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, got {value!r}.")
    if array.ndim == 0:
        return float(array)
    array.setflags(write=False)
    return array


_CASTS: WeakKeyDictionary[QuadraticField, dict[Any, tuple[Any, Any, Any]]]
_CASTS = WeakKeyDictionary()


def _cast(quadratic: QuadraticField, x: Array) -> tuple[Any, Any, Any]:
    """A, center and b in the library, dtype and device of x, kept for the next call."""
    if is_torch(x) and "_given" in quadratic.__dict__:
        given, versions = quadratic.__dict__["_given"]
        return _tensors(given, versions, x)
    key = (x.dtype, getattr(x, "device", None))
    known = _CASTS.setdefault(quadratic, {})
    if key not in known:
        A, center, b = (
            array_like(np.array(v), x) if np.ndim(v) else v
            for v in (quadratic.A, quadratic.center, quadratic.b)
        )
        known[key] = (A, center, b)
    return known[key]


def _tensors(
    given: tuple[Any, ...], versions: tuple[int, ...], x: Array
) -> tuple[Any, Any, Any]:
    """The user's tensors, by which torch differentiates."""
    now = tuple(v._version if is_torch(v) else 0 for v in given)
    if now != versions:
        raise ValueError(
            "A tensor of this quadratic energy was changed in place after the energy "
            "was made; make the energy anew after each change."
        )
    numbers = (0.0 if v is None else v for v in given)
    parts: list[Any] = [array_like(v, x) if np.ndim(v) else v for v in numbers]
    A, center, b = parts
    return 0.5 * (A + A.mT) if np.ndim(A) == 2 else A, center, b


def _times(A: Any, z: Array) -> Array:
    """A z for A a number, a diagonal or a symmetric matrix."""
    return z @ A if getattr(A, "ndim", 0) == 2 else A * z


def _brief(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{value!r}"
    if np.size(value) <= 16:
        return repr(np.asarray(value).tolist())
    return f"<{' x '.join(map(str, np.shape(value)))}>"
