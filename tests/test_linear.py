"""Structured systems against dense ones; Newton's methods and their failures."""

from __future__ import annotations

import copy
import math
import pickle
import timeit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.linear import (
    CyclicTridiagonal,
    NewtonFailure,
    Tridiagonal,
    conjugate_gradient,
    minimize_newton,
    newton,
    sparse_factor,
)

KINDS = [Tridiagonal, CyclicTridiagonal]
DTYPES = ["float32", "float64"]
EPS = float(np.finfo(float).eps)


def random_matrix(kind, n, seed, dominant=True, dtype="float64"):
    rng = np.random.default_rng(seed)
    off = n if kind is CyclicTridiagonal else n - 1
    lower, upper = rng.uniform(-1, 1, size=(2, off))
    diagonal = rng.choice([-1.0, 1.0], n) * (2 + rng.random(n))
    if not dominant:
        diagonal *= rng.choice([0.0, 1e-3, 1.0], n)
    return kind(*(a.astype(dtype) for a in (lower, diagonal, upper)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(n=st.integers(1, 40), seed=st.integers(0, 10**6), k=st.integers(0, 3))
def test_dominant_systems_agree_with_dense_ones(kind, n, seed, k):
    A = random_matrix(kind, n, seed)
    b = np.random.default_rng(seed + 1).normal(size=(n, k) if k else n)
    assert A.matvec(b) == pytest.approx(A.dense() @ b, abs=1e-13)
    # |A^{-1}| is below 1/(2 - 2) only in theory: the draw is conditioned within 1e4.
    assert A.solve(b) == pytest.approx(
        np.linalg.solve(A.dense(), b), rel=1e-9, abs=1e-9
    )
    assert A.solve(b).shape == b.shape


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(n=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_every_solve_is_backward_stable(kind, n, seed):
    # Small and zero pivots: only row exchanges keep the residual at the rounding level.
    A = random_matrix(kind, n, seed, dominant=False)
    b = np.random.default_rng(seed + 1).normal(size=n)
    try:
        x = A.solve(b)
    except np.linalg.LinAlgError:
        assert np.linalg.cond(A.dense()) > 1e12
        return
    size = np.abs(A.dense()).sum(axis=1).max() * np.abs(x).max() + np.abs(b).max()
    assert np.abs(A.matvec(x) - b).max() <= 100 * EPS * size


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_entries_stand_where_they_are_documented(n):
    lower, diagonal, upper = np.arange(1.0, n), 10.0 + np.arange(n), -np.arange(1.0, n)
    A = Tridiagonal(lower, diagonal, upper).dense()
    assert all(A[i + 1, i] == lower[i] for i in range(n - 1))
    assert all(A[i, i + 1] == upper[i] for i in range(n - 1))
    assert np.array_equal(np.diag(A), diagonal)
    lower, upper = np.arange(1.0, n + 1), -np.arange(11.0, n + 11)
    A = CyclicTridiagonal(lower, diagonal, upper).dense()
    expected = np.zeros((n, n))
    for i in range(n):
        expected[i, i] += diagonal[i]
        expected[i, i - 1] += lower[i]
        expected[i, (i + 1) % n] += upper[i]
    assert np.array_equal(A, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 17])
def test_a_factor_serves_many_right_hand_sides_and_pickles(kind, n):
    A = random_matrix(kind, n, 3)
    factor = A.factor()
    b = np.random.default_rng(1).normal(size=(n, 4))
    x = factor.solve(b)
    kept = b.copy()
    assert A.dense() @ x == pytest.approx(b, abs=1e-12)
    assert np.array_equal(b, kept)
    for column in range(4):
        assert factor.solve(b[:, column]) == pytest.approx(x[:, column], abs=1e-14)
    for twin in (pickle.loads(pickle.dumps(factor)), copy.deepcopy(factor)):
        assert np.array_equal(twin.solve(b), x)
    b.setflags(write=False)
    assert np.array_equal(factor.solve(b[::-1])[::1], factor.solve(b[::-1].copy()))


@pytest.mark.parametrize("kind", KINDS)
def test_shifted_is_identity_plus_a_multiple(kind):
    A = random_matrix(kind, 7, 0)
    shifted = np.eye(7) + 0.3 * A.dense()
    assert A.shifted(0.3).dense() == pytest.approx(shifted, abs=1e-15)
    single = random_matrix(kind, 7, 0, dtype="float32").shifted(0.3)
    assert single.diagonal.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 12])
def test_float32_stays_float32(kind, n):
    A = random_matrix(kind, n, 0, dtype="float32")
    b = np.ones(n, dtype=np.float32)
    assert A.matvec(b).dtype == np.float32
    assert A.solve(b).dtype == np.float32
    assert A.solve(b) == pytest.approx(np.linalg.solve(A.dense(), b), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_come_back_as_tensors(kind, dtype):
    torch = pytest.importorskip("torch")
    A = random_matrix(kind, 6, 0, dtype=dtype)
    b = torch.arange(6, dtype=getattr(torch, dtype))
    for method in (A.solve, A.matvec):
        got = method(b)
        assert got.dtype == b.dtype
        assert np.array_equal(got.numpy(), method(b.numpy()))


def test_periodic_laplacian_has_its_known_solution():
    # -u'' + u = (1 + k^2) sin(k x) on the circle has u = sin(k x); order 2 in space.
    errors = []
    for n in (32, 64, 128, 256):
        x = 2 * np.pi * np.arange(n) / n
        off = np.full(n, -((n / (2 * np.pi)) ** 2))
        A = CyclicTridiagonal(off, 1 - 2 * off, off)
        errors.append(np.abs(A.solve(5 * np.sin(2 * x)) - np.sin(2 * x)).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2) < 0.05)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_singular_matrix_is_an_error(kind, n):
    off = n if kind is CyclicTridiagonal else n - 1
    zero = kind(np.zeros(off), np.zeros(n), np.zeros(off))
    # A column of zeros; elimination meets an exact zero only in such simple cases.
    column = random_matrix(kind, n, 0)
    for diagonal, shift in zip(vars(column).values(), (-1, 0, 1), strict=True):
        rows = np.arange(len(diagonal)) + (shift == -1 and kind is Tridiagonal)
        diagonal[(rows + shift) % n == n // 2] = 0.0
    for A in (zero, column):
        assert np.linalg.matrix_rank(A.dense()) < n
        with pytest.raises(np.linalg.LinAlgError, match="singular"):
            A.factor()


@pytest.mark.parametrize("kind", KINDS)
def test_entries_that_are_not_finite_are_an_error(kind):
    A = random_matrix(kind, 5, 0)
    A.diagonal[2] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        A.factor()


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_shapes_and_dtypes_are_named(kind):
    A = random_matrix(kind, 5, 0)
    with pytest.raises(
        ValueError, match=r"`upper` must have shape \(\d,\), got \(2,\)"
    ):
        kind(A.lower, A.diagonal, np.ones(2))
    with pytest.raises(ValueError, match=r"must have shape \(1,\), got \(0,\)"):
        kind(np.ones(0), np.ones(0), np.ones(0))
    with pytest.raises(TypeError, match="all be float64 or all float32"):
        kind(A.lower, A.diagonal, A.upper.astype(np.float32))
    with pytest.raises(TypeError, match="all be float64 or all float32"):
        kind(*(a.astype(int) for a in (A.lower, A.diagonal, A.upper)))
    factor = A.factor()
    with pytest.raises(
        TypeError, match="right-hand side is float32, the matrix float64"
    ):
        factor.solve(np.ones(5, dtype=np.float32))
    for shape in ((4,), (5, 1, 1), ()):
        with pytest.raises(ValueError, match=r"must have shape \(5,\) or \(5, k\)"):
            factor.solve(np.ones(shape))


def grid_matrix(n, skew=0.0):
    from scipy import sparse

    line = sparse.diags_array(
        [np.full(n - 1, -1.0 - skew), np.full(n, 2.0), np.full(n - 1, -1.0)],
        offsets=[-1, 0, 1],
    )
    one = sparse.eye_array(n)
    return sparse.eye_array(n * n) + sparse.kron(line, one) + sparse.kron(one, line)


def test_sparse_factors_solve_on_symmetric_and_other_patterns():
    from scipy import sparse

    scattered = sparse.random_array((30, 30), density=0.2, rng=0)
    for A in (
        grid_matrix(12),
        grid_matrix(12, 0.5),
        scattered + 5 * sparse.eye_array(30),
    ):
        n = A.shape[0]
        factor = sparse_factor(A)
        for b in (np.arange(1.0, n + 1), np.random.default_rng(0).normal(size=(n, 3))):
            assert A @ factor.solve(b) == pytest.approx(b, rel=1e-11, abs=1e-11)
            twin = pickle.loads(pickle.dumps(factor))
            assert np.array_equal(twin.solve(b), factor.solve(b))


def test_sparse_factors_keep_the_dtype_and_the_matrix():
    A = grid_matrix(8).astype(np.float32).tocsc()
    before = A.copy()
    factor = sparse_factor(A)
    x = factor.solve(np.ones(64, dtype=np.float32))
    assert x.dtype == np.float32
    assert A @ x == pytest.approx(np.ones(64), abs=1e-5)
    assert A.dtype == np.float32
    assert np.array_equal(A.indices, before.indices)
    torch = pytest.importorskip("torch")
    got = factor.solve(torch.ones(64, dtype=torch.float32))
    assert got.dtype == torch.float32
    assert np.array_equal(got.numpy(), x)


def test_sparse_matrices_that_cannot_be_factored_say_why():
    from scipy import sparse

    with pytest.raises(np.linalg.LinAlgError, match="size 4 is singular"):
        sparse_factor(sparse.csc_array((4, 4)))
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        sparse_factor(sparse.diags_array([np.array([1.0, np.inf])], offsets=[0]))
    with pytest.raises(ValueError, match=r"square, got shape \(3, 4\)"):
        sparse_factor(sparse.csc_array((3, 4)))
    factor = sparse_factor(sparse.eye_array(3))
    with pytest.raises(ValueError, match=r"shape \(3,\) or \(3, k\), got \(4,\)"):
        factor.solve(np.ones(4))
    with pytest.raises(TypeError, match="must be float64 or float32, got int64"):
        factor.solve(np.ones(3, dtype=np.int64))


def test_newton_converges_quadratically():
    result = newton(lambda x: x**2 - 2, lambda x, r: r / (2 * x), np.array([1.0]))
    assert result.x[0] == pytest.approx(math.sqrt(2), abs=1e-15)
    assert result.iterations == len(result.residuals) - 1 <= 5
    # r_new = r^2 / 4x^2 exactly: the next residual is r^2/8 near the root.
    r = result.residuals
    assert r[3] / r[2] ** 2 == pytest.approx(1 / 8, rel=1e-2)


def test_newton_damps_a_step_that_overshoots():
    # arctan diverges undamped from |x| > 1.39.
    result = newton(np.arctan, lambda x, r: r * (1 + x**2), np.array([20.0]))
    assert abs(result.x[0]) < 1e-10
    assert all(np.diff(result.residuals) < 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_newton_solves_in_the_library_and_dtype_of_the_guess(dtype):
    torch = pytest.importorskip("torch")
    start = np.array([[1.0, 3.0], [0.5, 9.0]], dtype=dtype)
    arguments = (lambda x: x * x * x - 2, lambda x, r: r / (3 * x * x))
    for x0 in (start, torch.from_numpy(start)):
        x = newton(*arguments, x0).x
        assert type(x) is type(x0)
        assert x.dtype == x0.dtype
        assert np.asarray(x) == pytest.approx(
            2 ** (1 / 3), rel=4 * float(np.finfo(dtype).eps)
        )


def test_newton_shortens_steps_out_of_the_domain():
    with np.errstate(invalid="ignore"):
        result = newton(lambda x: np.log(x), lambda x, r: r * x, np.array([10.0]))
    assert result.x[0] == pytest.approx(1.0, abs=1e-12)


def test_newton_respects_a_step_limit():
    seen = []

    def residual(x):
        seen.append(x[0])
        return x - 3.0

    newton(residual, lambda x, r: r, np.zeros(1), step_limit=lambda x, p: 0.5, tol=1e-3)
    assert seen[1:4] == [1.5, 2.25, 2.625]
    with pytest.raises(NewtonFailure, match=r"`step_limit` allows the fraction 0.0"):
        newton(residual, lambda x, r: r, np.zeros(1), step_limit=lambda x, p: 0.0)


def test_newton_accepts_a_residual_at_the_rounding_level():
    # x^2 - 2 cannot be 0 in floating point: tol = 0 is never met.
    x = newton(lambda x: x**2 - 2, lambda x, r: r / (2 * x), np.array([1.0]), tol=0.0).x
    assert x[0] == pytest.approx(math.sqrt(2), abs=5e-16)

    # The root 0 has no rounding level of its own; the terms of size 1e8 have.
    def noisy(x):
        return (x + 1e8 / 3) - 1e8 / 3 + 1e-9

    start = np.array([1e-3])
    found = newton(noisy, lambda x, r: r, start, tol=1e-12, floor=8 * EPS * 1e8)
    assert abs(found.x[0]) < 1e-7
    with pytest.raises(NewtonFailure, match="no step"):
        newton(noisy, lambda x, r: r, start, tol=1e-12)


def test_newton_finds_the_root_zero_of_terms_that_cancel():
    # x + h (x - 1) - w with w = -h: the root is 0, the terms are of size h.
    for h in (0.1, 0.7, 13.0):
        for start in (1.0, 1e-3, 1e-9):
            result = newton(
                lambda x, h=h: x + h * (x - 1.0) + h,
                lambda x, r, h=h: r / (1 + h),
                np.array([start]),
                floor=8 * EPS * h,
            )
            assert abs(result.x[0]) <= 8 * EPS


def test_newton_uses_the_norm_it_is_given():
    calls = []

    def norm(r):
        calls.append(1)
        return float(np.abs(r).sum())

    result = newton(lambda x: x**2 - 2, lambda x, r: r / 2 / x, np.ones(4), norm=norm)
    assert len(calls) >= len(result.residuals)
    assert result.residuals[0] == 4.0


def divide(x, r):
    return np.linalg.solve(np.zeros((1, 1)), r)


@pytest.mark.parametrize(
    ("residual", "solve", "options", "text"),
    [
        (
            lambda x: x**2 + 1,
            lambda x, r: r / (2 * x),
            {},
            "no step of Newton's method",
        ),
        (
            lambda x: x**9,
            lambda x, r: r / (9 * x**8),
            {"max_iterations": 5},
            "converge",
        ),
        (lambda x: x * np.nan, lambda x, r: r, {}, "first guess is not finite"),
        (lambda x: x, divide, {}, "no solution: Singular matrix"),
        (
            lambda x: x,
            lambda x, r: r * np.inf,
            {},
            "step of Newton's method is not fin",
        ),
    ],
)
def test_newton_without_a_root_fails_with_its_history(residual, solve, options, text):
    with pytest.raises(NewtonFailure, match=text) as caught:
        newton(residual, solve, np.array([3.0]), **options)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert len(twin.residuals) >= 1
    assert np.array_equal(twin.residuals, caught.value.residuals, equal_nan=True)
    assert str(twin) == str(caught.value)


def quartic(x):
    return float(np.sum(x**4 / 4 + x**2 / 2 - x))


def quartic_gradient(x):
    return x**3 + x - 1


def quartic_solve(x, g):
    return g / (3 * x**2 + 1)


@pytest.mark.parametrize("tol", [None, 1e-26, 0.0])
def test_minimization_reaches_the_rounding_level_of_the_gradient(tol):
    # The value alone resolves x to sqrt(eps) = 1e-8 only.
    start = np.array([5.0, -7.0])
    result = minimize_newton(quartic, quartic_gradient, quartic_solve, start, tol=tol)
    assert np.abs(quartic_gradient(result.x)).max() < 1e-15
    assert result.residuals[-1] < 1e-20 * result.residuals[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(-12, 0), st.floats(-6, 6), st.floats(-1e6, 1e6), st.floats(-1e5, 1e5))
def test_minimization_stops_at_rounding_from_any_start(near, scale, constant, shift):
    # s ((y^2/2 + cosh y) + constant), y = x - shift, from a guess 10^near away: values
    # that cancel or drown the decrease must not be taken for a failed line search.
    s = 10.0**scale

    def value(x):
        return s * float(np.sum((x - shift) ** 2 / 2 + np.cosh(x - shift)) + constant)

    def gradient(x):
        return s * ((x - shift) + np.sinh(x - shift))

    def solve(x, g):
        return g / (s * (1 + np.cosh(x - shift)))

    start = shift + 10.0**near * np.array([1.0, -2.0, 0.3])
    result = minimize_newton(value, gradient, solve, start)
    assert np.abs(result.x - shift).max() <= 1e-12 + 4 * EPS * abs(shift)
    assert result.iterations < 12


def test_minimization_uses_the_floor_where_the_value_cancels():
    # The value is of size 1e-13, but is the difference of numbers of size 1e3.
    rng = np.random.default_rng(0)

    def value(x):
        return float((1e3 + x @ x / 2 + rng.uniform(-1, 1) * 1e-13) - 1e3)

    def solve(x, g):
        return 0.9 * g

    start = 1e-9 * np.ones(3)
    result = minimize_newton(value, lambda x: x, solve, start, floor=8 * EPS * 1e3)
    assert np.abs(result.x).max() < 1e-10
    with pytest.raises(NewtonFailure, match=r"lowers the value|did not converge"):
        minimize_newton(value, lambda x: x, solve, start)


def barrier_limit(x, p):
    """0.95 of the way to the wall x = 0."""
    return 1.0 if np.all(p >= 0) else 0.95 * float(np.min(-x[p < 0] / p[p < 0]))


def test_minimization_keeps_inside_the_step_limit():
    seen = []

    def value(x):
        seen.append(x.copy())
        return float(np.sum(x - np.log(x)))

    result = minimize_newton(
        value,
        lambda x: 1 - 1 / x,
        lambda x, g: g * x**2,
        np.array([50.0, 1e-12]),
        step_limit=barrier_limit,
    )
    assert np.all(np.array(seen) > 0)
    assert result.x == pytest.approx(np.ones(2), abs=1e-12)


def test_minimization_leaves_a_wall_by_steps_of_rounding_size():
    # (x - 3)^2/2 - log(x - 1): from the distance 4e-15 of the wall every Newton step
    # doubles the distance. Such a step is as small as rounding, but no convergence.
    def value(x):
        return float(np.sum((x - 3) ** 2 / 2 - np.log(x - 1)))

    result = minimize_newton(
        value,
        lambda x: x - 3 - 1 / (x - 1),
        lambda x, g: g / (1 + 1 / (x - 1) ** 2),
        np.array([1 + 18 * EPS]),
        step_limit=lambda x, p: barrier_limit(x - 1, p),
    )
    # The root of (x - 3)(x - 1) = 1 beyond the wall.
    assert result.x[0] == pytest.approx(2 + math.sqrt(2), abs=1e-14)
    assert result.iterations > 40
    root = newton(
        lambda x: x - 3 - 1 / (x - 1),
        lambda x, r: r / (1 + 1 / (x - 1) ** 2),
        np.array([1 + 18 * EPS]),
        step_limit=lambda x, p: barrier_limit(x - 1, p),
        max_iterations=100,
    )
    assert root.x[0] == pytest.approx(2 + math.sqrt(2), abs=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_minimization_works_in_the_library_and_dtype_of_the_guess(dtype):
    torch = pytest.importorskip("torch")
    start = np.array([[5.0, 2.0], [-7.0, 0.0]], dtype=dtype)
    for x0 in (start, torch.from_numpy(start)):

        def value(x):
            return float((x**4 / 4 + x**2 / 2 - x).sum())

        x = minimize_newton(value, quartic_gradient, quartic_solve, x0).x
        assert type(x) is type(x0)
        assert x.dtype == x0.dtype
        assert np.asarray(x) == pytest.approx(
            0.6823278038280193, rel=4 * float(np.finfo(dtype).eps)
        )


@pytest.mark.parametrize(
    ("value", "gradient", "solve", "options", "text"),
    [
        (
            lambda x: -x[0],
            lambda x: -np.ones(1),
            lambda x, g: g,
            {},
            "did not converge",
        ),
        (
            lambda x: x[0] ** 2,
            lambda x: -2 * x,
            lambda x, g: g / 2,
            {},
            "lowers the val",
        ),
        (quartic, quartic_gradient, lambda x, g: -g, {}, "not positive definite"),
        (quartic, quartic_gradient, divide, {}, "no solution"),
        (
            quartic,
            lambda x: x * np.nan,
            lambda x, g: np.ones(1),
            {},
            "non-finite slope",
        ),
        (quartic, quartic_gradient, lambda x, g: g * np.nan, {}, "is not finite"),
        (lambda x: math.inf, quartic_gradient, quartic_solve, {}, "first guess is inf"),
        (
            quartic,
            quartic_gradient,
            quartic_solve,
            {"step_limit": lambda x, p: math.nan},
            "allows the fraction nan",
        ),
    ],
)
def test_minimization_without_a_minimum_fails(value, gradient, solve, options, text):
    with pytest.raises(NewtonFailure, match=text):
        minimize_newton(
            value, gradient, solve, np.array([3.0]), max_iterations=20, **options
        )


def test_the_history_of_a_failed_minimization_holds_the_decrements():
    with pytest.raises(
        NewtonFailure, match="did not converge in 3 iterations"
    ) as caught:
        minimize_newton(
            lambda x: float(np.sum(x**4)),
            lambda x: 4 * x**3,
            lambda x, g: g / (12 * x**2),
            np.array([1.0]),
            max_iterations=3,
        )
    # The decrement 4 x^4 / 3 falls by (2/3)^4 a step.
    expected = [4 / 3 * (2 / 3) ** (4 * k) for k in range(4)]
    assert caught.value.residuals == pytest.approx(expected, rel=1e-12)


def spd(n, seed=0):
    B = np.random.default_rng(seed).normal(size=(n, n))
    return B @ B.T + np.eye(n)


def test_conjugate_gradients_end_after_as_many_steps_as_eigenvalues():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    A = Q @ np.diag(np.repeat([1.0, 2.0, 5.0, 9.0], 10)) @ Q.T
    b = np.random.default_rng(1).normal(size=40)
    result = conjugate_gradient(lambda v: A @ v, b)
    assert result.iterations == 4
    assert A @ result.x == pytest.approx(b, abs=1e-11)


def test_conjugate_gradients_with_guess_preconditioner_and_any_shape():
    A = spd(20)
    b = np.random.default_rng(1).normal(size=(4, 5))

    def apply(v):
        return (A @ v.ravel()).reshape(4, 5)

    exact = np.linalg.solve(A, b.ravel()).reshape(4, 5)
    assert conjugate_gradient(apply, b).x == pytest.approx(exact, abs=1e-10)
    inverse = np.linalg.inv(A)

    def solve(r):
        return (inverse @ r.ravel()).reshape(4, 5)

    assert conjugate_gradient(apply, b, preconditioner=solve).iterations <= 2
    assert conjugate_gradient(apply, b, exact, tol=1e-9).iterations == 0
    assert np.array_equal(conjugate_gradient(apply, 0 * b).x, 0 * b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_conjugate_gradients_keep_library_and_dtype(dtype):
    torch = pytest.importorskip("torch")
    A = spd(9).astype(dtype)
    b = np.ones(9, dtype=dtype)
    x = conjugate_gradient(lambda v: A @ v, b).x
    assert x.dtype == dtype
    At = torch.from_numpy(A)
    y = conjugate_gradient(lambda v: At @ v, torch.from_numpy(b)).x
    assert str(y.dtype) == f"torch.{dtype}"
    assert y.numpy() == pytest.approx(x, rel=100 * float(np.finfo(dtype).eps), abs=1e-6)


def test_conjugate_gradients_that_fail_say_why():
    A = spd(20)
    b = np.ones(20)
    with pytest.raises(
        NewtonFailure, match="did not converge in 2 iterations"
    ) as caught:
        conjugate_gradient(lambda v: A @ v, b, max_iterations=2)
    assert len(caught.value.residuals) == 3
    with pytest.raises(NewtonFailure, match="must be positive definite"):
        conjugate_gradient(lambda v: -v, b)
    with pytest.raises(NewtonFailure, match="must be positive definite"):
        conjugate_gradient(lambda v: v, b, preconditioner=lambda r: -r)


def test_a_tridiagonal_solve_costs_a_fraction_of_scipy_solve_banded():
    from scipy.linalg import solve_banded

    A = random_matrix(Tridiagonal, 1000, 0)
    factor, b = A.factor(), np.ones(1000)
    band = np.zeros((3, 1000))
    band[0, 1:], band[1], band[2, :-1] = A.upper, A.diagonal, A.lower
    ours = min(timeit.repeat(lambda: factor.solve(b), number=50, repeat=7))
    theirs = min(
        timeit.repeat(lambda: solve_banded((1, 1), band, b), number=50, repeat=7)
    )
    assert ours < 0.7 * theirs
