"""The counter-based stream: known words, equal engines, independence, statistics."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from flows import random as fr
from flows.random import Stream, as_seed, philox

FULL = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_has_the_published_words(counter, key, words):
    # Known-answer vectors of the Random123 distribution.
    got = philox(tuple(np.uint64(c) for c in counter), key)
    assert tuple(int(w) for w in got) == words


def test_words_follow_the_documented_counter():
    stream = Stream(11, "noise", step=(7 << 32) + 5, draw=3)
    words = stream.words(particles=2, pairs=3, first=(1 << 32) + 9)
    expected = philox((10, 1 ^ (2 << 16) ^ (3 << 24), 5, 7), stream.key)
    assert [int(w[1, 2]) for w in words] == [int(w) for w in expected]


def test_words_of_more_than_256_pairs_never_repeat():
    w = Stream(1, "noise").words(particles=5, pairs=700)
    assert len({tuple(row) for row in np.stack([v.ravel() for v in w]).T}) == 3500


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 8, 515])
def test_numba_and_numpy_give_the_same_bits(d, dtype):
    pytest.importorskip("numba")
    n = 30_000 // d + 1
    stream = Stream(5, "noise", step=2)
    fast = fr.engine().normal(n, d, dtype == "float64", 7, 2, 0, stream.key)
    assert np.array_equal(fast, stream._normal(n, d, dtype, 7))
    assert fast.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chunks_fit_together(dtype):
    stream = Stream(3, "noise", step=1)
    whole = stream.normal((50_000, 3), dtype=dtype)
    parts = [
        stream.normal((n, 3), dtype=dtype, first=first)
        for first, n in ((0, 11), (11, 40_000), (40_011, 9_989))
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_torch_gets_the_same_numbers():
    torch = pytest.importorskip("torch")
    stream = Stream(3, "noise")
    like = torch.zeros(1, dtype=torch.float32)
    got = stream.normal((40, 3), like=like)
    assert got.dtype == torch.float32
    assert np.array_equal(got.numpy(), stream.normal((40, 3), dtype="float32"))


def test_streams_differ_by_seed_name_step_and_draw():
    base = Stream(1, "noise", 4)
    others = [Stream(2, "noise", 4), Stream(1, "draw", 4), base.at(5), base.with_draw(1)]
    values = [s.normal((4, 2)) for s in (base, *others)]
    assert len({v.tobytes() for v in values}) == 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_standard_and_uncorrelated(dtype):
    # 4 standard errors with n = 2e5: mean 4/sqrt(n), variance 4 sqrt(2/n),
    # correlations 4/sqrt(n).
    n = 200_000
    z = Stream(0, "noise").normal((n, 4), dtype=dtype).astype(float)
    later = Stream(0, "noise", 1).normal((n, 4), dtype=dtype).astype(float)
    assert np.abs(z.mean(0)).max() < 4 / np.sqrt(n)
    assert np.abs(z.var(0) - 1).max() < 4 * np.sqrt(2 / n)
    pairs = np.concatenate([z, later], axis=1)
    correlation = np.corrcoef(pairs.T) - np.eye(8)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(n)
    neighbors = (z[1:] * z[:-1]).mean(0)
    assert np.abs(neighbors).max() < 4 / np.sqrt(n)
    assert stats.kstest(z[:, 0], "norm").pvalue > 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_numbers_are_inside_the_open_interval(dtype):
    u = Stream(0, "draw").uniform((50_000, 3), dtype=dtype)
    assert u.dtype == dtype
    assert 0 < u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    assert stats.kstest(u.ravel().astype(float), "uniform").pvalue > 1e-4


def test_logarithm_sine_and_cosine_are_exact_to_rounding():
    u = np.concatenate(
        [np.random.default_rng(0).random(10_000), [1.0, 2.0**-53, 0.5, 1 - 2.0**-53]]
    )
    assert np.abs(fr.log_unit(u) - np.log(u)).max() < 8e-15
    assert fr.log_unit(np.array([1.0]))[0] == 0.0
    v = np.append(np.random.default_rng(1).random(10_003), 0.0)
    radius = np.sqrt(-2 * np.log(u))
    z0, z1 = fr.box_muller(u, v)
    assert np.abs(z0 - radius * np.cos(2 * np.pi * v)).max() < 1e-14
    assert np.abs(z1 - radius * np.sin(2 * np.pi * v)).max() < 1e-14


def test_seeds_are_integers_or_generators():
    assert as_seed(np.int32(3)) == 3
    generator = np.random.default_rng(0)
    assert as_seed(generator) != as_seed(generator)
    for wrong in (True, 1.0, "1", None):
        with pytest.raises(TypeError, match="integer seed or a NumPy Generator"):
            as_seed(wrong)
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match=r"\[0, 2\*\*64\)"):
            as_seed(wrong)
    with pytest.raises(ValueError, match=r"\[0, 256\)"):
        Stream(0, "noise").with_draw(256)


def test_numpy_generators_of_a_stream_repeat():
    a, b = (Stream(4, "initial").generator().random(5) for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, Stream(5, "initial").generator().random(5))


def test_many_threads_may_draw_at_once():
    pytest.importorskip("numba")
    code = """
import threading, numpy as np
from flows.random import Stream
whole = Stream(1, "noise").normal((30000, 2))
out = {}
def job(i):
    for _ in range(10):
        out[i] = Stream(1, "noise").normal((30000, 2))
threads = [threading.Thread(target=job, args=(i,)) for i in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
assert all(np.array_equal(out[i], whole) for i in range(6))
print("equal")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    assert done.stdout.strip() == "equal", done.stderr


def test_without_numba_the_bits_are_the_same():
    code = """
import sys
sys.modules["numba"] = None
from flows.random import Stream
print(Stream(1, "noise").normal((15000, 2)).tobytes().hex()[:4000])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    here = Stream(1, "noise").normal((15000, 2)).tobytes().hex()[:4000]
    assert done.stdout.strip() == here, done.stderr
