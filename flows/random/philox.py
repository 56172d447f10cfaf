"""Philox4x32-10, uniforms and normals: the formulas, and the NumPy engine.

The layout of counter, words and numbers is in the docstring of `flows.random`. The
formulas of this file serve NumPy arrays and, compiled, the scalars of a numba loop;
hence conversions are written as calls, ``np.float64(m)``, and choices as masks.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["PER_BLOCK", "counters", "fill", "fill_by_numpy", "words"]

Array = Any

U64 = np.uint64
MASK = U64(0xFFFFFFFF)
WORD = U64(32)
MULTIPLIERS = U64(0xD2511F53), U64(0xCD9E8D57)
WEYL = U64(0x9E3779B9), U64(0xBB67AE85)
PER_BLOCK = {"float64": 2, "float32": 4}
CHUNK = 4096
# NumPy costs about 60 ns a block and 1500 blocks a call; loading the compiled engine
# costs some tenths of a second, once in a process.
CALL_COST = 1500
LOAD_COST = 1 << 20

# log x = k log 2 + log(1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); the series in
# s = f / (2 + f). Adding ONE64 - LOW64 to the bits of x carries into the exponent
# where the mantissa exceeds that of sqrt(1/2).
LOW64, ONE64 = np.int64(0x3FE6A09E00000000), np.int64(0x3FF0000000000000)
MANTISSA64, BIAS64 = np.int64(0x000FFFFFFFFFFFFF), np.int64(1023 + 53)
LN2_HIGH64, LN2_LOW64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOG64 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
SIN64 = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
COS64 = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)
ANGLE64 = 2.0 * math.pi * 2.0**-53

F32, I32, U32 = np.float32, np.int32, np.uint32
LOW32, ONE32 = I32(0x3F3504F3), I32(0x3F800000)
MANTISSA32, BIAS32 = I32(0x007FFFFF), I32(127 + 24)
LN2_HIGH32, LN2_LOW32 = F32(6.9313812256e-01), F32(9.0580006145e-06)
LOG32 = F32(0.66666662693), F32(0.40000972152), F32(0.28498786688), F32(0.24279078841)
SIN32 = F32(-1.6666654611e-1), F32(8.3321608736e-3), F32(-1.9515295891e-4)
COS32 = F32(4.166664568298827e-2), F32(-1.388731625493765e-3), F32(2.443315711809948e-5)
ANGLE32 = F32(2.0 * math.pi * 2.0**-24)
HALF32, TWO32 = F32(0.5), F32(2.0)

_work = 0


def fill(table: np.ndarray, place: np.ndarray, uniform: bool) -> None:
    """Fill ``table`` (n, d) by the faster engine; all give the same bits."""
    global _work
    if _work < LOAD_COST:
        blocks = table.shape[0] * -(-table.shape[1] // PER_BLOCK[table.dtype.name])
        _work += CALL_COST + blocks
    engine = _compiled_engine() if _work >= LOAD_COST else None
    if engine is None:
        fill_by_numpy(table, place, uniform)
    else:
        engine.fill(table, place, uniform)


@lru_cache(maxsize=1)
def _compiled_engine() -> ModuleType | None:
    """The numba engine, or None where numba is missing or switched off."""
    try:
        # numba that is too old for the installed NumPy or Python fails in many ways.
        import numba
    except Exception:
        return None
    if numba.config.DISABLE_JIT:
        return None
    from flows.random import philox_numba

    return philox_numba


def fill_by_numpy(table: np.ndarray, place: np.ndarray, uniform: bool) -> None:
    """Reference engine: fill ``table`` (n, d), C order, with uniforms or normals."""
    n, d = table.shape
    per = PER_BLOCK[table.dtype.name]
    blocks = -(-d // per)
    whole = d % per == 0
    # Numbers beyond the last coordinate are made and dropped.
    flat = table.reshape(-1) if whole else np.empty(n * blocks * per, table.dtype)
    for start in range(0, n * blocks, CHUNK):
        stop = min(start + CHUNK, n * blocks)
        index = np.arange(start, stop, dtype=np.uint64)
        w0, w1, w2, w3 = words(*counters(index, blocks, place))
        numbers = flat[start * per : stop * per].reshape(stop - start, per)
        if table.dtype == np.float64:
            pair = uniforms64 if uniform else normals64
            numbers[:, 0], numbers[:, 1] = pair((w1 << WORD) | w0, (w3 << WORD) | w2)
        else:
            pair = uniforms32 if uniform else normals32
            numbers[:, 0], numbers[:, 1] = pair(w0, w1)
            numbers[:, 2], numbers[:, 3] = pair(w2, w3)
    if not whole:
        table[:] = flat.reshape(n, blocks * per)[:, :d]


def counters(index: Array, blocks: int, place: np.ndarray) -> tuple[Array, ...]:
    """Counter and key words of the flat block numbers particle * blocks + block."""
    key, step, draw, first = place
    particle = first + index // U64(blocks)
    block = index % U64(blocks)
    particle = particle * U64(-(-blocks // 256)) + (block >> U64(8))
    high = (particle >> WORD) ^ ((block & U64(255)) << U64(16)) ^ (draw << U64(24))
    return particle & MASK, high, step & MASK, step >> WORD, key & MASK, key >> WORD


def words(
    c0: Array, c1: Array, c2: Array, c3: Array, k0: Array, k1: Array
) -> tuple[Array, Array, Array, Array]:
    """Philox4x32-10: four words of 32 bits, all held in uint64."""
    for _ in range(10):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1 = (p1 >> WORD) ^ c1 ^ k0, p1 & MASK
        c2, c3 = (p0 >> WORD) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def uniforms64(a: Array, b: Array) -> tuple[Array, Array]:
    """Two numbers in (0, 1) from two words of 64 bits."""
    u = (np.float64(a >> U64(12)) + 0.5) * 2.0**-52
    v = (np.float64(b >> U64(12)) + 0.5) * 2.0**-52
    return u, v


def normals64(a: Array, b: Array) -> tuple[Array, Array]:
    """Two normal numbers from two words of 64 bits."""
    radius = radius64(a >> U64(11))
    cosine, sine = circle64(b >> U64(11))
    return radius * cosine, radius * sine


def radius64(m: Array) -> Array:
    """sqrt(-2 log u) for u = (m + 1) 2^-53."""
    bits = np.float64(m + U64(1)).view(np.int64) + (ONE64 - LOW64)
    k = np.float64((bits >> np.int64(52)) - BIAS64)
    f = np.int64((bits & MANTISSA64) + LOW64).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * (LOG64[1] + w * (LOG64[3] + w * LOG64[5]))
    even = z * (LOG64[0] + w * (LOG64[2] + w * (LOG64[4] + w * LOG64[6])))
    square = 0.5 * f * f
    rest = s * (square + (even + odd)) + k * LN2_LOW64
    return np.sqrt(-2.0 * (k * LN2_HIGH64 - ((square - rest) - f)))


def circle64(m: Array) -> tuple[Array, Array]:
    """(cos, sin) of 2 pi m 2^-53: the nearest quarter turn, and the rest."""
    quarter = (m + U64(1 << 50)) >> U64(51)
    x = np.float64(np.int64(m) - np.int64(quarter << U64(51))) * ANGLE64
    z = x * x
    s = SIN64[1] + z * (SIN64[2] + z * (SIN64[3] + z * (SIN64[4] + z * SIN64[5])))
    c = COS64[1] + z * (COS64[2] + z * (COS64[3] + z * (COS64[4] + z * COS64[5])))
    sine = np.float64(x + x * z * (SIN64[0] + z * s)).view(np.uint64)
    cosine = np.float64(1.0 - (0.5 * z - z * z * (COS64[0] + z * c))).view(np.uint64)
    swap = (sine ^ cosine) & (U64(0) - (quarter & U64(1)))
    cosine = cosine ^ swap ^ (((quarter + U64(1)) & U64(2)) << U64(62))
    sine = sine ^ swap ^ ((quarter & U64(2)) << U64(62))
    return np.uint64(cosine).view(np.float64), np.uint64(sine).view(np.float64)


def uniforms32(a: Array, b: Array) -> tuple[Array, Array]:
    """Two float32 numbers in (0, 1) from two words of 32 bits."""
    u = (F32(I32(a >> U64(9))) + HALF32) * F32(2.0**-23)
    v = (F32(I32(b >> U64(9))) + HALF32) * F32(2.0**-23)
    return u, v


def normals32(a: Array, b: Array) -> tuple[Array, Array]:
    """Two float32 normal numbers from two words of 32 bits."""
    radius = radius32(I32(a >> U64(8)))
    cosine, sine = circle32(I32(b >> U64(8)))
    return radius * cosine, radius * sine


def radius32(m: Array) -> Array:
    """sqrt(-2 log u) in float32 for u = (m + 1) 2^-24."""
    bits = F32(I32(m + I32(1))).view(np.int32) + (ONE32 - LOW32)
    k = F32(I32((bits >> I32(23)) - BIAS32))
    f = I32((bits & MANTISSA32) + LOW32).view(np.float32) - F32(1.0)
    s = f / (TWO32 + f)
    z = s * s
    w = z * z
    even = z * (LOG32[0] + w * LOG32[2])
    odd = w * (LOG32[1] + w * LOG32[3])
    square = HALF32 * f * f
    rest = s * (square + (even + odd)) + k * LN2_LOW32
    return np.sqrt(-TWO32 * (k * LN2_HIGH32 - ((square - rest) - f)))


def circle32(m: Array) -> tuple[Array, Array]:
    """(cos, sin) in float32 of 2 pi m 2^-24."""
    quarter = I32(I32(m + I32(1 << 21)) >> I32(22))
    x = F32(I32(m - I32(quarter << I32(22)))) * ANGLE32
    z = x * x
    s = x + x * z * (SIN32[0] + z * (SIN32[1] + z * SIN32[2]))
    c = COS32[0] + z * (COS32[1] + z * COS32[2])
    sine = F32(s).view(np.int32)
    cosine = F32(F32(1.0) - (HALF32 * z - z * z * c)).view(np.int32)
    swap = (sine ^ cosine) & -(quarter & I32(1))
    cosine = cosine ^ swap ^ (((quarter + I32(1)) & I32(2)) << I32(30))
    sine = sine ^ swap ^ ((quarter & I32(2)) << I32(30))
    return I32(cosine).view(np.float32), I32(sine).view(np.float32)
