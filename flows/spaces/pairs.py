"""Sums over all pairs: what is recognized in W, and the rest in chunks.

An interaction is split into

    W(z) = z.A z / 2 + c |z| + W(0) + rest(z),

where c is nonzero on the line only. The quadratic costs O(n) by the mean, the kink
O(n log n) by sorting, and the rest all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, is_torch, namespace, numbers
from flows.spaces.formulas import even_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flows.energies import Interaction

__all__ = ["PairSum", "Pairs", "ranks", "recognize"]

Array = Any

# A chunk of this many numbers stays in the cache of a core; a GPU wants more.
CPU_NUMBERS = 2**16
GPU_NUMBERS = 2**24


@dataclass(frozen=True, eq=False)
class Pairs:
    """All interactions of an energy in dimension d, split into recognized parts.

    Parameters
    ----------
    matrix : (d, d) array or None
        A of the quadratic part.
    kink : float
        c of the part c |z|, nonzero for d = 1 only; attracting when positive.
    constant : float
        Value at 0 of the recognized parts.
    rest : tuple of PairSum
        What is left, summed over all pairs.
    """

    matrix: Array | None = None
    kink: float = 0.0
    constant: float = 0.0
    rest: tuple[PairSum, ...] = ()

    def force(self, t: float, x: Array, ordered: bool = False) -> Array | None:
        """-(1/n) sum_j grad W(x_i - x_j) at points (n, d); None when it is zero.

        A repelling kink separates coincident points by their index if ``ordered``;
        otherwise they exert no force on each other.
        """
        xp = namespace(x)
        total = None
        if self.matrix is not None:
            total = -xp.matmul(x - xp.mean(x, axis=0), array_like(self.matrix, x))
        if self.kink != 0.0:
            split = ordered and self.kink < 0.0
            sign = ranks(x[:, 0]) if split else mean_sign(x[:, 0])
            total = _add(total, -self.kink * sign[:, None])
        for part in self.rest:
            total = _add(total, part.force(t, x))
        return total

    def energy(self, t: float, x: Array) -> Any:
        """(1/2n^2) sum_ij W(x_i - x_j), self pairs included where W(0) is finite."""
        xp = namespace(x)
        total: Any = 0.5 * self.constant
        if self.matrix is not None:
            y = x - xp.mean(x, axis=0)
            product = y * xp.matmul(y, array_like(self.matrix, x))
            total = total + 0.5 * numbers(xp.sum(product)) / x.shape[0]
        if self.kink != 0.0:
            total = total + 0.5 * self.kink * mean_distance(x[:, 0])
        for part in self.rest:
            total = total + part.energy(t, x)
        return total


@dataclass(frozen=True, eq=False)
class PairSum:
    """Sums of one interaction over all pairs.

    ``masked`` says that W or its derivatives may not be finite at 0; pairs in one place
    are then left out.
    """

    term: Interaction
    masked: bool

    @classmethod
    def of(cls, term: Interaction, d: int) -> PairSum:
        """Nothing is known about W at 0 unless it is a smooth formula."""
        formula = term.function.expr(d) is not None
        return cls(term, not (formula and term.function.smooth))

    @property
    def smooth(self) -> bool:
        """Whether W is taken to be smooth everywhere."""
        return bool(self.term.function.smooth)

    def force(self, t: float, x: Array) -> Array:
        """-(1/n) sum_j grad W(x_i - x_j)."""

        def rows(z: Array) -> Array:
            xp = namespace(z)
            g = self._at(self.term.gradient_at, z, t)
            # One axis after the other: a sum of rows of one length has one order.
            parts = [xp.sum(g[..., k], axis=-1) for k in range(g.shape[-1])]
            return xp.stack(parts, axis=-1)

        return pair_rows(rows, x) * (-1.0 / x.shape[0])

    def energy(self, t: float, x: Array) -> Any:
        """(1/2n^2) sum_ij W(x_i - x_j); without self pairs where W(0) is infinite."""
        xp = namespace(x)
        n = x.shape[0]
        at_zero = 0.0
        if self.masked:
            with np.errstate(all="ignore"):
                at_zero = float(self.term.value_at(xp.zeros_like(x[:1]), t)[0])

        def rows(z: Array) -> Array:
            values = xp.sum(self._at(self.term.value_at, z, t), axis=-1)
            if not self.masked:
                return values
            equal = xp.astype(xp.sum(xp.all(z == 0, axis=-1), axis=-1), x.dtype)
            if np.isfinite(at_zero):
                return values + at_zero * equal
            # Two points in one place have the infinite energy, a point alone none.
            alone = equal <= 1
            return values + xp.where(alone, xp.zeros_like(values), at_zero)

        return numbers(xp.sum(pair_rows(rows, x)[:, 0])) / (2.0 * n**2)

    def hessian(self, t: float, x: Array) -> Array:
        """Second derivatives at all differences, (n, n, d, d), 0 for equal points.

        The self pairs cancel in every sum that uses them.
        """
        z = x[:, None, :] - x[None, :, :]
        return self._at(self.term.hessian_at, z, t, hide=True)

    def curvature(self, t: float, x: Array) -> float:
        """max_i (1/n) sum_j |W''(x_i - x_j)| for points of the line (n, 1)."""

        def rows(z: Array) -> Array:
            xp = namespace(z)
            second = self._at(self.term.hessian_at, z, t, hide=True)
            return xp.sum(xp.abs(second[..., 0, 0]), axis=-1)

        return float(namespace(x).max(pair_rows(rows, x)) / x.shape[0])

    def _at(
        self,
        function: Callable[[Array, float], Array],
        z: Array,
        t: float,
        hide: bool = False,
    ) -> Array:
        """``function`` at differences (rows, n, d); 0 at zero where that is hidden."""
        if not (self.masked or hide):
            return function(z, t)
        xp = namespace(z)
        zero = xp.all(z == 0, axis=-1)
        values = function(xp.where(zero[..., None], xp.ones_like(z), z), t)
        while zero.ndim < values.ndim:
            zero = zero[..., None]
        return xp.where(zero, xp.zeros_like(values), values)


def _add(total: Array | None, term: Array) -> Array:
    return term if total is None else total + term


def recognize(interactions: tuple[Interaction, ...], d: int) -> Pairs:
    """Split interactions into the parts that have fast sums in dimension ``d``."""
    matrix = np.zeros((d, d))
    kink = constant = 0.0
    rest: list[PairSum] = []
    for term in interactions:
        parts = even_parts(term, d)
        if parts is None:
            rest.append(PairSum.of(term, d))
            continue
        matrix += term.scale * parts.matrix
        kink += term.scale * parts.kink
        constant += term.scale * parts.constant
        if parts.rest is not None:
            rest.append(PairSum.of(parts.rest, d))
    return Pairs(matrix if matrix.any() else None, kink, constant, tuple(rest))


def mean_sign(x: Array) -> Array:
    """(1/n) sum_j sign(x_i - x_j) for x (n,), by sorting; ties count as 0."""
    xp = namespace(x)
    ordered = xp.sort(x)
    below = xp.searchsorted(ordered, x, side="left")
    upto = xp.searchsorted(ordered, x, side="right")
    n = x.shape[0]
    return xp.astype(below + upto - n, x.dtype) / n


def ranks(x: Array) -> Array:
    """(2i + 1 - n)/n for the i-th point in increasing order; ties by their index."""
    xp = namespace(x)
    n = x.shape[0]
    levels = (2.0 * np.arange(n) + 1.0 - n) / n
    if bool(xp.all(x[1:] >= x[:-1])):
        return array_like(levels, x)
    place = xp.argsort(xp.argsort(x, stable=True), stable=True)
    return array_like(levels, x)[place]


def mean_distance(x: Array) -> Any:
    """(1/n^2) sum_ij |x_i - x_j| for x (n,), by sorting."""
    xp = namespace(x)
    # Centering first keeps the digits of points that are far from the origin.
    ordered = xp.sort(x - xp.mean(x))
    return numbers(2.0 * xp.mean(ordered * ranks(ordered)))


def pair_rows(rows: Callable[[Array], Array], x: Array) -> Array:
    """Stack ``rows(z)`` over chunks of targets, z (rows, n, d), as (n, k).

    Every row is reduced in one order whatever the chunk, so the result does not depend
    on it, to the last bit. When the memory does not suffice the chunk is halved.

    Raises
    ------
    MemoryError
        When not even one row fits; with the bytes that it needs.
    """
    xp = namespace(x)
    n, d = x.shape
    gpu = is_torch(x) and x.device.type != "cpu"
    # Two rows at least: torch may split the sum of a single long row over threads.
    count = min(n, max(2, (GPU_NUMBERS if gpu else CPU_NUMBERS) // (n * d)))
    while True:
        try:
            parts = []
            for start, stop, skip in _chunks(n, count):
                part = rows(x[start:stop, None, :] - x[None, :, :])
                part = part[:, None] if part.ndim == 1 else part
                parts.append(part[skip:])
            return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        # Outside the handler, whose traceback would keep the large arrays alive.
        parts = []
        if count == 1:
            size = n * d * (8 if "64" in str(x.dtype) else 4)
            raise MemoryError(
                f"One row of {n} pairs needs several arrays of {size} bytes; free "
                "memory or use fewer particles."
            )
        count //= 2


def _chunks(n: int, count: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, rows to drop): chunks of one size, the last one overlapping."""
    for start in range(0, n, count):
        first = min(start, n - count)
        yield first, first + count, start - first


def out_of_memory(error: BaseException) -> bool:
    """Whether NumPy's or torch's allocator failed."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "not enough memory" in text
    )
