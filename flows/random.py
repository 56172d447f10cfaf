"""The random stream: counter-based, the same on every engine, chunk and thread.

Random numbers are a pure function of (seed, name, step, draw, particle, coordinate).
Nothing is consumed, so a rejected step, a resumed run, a chunk of the particles or
another number of threads meets the same numbers.

The stream never changes. It is Philox4x32-10 with

* key: the first 8 bytes, little endian, of ``blake2b(f"{seed}:{name}")``; the low
  32 bits are the first key word;
* counter: (particle low, particle high ^ block << 16 ^ draw << 24, step low, step
  high), in 32-bit words. A block is one call, hence four words: two coordinates in
  float64, four in float32;
* the block field has 8 bits. A particle with more than 256 blocks takes
  ``folds = ceil(blocks / 256)`` consecutive particle numbers: block b of particle i is
  block ``b % 256`` of particle ``i * folds + b // 256``.

Uniforms in float64 come from words (0, 1) and (2, 3), low word first; in float32 from
one word each. With m the leading 52 (23) bits they are (m + 1/2) 2^-52 (2^-23), always
inside (0, 1).

Normals are made by Box and Muller from pairs of uniforms,

    u1 = (m1 + 1) 2^-53,  u2 = m2 2^-53,  z0 + i z1 = sqrt(-2 log u1) exp(2 pi i u2),

m1 and m2 being the leading 53 bits of words (0, 1) and (2, 3). In float32 they are the
leading 24 bits of words 0 and 1 for z0, z1, and of words 2 and 3 for z2, z3.

Logarithm, cosine and sine are written out in correctly rounded operations (+, -, *, /,
sqrt) without fused multiply-add. The engines (NumPy here, numba for large draws)
therefore agree to the last bit, and so does every machine with IEEE arithmetic.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as
1, 2, 3, SC'11 (2011), doi:10.1145/2063384.2063405.
G. E. P. Box, M. E. Muller, A note on the generation of random normal deviates,
Ann. Math. Statist. 29 (1958), 610-611, doi:10.1214/aoms/1177706645.
The polynomials are those of FDLIBM and, for sine and cosine in float32, of Cephes.
"""

from __future__ import annotations

import hashlib
import math
import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from flows.arrays import DTYPES, array_like, dtype_name, is_torch

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Stream", "as_seed", "philox"]

Array = Any

U64 = np.uint64
MASK = U64(0xFFFFFFFF)
WORD = U64(32)
MULTIPLIERS = U64(0xD2511F53), U64(0xCD9E8D57)
WEYL = U64(0x9E3779B9), U64(0xBB67AE85)
PER_BLOCK = {"float64": 2, "float32": 4}
CHUNK = 4096
# NumPy costs about 60 ns a block and 1500 blocks a call. Loading the compiled engine
# costs some tenths of a second, once in a process: it is done for one large draw, or
# when many small ones have cost as much.
LARGE = 10_000
CALL_COST, LOAD_COST = 1500, 1 << 22

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


def as_seed(rng: Any) -> int:
    """Seed of a run: an int in [0, 2^64), or one key drawn from a NumPy Generator.

    Raises
    ------
    TypeError
        For anything else, bool included.
    ValueError
        For an int outside [0, 2^64).

    Examples
    --------
    >>> as_seed(7)
    7
    """
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    if isinstance(rng, (bool, np.bool_)) or not isinstance(rng, (int, np.integer)):
        raise TypeError(
            "`rng` must be an int seed or a numpy.random.Generator, "
            f"got {type(rng).__name__}: pass for instance rng=0."
        )
    if not 0 <= rng < 2**64:
        raise ValueError(f"`rng` must be a seed in [0, 2**64), got {rng}.")
    return int(rng)


@dataclass(frozen=True)
class Stream:
    """Random numbers of one purpose in one run, at one step.

    Parameters
    ----------
    seed : int
        Seed of the run, in [0, 2^64).
    name : str
        Purpose: ``"initial"``, ``"noise"``, ``"draw"``. Streams of different names
        are independent.
    step : int
        Number of the step, in [0, 2^64).
    draw : int
        Number of the draw within the step, in [0, 256).

    Examples
    --------
    >>> noise = Stream(seed=0, name="noise").at(12)
    >>> z = noise.normal((5, 2))
    >>> bool((noise.normal((3, 2), first=2) == z[2:]).all())
    True
    """

    seed: int
    name: str
    step: int = 0
    draw: int = 0

    def __post_init__(self) -> None:
        _checked("seed", self.seed, 2**64)
        _checked("step", self.step, 2**64)
        _checked("draw", self.draw, 256)
        if not isinstance(self.name, str):
            raise TypeError(f"`name` must be a str, got {type(self.name).__name__}.")

    def at(self, step: int) -> Stream:
        """The same stream at another step."""
        return Stream(self.seed, self.name, step, self.draw)

    def with_draw(self, draw: int) -> Stream:
        """The same stream at another draw of the step: independent numbers."""
        return Stream(self.seed, self.name, self.step, draw)

    @property
    def key(self) -> int:
        """The 64-bit key of Philox for this seed and name."""
        return _key(self.seed, self.name)

    def normal(
        self,
        shape: tuple[int, ...],
        like: Array | None = None,
        dtype: str = "float64",
        first: int = 0,
    ) -> Array:
        """Independent standard normal numbers.

        Parameters
        ----------
        shape : tuple of int
            (n, d): n particles with d coordinates; (a, b, d): a b particles; (d,):
            one particle.
        like : array, optional
            Array whose library, dtype and device the result has; ``dtype`` is then
            not used. Tensors are filled on the CPU and moved.
        dtype : str
            ``"float64"`` or ``"float32"``.
        first : int
            Number of the first particle, so that a chunk of particles has the numbers
            that it has in the whole.

        Returns
        -------
        array of shape ``shape``
        """
        return self._filled(shape, like, dtype, first, uniform=False)

    def uniform(
        self,
        shape: tuple[int, ...],
        like: Array | None = None,
        dtype: str = "float64",
        first: int = 0,
    ) -> Array:
        """Independent numbers uniform on the open interval (0, 1).

        Parameters are those of `normal`, which uses the same words: where both are
        needed, take two draws.
        """
        return self._filled(shape, like, dtype, first, uniform=True)

    def words(self, particles: int, blocks: int = 1, first: int = 0) -> np.ndarray:
        """The raw 32-bit words, shape (particles, blocks, 4), dtype uint32."""
        particles = _checked("particles", particles, 2**48)
        blocks = _checked("blocks", blocks, 2**48)
        place = self._place(particles, blocks, first)
        index = np.arange(particles * blocks, dtype=np.uint64)
        words = [w.astype(np.uint32) for w in philox(*counters(index, blocks, place))]
        return np.stack(words, axis=-1).reshape(particles, blocks, 4)

    def generator(self) -> np.random.Generator:
        """A NumPy Generator of this seed, name, step and draw, for NumPy samplers."""
        key = np.array([self.key, self.step], dtype=np.uint64)
        counter = [0, 0, 0, self.draw]
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def _filled(
        self,
        shape: tuple[int, ...],
        like: Array | None,
        dtype: str,
        first: int,
        uniform: bool,
    ) -> Array:
        if like is not None:
            dtype = dtype_name(like)
        if dtype not in DTYPES:
            raise TypeError(f"`dtype` must be 'float64' or 'float32', got {dtype!r}.")
        if not isinstance(shape, tuple):
            raise TypeError(
                "`shape` must be a tuple (n, d), or (d,) for one particle, "
                f"got {shape!r}."
            )
        out: Any = np.empty(shape, dtype=dtype)
        d = shape[-1] if shape else 1
        table = out.reshape(math.prod(shape[:-1]), d)
        place = self._place(len(table), -(-d // PER_BLOCK[dtype]), first)
        if table.size:
            fill(table, place, uniform)
        return array_like(out, like) if is_torch(like) else out

    def _place(self, particles: int, blocks: int, first: int) -> np.ndarray:
        """(key, step, draw, first) in 64 bits, checked against the counter's fields."""
        first = _checked("first", first, 2**48)
        if (first + particles) * -(-blocks // 256) > 2**48:
            raise ValueError(
                f"Particles {first} to {first + particles} with {blocks} blocks each "
                "exceed the counter: particles times ceil(blocks / 256) must be at "
                "most 2**48."
            )
        return np.array([self.key, self.step, self.draw, first], dtype=np.uint64)


def _checked(label: str, value: SupportsIndex, end: int) -> int:
    """``value`` as an int in [0, end)."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{label}` must be an int, got bool.")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{label}` must be an int, got {type(value).__name__}."
        ) from None
    if not 0 <= number < end:
        raise ValueError(
            f"`{label}` must be in [0, 2**{end.bit_length() - 1}), got {number}."
        )
    return number


@lru_cache(maxsize=1024)
def _key(seed: int, name: str) -> int:
    digest = hashlib.blake2b(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


_work = 0


def fill(table: np.ndarray, place: np.ndarray, uniform: bool) -> None:
    """Fill ``table`` (n, d) by the faster engine; all give the same bits."""
    global _work
    if _work < LOAD_COST:
        blocks = table.shape[0] * -(-table.shape[1] // PER_BLOCK[table.dtype.name])
        _work += LOAD_COST if blocks >= LARGE else CALL_COST + blocks
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
    from flows import _philox

    return _philox


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
        w0, w1, w2, w3 = philox(*counters(index, blocks, place))
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


def counters(index: Array, blocks: int, place: np.ndarray) -> tuple[Any, Any]:
    """Counter and key of the flat block numbers particle * blocks + block."""
    key, step, draw, first = place
    particle = first + index // U64(blocks)
    block = index % U64(blocks)
    particle = particle * U64(-(-blocks // 256)) + (block >> U64(8))
    high = (particle >> WORD) ^ ((block & U64(255)) << U64(16)) ^ (draw << U64(24))
    counter = particle & MASK, high, step & MASK, step >> WORD
    return counter, (key & MASK, key >> WORD)


def philox(
    counter: tuple[Array, Array, Array, Array], key: tuple[int, int]
) -> tuple[Array, Array, Array, Array]:
    """Philox4x32-10: four words of 32 bits.

    Parameters
    ----------
    counter : four uint64 arrays or numbers below 2^32
    key : two numbers below 2^32

    Returns
    -------
    four uint64 arrays or numbers below 2^32
    """
    c0, c1, c2, c3 = counter
    k0, k1 = U64(key[0]), U64(key[1])
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
