"""What a newcomer writes wrongly is told what to do, and before the run."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import flows as fl

LINE = fl.Euclidean()


def square(x):
    return 0.5 * (x**2).sum(-1)


def first(x):
    """e_1 at every point."""
    return 0.0 * x + np.eye(x.shape[-1])[0]


@pytest.mark.parametrize(
    ("space", "energy"),
    [
        (fl.Mirror.simplex(), fl.quadratic()),
        (fl.Sphere(), fl.quadratic()),
        (fl.Stiefel(2, 1), fl.quadratic()),
        (fl.SPD(2), fl.quadratic()),
        (fl.Matrices(2, 2), fl.quadratic()),
        (fl.HeavyBall(), fl.quadratic()),
        (fl.Nesterov(), fl.quadratic()),
        (fl.SteepestDescent(fl.norms.l2()), fl.quadratic()),
        (fl.SteepestDescent(fl.norms.spectral(2, 2)), fl.quadratic()),
    ],
    ids=lambda value: repr(value) if isinstance(value, fl.Space) else "",
)
def test_a_measure_as_start_is_refused_in_the_name_of_the_space(space, energy):
    with pytest.raises(TypeError, match="takes an array or a Dirac measure") as caught:
        fl.solve(space.flow(energy), fl.Gaussian(0.0, 1.0), (0, 1), fl.Euler(), dt=0.1)
    assert str(caught.value).startswith(repr(space))


@pytest.mark.parametrize(
    ("space", "V", "slope", "u0"),
    [
        (LINE, square, lambda x: -x, np.ones(2)),
        (LINE, square, lambda x: -x, np.ones((3, 2))),
        (LINE, square, lambda x: -x, np.ones(2, dtype="float32")),
        (LINE, square, lambda x: -x, torch.ones(2)),
        (fl.Euclidean(metric=[1.0, 3.0]), square, lambda x: -x, np.ones(2)),
        (
            fl.Euclidean(bounds=fl.bounds.logarithm(0.0)),
            square,
            lambda x: -x,
            np.ones(2),
        ),
        (fl.HeavyBall(), square, lambda x: -x, np.array([1.0, 2.0, 0.0, 0.0])),
        (fl.Particles(3), square, lambda x: -x, np.ones((3, 2))),
        (fl.Sphere(), lambda x: x[..., 0], lambda x: -first(x), np.array([0.6, 0.8])),
        (
            fl.Mirror.simplex(),
            lambda x: x[..., 0],
            lambda x: -first(x),
            np.array([0.6, 0.4]),
        ),
    ],
)
def test_a_gradient_of_the_wrong_sign_is_refused(space, V, slope, u0):
    wrong = fl.Potential(V, gradient=slope)
    with pytest.raises(ValueError, match=r"The sign is wrong: return dV/dx.*drift="):
        fl.solve(space.flow(wrong), u0, (0, 1))
    right = fl.Potential(V, gradient=lambda x: -slope(x))
    scheme, dt = (fl.Euler(), 0.01)
    assert fl.solve(space.flow(right), u0, (0, 0.1), scheme, dt=dt).ok


def test_a_gradient_of_another_function_is_refused():
    half = fl.Potential(square, gradient=lambda x: 0.5 * x)
    with pytest.raises(ValueError, match=r"rate -2, not -1\. Return dV/dx, or leave"):
        fl.solve(LINE.flow(half), np.array([0.0, 2.0]), (0, 1))
    with pytest.raises(ValueError, match="is not the gradient of V"):
        fl.solve(LINE.flow(square_plus(half)), np.array([0.0, 2.0]), (0, 1))


def square_plus(term):
    return fl.quadratic([1.0, 2.0]) + 3.0 * term


def test_right_gradients_pass_where_differences_are_poor():
    # A kink at the start, a large constant, fast oscillations, a start at rest, and
    # one beside which V is not defined.
    cases = [
        (lambda x: abs(x).sum(-1), np.sign, [0.0, 1.0]),
        (lambda x: 1e12 + square(x), lambda x: x, [1.0, 2.0]),
        (
            lambda x: np.cos(1e7 * x).sum(-1),
            lambda x: -1e7 * np.sin(1e7 * x),
            [1.0, 2.0],
        ),
        (square, lambda x: x, [0.0, 0.0]),
        (lambda x: -np.sqrt(x).sum(-1), lambda x: -0.5 / np.sqrt(x), [1e-9, 1.0]),
    ]
    for V, slope, u0 in cases:
        flow = LINE.flow(fl.Potential(V, gradient=slope))
        assert fl.solve(flow, np.array(u0), (0, 1e-9), fl.Euler(), dt=1e-9).ok


def test_as_many_points_as_coordinates_do_not_hide_a_mix_up_of_axes():
    mixed = fl.Potential(lambda x: x[0] ** 2 + x[1] ** 2)
    with pytest.raises(
        ValueError, match=r"shape \(3, 2\); expected \(3,\).*x\[\.\.\., 0"
    ):
        fl.solve(LINE.flow(mixed), np.ones((2, 2)), (0, 1))
    # Data for each point of the batch are no mix-up.
    targets = np.array([[1.0, 2.0], [3.0, 4.0]])
    own = fl.Potential(lambda x: square(x - targets), gradient=lambda x: x - targets)
    sol = fl.solve(LINE.flow(own), np.zeros((2, 2)), (0, 1), fl.RK4(), dt=0.1)
    np.testing.assert_allclose(sol.u[-1], (1 - np.exp(-1)) * targets, rtol=1e-5)


@pytest.mark.parametrize("u0", [[1.0, 0.7], [[1.0, 0.7], [0.5, 2.0]]])
def test_a_kink_in_a_callable_ends_the_run_soon_and_says_what_to_do(u0):
    flow = LINE.flow(fl.Potential(lambda x: abs(x).sum(-1), gradient=np.sign))
    began = time.perf_counter()
    with pytest.raises(
        fl.SolveError, match=r"kink of V give `prox`.*explicit scheme"
    ) as e:
        fl.solve(flow, np.array(u0), (0, 3))
    assert time.perf_counter() - began < 30.0
    # The first kink is met at the time of the smallest coordinate.
    assert e.value.solution.t[-1] == pytest.approx(np.min(u0), abs=1e-3)
