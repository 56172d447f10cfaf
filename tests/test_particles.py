"""Particles with and without noise: forces, sums over pairs, implicit steps."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import flows as fl
from flows.linear import NewtonFailure
from flows.random import Stream
from flows.spaces import implicit, pairs
from flows.spaces.pairs import PairSum

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def same_numbers_in_every_test():
    """A test draws the same numbers alone, in any order and on any worker."""
    global RNG
    RNG = np.random.default_rng(5)


CLOUD = RNG.normal(size=(9, 2))
LINE = RNG.normal(size=(9, 1))

ENERGIES = {
    "well": (fl.Potential("(x**2 - 1)**2/4 + y**2/2"), CLOUD),
    "quadratic": (
        fl.quadratic([[2.0, 0.5], [0.5, 1.0]], b=1.0) + fl.Interaction("r**2"),
        CLOUD,
    ),
    "well and quadratic pairs": (
        fl.Potential("x**4/4 + y**2") + fl.Interaction("3*r**2/2"),
        CLOUD,
    ),
    "smooth pairs": (fl.quadratic() + 2 * fl.Interaction("exp(-r**2)"), CLOUD),
    "quartic pairs": (fl.Interaction("r**4/4 - r**2/2"), CLOUD),
    "kink and quartic": (fl.Interaction("x**4/4 - abs(x)"), LINE),
    "attraction-repulsion": (fl.Interaction("x**2/2 - abs(x)"), LINE),
}
each_energy = pytest.mark.parametrize(
    ("energy", "x"), ENERGIES.values(), ids=list(ENERGIES)
)


def gaussian_pairs(z):
    return np.exp(-np.sum(z * z, axis=-1))


def gaussian_slope(z):
    return -2.0 * z * gaussian_pairs(z)[..., None]


@each_energy
def test_velocity_is_minus_n_times_the_gradient_of_the_energy(energy, x):
    flow = fl.Particles(9).flow(energy)
    slopes = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[i] = 1e-6
        slopes[i] = (flow.energy(0.0, x + step) - flow.energy(0.0, x - step)) / 2e-6
    assert flow.velocity(0.0, x) == pytest.approx(-9 * slopes, abs=5e-8)


@each_energy
def test_the_energy_is_the_double_sum(energy, x):
    flow = fl.Particles(9).flow(energy)
    total = 0.0
    for term in energy.terms:
        if term.kind == "potential":
            total += np.mean(term.value_at(x))
        else:
            z = x[:, None] - x[None, :]
            total += 0.5 * np.mean(term.value_at(z))
    assert flow.energy(0.0, x) == pytest.approx(total, abs=1e-13)


@each_energy
@pytest.mark.parametrize("h", [1e-3, 0.1, 0.4])
def test_implicit_steps_solve_their_equation_and_pay_for_their_length(energy, x, h):
    space = fl.Particles(9)
    flow = space.flow(energy)
    for step in (flow.resolvent, flow.prox):
        v, memory = step(0.0, x, h, ())
        assert memory[0] is v
        assert np.abs(v - x - h * flow.velocity(0.0, v)).max() < 1e-13
        paid = flow.energy(0.0, v) + space.distance(x, v) ** 2 / (2 * h)
        assert paid <= flow.energy(0.0, x) + 1e-13


def test_quadratic_interaction_contracts_by_its_exact_rate():
    x = RNG.normal(size=(50, 3)) + 4.0
    flow = fl.Particles(50).flow(fl.Interaction("r**2/2"))
    m = np.mean(x, axis=0)
    assert flow.velocity(0.0, x) == pytest.approx(m - x, abs=1e-14)
    assert flow.exact(0.0, x, 0.7) == pytest.approx(m + math.exp(-0.7) * (x - m))
    v = x
    for _ in range(5):
        v, _ = flow.prox(0.0, v, 0.3, ())
    assert v == pytest.approx(m + 1.3**-5 * (x - m), abs=1e-13)
    assert flow.stable_step(0.0, x) == pytest.approx(2.0)


def test_the_mean_feels_the_potential_and_the_deviations_both():
    A, K = np.array([[2.0, 0.5], [0.5, 1.0]]), 3.0
    energy = fl.quadratic(A, center=[1.0, 0.0]) + fl.Interaction(f"{K}*r**2/2")
    flow = fl.Particles(9).flow(energy)
    from scipy.linalg import expm

    m, h, center = np.mean(CLOUD, axis=0), 0.6, np.array([1.0, 0.0])
    mean = center + expm(-h * A) @ (m - center)
    deviations = (CLOUD - m) @ expm(-h * (A + K * np.eye(2)))
    assert flow.exact(0.0, CLOUD, h) == pytest.approx(mean + deviations, abs=1e-13)
    assert flow.exact(0.0, flow.exact(0.0, CLOUD, 0.4), 0.2) == pytest.approx(
        mean + deviations, abs=1e-13
    )
    v, _ = flow.resolvent(0.0, CLOUD, h, ())
    assert np.abs(v - CLOUD - h * flow.velocity(0.0, v)).max() < 1e-14


def test_a_flat_direction_drifts_linearly():
    flow = fl.Particles(1).flow(fl.quadratic([1.0, 0.0], b=[0.0, 2.0]))
    x = np.array([[1.0, 1.0]])
    assert flow.exact(0.0, x, 3.0)[0] == pytest.approx([math.exp(-3.0), 7.0])


def test_only_quadratic_energies_offer_the_exact_flow():
    for energy, _ in ENERGIES.values():
        flow = fl.Particles(9).flow(energy)
        linear = energy is ENERGIES["quadratic"][0]
        assert hasattr(flow, "exact") == linear
        assert hasattr(flow, "stable_step") == linear
    assert not hasattr(fl.Particles(9).flow(fl.Potential("t*x**2")), "exact")


@pytest.mark.parametrize(
    ("formula", "d"), [("1 + r**2/2", 3), ("x**2 - x*y + 3*y**2", 2), ("2*abs(x)", 1)]
)
def test_recognized_sums_equal_the_sum_over_all_pairs(formula, d):
    x = RNG.normal(size=(40, d))
    term = 0.7 * fl.Interaction(formula)
    flow = fl.Particles(40).flow(term)
    assert not flow.pairs(d).rest
    plain = PairSum(term, masked=True)
    assert flow.velocity(0.0, x) == pytest.approx(plain.force(0.0, x), abs=1e-13)
    assert flow.energy(0.0, x) == pytest.approx(plain.energy(0.0, x), abs=1e-13)


def test_parameters_are_recognized_by_their_values():
    W = fl.Interaction("a*x**2/2 - b*abs(x)", parameters={"a": 2.0, "b": 0.5})
    found = fl.Particles(3).flow(W).pairs(1)
    assert found.matrix.tolist() == [[2.0]]
    assert (found.kink, found.rest) == (-0.5, ())


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_chunks_do_not_change_a_bit(monkeypatch, library):
    x = RNG.normal(size=(301, 2))
    if library == "torch":
        x = pytest.importorskip("torch").tensor(x)
    flow = fl.Particles(301).flow(fl.Interaction("exp(-r**2) - 0.3*exp(-r)"))
    results = []
    for rows in (301, 300, 37, 2) + (library == "numpy") * (1,):
        monkeypatch.setattr(pairs, "CPU_NUMBERS", rows * 602)
        results.append((flow.velocity(0.0, x), flow.energy(0.0, x)))
    for v, e in results[1:]:
        assert bool((v == results[0][0]).all())
        assert e == results[0][1]


@pytest.mark.parametrize(
    "failure", [MemoryError(), RuntimeError("can't allocate memory")], ids=repr
)
def test_out_of_memory_halves_the_chunk_and_keeps_every_bit(failure):
    x, seen = RNG.normal(size=(64, 2)), []
    most = 64

    def slope(z):
        seen.append(z.shape[0])
        if z.shape[0] > most:
            raise failure
        return gaussian_slope(z)

    flow = fl.Particles(64).flow(fl.Interaction(gaussian_pairs, gradient=slope))
    whole = flow.velocity(0.0, x)
    most, seen[:] = 9, []
    assert (flow.velocity(0.0, x) == whole).all()
    assert seen[:4] == [64, 32, 16, 8]
    most = 0
    with pytest.raises(
        MemoryError, match="64 pairs needs several arrays of 1024 bytes"
    ):
        flow.velocity(0.0, x)


def test_other_errors_of_the_users_function_pass_through():
    def slope(z):
        raise RuntimeError("broken")

    flow = fl.Particles(9).flow(fl.Interaction(gaussian_pairs, gradient=slope))
    with pytest.raises(RuntimeError, match="broken"):
        flow.velocity(0.0, CLOUD)


@pytest.mark.parametrize("formula", ["1/r", "-log(r)", "r", "exp(-r)"])
def test_coincident_particles_exert_no_force_on_each_other(formula):
    x = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    flow = fl.Particles(3).flow(fl.Interaction(formula))
    alone = fl.Particles(2).flow(fl.Interaction(formula))
    v = flow.velocity(0.0, x)
    pair = alone.velocity(0.0, x[1:])
    assert v[0] == pytest.approx(2 / 3 * pair[0])
    assert (v[0] == v[1]).all()


def test_a_singular_energy_leaves_out_self_pairs_only():
    flow = fl.Particles(2).flow(fl.Interaction("1/r"))
    apart, together = np.array([[0.0, 0.0], [2.0, 0.0]]), np.zeros((2, 2))
    # Two ordered pairs of 1/2, times 1/2, over n^2 = 4.
    assert flow.energy(0.0, apart) == pytest.approx(0.125)
    assert flow.energy(0.0, together) == math.inf


def test_a_kinked_energy_counts_its_value_at_zero():
    flow = fl.Particles(2).flow(fl.Interaction("1 + r"))
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert flow.energy(0.0, x) == pytest.approx(0.5 * (1 + 1 + 6 + 6) / 4)


def test_a_callable_interaction_is_safe_at_zero():
    flow = fl.Particles(9).flow(
        fl.Interaction(
            lambda z: -0.5 * np.log(np.sum(z * z, axis=-1)),
            gradient=lambda z: -z / np.sum(z * z, axis=-1, keepdims=True),
        )
    )
    same = fl.Particles(9).flow(fl.Interaction("-log(r)"))
    assert flow.velocity(0.0, CLOUD) == pytest.approx(same.velocity(0.0, CLOUD))


@pytest.mark.parametrize("formula", ["-abs(x)", "abs(x)", "x**2/2 - abs(x)", "2*r"])
def test_line_particles_and_quantiles_take_the_same_steps(formula):
    order = np.argsort(LINE[:, 0])
    points, line = fl.Particles(9), fl.Quantiles(9)
    energy = fl.Interaction(formula) + fl.Potential("x**4/4 + x")
    v, _ = points.flow(energy).prox(0.0, LINE, 0.5, ())
    u, _ = line.flow(energy).prox(0.0, LINE[order, 0], 0.5, ())
    assert v[order, 0] == pytest.approx(u, abs=1e-14)


def test_a_kink_of_the_potential_is_a_soft_threshold_in_every_dimension():
    v, _ = fl.Particles(9).flow(fl.separable("abs(x)")).prox(0.0, CLOUD, 0.4, ())
    exact = np.sign(CLOUD) * np.maximum(np.abs(CLOUD) - 0.4, 0.0)
    assert v == pytest.approx(exact, abs=1e-14)


def test_a_dense_step_is_refused_when_it_is_too_large(monkeypatch):
    monkeypatch.setattr(implicit, "LARGEST_DENSE", 17)
    flow = fl.Particles(9).flow(fl.Interaction("exp(-r**2)"))
    with pytest.raises(ValueError, match="18 unknowns, at most 17 are allowed"):
        flow.resolvent(0.0, CLOUD, 0.1, ())


def test_unknown_implicit_steps_are_refused_with_the_reason():
    space = fl.Particles(9)
    for energy, text in (
        (fl.Interaction("1/r"), "need a smooth W"),
        (fl.Interaction("abs(x) + x**4"), "attracting kink"),
        (fl.Potential("abs(x)") + fl.Interaction("x**4"), "V with a kink"),
        (fl.Potential("cos(3*abs(x))"), "not known"),
    ):
        for name in ("resolvent", "prox"):
            with pytest.raises(TypeError, match=text):
                getattr(space.flow(energy), name)
    # In the plane r is a kink that the line does not have.
    flow = space.flow(fl.quadratic() + fl.Interaction("r"))
    with pytest.raises(TypeError, match="need a smooth W"):
        flow.resolvent(0.0, CLOUD, 0.1, ())


def test_a_repulsion_without_minimum_is_reported():
    flow = fl.Particles(9).flow(fl.Interaction("-r**2"))
    with pytest.raises(NewtonFailure, match="no minimum"):
        flow.resolvent(0.0, CLOUD, 1.0, ())
    flow = fl.Particles(9).flow(fl.Potential("x**4/4 + y**4/4") + flow.functional)
    v, _ = flow.resolvent(0.0, CLOUD, 0.2, ())
    assert np.abs(v - CLOUD - 0.2 * flow.velocity(0.0, v)).max() < 1e-13


@pytest.mark.parametrize("space", [fl.Particles(4), fl.LangevinParticles(4)], ids=repr)
def test_wrong_states_are_refused(space):
    with pytest.raises(ValueError, match=r"give `x\[:, None\]`"):
        space.admit(np.zeros(4))
    with pytest.raises(ValueError, match=r"has 5 rows, but .* has 4 particles"):
        space.admit(np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"takes \(n, d\), one row a particle"):
        space.admit(np.zeros((4, 2, 2)))
    assert space.admit(np.zeros((4, 2))).shape == (4, 2)


def test_refused_terms_name_the_spaces_that_take_them():
    space = fl.Particles(4)
    with pytest.raises(TypeError, match=r"Particles cannot represent .*Entropy\(2\)"):
        space.flow(fl.Entropy(2.0))
    with pytest.raises(TypeError, match="Spaces that take Internal: Grid, Quantiles"):
        space.flow(fl.porous_medium(2.0))
    noisy = fl.LangevinParticles(4)
    with pytest.raises(TypeError, match="LangevinParticles cannot represent"):
        noisy.flow(fl.porous_medium(2.0))
    with pytest.raises(TypeError, match="temperature would be negative"):
        noisy.flow(fl.quadratic() - fl.Entropy(1.0))
    assert space.accepts(fl.quadratic())
    assert not space.accepts(fl.kl("x**2"))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`n` must be a positive integer, got -1"):
        fl.Particles(-1)
    with pytest.raises(TypeError, match="`n` must be a positive integer, got True"):
        fl.LangevinParticles(True)
    with pytest.raises(TypeError, match="`drift` must be callable"):
        fl.Particles(4).flow(fl.quadratic(), drift="x")


def test_measures_are_sampled_with_a_seed():
    space = fl.Particles(4000)
    gaussian = fl.Gaussian([1.0, -1.0], 2.0)
    with pytest.raises(ValueError, match=r"give rng=\.\.\."):
        space.project(gaussian)
    x = space.project(gaussian, 7)
    assert (x == space.project(gaussian, 7)).all()
    assert (x == space.project(gaussian, Stream(7, "initial"))).all()
    assert not (x == space.project(gaussian, 8)).any()
    # Four standard errors, 4 * 2 / sqrt(4000) = 0.13.
    assert np.mean(x, axis=0) == pytest.approx([1.0, -1.0], abs=0.13)
    generators = (space.project(gaussian, np.random.default_rng(3)) for _ in range(2))
    assert (next(generators) == next(generators)).all()


def test_points_are_taken_as_they_are():
    space = fl.Particles(9, dtype="float32")
    taken = space.project(fl.Empirical(CLOUD))
    assert (taken == CLOUD.astype("float32")).all()
    assert (space.project(fl.Dirac([1.0, 2.0])) == [1.0, 2.0]).all()
    weighted = fl.Empirical(CLOUD, np.arange(9) / 36)
    with pytest.raises(ValueError, match=r"give rng=\.\.\."):
        space.project(weighted)
    assert space.measure(taken).points.shape == (9, 2)


def test_particles_are_labelled_and_langevin_particles_are_not():
    shuffled = CLOUD[::-1].copy()
    assert fl.Particles(9).distance(CLOUD, shuffled) > 0.5
    assert fl.LangevinParticles(9).distance(CLOUD, shuffled) == pytest.approx(0.0)
    moved = CLOUD + np.array([0.3, 0.4])
    assert fl.Particles(9).distance(CLOUD, moved) == pytest.approx(0.5)
    assert fl.LangevinParticles(9).distance(CLOUD, moved) == pytest.approx(0.5)


@pytest.mark.parametrize("space", [fl.Particles(9), fl.LangevinParticles(9)], ids=repr)
def test_a_drift_is_added_and_ends_the_gradient_structure(space):
    plain = space.flow(fl.quadratic())
    flow = space.flow(
        fl.quadratic(), drift=lambda x: np.stack([-x[:, 1], x[:, 0]], axis=-1)
    )
    assert plain.is_gradient
    assert not flow.is_gradient
    assert not hasattr(flow, "exact")
    turn = np.stack([-CLOUD[:, 1], CLOUD[:, 0]], axis=-1)
    assert flow.velocity(0.0, CLOUD) == pytest.approx(turn - CLOUD)
    with pytest.raises(TypeError):
        flow.prox  # noqa: B018
    for bad, kind, text in (
        (lambda x: None, TypeError, "did you forget `return`"),
        (lambda x: x[:, 0], ValueError, r"shape \(9,\) for points of shape \(9, 2\)"),
    ):
        with pytest.raises(kind, match=text):
            space.flow(fl.quadratic(), drift=bad).velocity(0.0, CLOUD)


def test_the_implicit_step_of_a_drift_is_refused():
    flow = fl.Particles(9).flow(fl.quadratic(), drift=lambda x: x)
    with pytest.raises(TypeError, match="derivative of the drift"):
        flow.resolvent  # noqa: B018
    assert flow.default() == ("DormandPrince", None)


@each_energy
def test_torch_and_numpy_agree(energy, x):
    torch = pytest.importorskip("torch")
    flow = fl.Particles(9).flow(energy)
    y = torch.tensor(x)
    assert flow.velocity(0.0, y).numpy() == pytest.approx(
        flow.velocity(0.0, x), abs=1e-14
    )
    assert flow.energy(0.0, y) == pytest.approx(flow.energy(0.0, x), abs=1e-14)
    v, _ = flow.prox(0.0, y, 0.2, ())
    assert isinstance(v, torch.Tensor)
    assert v.numpy() == pytest.approx(flow.prox(0.0, x, 0.2, ())[0], abs=1e-13)


@each_energy
def test_float32_stays_float32(energy, x):
    flow = fl.Particles(9).flow(energy)
    y = x.astype(np.float32)
    assert flow.velocity(0.0, y).dtype == np.float32
    v, _ = flow.prox(0.0, y, 0.2, ())
    assert v.dtype == np.float32
    assert v == pytest.approx(flow.prox(0.0, x, 0.2, ())[0], abs=2e-5)


def test_spaces_and_flows_have_short_names_and_pickle():
    space = fl.LangevinParticles(9, device="cpu")
    assert repr(space) == "LangevinParticles(9, device='cpu')"
    assert repr(fl.Particles(3)) == "Particles(3)"
    for energy, x in ENERGIES.values():
        flow = fl.Particles(9).flow(energy)
        before = flow.velocity(0.0, x)
        again = pickle.loads(pickle.dumps(flow))
        assert (again.velocity(0.0, x) == before).all()
