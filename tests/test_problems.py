"""What every problem owes: its energy, its rate, its limit, pickling, and refusals."""

from __future__ import annotations

import copy
import math
import pickle
from functools import cache

import numpy as np
import pytest

import flows as fl
from flows import problems
from flows.measures import Measure

LAMBDA = np.array([[2.0, 0.6], [0.6, 1.0]])
COUPLING = np.array([[0.5, -0.4], [-0.4, 1.5]])
COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])
SINGULAR = np.array([[1.0, 1.0], [1.0, 1.0]])

VECTORS = {
    "quadratic": lambda: problems.quadratic(
        LAMBDA, [1.0, -2.0], b=[0.3, 0.1], center=[1, 2]
    ),
    "quadratic batch": lambda: problems.quadratic(
        [1.0, 4.0], [[1.0, 2.0], [3.0, -1.0]]
    ),
    "quadratic singular": lambda: problems.quadratic(
        SINGULAR, [1.0, 2.0], b=[0.5, 0.5]
    ),
    "quadratic drift": lambda: problems.quadratic(SINGULAR, [1.0, 2.0], b=[0.5, -0.2]),
    "power 4": lambda: problems.power(4.0, [1.0, -0.5, 0.2]),
    "power 2": lambda: problems.power(2.0, [1.0, -0.5]),
    "power 1.5": lambda: problems.power(1.5, [1.0, -0.5]),
    "power 1": lambda: problems.power(1.0, [3.0, 4.0]),
    "power 2.7": lambda: problems.power(2.7, -1.5),
    "double well": lambda: problems.double_well([0.3, -2.0]),
    "logistic": lambda: problems.logistic([-3.0, 0.5]),
    "absolute value": lambda: problems.absolute_value([1.0, -0.4]),
    "lasso": lambda: problems.lasso(2.0, 0.5, -1.0),
    "lasso at rest": lambda: problems.lasso(0.3, 0.5, [1.0, -1.0]),
    "log barrier": lambda: problems.log_barrier([0.1, 2.0]),
}
MEASURES = {
    "heat": lambda: problems.heat(),
    "heat 3": lambda: problems.heat(3, mean=[1, 2, 3], std=[0.5, 0.6, 0.7]),
    "ou": lambda: problems.ornstein_uhlenbeck(),
    "ou dirac": lambda: problems.ornstein_uhlenbeck(1.0, 0.0, t=(0.2, 1.0)),
    "ou plane": lambda: problems.ornstein_uhlenbeck(
        [1.0, -1.0], COVARIANCE, rate=LAMBDA, temperature=0.7, center=[0.5, 0.0]
    ),
    "ou singular": lambda: problems.ornstein_uhlenbeck([1.0, 0.0], 0.5, rate=SINGULAR),
    "ou cold": lambda: problems.ornstein_uhlenbeck(1.0, 0.5, temperature=0.0),
    "ou mixture": lambda: problems.ornstein_uhlenbeck_mixture(
        temperature=0.6, rate=1.3
    ),
    "ou mixture plane": lambda: problems.ornstein_uhlenbeck_mixture(
        [[1.0, 0.0], [-1.0, 0.5]], [0.6, COVARIANCE], None, rate=LAMBDA
    ),
    "mckean": lambda: problems.mckean_vlasov_quadratic(coupling=2.0),
    "mckean plane": lambda: problems.mckean_vlasov_quadratic(
        [1.0, -1.0], COVARIANCE, rate=LAMBDA, coupling=COUPLING, center=[0.5, 0.0]
    ),
    "mckean free": lambda: problems.mckean_vlasov_quadratic(rate=0.0, coupling=1.5),
    "mckean mixture": lambda: problems.mckean_vlasov_mixture(coupling=0.7),
    "aggregation": lambda: problems.aggregation_quadratic(
        fl.Gaussian(1.0, 0.5), strength=2.0
    ),
    "aggregation box": lambda: problems.aggregation_quadratic(
        fl.Uniform([0, 0], [1, 2])
    ),
    "repulsion": lambda: problems.attraction_repulsion(),
    "repulsion normal": lambda: problems.attraction_repulsion(
        fl.Gaussian(1.0, 0.5), attraction=2.0, repulsion=0.7
    ),
    "reflected": lambda: problems.reflected_heat(),
    "reflected box": lambda: problems.reflected_heat(
        [0.2, 1.0], [0.2, 0.3], box=((0, 1), (0.5, 2)), temperature=0.5
    ),
    "reflected modes": lambda: problems.reflected_heat(
        amplitudes=[0.5, -0.3], box=(-1, 1)
    ),
    "periodic": lambda: problems.periodic_heat(box=(-1, 2), temperature=2.0),
    "periodic modes": lambda: problems.periodic_heat(0.4, amplitudes=[0.5, 0.2]),
    "gibbs": lambda: problems.gibbs(T=0.3),
    "gibbs plane": lambda: problems.gibbs("x**4/4 + x*y/2 + y**2", d=2, T=0.7),
    "gibbs walls": lambda: problems.gibbs("x", box=(0, 2), T=0.5),
    "metastable": lambda: problems.metastable(),
    "metastable tilted": lambda: problems.metastable("x**4/4 - x**2/2 + x/5", 0.4),
    "barenblatt": lambda: problems.barenblatt(),
    "barenblatt plane": lambda: problems.barenblatt(3.0, 2, center=[1.0, 2.0]),
    "confined": lambda: problems.confined_barenblatt(),
    "confined space": lambda: problems.confined_barenblatt(
        1.5, 3, 2.0, mean=[1.0, 0.0, 0.0]
    ),
}
ALL = {**VECTORS, **MEASURES}
WITHOUT_RATE = {
    *("quadratic drift", "power 4", "power 2.7", "logistic", "log barrier"),
    *("heat", "heat 3", "ou singular", "barenblatt", "barenblatt plane"),
    *("gibbs", "gibbs plane", "gibbs walls"),
}
RATED = [name for name in ALL if name not in WITHOUT_RATE]
UNBOXED = {"aggregation", "aggregation box", "repulsion", "repulsion normal"}
every = pytest.mark.parametrize("p", ALL, indirect=True)
rated = pytest.mark.parametrize("p", RATED, indirect=True)
vectors = pytest.mark.parametrize("p", VECTORS, indirect=True)
measures = pytest.mark.parametrize("p", MEASURES, indirect=True)


@cache
def made(name):
    return ALL[name]()


@pytest.fixture
def p(request):
    return made(request.param)


def inner_times(p):
    t0, t1 = p.t
    return [t0 + f * (t1 - t0) for f in (0.2, 0.5, 0.9)]


@every
def test_problems_pickle_and_copy(p):
    for other in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
        t = p.t[1]
        mine, theirs = p.exact(t), other.exact(t)
        if isinstance(mine, Measure):
            mine, theirs = mine.moments()[1], theirs.moments()[1]
            assert other.exact_energy(t) == p.exact_energy(t)
        assert np.array_equal(mine, theirs)
        assert repr(other.energy) == repr(p.energy)


@every
def test_repr_is_short_and_recommended_interval_increases(p):
    assert repr(p).startswith("Problem(")
    assert len(repr(p)) < 60
    assert p.t[0] < p.t[1]


@every
def test_initial_is_exact_at_the_first_time(p):
    start = p.initial
    if isinstance(start, Measure):
        assert np.allclose(start.moments()[0], p.exact(p.t[0]).moments()[0])
    else:
        assert np.array_equal(start, p.exact(p.t[0]))


@vectors
def test_exact_energy_of_vectors_is_the_energy_of_the_path(p):
    for t in inner_times(p):
        x = p.exact(t)
        value = sum(term.value_at(x) for term in p.energy.terms)
        assert np.allclose(p.exact_energy(t), value, rtol=1e-12, atol=1e-15)


@measures
def test_exact_energy_of_measures_is_the_energy_of_the_law(p):
    for t in inner_times(p):
        value, exact = p.energy(p.exact(t)), p.exact_energy(t)
        assert value == pytest.approx(exact, rel=1e-8, abs=1e-9)


@rated
def test_energy_gap_decays_at_least_at_the_rate(p):
    span = np.linspace(*p.t, 25)
    F = np.array([p.exact_energy(t) for t in span])
    if isinstance(p.limit, Measure):
        cold = not p.limit.has_density
        end = p.exact_energy(1e3) if cold else p.energy(p.limit)
    else:
        end = sum(term.value_at(p.limit) for term in p.energy.terms)
    gap = F - end
    scale = np.max(np.abs(gap[0]))
    assert scale > 0
    factor = np.exp(-p.rate * np.diff(span))
    bound = (gap[:-1].T * factor).T
    assert (gap >= -1e-9 * scale).all()
    assert (gap[1:] <= bound + 1e-9 * scale).all()


@pytest.mark.parametrize("name", sorted(WITHOUT_RATE))
def test_flows_without_an_exponential_rate_claim_none(name):
    assert made(name).rate is None


@rated
def test_solution_reaches_its_limit(p):
    late = p.exact(p.t[1] + 100.0 / p.rate)
    if isinstance(late, Measure):
        for one, two in zip(late.moments(), p.limit.moments(), strict=True):
            assert np.allclose(one, two, atol=1e-7)
    else:
        assert np.allclose(late, p.limit, atol=1e-12)


@every
def test_named_spaces_accept_the_energy(p):
    d = p.exact(p.t[1]).d if isinstance(p.exact(p.t[1]), Measure) else None
    for name in p.spaces:
        match name:
            case "Grid":
                assert p.grid(16).d == d
                assert p.grid(16).accepts(p.energy)
                p.grid(16).project(p.exact(p.t[1]))
            case "Quantiles":
                space = fl.Quantiles(16)
                assert space.accepts(p.energy)
                assert np.isfinite(space.project(p.exact(p.t[1]))).all()
            case "Euclidean":
                flow = fl.Euclidean().flow(p.energy)
                assert np.isfinite(flow.velocity(0.0, p.exact(p.t[0]))).all()
            case _:
                assert getattr(fl, name)(8).accepts(p.energy)


@pytest.mark.parametrize("p", [n for n in MEASURES if n not in UNBOXED], indirect=True)
def test_box_holds_the_law(p):
    for t in inner_times(p):
        box = p.exact(t).box(1.0 - 1e-12)
        assert (box[:, 0] >= np.array(p.box)[:, 0] - 1e-12).all()
        assert (box[:, 1] <= np.array(p.box)[:, 1] + 1e-12).all()


def test_rosenbrock_has_a_start_and_a_limit_only():
    p = problems.rosenbrock(a=2.0)
    assert p.exact is None
    assert p.initial.tolist() == [-1.2, 1.0]
    assert p.limit.tolist() == [2.0, 4.0]
    term = p.energy.terms[0]
    assert np.allclose(term.gradient_at(p.limit), 0.0)
    values = np.linalg.eigvalsh(term.hessian_at(p.limit))
    assert [p.constants["mu"], p.constants["L"]] == pytest.approx(values, rel=1e-9)
    assert pickle.loads(pickle.dumps(p)).limit.tolist() == [2.0, 4.0]


def test_grid_takes_the_box_and_the_boundary():
    grid = problems.periodic_heat(box=(-1, 2)).grid(30)
    assert grid == fl.Grid((-1, 2, 30), boundary="periodic")
    with pytest.raises(TypeError, match=r"does not live on a Grid, but in: Quantiles"):
        problems.mckean_vlasov_quadratic().grid(10)
    with pytest.raises(TypeError, match="no space of this library"):
        problems.barenblatt(2, 3).grid(10)


def test_problem_checks_its_parts():
    energy = fl.Entropy(1.0)
    with pytest.raises(TypeError, match="`energy` must be an Energy, got 'x'"):
        fl.Problem("p", "x", math.sin, (0, 1))
    with pytest.raises(TypeError, match="`exact` must be a callable of time or None"):
        fl.Problem("p", energy, 3.0, (0, 1))
    with pytest.raises(ValueError, match="without `exact` needs a `start`"):
        fl.Problem("p", energy, None, (0, 1))
    with pytest.raises(ValueError, match=r"`t` = \(1, 1\) must increase"):
        fl.Problem("p", energy, math.sin, (1, 1))


P = problems
REFUSED = {
    "A shape": (
        lambda: P.quadratic(np.ones((2, 3)), [1, 2]),
        r"`A` has shape \(2, 3\)",
    ),
    "A skew": (lambda: P.quadratic([[0, 1], [0, 0]], [1, 2]), "`A` must be symmetric"),
    "b": (lambda: P.quadratic(1.0, [1, 2], b=[1, 2, 3]), r"`b` has shape \(3,\)"),
    "x0": (lambda: P.double_well(np.ones((2, 2, 2))), r"`x0` has shape \(2, 2, 2\)"),
    "nan": (lambda: P.logistic([np.nan]), "`x0` has 1 non-finite"),
    "p": (lambda: P.power(0.5, 1.0), "`p` must be at least 1, got 0.5"),
    "p many": (lambda: P.power([2, 3], 1.0), "`p` must be one number"),
    "lam": (lambda: P.lasso(1.0, -1.0), "`lam` must be at least 0"),
    "barrier": (lambda: P.log_barrier([1.0, 0.0]), "`x0` must be positive"),
    "rosenbrock": (lambda: P.rosenbrock([1.0]), r"expected \(2,\) or \(k, 2\)"),
    "rosenbrock b": (lambda: P.rosenbrock(b=0.0), "`b` must be greater than 0"),
    "t": (lambda: P.double_well(t=(-1, 1)), r"known for t >= 0, got t = -1"),
    "t order": (lambda: P.lasso(t=(2, 1)), r"`t` = \(2, 1\) must increase"),
    "t pair": (lambda: P.lasso(t=(2, 1, 3)), r"`t` must be a pair"),
    "heat d": (lambda: P.heat(0), "`d` must be an integer >= 1, got 0"),
    "heat T": (lambda: P.heat(temperature=0.0), "`temperature` must be greater than 0"),
    "heat mean": (lambda: P.heat(2, mean=[1, 2, 3]), r"`mean` has shape \(3,\)"),
    "ou std": (lambda: P.ornstein_uhlenbeck(1.0, -1.0), "standard deviations must not"),
    "ou T": (
        lambda: P.ornstein_uhlenbeck(temperature=-1),
        "`temperature` must be at le",
    ),
    "ou rate": (
        lambda: P.ornstein_uhlenbeck([1, 2], 1.0, rate=[[0, 1], [0, 0]]),
        "`rate` must be symmetric",
    ),
    "ou center": (
        lambda: P.ornstein_uhlenbeck([1, 2], 1.0, center=[1, 2, 3]),
        r"`center` has shape \(3,\)",
    ),
    "mixture stds": (
        lambda: P.ornstein_uhlenbeck_mixture([1, 2], [1, 2, 3]),
        "`stds` has 3 entries for 2 means",
    ),
    "mixture means": (
        lambda: P.ornstein_uhlenbeck_mixture(np.ones((1, 1, 1)), 1.0),
        r"`means` has shape \(1, 1, 1\)",
    ),
    "mixture weights": (
        lambda: P.mckean_vlasov_mixture([1, 2], 1.0, [0.5, 0.6]),
        "`weights` must sum to 1",
    ),
    "mixture std": (
        lambda: P.ornstein_uhlenbeck_mixture([1, 2], [[1, 2], 1], None),
        r"`std_or_cov` has shape \(2,\)",
    ),
    "coupling": (
        lambda: P.mckean_vlasov_quadratic([1, 2], 1.0, coupling=np.ones((3, 3))),
        r"`coupling` has shape \(3, 3\)",
    ),
    "aggregation": (lambda: P.aggregation_quadratic([1.0, 2.0]), r"x\[:, None\]"),
    "repulsion": (lambda: P.attraction_repulsion(repulsion=-1), "`repulsion` must be"),
    "repulsion d": (
        lambda: P.attraction_repulsion(fl.Uniform([0, 0], [1, 1])),
        "a measure on the line",
    ),
    "coincident": (
        lambda: P.attraction_repulsion([[1.0], [1.0]]),
        "coincident particles never part",
    ),
    "box": (lambda: P.reflected_heat(box=(1, 0)), "`box` must have lo < hi"),
    "box shape": (lambda: P.reflected_heat(box=(1, 0, 2)), r"`box` must be \(lo, hi\)"),
    "outside": (lambda: P.reflected_heat(2.0), "must lie in the box"),
    "wall std": (lambda: P.periodic_heat(0.5, -1.0), "`std` must not be negative"),
    "negative": (lambda: P.reflected_heat(amplitudes=[1.5]), "density negative"),
    "both": (lambda: P.reflected_heat(0.5, amplitudes=[0.5]), "not both"),
    "both too": (lambda: P.periodic_heat(std=0.5, amplitudes=[0.5]), "not both"),
    "amplitudes": (
        lambda: P.reflected_heat(amplitudes=[[0.1]] * 3, box=[(0, 1)] * 2),
        "`amplitudes` has 3 entries for 2 axes",
    ),
    "amplitudes deep": (
        lambda: P.reflected_heat(amplitudes=[[[0.1]]]),
        r"`amplitudes` has shape \(1, 1\) on an axis",
    ),
    "gibbs T": (lambda: P.gibbs(T=0.0), "`T` must be greater than 0"),
    "gibbs time": (lambda: P.gibbs("x**2*(1 + t**2)"), "depends on time"),
    "gibbs box": (lambda: P.gibbs("x**2 + y**2", box=(0, 1)), r"`box` has 1 pair"),
    "amplitude": (lambda: P.metastable(amplitude=0.0), "`amplitude` must be in"),
    "amplitude big": (lambda: P.metastable(amplitude=1.5), "`amplitude` must be in"),
    "gap line": (lambda: P.spectral_gap("x"), "does not confine at T = 1"),
    "gap cold": (lambda: P.spectral_gap("x**4 - x**2", 1e-4), "is too low: a barrier"),
    "gap slow": (lambda: P.spectral_gap("abs(x)"), "did not settle"),
    "gap box": (lambda: P.spectral_gap("x", box=(1, 0)), "`box` must be"),
    "gap T": (lambda: P.spectral_gap("x**2", -1.0), "`T` must be greater than 0"),
    "m": (lambda: P.barenblatt(1.0), "`m` must be greater than 1, got 1"),
    "d": (lambda: P.barenblatt(2.0, 1.5), "`d` must be an integer >= 1"),
    "center": (lambda: P.barenblatt(2.0, 2, center=[1, 2, 3]), "`center` has shape"),
    "confined lam": (lambda: P.confined_barenblatt(lam=0), "`lam` must be greater"),
    "confined r": (
        lambda: P.confined_barenblatt(radius=-1),
        "`radius` must be at least",
    ),
}


@pytest.mark.parametrize(("call", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_parameters_are_refused_with_a_reason(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    "name", ["double_well", "logistic", "barenblatt", "reflected_heat", "metastable"]
)
def test_times_before_the_start_and_strange_times_are_refused(name):
    p = getattr(problems, name)()
    with pytest.raises(ValueError, match=r"known for t >= 0, got t = -0.5"):
        p.exact(-0.5)
    with pytest.raises(ValueError, match="`t` has 1 non-finite"):
        p.exact(math.nan)
    with pytest.raises(TypeError, match="`t` must be real numbers"):
        p.exact("now")


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match="`A` must be real numbers"):
        problems.quadratic("x", 1.0)
    with pytest.raises(TypeError, match="unexpected keyword"):
        problems.heat(temprature=1.0)
