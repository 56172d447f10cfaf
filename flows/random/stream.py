"""Named streams of random numbers, addressed by step, draw, particle, coordinate."""

from __future__ import annotations

import hashlib
import math
import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, SupportsIndex

import numpy as np

from flows.arrays import DTYPES, array_like, dtype_name, is_torch
from flows.random import philox

__all__ = ["Stream", "as_seed"]

Array = Any

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
        Counter of the step, in [0, 2^64).

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

    def __post_init__(self) -> None:
        for label, value in (("seed", self.seed), ("step", self.step)):
            _checked(label, value, 2**64)
        if not isinstance(self.name, str):
            raise TypeError(f"`name` must be a str, got {type(self.name).__name__}.")

    def at(self, step: int) -> Stream:
        """The same stream at another step."""
        return Stream(self.seed, self.name, step)

    def child(self, name: str) -> Stream:
        """An independent stream at the same step, named ``"parent/name"``."""
        return Stream(self.seed, f"{self.name}/{name}", self.step)

    @property
    def key(self) -> int:
        """The 64-bit key of Philox for this seed and name."""
        return _key(self.seed, self.name)

    def normal(
        self,
        shape: tuple[int, ...],
        like: Array | None = None,
        dtype: str = "float64",
        draw: int = 0,
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
        draw : int
            Number of the draw within the step, in [0, 256): independent numbers.
        first : int
            Number of the first particle, so that a chunk of particles has the numbers
            that it has in the whole.

        Returns
        -------
        array of shape ``shape``
        """
        return self._fill(shape, like, dtype, draw, first, uniform=False)

    def uniform(
        self,
        shape: tuple[int, ...],
        like: Array | None = None,
        dtype: str = "float64",
        draw: int = 0,
        first: int = 0,
    ) -> Array:
        """Independent numbers uniform on the open interval (0, 1).

        Parameters are those of `normal`. The same ``draw`` of ``normal`` and
        ``uniform`` uses the same words: take different draws or names.
        """
        return self._fill(shape, like, dtype, draw, first, uniform=True)

    def words(
        self, particles: int, blocks: int = 1, draw: int = 0, first: int = 0
    ) -> np.ndarray:
        """The raw 32-bit words, shape (particles, blocks, 4), dtype uint32."""
        particles = _checked("particles", particles, 2**48)
        blocks = _checked("blocks", blocks, 2**48)
        place = self._place(particles, blocks, draw, first)
        index = np.arange(particles * blocks, dtype=np.uint64)
        words = [w.astype(np.uint32) for w in philox.words(*philox.counters(index, blocks, place))]
        return np.stack(words, axis=-1).reshape(particles, blocks, 4)

    def generator(self) -> np.random.Generator:
        """A NumPy Generator of this seed, name and step, for sampling by NumPy."""
        key = np.array([self.key, self.step], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def _place(self, particles: int, blocks: int, draw: int, first: int) -> np.ndarray:
        """(key, step, draw, first) in 64 bits, checked against the counter's fields."""
        draw = _checked("draw", draw, 256)
        first = _checked("first", first, 2**48)
        if (first + particles) * -(-blocks // 256) > 2**48:
            raise ValueError(
                f"Particles {first} to {first + particles} with {blocks} blocks each "
                "exceed the counter: particles times ceil(blocks / 256) must be at "
                "most 2**48."
            )
        return np.array([self.key, self.step, draw, first], dtype=np.uint64)

    def _fill(
        self,
        shape: tuple[int, ...],
        like: Array | None,
        dtype: str,
        draw: int,
        first: int,
        uniform: bool,
    ) -> Array:
        if like is not None:
            dtype = dtype_name(like)
        if dtype not in DTYPES:
            raise TypeError(f"`dtype` must be 'float64' or 'float32', got {dtype!r}.")
        if not isinstance(shape, tuple) or not shape:
            raise TypeError(
                "`shape` must be a tuple (n, d), or (d,) for one particle, "
                f"got {shape!r}."
            )
        out: Any = np.empty(shape, dtype=dtype)
        table = out.reshape(math.prod(shape[:-1]), shape[-1])
        blocks = -(-shape[-1] // philox.PER_BLOCK[dtype])
        place = self._place(len(table), blocks, draw, first)
        if table.size:
            philox.fill(table, place, uniform)
        return array_like(out, like) if is_torch(like) else out


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
