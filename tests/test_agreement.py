"""One energy in every space: the same exact solution, and what theory says of all."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flows as fl
from flows import problems
from flows.theory import check_mass, check_positive

N = 20_000
# W2 between n draws and their law is about the width times sqrt(loglog n / n).
SAMPLING = 5 / math.sqrt(N)
IMPLICIT, EXPLICIT, NOISE = fl.TRBDF2(), fl.RK4(), fl.LeimkuhlerMatthews()

OU = problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
MIXTURE = problems.ornstein_uhlenbeck_mixture(
    means=[-1.0, 2.0], stds=[0.5, 0.4], weights=[0.3, 0.7]
)
BARENBLATT = problems.barenblatt(m=2, d=1)
CUBIC = problems.barenblatt(m=3, d=1)
CONFINED = problems.confined_barenblatt()
MEAN_FIELD = problems.mckean_vlasov_quadratic()
AGGREGATION = problems.aggregation_quadratic()
SPREADING = problems.attraction_repulsion()
GIBBS = problems.gibbs("x**4/4 - x**2/2", T=0.5)
HEAT = problems.heat(std=0.5)
REFLECTED = problems.reflected_heat()
COLD = problems.ornstein_uhlenbeck(mean=1.5, std=0.0, temperature=0.0, rate=2.0)
WARM_POINT = problems.ornstein_uhlenbeck(mean=1.5, std=0.0)

# The grid errs by dx^2; quantiles by 1/n, and by n^-1/2 in the tails of a Gaussian.
# What is quadratic or uniform is exact in quantiles up to the scheme's error.
AGREEMENT = [
    ("OU grid", OU, OU.grid(300), IMPLICIT, 1e-3),
    ("OU quantiles", OU, fl.Quantiles(400), IMPLICIT, 3e-3),
    ("OU Langevin", OU, fl.LangevinParticles(N), NOISE, SAMPLING),
    ("mixture grid", MIXTURE, MIXTURE.grid(300), IMPLICIT, 1e-3),
    ("mixture quantiles", MIXTURE, fl.Quantiles(400), IMPLICIT, 3e-3),
    ("mixture Langevin", MIXTURE, fl.LangevinParticles(N), NOISE, 2 * SAMPLING),
    ("Barenblatt grid", BARENBLATT, BARENBLATT.grid(200), IMPLICIT, 1e-3),
    ("Barenblatt quantiles", BARENBLATT, fl.Quantiles(400), IMPLICIT, 1e-3),
    ("cubic Barenblatt grid", CUBIC, CUBIC.grid(200), IMPLICIT, 3e-3),
    ("cubic Barenblatt quantiles", CUBIC, fl.Quantiles(400), IMPLICIT, 2e-3),
    ("confined Barenblatt grid", CONFINED, CONFINED.grid(200), IMPLICIT, 1e-3),
    ("confined Barenblatt quantiles", CONFINED, fl.Quantiles(400), IMPLICIT, 1e-3),
    ("mean field quantiles", MEAN_FIELD, fl.Quantiles(400), IMPLICIT, 3e-3),
    ("mean field Langevin", MEAN_FIELD, fl.LangevinParticles(N), NOISE, SAMPLING),
    ("aggregation quantiles", AGGREGATION, fl.Quantiles(200), EXPLICIT, 2e-6),
    ("aggregation particles", AGGREGATION, fl.Particles(200), EXPLICIT, 2e-6),
    ("spreading quantiles", SPREADING, fl.Quantiles(200), EXPLICIT, 1e-8),
    ("spreading particles", SPREADING, fl.Particles(200), EXPLICIT, 1e-8),
    ("heat grid", HEAT, HEAT.grid(400), IMPLICIT, 2e-3),
    ("heat quantiles", HEAT, fl.Quantiles(400), IMPLICIT, 4e-3),
    ("heat Langevin", HEAT, fl.LangevinParticles(N), NOISE, 2 * SAMPLING),
    ("reflected heat grid", REFLECTED, REFLECTED.grid(200), IMPLICIT, 1e-3),
    ("Gibbs grid", GIBBS, GIBBS.grid(200), IMPLICIT, 1e-3),
    ("Gibbs quantiles", GIBBS, fl.Quantiles(400), IMPLICIT, 2e-3),
    ("Gibbs Langevin", GIBBS, fl.LangevinParticles(N), NOISE, SAMPLING),
    ("point Euclidean", COLD, fl.Euclidean(), EXPLICIT, 1e-8),
    ("point particles", COLD, fl.Particles(3), EXPLICIT, 1e-8),
    ("point quantiles", COLD, fl.Quantiles(3), EXPLICIT, 1e-8),
    ("warm point Langevin", WARM_POINT, fl.LangevinParticles(N), NOISE, SAMPLING),
    ("warm point quantiles", WARM_POINT, fl.Quantiles(400), fl.JKO(), 1e-2),
]


def state(space, measure):
    """State of a measure without sampling error, where there is one."""
    if isinstance(space, fl.Particles) and not isinstance(measure, fl.Dirac):
        return fl.Quantiles(space.n).project(measure)[:, None]
    return space.project(measure, rng=7)


def gap(space, u, measure):
    """Distance between a state and a measure, inside the space where possible."""
    if isinstance(space, fl.LangevinParticles):
        return fl.wasserstein(space.measure(u), measure)
    return space.distance(u, state(space, measure))


@pytest.mark.parametrize(
    ("p", "space", "scheme", "tol"),
    [case[1:] for case in AGREEMENT],
    ids=[case[0] for case in AGREEMENT],
)
def test_every_space_reaches_the_exact_solution(p, space, scheme, tol):
    t0, t1 = p.t
    flow = space.flow(p.energy)
    start = state(space, p.exact(t0))
    sol = fl.solve(flow, start, p.t, scheme, dt=0.02, save_at=[t0, t1], rng=0)
    assert sol.ok
    assert gap(space, sol.u[-1], p.exact(t1)) < tol
    # The exact solution moves: a flow that stands still would not pass.
    moved = fl.wasserstein(p.exact(t0), p.exact(t1))
    assert moved > 3 * tol or p is GIBBS


@pytest.mark.parametrize("p", [OU, MIXTURE, BARENBLATT, HEAT], ids=lambda p: p.name)
def test_grid_and_quantiles_hold_the_same_measure(p):
    ends = []
    for space in (p.grid(300), fl.Quantiles(400)):
        flow = space.flow(p.energy)
        sol = fl.solve(flow, p.exact(p.t[0]), p.t, IMPLICIT, dt=0.02, save_at=[p.t[1]])
        ends.append(sol.measure(-1))
    # A cell of mass 1/n at the end of a tail is known to its own width only.
    assert fl.wasserstein(*ends) < 2e-2 * math.sqrt(p.exact(p.t[1]).cov)
    assert ends[0].mean == pytest.approx(ends[1].mean, abs=2e-3)


@pytest.mark.parametrize("p", [OU, MIXTURE, BARENBLATT, CONFINED], ids=lambda p: p.name)
@pytest.mark.parametrize("name", ["grid", "quantiles"])
def test_discrete_energies_are_the_energy(p, name):
    space = p.grid(400) if name == "grid" else fl.Quantiles(2000)
    u = space.project(p.exact(p.t[0]))
    exact = p.energy(p.exact(p.t[0]))
    # Quantiles leave out the entropy of the two tails of mass 1/2n.
    tol = 1e-3 if name == "grid" else 4e-3
    assert space.flow(p.energy).energy(0.0, u) == pytest.approx(exact, abs=tol)


DESCENT = [
    ("grid", MIXTURE, MIXTURE.grid(150), IMPLICIT),
    ("nonlinear grid", CONFINED, CONFINED.grid(100), fl.ImplicitEuler()),
    ("quantiles", MIXTURE, fl.Quantiles(100), fl.JKO()),
    ("mean-field quantiles", MEAN_FIELD, fl.Quantiles(100), fl.JKO()),
    ("nonlinear quantiles", CONFINED, fl.Quantiles(100), IMPLICIT),
    ("particles", SPREADING, fl.Particles(60), EXPLICIT),
    ("Euclidean", COLD, fl.Euclidean(), IMPLICIT),
]


@pytest.mark.parametrize(
    ("p", "space", "scheme"), [c[1:] for c in DESCENT], ids=[c[0] for c in DESCENT]
)
def test_every_space_descends(p, space, scheme):
    start = state(space, p.exact(p.t[0]))
    sol = fl.solve(space.flow(p.energy), start, p.t, scheme, dt=0.05)
    assert fl.check_descent(sol)
    assert sol.energy[-1] < sol.energy[0] - 1e-3


@pytest.mark.parametrize(
    ("p", "boundary"),
    [
        (OU, "no-flux"),
        (MIXTURE, "periodic"),
        (BARENBLATT, "no-flux"),
        (CONFINED, "periodic"),
    ],
    ids=lambda x: getattr(x, "name", x),
)
@pytest.mark.parametrize("dt", [0.01, 1.0])
def test_the_grid_keeps_mass_and_sign(p, boundary, dt):
    grid = fl.Grid((*p.box[0], 120), boundary=boundary)
    start = 2.5 * grid.project(p.exact(p.t[0]))
    sol = fl.solve(grid.flow(p.energy), start, (0, 3), fl.ImplicitEuler(), dt=dt)
    assert check_mass(sol, 1e-12)
    assert check_positive(sol)
    assert sol.stats["minimum"] >= 0
    assert grid.mass(sol.u[-1]) == pytest.approx(2.5, abs=1e-11)


@pytest.mark.parametrize("p", [OU, BARENBLATT, MEAN_FIELD], ids=lambda p: p.name)
def test_quantiles_stay_in_order_and_count_their_mass(p):
    q = fl.Quantiles(80)
    sol = fl.solve(q.flow(p.energy), p.exact(p.t[0]), p.t, fl.JKO(), dt=0.1)
    assert (np.diff(sol.u, axis=1) > 0).all()
    assert sol.u.shape[1] == 80
    assert np.sum(sol.measure(-1).masses) == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("V", ["x**2/2", "x**4/4 - x**2", "3*cos(4*x) + x**2"])
def test_the_gibbs_state_of_the_grid_does_not_move(V):
    grid = fl.Grid((-4, 4, 160))
    flow = grid.flow(fl.Entropy(0.7) + fl.Potential(V))
    rest = np.exp(-fl.Potential(V).value_at(grid.centers[:, None]) / 0.7)
    rest /= grid.mass(rest)
    sol = fl.solve(flow, rest, (0, 10), fl.ImplicitEuler(), dt=1.0)
    assert np.abs(sol.u[-1] / rest - 1).max() < 1e-12


def test_minimizers_of_quantiles_are_the_quantiles_of_the_equilibrium():
    errors = []
    for n in (100, 400):
        q = fl.Quantiles(n)
        flow = q.flow(CONFINED.energy)
        u, _ = flow.prox(0.0, q.project(CONFINED.exact(0.0)), 1e8, ())
        assert np.abs(flow.velocity(0.0, u)).max() < 1e-7
        errors.append(q.distance(u, q.project(CONFINED.limit)))
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 3


def test_the_equilibrium_of_particles_does_not_move():
    space = fl.Particles(50)
    x = state(space, fl.Uniform(-1.0, 1.0))
    assert np.abs(space.flow(SPREADING.energy).velocity(0.0, x)).max() < 1e-14


def test_langevin_particles_stay_in_equilibrium():
    # Leimkuhler-Matthews has no bias here; 4.5 standard errors of mean and variance.
    space, law = fl.LangevinParticles(N), fl.Gaussian(0.0, 1.0)
    sol = fl.solve(
        space.flow(fl.kl(law)), law, (0, 4), NOISE, dt=0.2, save_at=[4.0], rng=11
    )
    assert abs(sol.u[-1].mean()) < 4.5 / math.sqrt(N)
    assert abs(sol.u[-1].var() - 1) < 4.5 * math.sqrt(2 / N)


def test_the_minimum_of_a_potential_does_not_move():
    flow = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4 + (y - 2)**2"))
    sol = fl.solve(flow, np.array([1.0, 2.0]), (0, 5), IMPLICIT, dt=0.5)
    assert (sol.u == np.array([1.0, 2.0])).all()


POINT = np.array([1.0, -2.0])
WELL = fl.Potential("(x**2 - 1)**2/4 + x*y/3 + y**2")


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.TRBDF2(), fl.JKO()])
def test_the_flow_of_a_dirac_is_the_euclidean_flow(scheme):
    vector = fl.solve(
        fl.Euclidean().flow(WELL), fl.Dirac(POINT), (0, 2), scheme, dt=0.1
    )
    alone = fl.solve(
        fl.Particles(1).flow(WELL), fl.Dirac(POINT), (0, 2), scheme, dt=0.1
    )
    assert alone.u[:, 0] == pytest.approx(vector.u, abs=1e-13)
    # Equal points stay equal, and an attraction between them exerts no force.
    both = WELL + fl.Interaction("r**2/2")
    crowd = fl.solve(
        fl.Particles(4).flow(both), fl.Dirac(POINT), (0, 2), scheme, dt=0.1
    )
    assert crowd.u == pytest.approx(
        np.broadcast_to(vector.u[:, None], crowd.u.shape), abs=1e-10
    )


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.TRBDF2(), fl.JKO()])
def test_one_quantile_is_a_point_of_the_line(scheme):
    energy, start = fl.Potential("(x**2 - 1)**2/4"), fl.Dirac(0.3)
    a, b = (
        fl.solve(space.flow(energy), start, (0, 2), scheme, dt=0.1)
        for space in (fl.Euclidean(), fl.Quantiles(1))
    )
    assert b.u == pytest.approx(a.u, abs=1e-13)
    assert b.energy == pytest.approx(a.energy, abs=1e-13)


def test_cold_langevin_particles_are_particles():
    energy = fl.Entropy(0.0) + WELL
    x = np.random.default_rng(0).normal(size=(5, 2))
    cold = fl.solve(
        fl.LangevinParticles(5).flow(energy),
        x,
        (0, 1),
        fl.EulerMaruyama(),
        dt=0.1,
        rng=0,
    )
    plain = fl.solve(fl.Particles(5).flow(WELL), x, (0, 1), fl.Euler(), dt=0.1)
    assert cold.u == pytest.approx(plain.u, abs=1e-14)


@pytest.mark.parametrize(
    "p", [OU, MIXTURE, BARENBLATT, CONFINED, MEAN_FIELD], ids=lambda p: p.name
)
@pytest.mark.parametrize("h", [0.01, 0.1, 1.0])
def test_jko_in_quantiles_is_implicit_euler(p, h):
    flow = fl.Quantiles(60).flow(p.energy)
    a, b = (
        fl.solve(flow, p.exact(p.t[0]), (0, 3 * h), scheme, dt=h).u
        for scheme in (fl.JKO(), fl.ImplicitEuler())
    )
    assert a == pytest.approx(b, abs=1e-11)


CONTRACTION = [
    ("grid", fl.Grid((-8, 8, 400)), IMPLICIT, 0.01, 1e-3),
    ("quantiles", fl.Quantiles(100), IMPLICIT, 0.01, 1e-4),
    ("particles", fl.Particles(100), EXPLICIT, 0.05, 1e-6),
    ("Euclidean", fl.Euclidean(), EXPLICIT, 0.05, 1e-6),
]


@pytest.mark.parametrize(
    ("space", "scheme", "dt", "tol"),
    [case[1:] for case in CONTRACTION],
    ids=[case[0] for case in CONTRACTION],
)
def test_wasserstein_contracts_at_the_rate_of_convexity(space, scheme, dt, tol):
    # W2(t) <= e^-t W2(0), with equality for laws that differ by a shift.
    V = fl.Potential("x**2/2")
    noisy = isinstance(space, (fl.Grid, fl.Quantiles))
    flow = space.flow(fl.Entropy() + V if noisy else V)
    smooth = not isinstance(space, fl.Euclidean)
    laws = [fl.Gaussian(m, 0.6) if smooth else fl.Dirac(m) for m in (-1.0, 2.0)]
    a, b = (
        fl.solve(flow, state(space, law), (0, 1), scheme, dt=dt, save_at=0.25)
        for law in laws
    )
    d = np.array([space.distance(u, v) for u, v in zip(a.u, b.u, strict=True)])
    assert d / d[0] == pytest.approx(np.exp(-a.t), abs=tol)


def test_wasserstein_contracts_faster_for_laws_of_different_width():
    flow = fl.Quantiles(100).flow(fl.kl("x**2/2 + x**4/10"))
    a, b = (
        fl.solve(flow, law, (0, 1), fl.JKO(), dt=0.05, save_at=0.25)
        for law in (fl.Gaussian(-1.0, 0.3), fl.Uniform(0.0, 3.0))
    )
    d = np.array([flow.space.distance(u, v) for u, v in zip(a.u, b.u, strict=True)])
    # A step of length h contracts by 1/(1 + h) at least.
    assert (d <= 1.05 ** (-np.round(a.t / 0.05)) * d[0] * (1 + 1e-12)).all()


def test_langevin_particles_with_the_same_noise_contract_exactly():
    flow = fl.LangevinParticles(200).flow(fl.kl("x**2/2"))
    x = np.random.default_rng(1).normal(size=(2, 200, 1))
    a, b = (
        fl.solve(flow, start, (0, 1), fl.EulerMaruyama(), dt=0.1, rng=3).u[-1]
        for start in x
    )
    assert a - b == pytest.approx(0.9**10 * (x[0] - x[1]), abs=1e-14)


# With steps this long the error of the scheme is far above that of 400 quantiles.
STEPS = [1 / 4, 1 / 8, 1 / 16, 1 / 32]


@pytest.mark.parametrize(
    ("p", "t"), [(OU, (0.0, 1.0)), (BARENBLATT, (0.1, 1.1))], ids=["OU", "Barenblatt"]
)
def test_minimizing_movements_have_order_one_against_the_exact_solution(p, t):
    q = fl.Quantiles(400)
    flow, end = q.flow(p.energy), q.project(p.exact(t[1]))

    def error(h):
        sol = fl.solve(flow, p.exact(t[0]), t, fl.JKO(), dt=h, save_at=[t[1]])
        return q.distance(sol.u[-1], end)

    assert 0.9 <= fl.convergence(error, STEPS).slope <= 1.2


def test_scharfetter_gummel_has_order_two_in_space():
    def error(h):
        grid = fl.Grid((-8, 8, round(16 / h)))
        flow = grid.flow(MIXTURE.energy)
        sol = fl.solve(
            flow, MIXTURE.exact(0.0), (0, 0.5), fl.SDIRK3(), dt=0.005, save_at=[0.5]
        )
        return grid.l1(sol.u[-1], grid.project(MIXTURE.exact(0.5)))

    study = fl.convergence(error, [0.2, 0.1, 0.05, 0.025])
    assert 1.9 <= study.slope <= 2.2
    assert 1.9 <= study.order[-1] <= 2.2


@pytest.mark.parametrize("tau", [0.01, 0.3, 3.0])
@pytest.mark.parametrize(("T", "lam"), [(1.0, 1.3), (0.4, 0.0), (2.0, -0.2)])
def test_one_minimizing_movement_of_a_gaussian_is_the_closed_form(tau, T, lam):
    # Among Gaussians T log sigma competes with lam sigma^2/2 + (sigma - s0)^2/2 tau:
    # (1 + tau lam) s^2 - s0 s - tau T = 0.
    m0, s0, a = 1.5, 0.4, 1 + tau * lam
    s = (s0 + math.sqrt(s0**2 + 4 * tau * T * a)) / (2 * a)
    errors = []
    for n in (100, 1600):
        q = fl.Quantiles(n)
        flow = q.flow(fl.Entropy(T) + fl.quadratic(lam))
        v, _ = flow.prox(0.0, q.project(fl.Gaussian(m0, s0)), tau, ())
        assert np.mean(v) == pytest.approx(m0 / a, abs=1e-10)
        errors.append(q.distance(v, q.project(fl.Gaussian(m0 / a, s))))
    # The tails limit the order in 1/n to about one half.
    assert errors[1] < 3e-3 * s
    assert errors[1] < 0.4 * errors[0]


def moving(t):
    """Mean of exp(-t) m0 + int e^(s - t) sin(s) ds for m0 = 1."""
    return 1.5 * math.exp(-t) + 0.5 * (math.sin(t) - math.cos(t))


@pytest.mark.parametrize(
    ("space", "scheme", "T", "tol"),
    [
        (fl.Grid((-6, 6, 240)), IMPLICIT, 0.5, 2e-3),
        (fl.Quantiles(50), IMPLICIT, 0.5, 1e-4),
        (fl.LangevinParticles(N), NOISE, 0.5, 5 * math.sqrt(0.5 / N)),
        (fl.Particles(1), EXPLICIT, 0.0, 1e-7),
        (fl.Euclidean(), EXPLICIT, 0.0, 1e-7),
    ],
    ids=lambda x: type(x).__name__,
)
def test_every_space_follows_a_moving_potential(space, scheme, T, tol):
    V = fl.Potential("(x - sin(t))**2/2")
    flow = space.flow(fl.Entropy(T) + V if T else V)
    start = fl.Gaussian(1.0, 0.5) if T else fl.Dirac(1.0)
    sol = fl.solve(flow, start, (0, 2), scheme, dt=0.02, save_at=[2.0], rng=5)
    assert np.mean(sol.measure(-1).mean) == pytest.approx(moving(2.0), abs=tol)


def push(x):
    """A constant drift along the first axis."""
    b = 0.0 * x
    b[..., 0] = 1.0
    return b


@pytest.mark.parametrize(
    ("space", "scheme", "T", "tol"),
    [
        (fl.Grid((-7, 9, 320)), IMPLICIT, 1.0, 2e-3),
        (fl.Quantiles(50), fl.DOP853(), 1.0, 1e-5),
        (fl.LangevinParticles(N), NOISE, 1.0, 5 / math.sqrt(N)),
        (fl.Particles(1), EXPLICIT, 0.0, 1e-7),
        (fl.Euclidean(), EXPLICIT, 0.0, 1e-7),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_constant_drift_moves_the_center_in_every_space(space, scheme, T, tol):
    # x' = -(x - 1): the mean is 1 + (m0 - 1) e^-t.
    V = fl.Potential("x**2/2")
    flow = space.flow(fl.Entropy(T) + V if T else V, drift=push)
    assert not flow.is_gradient
    start = fl.Gaussian(1.5, 0.5) if T else fl.Dirac(1.5)
    dt = fl.Adaptive(1e-7, 1e-9) if isinstance(space, fl.Quantiles) else 0.02
    sol = fl.solve(flow, start, (0, 1), scheme, dt=dt, save_at=[1.0], rng=5)
    assert np.mean(sol.measure(-1).mean) == pytest.approx(
        1 + 0.5 * math.exp(-1), abs=tol
    )


PLANE = problems.ornstein_uhlenbeck(
    mean=[1.0, -0.5],
    std=np.array([[0.5, 0.2], [0.2, 0.4]]),
    rate=np.array([[1.0, 0.4], [0.4, 1.5]]),
    t=(0.0, 0.5),
)


@pytest.mark.parametrize(
    ("space", "scheme", "tol"),
    [
        # The box of half-width 5 and cells of 0.1: variances err by dx^2/12 and more.
        (fl.Grid((-5, 5, 100), (-5, 5, 100)), IMPLICIT, 6e-3),
        (fl.LangevinParticles(N), NOISE, 5 * 1.2 / math.sqrt(N)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_correlated_gaussians_in_the_plane_keep_their_exact_moments(space, scheme, tol):
    sol = fl.solve(
        space.flow(PLANE.energy), PLANE.exact(0.0), PLANE.t, scheme, dt=0.02,
        save_at=[PLANE.t[1]], rng=4,
    )  # fmt: skip
    got, exact = sol.measure(-1), PLANE.exact(PLANE.t[1])
    assert got.mean == pytest.approx(exact.mean, abs=tol)
    assert got.cov == pytest.approx(exact.cov, abs=tol)


@pytest.mark.parametrize(
    ("energy", "accepted"),
    [
        (fl.Potential("x**2/2"), "Euclidean Grid Quantiles Particles Langevin"),
        (fl.Entropy(1.0), "Grid Quantiles Langevin"),
        (fl.porous_medium(2.0), "Grid Quantiles"),
        (fl.Interaction("x**2/2"), "Quantiles Particles Langevin"),
        (fl.kl("x**2/2") + fl.Interaction("x**2/2"), "Quantiles Langevin"),
    ],
    ids=repr,
)
def test_spaces_accept_what_they_can_represent_and_name_the_others(energy, accepted):
    spaces = {
        "Euclidean": fl.Euclidean(),
        "Grid": fl.Grid((-1, 1, 10)),
        "Quantiles": fl.Quantiles(5),
        "Particles": fl.Particles(5),
        "Langevin": fl.LangevinParticles(5),
    }
    assert {k for k, s in spaces.items() if s.accepts(energy)} == set(accepted.split())
    for space in spaces.values():
        if not space.accepts(energy):
            name = type(space).__name__
            with pytest.raises(TypeError, match=f"{name} cannot represent the term"):
                space.flow(energy)
            with pytest.raises(TypeError, match="Spaces that take"):
                space.flow(energy)


@pytest.mark.parametrize(
    "space",
    [
        fl.Euclidean(),
        fl.Mirror.simplex(),
        fl.Sphere(),
        fl.Stiefel(3, 2),
        fl.Matrices(2, 2),
        fl.SPD(2),
        fl.SteepestDescent(fl.norms.l1()),
        fl.SteepestDescent(fl.norms.spectral(2, 2)),
        fl.HeavyBall(1.0),
        fl.Nesterov(),
        fl.Grid((-1, 1, 10)),
        fl.Quantiles(10),
        fl.Particles(10),
        fl.LangevinParticles(10),
    ],
    ids=repr,
)
def test_what_is_no_energy_is_refused_with_the_remedy(space):
    with pytest.raises(TypeError, match=r"write fl\.Potential\('x\*\*2'\)"):
        space.flow("x**2")
    with pytest.raises(TypeError, match=r"write fl\.Potential\(sum\)"):
        space.flow(sum)
    with pytest.raises(TypeError, match=r"got 3; write for instance"):
        space.flow(3)
