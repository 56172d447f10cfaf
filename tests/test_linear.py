"""Structured systems against dense ones; Newton's method and its failures."""

from __future__ import annotations

import math
import pickle

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


def random_matrix(kind, n, seed, dtype=float):
    rng = np.random.default_rng(seed)
    off = n if kind is CyclicTridiagonal else n - 1
    lower, upper = rng.normal(size=(2, off))
    diagonal = rng.choice([-1.0, 1.0], n) * (3 + rng.random(n))
    return kind(*(a.astype(dtype) for a in (lower, diagonal, upper)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_tridiagonal_agrees_with_dense(n, seed):
    A = random_matrix(Tridiagonal, n, seed)
    b = np.random.default_rng(seed + 1).normal(size=n)
    assert A.matvec(b) == pytest.approx(A.dense() @ b, abs=1e-13)
    assert A.solve(b) == pytest.approx(np.linalg.solve(A.dense(), b), abs=1e-12)
    shifted = np.eye(n) + 0.3 * A.dense()
    assert A.shifted(0.3).dense() == pytest.approx(shifted, abs=1e-14)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(3, 40), st.integers(0, 10**6))
def test_cyclic_tridiagonal_agrees_with_dense(n, seed):
    A = random_matrix(CyclicTridiagonal, n, seed)
    b = np.random.default_rng(seed + 1).normal(size=n)
    assert A.matvec(b) == pytest.approx(A.dense() @ b, abs=1e-13)
    assert A.solve(b) == pytest.approx(np.linalg.solve(A.dense(), b), abs=1e-11)


def test_several_right_hand_sides_at_once():
    A = random_matrix(Tridiagonal, 9, 0)
    b = np.random.default_rng(1).normal(size=(9, 4))
    assert A.solve(b) == pytest.approx(np.linalg.solve(A.dense(), b), abs=1e-13)
    assert A.matvec(b) == pytest.approx(A.dense() @ b, abs=1e-13)


@pytest.mark.parametrize("kind", [Tridiagonal, CyclicTridiagonal])
def test_float32_stays_float32(kind):
    A = random_matrix(kind, 12, 0, np.float32)
    b = np.ones(12, dtype=np.float32)
    assert A.solve(b).dtype == np.float32
    assert A.matvec(b).dtype == np.float32


@pytest.mark.parametrize("n", [1, 2, 5])
def test_singular_tridiagonal_is_an_error(n):
    A = Tridiagonal(np.zeros(n - 1), np.zeros(n), np.zeros(n - 1))
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        A.factor()


def test_sparse_factor_solves_and_names_a_singular_matrix():
    from scipy import sparse

    A = sparse.random_array((30, 30), density=0.2, rng=0) + 5 * sparse.eye_array(30)
    b = np.arange(30.0)
    assert A @ sparse_factor(A).solve(b) == pytest.approx(b, abs=1e-10)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        sparse_factor(sparse.csc_array((4, 4)))


def test_newton_finds_a_root_quadratically():
    result = newton(lambda x: x**2 - 2, lambda x, r: r / (2 * x), np.array([1.0]))
    assert result.x[0] == pytest.approx(math.sqrt(2), abs=1e-15)
    assert result.iterations <= 6


def test_newton_damps_a_step_that_overshoots():
    # arctan diverges undamped from |x| > 1.39.
    result = newton(np.arctan, lambda x, r: r * (1 + x**2), np.array([20.0]))
    assert abs(result.x[0]) < 1e-10


def test_newton_without_a_root_says_so_with_its_history():
    with pytest.raises(NewtonFailure, match="descent|converge") as caught:
        newton(lambda x: x**2 + 1, lambda x, r: r / (2 * x), np.array([3.0]))
    assert len(caught.value.residuals) > 1
    twin = pickle.loads(pickle.dumps(caught.value))
    assert twin.residuals == caught.value.residuals


def quartic(x):
    return float(np.sum(x**4 / 4 + x**2 / 2 - x))


def test_minimize_newton_reaches_the_rounding_level():
    result = minimize_newton(
        quartic,
        lambda x: x**3 + x - 1,
        lambda x, g: g / (3 * x**2 + 1),
        np.array([5.0, -7.0]),
    )
    assert np.abs(result.x**3 + result.x - 1).max() < 1e-14


def test_minimize_newton_respects_a_step_limit():
    barrier = lambda x: float(x[0] - np.log(x[0]))
    limit = lambda x, p: 1.0 if p[0] >= 0 else min(1.0, -0.95 * x[0] / p[0])
    result = minimize_newton(
        barrier,
        lambda x: 1 - 1 / x,
        lambda x, g: g * x**2,
        np.array([50.0]),
        step_limit=limit,
    )
    assert result.x[0] == pytest.approx(1.0, abs=1e-12)


def test_minimize_newton_without_a_minimum_fails():
    with pytest.raises(NewtonFailure, match="converge|line search|finite"):
        minimize_newton(
            lambda x: float(-x[0]),
            lambda x: -np.ones(1),
            lambda x, g: g,
            np.zeros(1),
            max_iterations=20,
        )


def test_conjugate_gradients_solve_an_spd_system():
    rng = np.random.default_rng(0)
    B = rng.normal(size=(20, 20))
    A = B @ B.T + np.eye(20)
    b = rng.normal(size=20)
    x = conjugate_gradient(lambda v: A @ v, b, tol=1e-13)
    assert A @ x == pytest.approx(b, abs=1e-10)
    y = conjugate_gradient(
        lambda v: A @ v, b, tol=1e-13, preconditioner=lambda r: r / np.diag(A)
    )
    assert x == pytest.approx(y, abs=1e-10)
    with pytest.raises(NewtonFailure, match="converge"):
        conjugate_gradient(lambda v: A @ v, b, tol=1e-13, max_iterations=2)
