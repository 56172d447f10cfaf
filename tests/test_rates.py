"""Rates, the evolution variational inequality and De Giorgi's identity on runs."""

import dataclasses

import numpy as np
import pytest

import flows as fl
from flows.theory import check_de_giorgi, check_evi, evi_gap, rates

SPACE = fl.Euclidean()
TIGHT = fl.Adaptive(rtol=1e-10, atol=1e-13)
PROXIMAL = [fl.MinimizingMovement(), fl.ImplicitEuler()]


def run(energy, x0, T, scheme=None, dt=TIGHT, **more):
    scheme = scheme or fl.DormandPrince()
    return fl.solve(SPACE.flow(energy), x0, (0, T), scheme, dt=dt, **more)


def bound(found, text):
    (one,) = [b for b in found.bounds if text in b.formula]
    return one


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("scheme", PROXIMAL, ids=repr)
def test_proximal_steps_on_an_absolute_value_attain_the_convex_rate(k, scheme):
    R, h = 1.3, 0.25
    energy = fl.Potential("c*abs(x)", parameters={"c": R / (2 * k * h)})
    sol = run(energy, [R], k * h, scheme, h)
    found = rates(sol, minimizer=[0.0], minimum=0.0, convexity=0.0)
    assert found.holds
    assert bound(found, "R^2/(4 t)").tightness == pytest.approx(1.0, abs=1e-12)
    assert sol.energy[-1] == pytest.approx(R**2 / (4 * k * h), rel=1e-13)


@pytest.mark.parametrize(
    "scheme", [fl.DormandPrince(), fl.Gonzalez(), *PROXIMAL], ids=repr
)
def test_isotropic_quadratics_attain_the_strongly_convex_rates(scheme):
    dt = TIGHT if scheme == fl.DormandPrince() else 0.1
    sol = run(fl.quadratic(2.0), [1.0, -2.0], 2.0, scheme, dt)
    found = rates(sol, minimizer=[0.0, 0.0], convexity=2.0)
    if scheme == fl.Gonzalez():
        # (1 - z)/(1 + z) < e^(-2z): faster than the flow.
        assert found.holds
        assert bound(found, "d(x").tightness < 1.0
        return
    assert found.holds
    assert bound(found, "d(x").tightness == pytest.approx(1.0, abs=1e-7)
    assert bound(found, "(f_0 - f*)").tightness == pytest.approx(1.0, abs=1e-7)


def test_a_rate_that_is_too_fast_fails():
    sol = run(fl.quadratic([1.0, 5.0]), [1.0, 0.1], 3.0)
    good = rates(sol, minimizer=[0.0, 0.0], convexity=1.0, pl=1.0)
    assert good
    assert len(good.bounds) == 4
    wrong = rates(sol, minimizer=[0.0, 0.0], convexity=1.1, pl=1.1)
    assert not wrong
    assert not bound(wrong, "PL").holds
    assert not bound(wrong, "d(x").holds
    assert "FAIL" in str(wrong)
    assert "pass" in str(good)
    assert not wrong.evi


def test_a_nonconvex_valley_falls_at_the_rate_of_its_inequality():
    p = fl.problems.sine_valley([3.0, -1.7])
    sol = run(p.energy, p.initial, 8.0)
    found = rates(sol, problem=p)
    assert found
    assert [b.formula for b in found.bounds] == [
        "f - f* <= e^(-2 m t) (f_0 - f*) by PL"
    ]
    assert 0.3 < found.bounds[0].tightness <= 1.0
    assert not rates(sol, minimizer=p.limit, pl=4.0)
    steps = run(p.energy, p.initial, 8.0, fl.MinimizingMovement(), 0.2)
    assert rates(steps, problem=p)
    assert "prod 1/(1 + m h)" in str(rates(steps, problem=p))


def test_the_constant_of_the_valley_is_sharp():
    # Started where the inequality is an equality, the energy begins to fall at 2 mu.
    p = fl.problems.sine_valley(2.2017091764365845)
    sol = run(p.energy, p.initial, 1e-3)
    slope = np.log(sol.energy[0] / sol.energy[-1]) / 1e-3
    assert slope == pytest.approx(2 * p.constants["mu"], rel=1e-3)


def test_problems_fill_in_what_they_know():
    p = fl.problems.quadratic([1.0, 5.0], np.random.default_rng(0).normal(size=(4, 2)))
    sol = run(p.energy, p.initial, 3.0)
    found = rates(sol, problem=p, convexity=1.0)
    assert found
    assert found.bounds[0].curve.shape == (len(sol.t), 4)
    assert not rates(sol, problem=p, convexity=2.0)


@pytest.mark.parametrize("dt", [0.1, fl.Adaptive(rtol=1e-4)])
def test_proximal_bounds_know_steps_that_were_not_saved(dt):
    sol = run(fl.quadratic(1.0), [1.0], 2.0, fl.ImplicitEuler(), dt, save_at=0.5)
    found = rates(sol, minimizer=[0.0], convexity=1.0)
    assert found
    if dt == 0.1:
        assert bound(found, "d(x").tightness == pytest.approx(1.0, abs=1e-12)


def test_the_evolution_variational_inequality_is_an_equality_for_the_distance():
    sol = run(fl.quadratic(2.0, center=[0.3, 0.2]), [1.0, -2.0], 1.0)
    z = np.array([0.3, 0.2])
    assert np.abs(evi_gap(sol, z, 2.0)).max() < 1e-14
    # It is one for every other z as well, as the energy has no other curvature.
    assert np.abs(evi_gap(sol, np.array([-1.0, 4.0]), 2.0)).max() < 1e-13
    assert check_evi(sol, z, 2.0)
    assert not check_evi(sol, z, 2.1)


@pytest.mark.parametrize("z", [-1.5, 0.0, 0.4, 2.0])
def test_the_double_well_is_convex_up_to_minus_one(z):
    sol = run(fl.problems.double_well().energy, [0.1], 4.0)
    assert check_evi(sol, [z], -1.0)
    assert (z != 0.0) or not check_evi(sol, [z], 0.5)


def test_the_inequality_holds_between_laws_on_the_line():
    p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
    space = fl.Quantiles(60)
    sol = fl.solve(space.flow(p.energy), p.exact(0.0), (0, 2), fl.SDIRK3(), dt=0.02)
    for z in (p.limit, fl.Gaussian(-1.0, 2.0), fl.Uniform(-1, 1)):
        assert check_evi(sol, z, 1.0)
    assert not check_evi(sol, fl.Gaussian(-1.0, 1.0), 1.3)
    # The minimum among so many quantiles is that of a long run.
    end = fl.solve(space.flow(p.energy), p.limit, (0, 40), fl.JKO(), dt=2.0).u[-1]
    assert rates(sol, minimizer=end, convexity=1.0, tol=1e-4)


def test_without_a_product_the_inequality_is_integrated():
    sol = run(fl.quadratic(2.0), [1.0, -2.0], 1.0)

    class Plain:
        is_gradient, functional = True, sol.flow.functional
        velocity, energy = sol.flow.velocity, sol.flow.energy

    class Run:
        t, u, energy, space, stats, flow = (
            sol.t,
            sol.u,
            sol.energy,
            sol.space,
            sol.stats,
            Plain(),
        )

    gap = evi_gap(Run, np.array([0.5, 0.5]), 2.0)
    assert gap.shape == (len(sol.t) - 1,)
    assert gap.max() < 1e-12
    assert gap.min() < -1e-3
    assert evi_gap(Run, np.zeros(2), 0.0).max() < 1e-12
    assert evi_gap(Run, np.zeros(2), 2.5).max() > 1e-3


@pytest.mark.parametrize("h", [0.1, 0.9])
def test_de_giorgi_s_identity_holds_for_every_step(h):
    for energy, x0 in (
        (fl.problems.double_well().energy, [0.1]),
        (fl.Potential("x**4/4 + y**2 + exp(x - y)"), [1.2, -0.8]),
        (fl.quadratic([1.0, 50.0]), [1.0, 1.0]),
    ):
        sol = run(energy, x0, 4 * h, fl.MinimizingMovement(), h)
        found = check_de_giorgi(sol, points=40)
        assert found, found
    assert check_de_giorgi(sol, points=40).value < 1e-12


def test_mirror_flows_are_bounded_by_the_bregman_divergence():
    # V = sum x log(x/q) is the entropy plus a linear function: relatively 1-convex.
    p = fl.problems.simplex_kl()
    flow = fl.Mirror.simplex().flow(p.energy)
    sol = fl.solve(flow, p.exact(0.0), p.t, fl.DormandPrince(), dt=TIGHT)
    found = rates(sol, minimizer=p.limit, convexity=1.0)
    assert found
    assert [b.formula for b in found.bounds] == [
        "f - f* <= D_0/t",
        "f - f* <= mu D_0/(e^(mu t) - 1)",
        "D(x*, x) <= e^(-mu t) D_0",
    ]
    entropy = np.sum(p.limit * np.log(p.limit / sol.u), axis=-1)
    np.testing.assert_allclose(found.bounds[2].curve, entropy, rtol=1e-12, atol=1e-15)
    assert np.abs(evi_gap(sol, p.limit, 1.0)).max() < 1e-14
    assert str(rates(sol, problem=p)) == str(found)
    assert not rates(sol, minimizer=p.limit, convexity=1.1)
    assert rates(sol, minimizer=p.limit, convexity=0.0)
    ax = found.plot()[1]
    assert ax.get_ylabel() == "$D(x^*, x(t))$"


def test_a_linear_energy_on_the_simplex_nearly_attains_the_convex_rate():
    # Between two corners, from e^-R next to the wrong one: while V stays near 1 the
    # bound R/t comes down to it.
    R, start = 600.0, np.array([np.exp(-600.0), 1.0])
    flow = fl.Mirror.simplex().flow(fl.quadratic(0.0, b=[0.0, -1.0]))
    sol = fl.solve(flow, start, (0, R), fl.Euler(), dt=1.0)
    found = rates(sol, minimizer=[1.0, 0.0], convexity=0.0)
    assert found
    assert 0.98 < bound(found, "D_0/t").tightness < 1.0
    assert not rates(sol, minimizer=[1.0, 0.0], convexity=0.01)


@pytest.mark.parametrize("scheme", [*PROXIMAL, fl.DormandPrince()], ids=repr)
def test_the_contraction_of_the_divergence_is_nearly_attained(scheme):
    # log(x/q) decays at the rate 1, and far below q the divergence is q |log(x/q)|.
    form = "x*log(x/2) - x + 2"
    flow = fl.Mirror.positive().flow(fl.Potential(form))
    dt = 0.25 if scheme in PROXIMAL else TIGHT
    start = np.array([[2 * np.exp(-200.0)], [2 * np.exp(-300.0)]])
    sol = fl.solve(flow, start, (0, 1), scheme, dt=dt)
    found = rates(sol, minimizer=[2.0], convexity=1.0)
    assert found
    assert 0.98 < bound(found, "D(x*, x)").tightness < 1.0
    assert ("prod" in bound(found, "D(x*, x)").formula) == (scheme in PROXIMAL)
    assert not rates(sol, minimizer=[2.0], convexity=1.1)


def test_a_problem_says_how_convex_it_is_for_a_mirror_map():
    p = fl.problems.quadratic([1.0, 5.0], [1.0, 2.0], center=[2.0, 1.0])
    flow = fl.Mirror.positive().flow(p.energy)
    sol = fl.solve(flow, p.initial, (0, 2), fl.DormandPrince(), dt=TIGHT)
    for constants, formulas in (
        ({"convexity": 1.0}, ["f - f* <= D_0/t", "D(x*, x) <= D_0"]),
        (
            {"convexity": 1.0, "relative_convexity": 0.5},
            [
                "f - f* <= D_0/t",
                "f - f* <= mu D_0/(e^(mu t) - 1)",
                "D(x*, x) <= e^(-mu t) D_0",
            ],
        ),
    ):
        told = dataclasses.replace(p, constants=constants, rate=None)
        found = rates(sol, problem=told)
        assert found
        assert [b.formula for b in found.bounds] == formulas
    unknown = dataclasses.replace(p, constants={"convexity": -1.0}, rate=None)
    with pytest.raises(ValueError, match="f - convexity phi is convex"):
        rates(sol, problem=unknown)


def test_bregman_steps_have_no_bound_by_the_inequality_of_the_slope():
    p = fl.problems.simplex_kl()
    flow = fl.Mirror.simplex().flow(p.energy)
    sol = fl.solve(flow, p.exact(0.0), p.t, fl.MinimizingMovement(), dt=0.5)
    with pytest.raises(ValueError, match="Nothing is known"):
        rates(sol, minimum=0.0, pl=0.1)
    smooth = fl.solve(flow, p.exact(0.0), p.t, fl.DormandPrince(), dt=TIGHT)
    assert "by PL" in rates(smooth, minimum=0.0, pl=0.1).bounds[0].formula


def test_a_minimizer_at_the_edge_of_burg_s_map_is_refused():
    flow = fl.Mirror.burg().flow(fl.Potential("x"))
    sol = fl.solve(flow, [1.0], (0, 1), fl.DormandPrince(), dt=TIGHT)
    with pytest.raises(ValueError, match=r"D\(x\*, x_0\) is infinite"):
        rates(sol, minimizer=[0.0], minimum=0.0, convexity=0.0)


def test_de_giorgi_s_identity_holds_for_bregman_steps():
    p = fl.problems.simplex_kl()
    flow = fl.Mirror.simplex().flow(p.energy)
    sol = fl.solve(flow, p.exact(0.0), p.t, fl.MinimizingMovement(), dt=0.5)
    assert check_de_giorgi(sol)
    moved = dataclasses.replace(sol, u=np.roll(sol.u, 1, axis=1))
    assert not check_de_giorgi(moved)


def test_de_giorgi_s_identity_holds_between_laws_and_not_for_other_steps():
    p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
    sol = fl.solve(
        fl.Quantiles(40).flow(p.energy), p.exact(0.0), (0, 1), fl.JKO(), dt=0.1
    )
    assert check_de_giorgi(sol)
    # States of another run are no proximal steps.
    other = run(fl.quadratic(3.0), [1.0], 1.0, fl.MinimizingMovement(), 0.2)
    moved = run(fl.quadratic(3.0), [1.0], 1.0, fl.RK4(), 0.2)

    class Mixed:
        t, u, energy, space, stats, flow = (
            moved.t,
            moved.u,
            moved.energy,
            moved.space,
            other.stats,
            moved.flow,
        )

    assert not check_de_giorgi(Mixed)


def test_figures_show_the_run_and_its_bounds(tmp_path):
    sol = run(fl.quadratic([1.0, 5.0]), [1.0, 1.0], 3.0)
    found = rates(sol, minimizer=[0.0, 0.0], convexity=1.0)
    axes = found.plot()
    assert [ax.get_yscale() for ax in axes] == ["log", "log"]
    assert len(axes[0].lines) == 3
    assert len(axes[1].lines) == 2
    axes[0].figure.savefig(tmp_path / "rates.png")
    assert found.plot(axes) == axes
    with pytest.raises(ValueError, match="2 axes"):
        found.plot(axes[0])


def test_what_cannot_be_checked_is_refused():
    sol = run(fl.quadratic(1.0), [1.0], 1.0)
    with pytest.raises(ValueError, match="Nothing is known"):
        rates(sol)
    with pytest.raises(ValueError, match="Nothing is known"):
        rates(sol, minimizer=[0.0])
    with pytest.raises(ValueError, match="has shape"):
        rates(sol, minimizer=[0.0, 0.0], convexity=1.0)
    with pytest.raises(TypeError, match="does not depend on time"):
        rates(run(fl.Potential("(x - t)**2"), [1.0], 1.0), minimum=0.0, pl=1.0)
    drifted = SPACE.flow(fl.quadratic(1.0), drift=lambda x: 0.0 * x)
    moving = fl.solve(drifted, [1.0], (0, 1), fl.RK4(), dt=0.1)
    with pytest.raises(TypeError, match="gradient flow"):
        rates(moving, minimum=0.0, pl=1.0)
    with pytest.raises(TypeError, match="MinimizingMovement"):
        check_de_giorgi(sol)
    proximal = run(
        fl.quadratic(1.0), [1.0], 1.0, fl.MinimizingMovement(), 0.1, save_at=0.5
    )
    with pytest.raises(ValueError, match="every step"):
        check_de_giorgi(proximal)
    batch = run(fl.quadratic(1.0), np.ones((2, 1)), 1.0, fl.MinimizingMovement(), 0.5)
    with pytest.raises(TypeError, match="not a batch"):
        check_de_giorgi(batch)


def test_a_member_that_starts_at_rest_is_no_failure():
    starts = np.array([[1.0, 1.0], [0.0, 0.0]])
    sol = run(fl.quadratic([1.0, 3.0]), starts, 3.0)
    assert rates(sol, minimizer=[0.0, 0.0], convexity=1.0)


def test_a_claimed_minimum_above_the_run_is_refused():
    sol = run(fl.quadratic(1.0), [1.0], 3.0)
    with pytest.raises(ValueError, match=r"`minimum` is 0.2, but the energy .* falls"):
        rates(sol, minimum=0.2, pl=1.0)


def test_wrong_arguments_of_rates_are_named(tmp_path):
    sol = run(fl.quadratic(1.0), [1.0], 1.0)
    with pytest.raises(TypeError, match="`sol` must be a Solution"):
        rates("run", minimum=0.0, pl=1.0)
    with pytest.raises(TypeError, match="`convexity` must be a number"):
        rates(sol, minimizer=[0.0], convexity="much")
    with pytest.raises(ValueError, match="`pl` must be positive"):
        rates(sol, minimum=0.0, pl=-1.0)
    with pytest.raises(TypeError, match="`minimizer` must be an array"):
        rates(sol, minimizer="origin", convexity=1.0)
    with pytest.raises(TypeError, match="`problem` must be a Problem"):
        rates(sol, problem="quadratic")
    sol.save(tmp_path / "run.npz")
    with pytest.raises(TypeError, match="loaded solution has no flow"):
        rates(fl.load(tmp_path / "run.npz"), minimum=0.0, pl=1.0)
    space = fl.Nesterov()
    inertial = fl.solve(
        space.flow(fl.quadratic(1.0)), space.start([1.0]), (0, 1), fl.RK4(), dt=0.1
    )
    with pytest.raises(TypeError, match=r"theory.lyapunov\(sol\)"):
        rates(inertial, minimum=0.0, pl=1.0)


def test_the_picture_of_a_batch_names_the_runs_and_the_bounds():
    flow = fl.Euclidean().flow(fl.quadratic([1.0, 4.0]))
    sol = fl.solve(flow, np.ones((3, 2)), (0, 2), fl.RK4(), dt=0.1)
    found = fl.theory.rates(sol, minimizer=np.zeros(2), convexity=0.0)
    for ax, bound in zip(found.plot(), ("R^2/(4 t)", "R"), strict=True):
        assert [a.get_text() for a in ax.get_legend().get_texts()] == ["run", bound]


def test_an_inequality_alone_has_no_picture():
    flow = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4"))
    sol = fl.solve(flow, [0.5], (0, 1), fl.RK4(), dt=0.1)
    found = fl.theory.rates(sol, minimizer=[1.0], convexity=-1.0)
    assert found
    with pytest.raises(ValueError, match="no bound to draw"):
        found.plot()
