"""The counter-based stream: known words, equal engines, independence, statistics."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import flows.random as fr
from flows.arrays import DTYPES
from flows.random import Stream, as_seed

FULL = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


def compiled_engine():
    pytest.importorskip("numba")
    from flows import _philox

    return _philox


def by_both_engines(n, d, dtype, place, uniform):
    """The same numbers from NumPy and from numba."""
    place = np.array(place, dtype=np.uint64)
    reference, compiled = np.empty((2, n, d), dtype=dtype)
    fr.fill_by_numpy(reference, place, uniform)
    compiled_engine().fill(compiled, place, uniform)
    return reference, compiled


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            PI,
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_has_the_published_words(counter, key, words):
    # Known-answer vectors of the Random123 distribution.
    got = fr.philox(tuple(np.uint64(c) for c in counter), key)
    assert tuple(int(w) for w in got) == words


def test_words_follow_the_documented_counter_and_key():
    stream = Stream(11, "noise", step=(7 << 32) + 5, draw=3)
    words = stream.words(particles=2, blocks=3, first=(1 << 32) + 9)
    digest = hashlib.blake2b(b"11:noise").digest()
    key = [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)]
    counter = (10, 1 ^ (2 << 16) ^ (3 << 24), 5, 7)
    expected = fr.philox(tuple(np.uint64(c) for c in counter), key)
    assert words.dtype == np.uint32
    assert words.shape == (2, 3, 4)
    assert [int(w) for w in words[1, 2]] == [int(w) for w in expected]


def test_blocks_beyond_256_go_on_in_further_particles():
    stream = Stream(1, "noise", step=4)
    words = stream.words(particles=5, blocks=700)
    assert len(np.unique(words.reshape(-1, 4), axis=0)) == 3500
    # 700 blocks take 3 particle numbers each: block 300 of particle 4 is 13, 44.
    other = stream.words(particles=14, blocks=256)
    assert np.array_equal(words[4, 300], other[13, 44])


def test_numbers_come_from_the_documented_words():
    stream = Stream(5, "noise", step=9)
    w = stream.words(particles=3)[:, 0].astype(object)
    long = [(w[:, 1] << 32 | w[:, 0]) >> 11, (w[:, 3] << 32 | w[:, 2]) >> 11]
    u1, u2 = (np.array(m, dtype=float) * 2.0**-53 for m in (long[0] + 1, long[1]))
    radius, angle = np.sqrt(-2 * np.log(u1)), 2 * np.pi * u2
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    assert stream.normal((3, 2)) == pytest.approx(expected, rel=1e-13, abs=1e-15)
    half = np.array((long[1] >> 1) * 2 + 1, dtype=float) * 2.0**-53
    assert np.array_equal(stream.uniform((3, 2))[:, 1], half)

    short = np.array(w >> 8, dtype=float)
    radius = np.sqrt(-2 * np.log((short[:, 0::2] + 1) * 2.0**-24))
    angle = 2 * np.pi * short[:, 1::2] * 2.0**-24
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    got = stream.normal((3, 4), dtype="float32")
    assert got == pytest.approx(expected.reshape(3, 4), rel=2e-6, abs=1e-6)
    short = (np.array(w >> 9, dtype=float) + 0.5) * 2.0**-23
    assert np.array_equal(stream.uniform((3, 4), dtype="float32"), short)


def test_logarithm_cosine_and_sine_are_exact_to_rounding():
    edges = np.array([0, 1, 2, 2**52, 2**53 - 2, 2**53 - 1], dtype=np.uint64)
    random = np.random.default_rng(0).integers(2**53, size=100_000, dtype=np.uint64)
    small = np.uint64(1) << np.arange(53, dtype=np.uint64)
    m = np.concatenate([edges, random, small, small - np.uint64(1)])
    u = (m + np.uint64(1)).astype(float) * 2.0**-53
    assert fr.radius64(m) == pytest.approx(np.sqrt(-2 * np.log(u)), rel=5e-16, abs=0)
    angle = 2 * np.pi * m.astype(float) * 2.0**-53
    cosine, sine = fr.circle64(m)
    assert cosine == pytest.approx(np.cos(angle), abs=1e-15)
    assert sine == pytest.approx(np.sin(angle), abs=1e-15)
    assert cosine**2 + sine**2 == pytest.approx(1, abs=1e-15)


def test_every_single_precision_uniform_has_an_exact_logarithm_and_angle():
    m = np.arange(2**24, dtype=np.int32)[::7]
    u = (m + 1.0) * 2.0**-24
    exact = np.sqrt(-2 * np.log(u))
    radius = fr.radius32(m)
    assert radius.dtype == np.float32
    assert np.all(np.abs(radius - exact) <= 2e-7 * exact)
    cosine, sine = fr.circle32(m)
    angle = 2 * np.pi * m * 2.0**-24
    assert np.abs(cosine - np.cos(angle)).max() < 2e-7
    assert np.abs(sine - np.sin(angle)).max() < 2e-7


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 70),
    st.integers(1, 19) | st.sampled_from([511, 513, 1025, 1300]),
    st.sampled_from(["float32", "float64"]),
    st.tuples(
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 255),
        st.integers(0, 2**46),
    ),
    st.booleans(),
)
def test_engines_agree_bit_for_bit(n, d, dtype, place, uniform):
    reference, compiled = by_both_engines(n, d, dtype, place, uniform)
    assert compiled.dtype == dtype
    assert reference.tobytes() == compiled.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 8, 515])
def test_engines_agree_where_many_threads_work(d, dtype):
    blocks = -(-d // fr.PER_BLOCK[dtype])
    n = 5 * compiled_engine().PIECE // (2 * blocks) + 11
    reference, compiled = by_both_engines(n, d, dtype, (7, 8, 1, 9), False)
    assert reference.tobytes() == compiled.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_chunks_fit_together_bit_for_bit(d, dtype):
    stream = Stream(3, "noise", step=1)
    for fill in (stream.normal, stream.uniform):
        whole = fill((50_000, d), dtype=dtype)
        sizes = (1, 2, 11, 509, 39_477, 9_999, 1)
        first = np.cumsum((0, *sizes))
        parts = [
            fill((n, d), dtype=dtype, first=int(start))
            for start, n in zip(first, sizes, strict=False)
        ]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_the_last_axis_holds_the_coordinates_of_one_particle():
    stream = Stream(3, "noise")
    flat = stream.normal((12, 5))
    assert np.array_equal(stream.normal((3, 4, 5)).reshape(12, 5), flat)
    assert np.array_equal(stream.normal((5,)), flat[0])
    assert stream.normal(()) == stream.normal((1,))[0]
    assert stream.normal((0, 3)).shape == (0, 3)
    assert stream.normal((3, 0), dtype="float32").shape == (3, 0)


def test_the_array_given_decides_library_and_dtype():
    stream = Stream(3, "noise")
    single = stream.normal((40, 3), dtype="float32")
    assert single.dtype == np.float32
    like = np.zeros(1, dtype=np.float32)
    assert np.array_equal(stream.normal((40, 3), like=like), single)
    torch = pytest.importorskip("torch")
    for dtype in ("float32", "float64"):
        got = stream.uniform((40, 3), like=torch.zeros(1, dtype=getattr(torch, dtype)))
        assert str(got.dtype) == f"torch.{dtype}"
        assert np.array_equal(got.numpy(), stream.uniform((40, 3), dtype=dtype))


def test_streams_differ_by_seed_name_step_and_draw():
    base = Stream(1, "noise", 4)
    others = [
        Stream(2, "noise", 4),
        Stream(1, "draw", 4),
        base.at(5),
        base.with_draw(1),
    ]
    values = [s.normal((4, 2)).tobytes() for s in (base, *others)]
    assert len(set(values)) == 5
    assert base.with_draw(2).at(9) == Stream(1, "noise", 9, 2)
    assert len({s.key for s in (base, *others)}) == 3


def test_a_stream_repeats_and_pickles():
    stream = Stream(4, "initial", step=2)
    twin = pickle.loads(pickle.dumps(stream))
    assert twin == stream
    assert np.array_equal(twin.normal((7, 2)), stream.normal((7, 2)))


def test_numpy_generators_of_a_stream_repeat():
    base = Stream(4, "initial")
    streams = [base, base, Stream(5, "initial"), base.at(1), base.with_draw(1)]
    values = [s.generator().random(5).tobytes() for s in streams]
    assert values[0] == values[1]
    assert len(set(values)) == 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_normals_are_standard_and_independent(dtype):
    # 4 standard errors with n = 2e5: mean 1/sqrt(n), variance sqrt(2/n), fourth moment
    # sqrt(96/n), products of independent numbers 1/sqrt(n). The numbers are fixed: this
    # cannot fail by chance.
    n = 200_000
    stream = Stream(0, "noise")
    z = stream.normal((n, 4), dtype=dtype).astype(float)
    others = [
        stream.at(1).normal((n, 4), dtype=dtype),
        stream.with_draw(1).normal((n, 4), dtype=dtype),
        Stream(1, "noise").normal((n, 4), dtype=dtype),
        Stream(0, "draw").normal((n, 4), dtype=dtype),
        stream.normal((n, 4), dtype=dtype, first=1),
    ]
    assert np.abs(z.mean(0)).max() < 4 / np.sqrt(n)
    assert np.abs((z**2).mean(0) - 1).max() < 4 * np.sqrt(2 / n)
    assert np.abs((z**4).mean(0) - 3).max() < 4 * np.sqrt(96 / n)
    correlation = z.T @ z / n - np.diag((z**2).mean(0))
    assert np.abs(correlation).max() < 4 / np.sqrt(n)
    squares = (z**2 - 1).T @ (z**2 - 1) / n
    assert np.abs(squares - np.diag(np.diag(squares))).max() < 4 * 2 / np.sqrt(n)
    for other in others:
        assert np.abs(z.T @ other.astype(float) / n).max() < 4 / np.sqrt(n)
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_numbers_are_inside_the_open_interval(dtype):
    n = 200_000
    u = Stream(0, "draw").uniform((n, 3), dtype=dtype)
    assert u.dtype == dtype
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    # 4 standard errors: sqrt(1/12n) of the mean, sqrt(1/144n) of products.
    v = u.astype(float) - 0.5
    assert np.abs(v.mean(0)).max() < 4 / np.sqrt(12 * n)
    products = v.T @ v / n
    assert np.abs(products - np.diag(np.diag(products))).max() < 4 / np.sqrt(144 * n)
    assert stats.kstest(u[:, 2].astype(float), "uniform").pvalue > 1e-3


def test_extreme_words_give_finite_normals_and_open_uniforms():
    for word in (0, FULL):
        long = np.array([word << 32 | word], dtype=np.uint64)
        short = np.array([word], dtype=np.uint64)
        for values, uniforms in (
            (fr.normals64(long, long), fr.uniforms64(long, long)),
            (fr.normals32(short, short), fr.uniforms32(short, short)),
        ):
            assert np.isfinite(values).all()
            assert all(0 < u[0] < 1 for u in uniforms)
    # The largest numbers: sqrt(2 * 53 log 2) and sqrt(2 * 24 log 2).
    zero = np.zeros(1, dtype=np.uint64)
    assert fr.normals64(zero, zero)[0][0] == pytest.approx(np.sqrt(106 * np.log(2)))
    assert fr.normals32(zero, zero)[0][0] == pytest.approx(np.sqrt(48 * np.log(2)))


def test_seeds_are_integers_or_generators():
    assert as_seed(2**64 - 1) == 2**64 - 1
    assert type(as_seed(np.int32(3))) is int
    generator = np.random.default_rng(0)
    assert as_seed(generator) != as_seed(generator)
    assert as_seed(np.random.default_rng(0)) == as_seed(np.random.default_rng(0))
    for wrong in (True, np.True_, 1.0, "1", None, np.random.RandomState(0)):
        with pytest.raises(TypeError, match=r"`rng` must be an int seed or a numpy"):
            as_seed(wrong)
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match=r"`rng` must be a seed in \[0, 2\*\*64\)"):
            as_seed(wrong)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Stream(-1, "a"), ValueError, r"`seed` must be in \[0, 2\*\*64\)"),
        (lambda: Stream(2**64, "a"), ValueError, r"`seed` must be in \[0, 2\*\*64\)"),
        (lambda: Stream(1.5, "a"), TypeError, "`seed` must be an int, got float"),
        (lambda: Stream(True, "a"), TypeError, "`seed` must be an int, got bool"),
        (lambda: Stream(0, 3), TypeError, "`name` must be a str, got int"),
        (lambda: Stream(0, "a", -1), ValueError, "`step` must be in"),
        (lambda: Stream(0, "a").at(2**64), ValueError, "`step` must be in"),
        (lambda: Stream(0, "a").with_draw(256), ValueError, r"\[0, 2\*\*8\), got 256"),
        (lambda: Stream(0, "a").normal(3), TypeError, "`shape` must be a tuple"),
        (lambda: Stream(0, "a").normal([3, 2]), TypeError, "`shape` must be a tuple"),
        (lambda: Stream(0, "a").normal((3,), dtype="float16"), TypeError, "`dtype`"),
        (lambda: Stream(0, "a").uniform((3,), np.zeros(2, int)), TypeError, "`dtype`"),
        (
            lambda: Stream(0, "a").normal((3, 1), first=-1),
            ValueError,
            "`first` must be",
        ),
        (lambda: Stream(0, "a").normal((3, 1), first=2**48 - 2), ValueError, "exceed"),
        (lambda: Stream(0, "a").words(2, 513, first=2**47), ValueError, "exceed"),
        (lambda: Stream(0, "a").words(-2), ValueError, "`particles` must be in"),
        (lambda: Stream(0, "a").words(1, 0.5), TypeError, "`blocks` must be an int"),
    ],
)
def test_wrong_arguments_are_named(make, error, text):
    with pytest.raises(error, match=text):
        make()


THREADS = """
import threading, numpy as np
from flows.random import Stream
stream = Stream(1, "noise")
out = {}
def job(i):
    for k in range(20):
        out[i] = stream.at(k).normal((60000, 2))
threads = [threading.Thread(target=job, args=(i,)) for i in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
last = stream.at(19).normal((60000, 2))
assert all(np.array_equal(out[i], last) for i in range(6))
import numba
print("equal", numba.threading_layer())
"""


def test_many_threads_may_draw_at_once():
    compiled_engine()
    done = run(THREADS, NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2")
    assert done.stdout.split() == ["equal", "workqueue"], done.stderr


def test_the_workqueue_layer_needs_the_lock():
    compiled_engine()
    unlocked = "import contextlib, flows._philox as p\n"
    unlocked += "p.PARALLEL_LOCK.__class__.__enter__ = lambda self: None\n"
    unlocked += "p.PARALLEL_LOCK.__class__.__exit__ = lambda self, *error: None\n"
    code = unlocked + THREADS
    done = run(code, NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2")
    if done.returncode == 0:
        pytest.skip("numba survived concurrent kernels")
    assert "oncurrent" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_draws_the_same_numbers():
    compiled_engine()
    code = """
import os, sys
from flows.random import Stream
stream = Stream(1, "noise")
here = stream.normal((60000, 2)).tobytes()
child = os.fork()
if child == 0:
    os._exit(0 if stream.normal((60000, 2)).tobytes() == here else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run(code)
    assert done.stdout.strip() == "0", done.stderr


DIGEST = """
import hashlib, sys
from flows.random import Stream
stream = Stream(1, "noise")
for dtype in ("float32", "float64"):
    print(hashlib.sha256(stream.normal((12000, 2), dtype=dtype).tobytes()).hexdigest())
print("flows._philox" in sys.modules)
"""


def digests():
    values = [Stream(1, "noise").normal((12000, 2), dtype=t) for t in DTYPES]
    return [hashlib.sha256(v.tobytes()).hexdigest() for v in values]


@pytest.mark.parametrize(
    ("prefix", "environment", "compiled"),
    [
        ("import sys; sys.modules['numba'] = None\n", {}, False),
        ("", {"NUMBA_DISABLE_JIT": "1"}, False),
        ("", {"NUMBA_CPU_NAME": "generic"}, True),
    ],
    ids=["numba absent", "compilation switched off", "plain processor"],
)
def test_the_bits_are_the_same(prefix, environment, compiled, tmp_path):
    if compiled:
        compiled_engine()
    done = run(prefix + DIGEST, NUMBA_CACHE_DIR=str(tmp_path), **environment)
    assert done.stdout.split() == [*digests(), str(compiled)], done.stderr


SMALL = DIGEST.replace('("float32", "float64")', '("float64",)')


def test_nothing_is_cached_where_no_directory_is_writable():
    compiled_engine()
    # No locator accepts the file, as on a read-only installation without a home.
    code = "import numba.core.caching as c\nc.CacheImpl._locator_classes = []\n"
    done = run(code + SMALL, NUMBA_OPT="0")
    assert done.stdout.split() == [digests()[1], "True"], done.stderr


def test_a_full_disk_does_not_stop_the_draw(tmp_path):
    compiled_engine()
    code = """
import numba.core.caching as c
def full(*arguments):
    raise OSError(28, "No space left on device")
c.IndexDataCacheFile.save = full
"""
    done = run(code + SMALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.split() == [digests()[1], "True"], done.stderr


def test_small_draws_do_not_load_numba():
    code = """
import sys
from flows.random import Stream
stream = Stream(0, "noise")
for step in range(50):
    stream.at(step).normal((10, 2))
print("numba" in sys.modules)
stream.normal((20000, 2))
print("numba" in sys.modules)
"""
    pytest.importorskip("numba")
    assert run(code).stdout.split() == ["False", "True"]
