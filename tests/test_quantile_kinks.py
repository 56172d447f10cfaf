"""Quantiles under kinks of V and W: soft thresholds, sticking, repulsion."""

from __future__ import annotations

import numpy as np
import pytest

import flows as fl
from flows.linear import NewtonFailure
from flows.spaces import chain

NORMAL = fl.Gaussian(1.0, 0.5)


def levels(n):
    """2s - 1 at the middle of the n equal masses."""
    return (2.0 * np.arange(n) + 1.0) / n - 1.0


@pytest.mark.parametrize("h", [1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("n", [2, 9, 40])
@pytest.mark.parametrize("formula", ["abs(x)", "2*abs(x - 0.3) + x**4/10"])
def test_a_kink_of_the_potential_holds_at_most_one_quantile(formula, n, h):
    weight, place = (1.0, 0.0) if formula == "abs(x)" else (2.0, 0.3)
    q = fl.Quantiles(n)
    flow, u = q.flow(fl.kl(formula)), q.project(NORMAL)
    v, _ = flow.prox(0.0, u, h, ())
    excess = (v - u) / h - flow.velocity(0.0, v)
    held = v == place
    assert held.sum() <= 1
    assert np.abs(excess[held]).max(initial=0.0) <= weight
    assert np.abs(excess[~held]).max() < 1e-9 / h
    paid = flow.energy(0.0, v) + q.distance(u, v) ** 2 / (2 * h)
    assert paid <= flow.energy(0.0, u) + 1e-12


def test_symmetric_laplace_quantiles_have_their_middle_in_the_kink():
    q = fl.Quantiles(9)
    v, _ = q.flow(fl.kl("abs(x)")).prox(0.0, q.project(fl.Gaussian(0.0, 1.0)), 1.0, ())
    assert v[4] == 0.0
    assert v == pytest.approx(-v[::-1], abs=1e-14)


def test_a_concave_kink_of_the_potential_is_left_on_both_sides():
    q = fl.Quantiles(10)
    flow = q.flow(fl.Entropy(0.1) + fl.Potential("x**2/2 - abs(x)"))
    u = q.project(fl.Gaussian(0.0, 1.0))
    v, _ = flow.prox(0.0, u, 0.5, ())
    assert np.abs(v - u - 0.5 * flow.velocity(0.0, v)).max() < 1e-12


def test_a_step_of_abs_is_the_soft_threshold():
    q = fl.Quantiles(40)
    u = q.project(fl.Gaussian(0.1, 1.0))
    v, _ = q.flow(2.0 * fl.Potential("abs(x)")).prox(0.0, u, 0.3, ())
    assert v == pytest.approx(np.sign(u) * np.maximum(np.abs(u) - 0.6, 0.0), abs=1e-15)


def test_a_step_of_the_shifted_lasso_is_the_closed_form():
    q, h = fl.Quantiles(40), 0.5
    u = q.project(fl.Gaussian(0.0, 1.0))
    flow = q.flow(fl.Potential("2*abs(x - 1)") + fl.Potential("x**2/2"))
    v, _ = flow.prox(0.0, u, h, ())
    pull = u - (1.0 + h)
    exact = 1.0 + np.sign(pull) * np.maximum(np.abs(pull) - 2 * h, 0.0) / (1.0 + h)
    assert v == pytest.approx(exact, abs=1e-14)
    assert (v == 1.0).any()


def test_a_step_of_a_kink_with_mean_field_solves_its_inclusion():
    q, h = fl.Quantiles(40), 0.5
    u = q.project(fl.Gaussian(0.4, 1.0))
    flow = q.flow(fl.Potential("abs(x)") + fl.Interaction("3*x**2/2"))
    v, _ = flow.prox(0.0, u, h, ())
    slack = (u - v) / h - 3.0 * (v - np.mean(v))
    held = v == 0.0
    assert held.any()
    assert (np.abs(slack[held]) <= 1.0).all()
    assert slack[~held] == pytest.approx(np.sign(v[~held]), abs=1e-12)


def test_a_step_with_the_users_prox_uses_it():
    q = fl.Quantiles(10)
    V = fl.Potential(
        "max(x, 0)", prox=lambda x, h: np.where(x > h, x - h, np.minimum(x, 0.0))
    )
    u = q.project(fl.Gaussian(0.0, 1.0))
    v, _ = q.flow(2.0 * V).prox(0.0, u, 0.1, ())
    exact = np.where(u > 0.2, u - 0.2, np.minimum(u, 0.0))
    assert v == pytest.approx(exact, abs=1e-15)


@pytest.mark.parametrize("formula", ["abs(x)", "r", "x**2/2 - abs(x)", "3*r - x**2"])
def test_sorted_interactions_equal_their_double_sums(formula):
    q = fl.Quantiles(50)
    u = q.project(NORMAL)
    z = u[:, None] - u[None, :]
    kink, curvature = {
        "abs(x)": (1, 0),
        "r": (1, 0),
        "x**2/2 - abs(x)": (-1, 1),
        "3*r - x**2": (3, -2),
    }[formula]
    flow = q.flow(0.7 * fl.Interaction(formula))
    assert not flow.pairs.rest
    force = -0.7 * np.mean(kink * np.sign(z) + curvature * z, axis=1)
    assert flow.velocity(0.0, u) == pytest.approx(force, abs=1e-14)
    value = 0.35 * np.mean(kink * np.abs(z) + curvature * z**2 / 2)
    assert flow.energy(0.0, u) == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("h", [0.1, 1.0, 30.0])
def test_newtonian_repulsion_opens_a_point_into_a_uniform_block(h):
    q = fl.Quantiles(20)
    flow = q.flow(fl.Interaction("-abs(x)"))
    u = np.full(20, 0.5)
    assert flow.velocity(0.0, u) == pytest.approx(levels(20), abs=1e-15)
    v, _ = flow.prox(0.0, u, h, ())
    assert v == pytest.approx(0.5 + h * levels(20), abs=1e-13)


@pytest.mark.parametrize("h", [0.1, 1.0, 30.0])
def test_attraction_repulsion_steps_are_exact(h):
    # (1 + h)(v - m) = (u - m) + h (2s - 1).
    q = fl.Quantiles(30)
    flow = q.flow(fl.Interaction("x**2/2 - abs(x)"))
    u = q.project(NORMAL)
    v, _ = flow.prox(0.0, u, h, ())
    m = np.mean(u)
    exact = m + ((u - m) + h * levels(30)) / (1.0 + h)
    assert v == pytest.approx(exact, abs=1e-13)
    for _ in range(400 if h < 1 else 60):
        v, _ = flow.prox(0.0, v, h, ())
    assert v == pytest.approx(m + levels(30), abs=1e-12)


def test_attracting_points_stick_as_the_isotonic_regression():
    # X(t) is the projection of X_0 - t (2s - 1); projections compose, so that steps
    # of any length are exact.
    from scipy.optimize import isotonic_regression

    q = fl.Quantiles(24)
    flow = q.flow(fl.Interaction("abs(x)"))
    u0 = q.project(fl.Mixture([fl.Uniform(-0.5, 0), fl.Gaussian(1.0, 0.4)]))
    u = u0
    for h in (0.1, 0.25, 0.4, 0.05):
        u, _ = flow.prox(0.0, u, h, ())
    exact = isotonic_regression(u0 - 0.8 * levels(24)).x
    assert u == pytest.approx(exact, abs=1e-13)
    assert (np.diff(u) == 0).any()
    u, _ = flow.prox(0.0, u0, 100.0, ())
    assert u == pytest.approx(np.full(24, np.mean(u0)), abs=1e-12)


def test_two_sticking_points_in_a_well_minimize_their_step():
    from scipy.optimize import minimize

    q, h = fl.Quantiles(2), 0.8
    flow = q.flow(fl.Interaction("abs(x)") + fl.Potential("(x - 1)**4/4"))
    u = np.array([0.0, 0.3])
    v, _ = flow.prox(0.0, u, h, ())
    assert v[0] == v[1]
    one = minimize(
        lambda s: np.sum((s[0] - u) ** 2) / (2 * h) + (s[0] - 1) ** 4 / 2,
        [0.0],
        tol=1e-14,
    )
    assert v[0] == pytest.approx(one.x[0], abs=1e-7)


def test_coincident_attracting_quantiles_exert_no_force():
    u = np.array([0.0, 0.0, 1.0])
    flow = fl.Quantiles(3).flow(fl.Interaction("abs(x)"))
    assert flow.velocity(0.0, u) == pytest.approx([1 / 3, 1 / 3, -2 / 3])


def test_a_repulsion_without_minimum_is_reported():
    flow = fl.Quantiles(5).flow(fl.Interaction("-x**2"))
    with pytest.raises(NewtonFailure, match="no minimum at step 1"):
        flow.prox(0.0, np.arange(5.0), 1.0, ())


@pytest.mark.parametrize(
    ("energy", "text"),
    [
        (fl.kl("abs(x) + abs(x - 1)"), "need a smooth V, or one kink"),
        (fl.Potential("cos(3*abs(x))"), "not known"),
        (fl.Interaction("abs(x) + x**4"), "attracting kink"),
        (fl.Interaction("abs(x) - log(abs(x))"), "attracting kink"),
        (fl.Potential("abs(x)") + fl.Interaction("x**4"), "V with a kink"),
    ],
    ids=repr,
)
def test_unknown_implicit_steps_are_refused_with_the_reason(energy, text):
    flow = fl.Quantiles(5).flow(energy)
    assert np.isfinite(flow.velocity(0.0, np.arange(5.0))).all()
    for name in ("prox", "resolvent"):
        with pytest.raises(TypeError, match=text):
            getattr(flow, name)


def test_second_derivatives_that_are_not_finite_are_reported():
    def value(x):
        return 0.5 * x[..., 0] ** 2

    def broken(x):
        return np.full((*x.shape, 1), np.nan)

    V = fl.Potential(value, gradient=lambda x: x, hessian=broken)
    q = fl.Quantiles(5)
    u = q.project(NORMAL)
    for W in (0.0 * fl.Interaction("x**2"), fl.Interaction("exp(-x**2)")):
        with pytest.raises(NewtonFailure, match="second derivatives of the energy"):
            q.flow(V + fl.Entropy(1.0) + W).prox(0.0, u, 0.1, ())


def test_a_prox_that_is_none_is_reported():
    wrong = fl.Potential("abs(x)", prox=lambda x, h: 10.0 * x)
    flow = fl.Quantiles(5).flow(wrong + fl.Interaction("x**2/2"))
    with pytest.raises(NewtonFailure, match="the mean of the points was not found"):
        flow.prox(0.0, np.arange(5.0), 1.0, ())


def test_a_step_that_raises_the_energy_is_not_returned(monkeypatch):
    flow = fl.Quantiles(5).flow(fl.kl("abs(x)"))
    monkeypatch.setattr(chain, "minimize", lambda problem, start: start + 50.0)
    with pytest.raises(NewtonFailure, match="was not found to rounding"):
        flow.prox(0.0, np.arange(5.0), 0.1, ())


def test_kinks_by_name_are_those_that_are_typed():
    q = fl.Quantiles(12)
    u = q.project(NORMAL)
    named = fl.Entropy(0.3) + fl.nonsmooth.l1(2.0, center=0.3) + fl.quadratic(0.5)
    typed = fl.Entropy(0.3) + fl.Potential("2*abs(x - 0.3) + x**2/4")
    v, _ = q.flow(named).prox(0.0, u, 0.4, ())
    assert v == pytest.approx(q.flow(typed).prox(0.0, u, 0.4, ())[0], abs=1e-12)
    assert (v == 0.3).any()
