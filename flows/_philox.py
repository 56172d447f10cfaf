"""The numba engine of ``flows.random``: the same operations, so the same bits.

Without fastmath LLVM neither reorders nor contracts floating-point operations, and
every function below is plain arithmetic, so a result does not depend on its place in a
vector register. Imported only by ``flows.random.engine``, because numba loads slowly.
"""

# numba's decorators have no types.
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import math
import threading

import numba
import numpy as np

from flows.random import (
    COS_TERMS,
    LOG2_HIGH,
    LOG2_LOW,
    LOG_TERMS,
    MULTIPLIERS,
    SIN_TERMS,
    WEYL,
)

__all__ = ["normal"]

# Two Python threads inside one parallel kernel can abort the process under numba's
# workqueue layer.
LOCK = threading.Lock()
CHUNK = 256
M0, M1 = MULTIPLIERS
W0, W1 = np.uint64(WEYL[0]), np.uint64(WEYL[1])
MASK, WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
LOG, SIN, COS = LOG_TERMS, SIN_TERMS, COS_TERMS
MANTISSA, ONE = np.uint64(0x000FFFFFFFFFFFFF), np.uint64(0x3FF0000000000000)
BITS53 = np.uint64(2**53 - 1)


def jit(**options):
    """numba.njit with a disk cache where there is a place for it."""

    def wrap(function):
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return wrap


@jit(inline="always")
def horner(terms, y):
    total = terms[0] * y
    for k in range(1, len(terms)):
        total = (total + terms[k]) * y
    return total


@jit()
def transform(bits1, u2, z0, z1):
    """Box-Muller over arrays; ``bits1`` are the bits of the float64 u1 in (0, 1]."""
    for i in range(bits1.size):
        bits = bits1[i]
        exponent = np.float64(np.int64(bits >> np.uint64(52))) - 1023.0
        z0[i] = exponent
    mantissas = ((bits1 & MANTISSA) | ONE).view(np.float64)
    for i in range(bits1.size):
        mantissa = mantissas[i]
        large = mantissa > 1.4142135623730951
        m = 0.5 * mantissa if large else mantissa
        e = z0[i] + 1.0 if large else z0[i]
        s = (m - 1.0) / (m + 1.0)
        tail = horner(LOG, s * s)
        log = e * LOG2_HIGH + (s * (2.0 + tail) + e * LOG2_LOW)
        radius = math.sqrt(-2.0 * log)
        turns = 4.0 * u2[i]
        quarter = math.floor(turns + 0.5)
        x = (turns - quarter) * 1.5707963267948966
        y = x * x
        sine = x + x * horner(SIN, y)
        cosine = 1.0 + horner(COS, y)
        odd = quarter - 2.0 * math.floor(0.5 * quarter) > 0.5
        a = sine if odd else cosine
        b = cosine if odd else sine
        ca = -a if (quarter == 1.0) or (quarter == 2.0) else a
        sb = -b if (quarter == 2.0) or (quarter == 3.0) else b
        z0[i] = radius * ca
        z1[i] = radius * sb


@jit()
def rounds(low, high, s0, s1, k0, k1, a0, a1, a2, a3):
    """Philox4x32-10 of counters (low, high, s0, s1) over arrays."""
    for i in range(low.size):
        c0, c1, c2, c3 = low[i], high[i], s0, s1
        q0, q1 = k0, k1
        for _ in range(10):
            p0, p1 = M0 * c0, M1 * c2
            c0 = (p1 >> WORD) ^ c1 ^ q0
            c1 = p1 & MASK
            c2 = (p0 >> WORD) ^ c3 ^ q1
            c3 = p0 & MASK
            q0, q1 = (q0 + W0) & MASK, (q1 + W1) & MASK
        a0[i], a1[i], a2[i], a3[i] = c0, c1, c2, c3


@jit(parallel=True)
def fill(out, double, first, step, draw, k0, k1):
    """Standard normals (particles, d), chunk by chunk of particles."""
    particles, d = out.shape
    width = 2 if double else 4
    pairs = (d + width - 1) // width
    blocks = (pairs + 255) // 256
    s0, s1 = step & MASK, step >> WORD
    for chunk in numba.prange((particles + CHUNK - 1) // CHUNK):
        begin = chunk * CHUNK
        n = min(CHUNK, particles - begin)
        low, high = np.empty(n, np.uint64), np.empty(n, np.uint64)
        a0, a1 = np.empty(n, np.uint64), np.empty(n, np.uint64)
        a2, a3 = np.empty(n, np.uint64), np.empty(n, np.uint64)
        u1, u2 = np.empty(n), np.empty(n)
        z0, z1 = np.empty(n), np.empty(n)
        for pair in range(pairs):
            field = np.uint64((pair % 256) << 16) ^ draw
            for i in range(n):
                index = (first + np.uint64(begin + i)) * np.uint64(blocks) + np.uint64(
                    pair // 256
                )
                low[i] = index & MASK
                high[i] = (index >> WORD) ^ field
            rounds(low, high, s0, s1, k0, k1, a0, a1, a2, a3)
            if double:
                for i in range(n):
                    m1 = ((a0[i] << np.uint64(21)) ^ (a1[i] >> np.uint64(11))) & BITS53
                    m2 = ((a2[i] << np.uint64(21)) ^ (a3[i] >> np.uint64(11))) & BITS53
                    u1[i] = (np.float64(np.int64(m1)) + 1.0) * 2.0**-53
                    u2[i] = np.float64(np.int64(m2)) * 2.0**-53
                transform(u1.view(np.uint64), u2, z0, z1)
                spread(out, begin, 2 * pair, z0, z1)
            else:
                to24(a0, a1, u1, u2)
                transform(u1.view(np.uint64), u2, z0, z1)
                spread(out, begin, 4 * pair, z0, z1)
                if 4 * pair + 2 < d:
                    to24(a2, a3, u1, u2)
                    transform(u1.view(np.uint64), u2, z0, z1)
                    spread(out, begin, 4 * pair + 2, z0, z1)


@jit()
def to24(a, b, u1, u2):
    """Uniform numbers of 24 bits from two words."""
    for i in range(a.size):
        u1[i] = (np.float64(np.int64(a[i] >> np.uint64(8))) + 1.0) * 2.0**-24
        u2[i] = np.float64(np.int64(b[i] >> np.uint64(8))) * 2.0**-24


@jit()
def spread(out, begin, column, z0, z1):
    """Write two columns of a chunk, the second only where there is one."""
    for i in range(z0.size):
        out[begin + i, column] = z0[i]
    if column + 1 < out.shape[1]:
        for i in range(z1.size):
            out[begin + i, column + 1] = z1[i]


def normal(
    particles: int,
    d: int,
    double: bool,
    first: int,
    step: int,
    draw: int,
    key: tuple[int, int],
) -> np.ndarray:
    """(particles, d) standard normals; arguments as in ``flows.random.Stream``."""
    out = np.empty((particles, d), dtype=np.float64 if double else np.float32)
    with LOCK:
        fill(
            out,
            double,
            np.uint64(first),
            np.uint64(step & 0xFFFFFFFFFFFFFFFF),
            np.uint64(draw << 24),
            np.uint64(key[0]),
            np.uint64(key[1]),
        )
    return out
