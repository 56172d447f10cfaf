"""The compiled engine of the random stream: same bits as NumPy, many threads.

Rounds stand outside the loop over a short buffer, which LLVM then turns into vector
instructions; fast-math is off, since a fused or reordered operation would change bits.
Importing this module imports numba.
"""

from __future__ import annotations

import contextlib
import os
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from flows import random as stream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PARALLEL_LOCK", "fill"]

Array = Any

U32, U64 = np.uint32, np.uint64
BUFFER = 512
PIECE = 1 << 13
MULTIPLIERS = stream.MULTIPLIERS
WEYL = U32(stream.WEYL[0]), U32(stream.WEYL[1])
WORD = stream.WORD


class _ParallelLock:
    """Held around every parallel numba kernel; refuses them in a forked child.

    Two Python threads inside parallel kernels abort the process under numba's
    workqueue layer, and a forked child aborts under its OpenMP layer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self.forked = True

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


PARALLEL_LOCK = _ParallelLock()


def fill(table: np.ndarray, place: np.ndarray, uniform: bool) -> None:
    """Fill ``table`` (n, d), C order, with uniforms or normals."""
    n, d = table.shape
    total = n * -(-d // stream.PER_BLOCK[table.dtype.name])
    serial, parallel = _kernels(table.dtype.name)
    if total < 2 * PIECE or PARALLEL_LOCK.forked or numba.get_num_threads() == 1:
        serial(table, place, uniform, 0, total)
        return
    with PARALLEL_LOCK:
        parallel(table, place, uniform, total)


@lru_cache(maxsize=2)
def _kernels(dtype: str) -> tuple[Any, Any]:
    """The serial and the parallel kernel; the serial one is compiled here."""
    kernels = {"float64": (_range64, _pieces64), "float32": (_range32, _pieces32)}
    serial, parallel = kernels[dtype]
    # Where the disk cache cannot be written, the kernel is compiled none the less.
    with contextlib.suppress(OSError, numba.NumbaWarning):
        serial(np.empty((0, 1), dtype), np.zeros(4, np.uint64), False, 0, 0)
    return serial, parallel


def _compile(
    cache: bool = False, parallel: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: numba.njit, kept on disk where numba finds a place for it."""

    def decorate(function: Callable[..., Any]) -> Any:
        options = {"error_model": "numpy", "nogil": True, "parallel": parallel}
        try:
            return numba.njit(cache=cache, **options)(function)
        except RuntimeError:
            # No writable directory, neither beside this file nor in a home directory.
            return numba.njit(**options)(function)

    return decorate


_radius64 = _compile()(stream.radius64)
_circle64 = _compile()(stream.circle64)
_uniforms64 = _compile()(stream.uniforms64)
_radius32 = _compile()(stream.radius32)
_circle32 = _compile()(stream.circle32)
_uniforms32 = _compile()(stream.uniforms32)


@_compile()
def _counters(words: Array, blocks: int, place: Array, start: int, count: int) -> None:
    """Counter words of the flat block numbers start, ..., start + count - 1."""
    folds = U64((blocks + 255) // 256)
    step, draw, first = place[1], place[2], place[3]
    words[2, :count] = U32(step)
    words[3, :count] = U32(step >> WORD)
    particle = first + U64(start // blocks)
    block = U64(start % blocks)
    if blocks == 1:
        for i in range(count):
            number = particle + U64(i)
            words[0, i] = U32(number)
            words[1, i] = U32((number >> WORD) ^ (draw << U64(24)))
        return
    for i in range(count):
        number = particle * folds + (block >> U64(8))
        field = ((block & U64(255)) << U64(16)) ^ (draw << U64(24))
        words[0, i] = U32(number)
        words[1, i] = U32((number >> WORD) ^ field)
        block += U64(1)
        if block == U64(blocks):
            block = U64(0)
            particle += U64(1)


@_compile()
def _rounds(words: Array, key: int, count: int) -> None:
    """Philox4x32-10 of the columns of ``words`` (4, BUFFER), in place."""
    k0, k1 = U32(key), U32(key >> WORD)
    for _ in range(10):
        for i in range(count):
            p0 = U64(words[0, i]) * MULTIPLIERS[0]
            p1 = U64(words[2, i]) * MULTIPLIERS[1]
            words[0, i] = U32(p1 >> WORD) ^ words[1, i] ^ k0
            words[2, i] = U32(p0 >> WORD) ^ words[3, i] ^ k1
            words[1, i] = U32(p1)
            words[3, i] = U32(p0)
        k0, k1 = U32(k0 + WEYL[0]), U32(k1 + WEYL[1])


@_compile()
def _scatter(numbers: Array, table: Array, blocks: int, start: int, count: int) -> None:
    """Write the columns of ``numbers`` (per, BUFFER) to their places in ``table``."""
    per, d = numbers.shape[0], table.shape[1]
    if blocks == 1:
        for i in range(count):
            for k in range(d):
                table[start + i, k] = numbers[k, i]
        return
    row, column = start // blocks, per * (start % blocks)
    for i in range(count):
        for k in range(min(per, d - column)):
            table[row, column + k] = numbers[k, i]
        column += per
        if column >= d:
            column = 0
            row += 1


@_compile(cache=True)
def _range64(table: Array, place: Array, uniform: bool, start: int, stop: int) -> None:
    blocks = (table.shape[1] + 1) // 2
    words = np.empty((4, BUFFER), np.uint32)
    numbers = np.empty((2, BUFFER), np.float64)
    while start < stop:
        count = min(BUFFER, stop - start)
        _counters(words, blocks, place, start, count)
        _rounds(words, place[0], count)
        if uniform:
            for i in range(count):
                a = (U64(words[1, i]) << WORD) | U64(words[0, i])
                b = (U64(words[3, i]) << WORD) | U64(words[2, i])
                numbers[0, i], numbers[1, i] = _uniforms64(a, b)
        else:
            for i in range(count):
                a = (U64(words[1, i]) << WORD) | U64(words[0, i])
                b = (U64(words[3, i]) << WORD) | U64(words[2, i])
                radius = _radius64(a >> U64(11))
                cosine, sine = _circle64(b >> U64(11))
                numbers[0, i] = radius * cosine
                numbers[1, i] = radius * sine
        _scatter(numbers, table, blocks, start, count)
        start += count


@_compile(cache=True)
def _range32(table: Array, place: Array, uniform: bool, start: int, stop: int) -> None:
    blocks = (table.shape[1] + 3) // 4
    words = np.empty((4, BUFFER), np.uint32)
    numbers = np.empty((4, BUFFER), np.float32)
    while start < stop:
        count = min(BUFFER, stop - start)
        _counters(words, blocks, place, start, count)
        _rounds(words, place[0], count)
        for j in range(0, 4, 2):
            if uniform:
                for i in range(count):
                    pair = _uniforms32(U64(words[j, i]), U64(words[j + 1, i]))
                    numbers[j, i], numbers[j + 1, i] = pair
            else:
                for i in range(count):
                    radius = _radius32(np.int32(words[j, i] >> U32(8)))
                    cosine, sine = _circle32(np.int32(words[j + 1, i] >> U32(8)))
                    numbers[j, i] = radius * cosine
                    numbers[j + 1, i] = radius * sine
        _scatter(numbers, table, blocks, start, count)
        start += count


@_compile(cache=True, parallel=True)
def _pieces64(table: Array, place: Array, uniform: bool, total: int) -> None:
    for piece in numba.prange((total + PIECE - 1) // PIECE):
        stop = min(total, (piece + 1) * PIECE)
        _range64(table, place, uniform, piece * PIECE, stop)


@_compile(cache=True, parallel=True)
def _pieces32(table: Array, place: Array, uniform: bool, total: int) -> None:
    for piece in numba.prange((total + PIECE - 1) // PIECE):
        stop = min(total, (piece + 1) * PIECE)
        _range32(table, place, uniform, piece * PIECE, stop)
