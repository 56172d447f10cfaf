"""Counter-based random numbers: the same for any chunk, thread, process or engine.

Philox4x32-10 with a 64-bit key and the 128-bit counter

    (particle low, particle high ^ pair << 16 ^ draw << 24, step low, step high).

The key of a stream is a hash of the seed and the stream's name. A pair is two
coordinates of float64 (two words a uniform number) or four of float32 (one word each);
from 256 pairs on, particle is replaced by particle * blocks + pair // 256. Normals are
Box-Muller pairs whose logarithm, sine and cosine are polynomials of additions,
multiplications and divisions only, so that NumPy and numba give the same bits.

References
----------
J. Salmon, M. Moraes, R. Dror, D. Shaw, Parallel random numbers: as easy as 1, 2, 3,
SC11, doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from flows.arrays import create, device_of, dtype_name, is_torch

__all__ = ["Stream", "as_seed", "philox"]

Array = Any

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)
# Below this many numbers the import of numba costs more than it saves; the bits are
# the same on both engines.
WORTH_NUMBA = 20_000


def as_seed(rng: Any) -> int:
    """Seed of 64 bits: an integer as it is, a NumPy Generator by one draw from it.

    Raises
    ------
    TypeError, ValueError
        For anything else, and for integers outside [0, 2^64).
    """
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise TypeError(
            f"`rng` must be an integer seed or a NumPy Generator, got {rng!r}."
        )
    if not 0 <= rng < 2**64:
        raise ValueError(f"`rng` must be in [0, 2**64), got {rng}.")
    return int(rng)


def philox(
    counter: tuple[Array, Array, Array, Array], key: tuple[int, int]
) -> tuple[Array, Array, Array, Array]:
    """Four 32-bit words (in uint64 arrays) of Philox4x32-10; the NumPy reference."""
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(10):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (p1 >> WORD) ^ c1 ^ np.uint64(k0),
            p1 & LOW,
            (p0 >> WORD) ^ c3 ^ np.uint64(k1),
            p0 & LOW,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Stream:
    """Named stream of random numbers at one step of a run.

    Parameters
    ----------
    seed : int
        64 bits, stored with every solution.
    name : str
        Streams of one run are told apart by name: "initial", "noise", "draw".
    step : int
        Step of the run, 64 bits.
    draw : int
        Which of up to 256 draws inside the step.
    """

    seed: int
    name: str
    step: int = 0
    draw: int = 0

    def at(self, step: int) -> Stream:
        """The same stream at another step."""
        return replace(self, step=step)

    def with_draw(self, draw: int) -> Stream:
        """The same stream at another draw of the step (0 to 255)."""
        if not 0 <= draw < 256:
            raise ValueError(f"`draw` must be in [0, 256), got {draw}.")
        return replace(self, draw=draw)

    @cached_property
    def key(self) -> tuple[int, int]:
        """Two words from the hash of seed and name."""
        text = f"{self.seed}:{self.name}".encode()
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
        return number & 0xFFFFFFFF, number >> 32

    def words(
        self, particles: int, pairs: int, first: int = 0
    ) -> tuple[Array, Array, Array, Array]:
        """The four words of every (particle, pair), each (particles, pairs)."""
        blocks = -(-pairs // 256)
        particle = np.arange(first, first + particles, dtype=np.uint64)[:, None]
        pair = np.arange(pairs, dtype=np.uint64)[None, :]
        index = particle * np.uint64(blocks) + pair // np.uint64(256)
        field = (pair % np.uint64(256)) << np.uint64(16)
        high = (index >> WORD) ^ field ^ np.uint64(self.draw << 24)
        low, high = np.broadcast_arrays(index & LOW, high)
        step = np.uint64(self.step & 0xFFFFFFFFFFFFFFFF)
        return philox((low, high, step & LOW, step >> WORD), self.key)

    def uniform(
        self, shape: tuple[int, ...], *, like: Array = None, dtype: str = "float64"
    ) -> Array:
        """Uniform numbers in (0, 1), 53 bits (float32: 24 bits); shape as ``normal``."""
        particles, d, dtype = plan(shape, like, dtype)
        if dtype == "float64":
            w = self.words(particles, -(-d // 2))
            columns = [centered53(w[0], w[1]), centered53(w[2], w[3])]
        else:
            columns = [centered24(v) for v in self.words(particles, -(-d // 4))]
        values = np.stack(columns, axis=-1).reshape(particles, -1)[:, :d]
        return place(values.reshape(shape), like, dtype)

    def normal(
        self,
        shape: tuple[int, ...],
        *,
        like: Array = None,
        dtype: str = "float64",
        first: int = 0,
    ) -> Array:
        """Standard normal numbers.

        Parameters
        ----------
        shape : tuple
            (.., d): the last axis holds the coordinates of one particle.
        like : array, optional
            Decides library, device and dtype.
        first : int
            Global index of the first particle, so that chunks fit together.
        """
        particles, d, dtype = plan(shape, like, dtype)
        if particles * d >= WORTH_NUMBA and engine() is not None:
            values = engine().normal(
                particles, d, dtype == "float64", first, self.step, self.draw, self.key
            )
        else:
            values = self._normal(particles, d, dtype, first)
        return place(values.reshape(shape), like, dtype)

    def _normal(self, particles: int, d: int, dtype: str, first: int) -> np.ndarray:
        """The NumPy reference of ``normal``, (particles, d)."""
        if dtype == "float64":
            w = self.words(particles, -(-d // 2), first)
            columns = [*box_muller(open53(w[0], w[1]), fraction53(w[2], w[3]))]
        else:
            w = self.words(particles, -(-d // 4), first)
            columns = [
                *box_muller(open24(w[0]), fraction24(w[1])),
                *box_muller(open24(w[2]), fraction24(w[3])),
            ]
        values = np.stack(columns, axis=-1).reshape(particles, -1)[:, :d]
        return np.ascontiguousarray(values, dtype=dtype)

    def generator(self) -> np.random.Generator:
        """NumPy Generator of this stream, for samplers that want one."""
        key = self.key[0] | self.key[1] << 32
        counter = [self.step, self.draw, 0, 0]
        return np.random.Generator(np.random.Philox(key=[key, 0], counter=counter))


def plan(shape: tuple[int, ...], like: Array, dtype: str) -> tuple[int, int, str]:
    """Number of particles, coordinates, and dtype of a request."""
    if like is not None:
        dtype = dtype_name(like)
    if not shape:
        return 1, 1, dtype
    return math.prod(shape[:-1]), shape[-1], dtype


def place(values: np.ndarray, like: Array, dtype: str) -> Array:
    """``values`` where ``like`` lives."""
    if like is not None and is_torch(like):
        return create(values, device_of(like), dtype)
    return values.astype(dtype, copy=False)


def bits53(high: Array, low: Array) -> Array:
    """Integer of 53 bits from two words, as float64."""
    joined = ((high << np.uint64(21)) ^ (low >> np.uint64(11))) & np.uint64(2**53 - 1)
    return joined.astype(np.float64)


def open53(high: Array, low: Array) -> Array:
    """Uniform in (0, 1]."""
    return (bits53(high, low) + 1.0) * 2.0**-53


def fraction53(high: Array, low: Array) -> Array:
    """Uniform in [0, 1)."""
    return bits53(high, low) * 2.0**-53


def centered53(high: Array, low: Array) -> Array:
    """Uniform in (0, 1), symmetric about 1/2, with the 52 bits that allow it."""
    return (np.floor(bits53(high, low) * 0.5) + 0.5) * 2.0**-52


def open24(word: Array) -> Array:
    """Uniform in (0, 1] with 24 bits."""
    return ((word >> np.uint64(8)).astype(np.float64) + 1.0) * 2.0**-24


def fraction24(word: Array) -> Array:
    """Uniform in [0, 1) with 24 bits."""
    return (word >> np.uint64(8)).astype(np.float64) * 2.0**-24


def centered24(word: Array) -> Array:
    """Uniform in (0, 1) with 23 bits, exact in float32."""
    return ((word >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23


# 2 atanh(s)/s - 2 in s^2, |s| <= 3 - 2 sqrt(2): the truncated term is below 2^-56.
LOG_TERMS = tuple(2.0 / (2 * k + 1) for k in range(11, 0, -1))
# Taylor polynomials on |x| <= pi/4; the next terms are below 2^-56.
SIN_TERMS = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(8, 0, -1))
COS_TERMS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(8, 0, -1))
LOG2_HIGH, LOG2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10


def horner(terms: tuple[float, ...], y: Array) -> Array:
    """terms[0] y^n + ... + terms[-1] y, without a constant term."""
    total = terms[0] * y
    for term in terms[1:]:
        total = (total + term) * y
    return total


def log_unit(u: Array) -> Array:
    """log u for u in (0, 1] by plain arithmetic."""
    bits = u.view(np.uint64)
    exponent = (bits >> np.uint64(52)).astype(np.float64) - 1023.0
    mantissa = (
        (bits & np.uint64(0x000FFFFFFFFFFFFF)) | np.uint64(0x3FF0000000000000)
    ).view(np.float64)
    large = mantissa > 1.4142135623730951
    m = np.where(large, 0.5 * mantissa, mantissa)
    e = np.where(large, exponent + 1.0, exponent)
    s = (m - 1.0) / (m + 1.0)
    tail = horner(LOG_TERMS, s * s)
    return e * LOG2_HIGH + (s * (2.0 + tail) + e * LOG2_LOW)


def box_muller(u1: Array, u2: Array) -> tuple[Array, Array]:
    """sqrt(-2 log u1) (cos 2 pi u2, sin 2 pi u2)."""
    radius = np.sqrt(-2.0 * log_unit(np.ascontiguousarray(u1)))
    turns = 4.0 * u2
    quarter = np.floor(turns + 0.5)
    x = (turns - quarter) * 1.5707963267948966
    y = x * x
    sine = x + x * horner(SIN_TERMS, y)
    cosine = 1.0 + horner(COS_TERMS, y)
    odd = quarter - 2.0 * np.floor(0.5 * quarter) > 0.5
    a, b = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    # Quarters 0..4: the cosine is negative in 1 and 2, the sine in 2 and 3.
    cos_sign = np.where((quarter == 1.0) | (quarter == 2.0), -1.0, 1.0)
    sin_sign = np.where((quarter == 2.0) | (quarter == 3.0), -1.0, 1.0)
    return radius * (cos_sign * a), radius * (sin_sign * b)


def engine() -> Any:
    """The numba engine, or None where numba is absent or too old for this Python."""
    try:
        from flows import _philox
    except ImportError:
        return None
    return _philox
