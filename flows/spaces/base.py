"""What every space does: admit initial data, refuse terms it cannot represent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.arrays import (
    DTYPES,
    create,
    detach,
    device_of,
    dtype_name,
    first_nonfinite,
    import_torch,
    is_array,
    is_torch,
)

if TYPE_CHECKING:
    from flows.energies import Energy
    from flows.flow import Flow

__all__ = ["Space", "potentials", "refuse", "terms_of"]

Array = Any

SUPPORT = {
    "Potential": "Euclidean, HeavyBall, Nesterov, Mirror, Sphere, Stiefel, Matrices, "
    "SteepestDescent, Grid, Quantiles, Particles, LangevinParticles",
    "Entropy": "Grid, Quantiles, LangevinParticles",
    "Internal": "Grid, Quantiles",
    "Interaction": "Quantiles, Particles, LangevinParticles",
}


def refuse(term: Any, space: Any, why: str = "") -> TypeError:
    """TypeError that names the term, the space, and the spaces that can."""
    kind = type(term).__name__
    reason = f": {why}" if why else ""
    return TypeError(
        f"{type(space).__name__} cannot represent the term {term!r}{reason}. "
        f"Spaces that take {kind}: {SUPPORT.get(kind, 'none yet')}."
    )


def terms_of(energy: Any) -> tuple[Any, ...]:
    """The terms of an energy; TypeError for what is none, saying how to make one."""
    if hasattr(energy, "terms"):
        return tuple(energy.terms)
    written = f"fl.Potential({energy!r})" if isinstance(energy, str) else None
    if callable(energy) and not isinstance(energy, type):
        name = getattr(energy, "__name__", "V")
        written = f"fl.Potential({name if name.isidentifier() else 'V'})"
    raise TypeError(
        f"`energy` must be an energy, got {energy!r}; write "
        f"{written or 'for instance fl.quadratic() or fl.Potential(...)'}."
    )


def potentials(
    energy: Any, space: Any, why: str = "a vector has no density and no pairs"
) -> tuple[Any, ...]:
    """The terms of an energy that are all Potentials; TypeError for others."""
    terms = terms_of(energy)
    for term in terms:
        if term.kind != "potential":
            raise refuse(term, space, why)
    return terms


def check_device(device: str | None, dtype: str | None) -> None:
    """Refuse dtypes other than float32 and float64, and absent devices."""
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    if device is None:
        return
    torch = import_torch(f"device={device!r}")
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f'`device` must be None (NumPy), "cpu" or "cuda", got {device!r}.'
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"`device` is {device!r}, but the installed torch {torch.__version__} "
            'sees no CUDA device; use device="cpu" or None, or install a CUDA build.'
        )


def admit_array(u0: Any, name: str = "u0") -> Array:
    """Copy of the user's state: contiguous, native byte order, float32 or float64.

    Integers become float64. Raises TypeError for bool, complex, object, float16 and
    longdouble, ValueError for empty and for non-finite data.
    """
    if is_torch(u0):
        u = detach(u0)
        kind = dtype_name(u)
        if kind in ("int8", "int16", "int32", "int64", "uint8"):
            u = u.to(dtype=import_torch("A tensor").float64)
        elif kind not in DTYPES:
            raise TypeError(f"`{name}` has dtype {kind}; use {' or '.join(DTYPES)}.")
        u = u.clone().contiguous()
    else:
        try:
            raw = np.asarray(u0)
        except ValueError as error:
            raise TypeError(
                f"`{name}` is not an array of numbers: {error}. Nested lists must "
                "have equal lengths."
            ) from error
        if raw.dtype.kind in "iu":
            raw = raw.astype(np.float64)
        if raw.dtype.kind != "f" or raw.dtype.itemsize not in (4, 8):
            raise TypeError(
                f"`{name}` has dtype {raw.dtype}; use {' or '.join(DTYPES)}"
                + (f" (got {type(u0).__name__})." if raw.dtype == object else ".")
            )
        u = np.array(raw, dtype=raw.dtype.newbyteorder("="), order="C")
    if 0 in tuple(u.shape):
        raise ValueError(f"`{name}` is empty: shape {tuple(u.shape)}.")
    count, index = first_nonfinite(u)
    if count:
        raise ValueError(
            f"`{name}` has {count} non-finite value(s), the first at index {index}; "
            "all must be finite."
        )
    return u


class Space:
    """Representation of states and the cost of small displacements.

    A concrete space is a frozen dataclass with ``device`` and ``dtype``. None means
    that measures become NumPy float64 and arrays are taken as they are; an explicit
    value must agree with the user's array. It defines

    - ``flow(energy, drift=None)``, with one ``match`` over the kinds of term;
    - ``project(measure, rng=None)``, ``measure(u)``, ``distance(u, v)``;
    - ``shape_error(u)``: None, or the sentence that says what shape was expected.
    """

    device: str | None
    dtype: str | None
    # Derivatives of the user's functions that every flow here evaluates.
    probed: ClassVar[int] = 1

    if TYPE_CHECKING:

        def flow(self, energy: Energy, drift: Any = None) -> Flow: ...
        def project(self, measure: Any, rng: Any = None) -> Array: ...
        def measure(self, u: Array) -> Any: ...
        def distance(self, u: Array, v: Array) -> float: ...
        def shape_error(self, u: Array) -> str | None: ...

    def written(self, *arguments: str) -> str:
        """This space as one types it: arguments, explicit device and dtype."""
        options = {"device": self.device, "dtype": self.dtype}
        given = [f"{name}={v!r}" for name, v in options.items() if v is not None]
        return f"{type(self).__name__}({', '.join([*arguments, *given])})"

    def accepts(self, energy: Energy) -> bool:
        """Whether ``flow(energy)`` is defined here."""
        try:
            self.flow(energy)
        except TypeError:
            return False
        return True

    def admit(self, u0: Any, rng: Any = None) -> Array:
        """State for ``u0``: an array that fits, or the projection of a measure.

        Raises
        ------
        TypeError, ValueError
            For data that cannot be a state here; the text says what would be.
        """
        if hasattr(u0, "sample") and not is_array(u0):
            return self.project(u0, rng)
        u = admit_array(u0)
        self._check_place(u, given=is_array(u0) and not _is_integer(u0))
        if self.dtype is not None and dtype_name(u) != self.dtype:
            u = create(u, self.device, self.dtype)
        problem = self.shape_error(u)
        if problem:
            raise ValueError(problem)
        return u

    def create(self, values: Any) -> Array:
        """Array of ``values`` where this space computes (measures go through here)."""
        return create(values, self.device, self.dtype or "float64")

    def _check_place(self, u: Array, given: bool) -> None:
        """The user's array must agree with an explicit device and dtype."""
        place = device_of(u)
        if self.device is not None:
            wanted = str(import_torch("A device").empty(0, device=self.device).device)
            if place != wanted:
                there = "a NumPy array" if place is None else f"on {place}"
                raise TypeError(
                    f"`u0` is {there} but {self!r} computes with torch on {wanted}: "
                    f"give `torch.as_tensor(u0, device={self.device!r})`."
                )
        if self.dtype is not None and given and dtype_name(u) != self.dtype:
            raise TypeError(
                f"`u0` is {dtype_name(u)} but {self!r} has dtype={self.dtype!r}; "
                "convert one of them."
            )


def _is_integer(u0: Any) -> bool:
    return "int" in str(getattr(u0, "dtype", ""))
