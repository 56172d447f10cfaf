"""Quantiles: flat W2, exact implicit steps, and what is recognized in V and W."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import flows as fl
from flows.energies import Term
from flows.linear import Tridiagonal
from flows.spaces import chain

ENERGIES = {
    "gaussian": fl.kl("(x - 1)**2/2"),
    "double well": fl.Entropy(0.3) + fl.Potential("(x**2 - 1)**2 / 4"),
    "porous medium": fl.porous_medium(2.0),
    "confined porous medium": fl.porous_medium(3.0, "x**2/2"),
    "fast diffusion": fl.porous_medium(0.6, "x**2/2"),
    "typed density": fl.Internal("rho**2 + rho*log(rho)") + fl.Potential("x**2"),
    "mean field": fl.kl("x**2/2") + fl.Interaction("3*x**2/2"),
    "sticky with noise": fl.Entropy(1.0) + fl.Interaction("abs(x)"),
    "attraction-repulsion": fl.Entropy(0.1) + fl.Interaction("x**2/2 - abs(x)"),
    "smooth pairs": fl.Entropy(0.1) + fl.Interaction("-exp(-x**2)"),
    "quartic and kink": fl.Entropy(0.1) + fl.Interaction("x**4/4 - abs(x)"),
    "log gas": fl.Potential("x**2/2") + fl.Interaction("-log(abs(x))"),
    "smooth, no density": fl.Potential("x**4/4") + fl.Interaction("log(1 + x**2)"),
}
each_energy = pytest.mark.parametrize("energy", ENERGIES.values(), ids=ENERGIES)
NORMAL = fl.Gaussian(1.0, 0.5)


def levels(n):
    """2s - 1 at the middle of the n equal masses."""
    return (2.0 * np.arange(n) + 1.0) / n - 1.0


def slope(sizes, errors):
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


@each_energy
def test_velocity_is_minus_n_times_the_gradient_of_the_energy(energy):
    q = fl.Quantiles(7)
    flow, u = q.flow(energy), q.project(NORMAL)
    step = 1e-6 * np.eye(7)
    slopes = [(flow.energy(0.0, u + e) - flow.energy(0.0, u - e)) / 2e-6 for e in step]
    assert flow.velocity(0.0, u) == pytest.approx(-7 * np.array(slopes), abs=2e-7)


@each_energy
def test_jacobian_is_the_derivative_of_the_velocity(energy):
    q = fl.Quantiles(6)
    flow, u = q.flow(energy), q.project(NORMAL)
    J = flow.jacobian(0.0, u)
    local = flow.pairs.matrix is None and not flow.pairs.rest
    assert isinstance(J, Tridiagonal) == local
    J = J.dense() if local else J
    columns = [
        (flow.velocity(0.0, u + e) - flow.velocity(0.0, u - e)) / 2e-6
        for e in 1e-6 * np.eye(6)
    ]
    assert np.abs(J - np.array(columns).T).max() < 1e-7 * np.abs(J).max()


@each_energy
@pytest.mark.parametrize("h", [1e-3, 0.1, 10.0, 1e3])
def test_a_step_solves_its_equation_and_pays_for_its_length(energy, h):
    q = fl.Quantiles(60)
    flow, u = q.flow(energy), q.project(NORMAL)
    v, memory = flow.prox(0.0, u, h, ())
    assert memory[0] is v
    assert (np.diff(v) > 0).all()
    # The residual is the rounding of v times the stiffness n^2 h T/gap^2.
    scale = 1.0 + h * np.abs(np.linalg.norm(dense(flow, v), 2))
    assert np.abs(v - u - h * flow.velocity(0.0, v)).max() < 1e-14 * scale
    paid = flow.energy(0.0, v) + q.distance(u, v) ** 2 / (2 * h)
    assert paid <= flow.energy(0.0, u) + 1e-12


def dense(flow, v):
    J = flow.jacobian(0.0, v)
    return J.dense() if isinstance(J, Tridiagonal) else J


@pytest.mark.parametrize("h", [0.01, 0.1, 1.0])
def test_a_step_of_a_gaussian_is_the_closed_form(h):
    # Variance: sigma (1 + h/T) - h/sigma = sigma_0, from the stationarity of
    # W2^2/2h + KL(. | N(0, T)) among Gaussian measures; the mean is m_0/(1 + h/T).
    T, m0, s0 = 2.0, 1.5, 0.5
    a = 1.0 + h / T
    s1 = (s0 + math.sqrt(s0**2 + 4 * h * a)) / (2 * a)
    sizes, errors = [50, 100, 200, 400], []
    for n in sizes:
        q = fl.Quantiles(n)
        flow = q.flow(fl.kl("x**2/4"))
        v, _ = flow.prox(0.0, q.project(fl.Gaussian(m0, s0)), h, ())
        assert np.mean(v) == pytest.approx(m0 / a, abs=1e-12)
        errors.append(q.distance(v, q.project(fl.Gaussian(m0 / a, s1))))
    # The tails of mass 1/2n have no density term: the error of the last quantiles,
    # of a size that falls like 1/sqrt(log n), counts n^-1/2.
    assert errors[-1] < 2e-3
    assert -0.7 < slope(sizes, errors) < -0.3


def test_a_step_of_a_mean_field_gaussian_is_the_closed_form():
    # W adds its curvature to that of V for the deviations, not for the mean.
    h, K, s0 = 0.2, 3.0, 0.7
    a = 1.0 + h * (1.0 + K)
    s1 = (s0 + math.sqrt(s0**2 + 4 * h * a)) / (2 * a)
    q = fl.Quantiles(400)
    energy = fl.kl("x**2/2") + fl.Interaction("K*x**2/2", parameters={"K": K})
    v, _ = q.flow(energy).prox(0.0, q.project(fl.Gaussian(1.0, s0)), h, ())
    assert np.mean(v) == pytest.approx(1.0 / (1.0 + h), abs=1e-12)
    assert q.distance(v, q.project(fl.Gaussian(1.0 / (1.0 + h), s1))) < 1e-3


@pytest.mark.parametrize("m", [2.0, 3.0])
def test_a_step_of_a_confined_barenblatt_profile_is_the_closed_form(m):
    # The profile keeps its shape; implicit Euler for its scale,
    # (s - 1)/h = beta s^(-m) - lam s, is the minimizing movement.
    from scipy.optimize import brentq

    h, lam, beta = 0.3, 0.5, 1.0 / (m + 1.0)
    s = brentq(lambda s: s - 1.0 - h * (beta * s**-m - lam * s), 0.1, 10.0, xtol=1e-15)
    sizes, errors = [50, 100, 200, 400], []
    for n in sizes:
        q = fl.Quantiles(n)
        u = q.project(fl.Barenblatt(m, t=1.0))
        flow = q.flow(fl.porous_medium(m, fl.quadratic(lam)))
        errors.append(q.distance(flow.prox(0.0, u, h, ())[0], s * u))
    assert errors[-1] < 1e-3
    assert -1.3 < slope(sizes, errors) < -0.7


@pytest.mark.parametrize(
    ("energy", "start"),
    [
        (fl.kl("x**2/2"), fl.Gaussian(1.5, 0.5)),
        (fl.porous_medium(2.0), fl.Barenblatt(2.0, t=0.1)),
    ],
    ids=["Ornstein-Uhlenbeck", "Barenblatt"],
)
def test_minimizing_movements_have_order_one(energy, start):
    from scipy.integrate import solve_ivp

    q = fl.Quantiles(30)
    flow, u0 = q.flow(energy), q.project(start)
    exact = solve_ivp(
        flow.velocity,
        (0.0, 1.0),
        u0,
        method="BDF",
        jac=lambda t, u: flow.jacobian(t, u).dense(),
        rtol=1e-9,
        atol=1e-11,
    ).y[:, -1]
    steps, errors = [1 / 16, 1 / 32, 1 / 64, 1 / 128], []
    for h in steps:
        u, memory = u0, ()
        for _ in range(round(1.0 / h)):
            u, memory = flow.prox(0.0, u, h, memory)
        errors.append(q.distance(u, exact))
    assert 0.9 < slope(steps, errors) < 1.1


def test_newton_needs_few_iterations(monkeypatch):
    counts = []
    plain = chain.minimize_newton

    def counted(*args, **options):
        result = plain(*args, **options)
        counts.append(result.iterations)
        return result

    monkeypatch.setattr(chain, "minimize_newton", counted)
    q = fl.Quantiles(400)
    for energy in (ENERGIES["double well"], ENERGIES["porous medium"]):
        flow, u, memory = q.flow(energy), q.project(NORMAL), ()
        for _ in range(5):
            u, memory = flow.prox(0.0, u, 0.01, memory)
    assert max(counts) <= 7


def test_steps_contract_the_distance_of_two_measures():
    q = fl.Quantiles(50)
    flow = q.flow(fl.kl("x**2/2 + x**4/4"))
    u, v = q.project(fl.Gaussian(-1.0, 0.3)), q.project(fl.Uniform(0.0, 3.0))
    a, b = (flow.prox(0.0, x, 0.5, ())[0] for x in (u, v))
    assert q.distance(a, b) <= q.distance(u, v) / 1.5


def test_diffusion_starts_from_a_single_point():
    # From sigma_0 = 0 the heat step of h has sigma = sqrt(h).
    q = fl.Quantiles(400)
    flow = q.flow(fl.Entropy(1.0))
    u = np.full(400, 2.0)
    assert flow.energy(0.0, u) == math.inf
    v, _ = flow.prox(0.0, u, 0.25, ())
    assert q.distance(v, q.project(fl.Gaussian(2.0, 0.5))) < 2e-3


@pytest.mark.parametrize("energy", [ENERGIES["double well"], ENERGIES["mean field"]])
def test_a_resolvent_takes_any_right_hand_side(energy):
    q = fl.Quantiles(30)
    flow, u = q.flow(energy), q.project(NORMAL)
    w = u + 0.3 * np.cos(7.0 * np.arange(30))
    assert (np.diff(w) < 0).any()
    v, _ = flow.resolvent(0.0, w, 0.1, (u,))
    assert (np.diff(v) > 0).all()
    assert np.abs(v - w - 0.1 * flow.velocity(0.0, v)).max() < 1e-11


def test_a_resolvent_of_a_potential_alone_does_not_sort():
    flow = fl.Quantiles(3).flow(fl.Potential("x**2/2 + x**4/4"))
    w = np.array([2.0, -1.0, 0.5])
    v, _ = flow.resolvent(0.0, w, 0.7, ())
    assert v + 0.7 * (v + v**3) == pytest.approx(w, abs=1e-14)


def test_a_small_step_in_a_double_well_keeps_every_quantile_in_its_well():
    q = fl.Quantiles(20)
    flow = q.flow(fl.Potential("(x**2 - 1)**2 / 4"))
    u = q.project(fl.Gaussian(0.0, 1.0))
    v, _ = flow.prox(0.0, u, 0.5, ())
    assert (np.sign(v) == np.sign(u)).all()
    assert v + 0.5 * (v**3 - v) == pytest.approx(u, abs=1e-14)


@each_energy
def test_stable_step_is_a_bound_for_explicit_euler(energy):
    q = fl.Quantiles(20)
    flow, u = q.flow(energy), q.project(NORMAL)
    largest = np.linalg.eigvalsh(-dense(flow, u))[-1]
    assert 0.3 * 2.0 / largest < flow.stable_step(0.0, u) <= 2.0 / largest * (1 + 1e-12)


def test_stable_step_is_infinite_without_stiffness_and_zero_at_a_point():
    q = fl.Quantiles(4)
    u = np.arange(4.0)
    assert q.flow(fl.Potential("x")).stable_step(0.0, u) == math.inf
    assert q.flow(fl.Entropy(1.0)).stable_step(0.0, 0.0 * u) == 0.0


@pytest.mark.parametrize(
    "energy",
    [
        ENERGIES["double well"],
        ENERGIES["attraction-repulsion"],
        ENERGIES["smooth pairs"],
        fl.Interaction("abs(x)"),
        fl.kl("abs(x)"),
        fl.Potential("x**4/4") + fl.Interaction("x**2/2"),
    ],
    ids=repr,
)
def test_torch_and_numpy_agree(energy):
    torch = pytest.importorskip("torch")
    q = fl.Quantiles(12)
    flow, u = q.flow(energy), q.project(NORMAL)
    x = torch.tensor(u)
    assert flow.velocity(0.0, x).numpy() == pytest.approx(flow.velocity(0.0, u))
    assert flow.energy(0.0, x) == pytest.approx(flow.energy(0.0, u), abs=1e-14)
    v, memory = flow.prox(0.0, x, 0.1, (x,))
    assert isinstance(v, torch.Tensor)
    assert memory[0] is v
    assert v.numpy() == pytest.approx(flow.prox(0.0, u, 0.1, (u,))[0], abs=1e-13)
    assert type(q.measure(v)) is type(q.measure(v.numpy()))


@each_energy
@pytest.mark.parametrize("h", [0.01, 10.0])
def test_float32_stays_float32(energy, h):
    q = fl.Quantiles(30, dtype="float32")
    flow, u = q.flow(energy), q.project(NORMAL)
    assert u.dtype == np.float32
    assert flow.velocity(0.0, u).dtype == np.float32
    v, _ = flow.prox(0.0, u, h, ())
    assert v.dtype == np.float32
    double = fl.Quantiles(30).flow(energy)
    exact, _ = double.prox(0.0, u.astype(float), h, ())
    assert np.abs(v - exact).max() < 2e-5 * (1 + np.abs(exact).max())


def test_projecting_its_measure_gives_a_state_back():
    for n in (1, 2, 50):
        q = fl.Quantiles(n)
        u = q.project(NORMAL)
        assert q.project(q.measure(u)) == pytest.approx(u, abs=1e-13)
    q = fl.Quantiles(4)
    u = np.array([0.0, 1.0, 1.0, 3.0])
    assert isinstance(q.measure(u), fl.Empirical)
    assert q.project(q.measure(u)) == pytest.approx(u)


def test_the_measure_has_the_density_of_the_gaps():
    mu = fl.Quantiles(2).measure(np.array([0.0, 1.0]))
    assert mu.support == (-0.5, 1.5)
    assert mu.pdf(np.array([-0.25, 0.5, 1.25])) == pytest.approx([0.5, 0.5, 0.5])


def test_the_distance_is_wasserstein():
    q = fl.Quantiles(100)
    u, v = q.project(fl.Uniform(0.0, 1.0)), q.project(fl.Uniform(2.0, 5.0))
    # Means differ by 3, half-widths by 1: 3^2 + 1/3, up to the midpoint rule.
    assert q.distance(u, v) == pytest.approx(math.sqrt(9 + 1 / 3), abs=1e-4)


def test_a_drift_is_added_and_ends_the_gradient_structure():
    q = fl.Quantiles(5)
    u = q.project(NORMAL)
    plain = q.flow(fl.kl("x**2/2"))
    flow = q.flow(fl.kl("x**2/2"), drift=lambda x: 2.0 + x)
    assert plain.is_gradient
    assert not flow.is_gradient
    assert flow.velocity(0.0, u) == pytest.approx(plain.velocity(0.0, u) + 2.0 + u)
    assert flow.default() == ("DormandPrince", None)
    assert plain.default() == ("MinimizingMovement", 0.01)
    for name in ("prox", "resolvent"):
        with pytest.raises(TypeError, match="derivative of the drift"):
            getattr(flow, name)
    with pytest.raises(TypeError, match="derivative of the drift"):
        flow.jacobian(0.0, u)
    with pytest.raises(TypeError, match="`drift` must be callable"):
        q.flow(fl.kl("x**2/2"), drift=3.0)


@pytest.mark.parametrize(
    ("u", "text"),
    [
        (np.zeros((3, 1)), r"shape \(3, 1\); Quantiles\(3\) takes \(3,\)"),
        (np.zeros(4), r"4 entries, but Quantiles\(3\) has 3"),
        ([0.0, 2.0, 1.0], r"u0\[1\] = 2 > u0\[2\] = 1"),
    ],
)
def test_wrong_states_are_refused(u, text):
    with pytest.raises(ValueError, match=text):
        fl.Quantiles(3).admit(u)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`n` must be a positive integer, got 0"):
        fl.Quantiles(0)
    with pytest.raises(TypeError, match=r"`n` must be a positive integer, got 1\.5"):
        fl.Quantiles(1.5)
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        fl.Quantiles(3, dtype="float16")
    with pytest.raises(TypeError, match="take n >= 2"):
        fl.Quantiles(1).flow(fl.Entropy(1.0))
    with pytest.raises(TypeError, match="ill-posed"):
        fl.Quantiles(5).flow(-1.0 * fl.Entropy(1.0))
    with pytest.raises(TypeError, match="use Particles or Grid"):
        fl.Quantiles(5).project(fl.Gaussian([0.0, 0.0], 1.0))
    with pytest.raises(TypeError, match="Quantiles cannot represent the term"):
        fl.Quantiles(5).flow(Term())
    flow = fl.Quantiles(5).flow(fl.Potential("x**2 + y**2"))
    with pytest.raises(ValueError, match="names y"):
        flow.velocity(0.0, np.arange(5.0))


def test_spaces_and_flows_have_short_names_and_pickle():
    q = fl.Quantiles(5, dtype="float32")
    assert repr(q) == "Quantiles(5, dtype='float32')"
    assert eval(repr(q), {"Quantiles": fl.Quantiles}) == q
    flow = fl.Quantiles(5).flow(ENERGIES["quartic and kink"])
    u = np.arange(5.0)
    again = pickle.loads(pickle.dumps(flow))
    assert (again.velocity(0.0, u) == flow.velocity(0.0, u)).all()
    assert (again.prox(0.0, u, 0.1, ())[0] == flow.prox(0.0, u, 0.1, ())[0]).all()


def test_backward_diffusion_is_refused_as_on_a_grid():
    for energy in (fl.Internal("rho**3 - rho**2"), fl.Entropy() - fl.porous_medium(2)):
        for space in (fl.Quantiles(5), fl.Grid((-1, 1, 5))):
            with pytest.raises(TypeError, match=r"T \+ rho U''.*ill-posed"):
                space.flow(energy)
    flow = fl.Quantiles(5).flow(fl.Entropy(1.0) - fl.Entropy(0.5))
    half = fl.Quantiles(5).flow(fl.Entropy(0.5))
    u = np.arange(5.0) ** 2
    assert flow.velocity(0.0, u) == pytest.approx(half.velocity(0.0, u))
    assert flow.prox(0.0, u, 0.3, ())[0] == pytest.approx(half.prox(0.0, u, 0.3, ())[0])
