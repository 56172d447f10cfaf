"""Convex functions with kinks and bounds: proximal maps, subgradients, refusals."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

import flows as fl
from flows import nonsmooth as ns
from flows.nonsmooth import strings
from flows.nonsmooth.norms import onto_simplex
from flows.nonsmooth.sums import combined

N = 5
CENTER = np.array([0.3, -0.2, 0.0, 1.0, -1.0])


def pinball(q, z):
    return np.sum(q * np.maximum(z, 0) + (1 - q) * np.maximum(-z, 0), axis=-1)


def inside(condition):
    return np.where(condition, 0.0, np.inf)


# The potential, its value by another formula.
VECTORS = {
    "l1": (ns.l1(0.7), lambda x: 0.7 * np.abs(x).sum(-1)),
    "weighted l1": (
        ns.l1([0.1, 0.5, 1.0, 0.0, 2.0], center=CENTER),
        lambda x: np.abs(x - CENTER) @ [0.1, 0.5, 1.0, 0.0, 2.0],
    ),
    "hinge": (ns.hinge(0.4), lambda x: 0.4 * np.maximum(1 - x, 0).sum(-1)),
    "quantile": (ns.quantile(0.3, center=0.2), lambda x: pinball(0.3, x - 0.2)),
    "l2": (ns.l2(0.8), lambda x: 0.8 * np.linalg.norm(x, axis=-1)),
    "linf": (ns.linf(1.1), lambda x: 1.1 * np.abs(x).max(-1)),
    "tv": (
        ns.total_variation(0.6),
        lambda x: 0.6 * np.abs(np.diff(x, axis=-1)).sum(-1),
    ),
    "huber": (
        ns.huber(0.5),
        lambda x: np.where(np.abs(x) <= 0.5, x**2 / 2, 0.5 * np.abs(x) - 0.125).sum(-1),
    ),
    "box": (
        ns.box(-0.5, [0.1, 0.2, 0.3, 0.4, np.inf]),
        lambda x: inside(
            np.all((x >= -0.5) & (x <= [0.1, 0.2, 0.3, 0.4, np.inf]), axis=-1)
        ),
    ),
    "ball": (
        ns.ball(0.8, CENTER),
        lambda x: inside(np.linalg.norm(x - CENTER, axis=-1) <= 0.8 + 1e-12),
    ),
    "simplex": (
        ns.simplex(2.0),
        lambda x: inside(np.all(x >= 0, axis=-1) & (np.abs(x.sum(-1) - 2.0) <= 1e-12)),
    ),
}
MATRICES = {
    "nuclear": (
        ns.nuclear(0.7),
        lambda W: 0.7 * np.linalg.svd(W, compute_uv=False).sum(-1),
    ),
    "spectral": (
        ns.spectral_norm_squared(),
        lambda W: np.linalg.norm(W, 2, axis=(-2, -1)) ** 2 / 2,
    ),
}
ALL = {**VECTORS, **MATRICES}
EXACT = [*("l1", "weighted l1", "hinge", "quantile", "l2", "linf", "tv"), "nuclear"]
# Where the slope (x - prox(x))/h is that of h -> 0 for every short h.
PIECEWISE_LINEAR = ["l1", "weighted l1", "hinge", "quantile", "linf", "tv", "box"]
every = pytest.mark.parametrize("name", ALL)
vectors = pytest.mark.parametrize("name", VECTORS)


def field(name):
    return ALL[name][0].function


def states(name, seed=0, b=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(b, 4, 3) if name in MATRICES else (b, N))


def square(x):
    return np.sum(x * x, axis=(-2, -1) if x.ndim == 3 else -1)


@every
def test_values_are_those_of_the_formula(name):
    R, x = field(name), states(name)
    for y in (x, R.prox(x, 1.0), 0 * x):
        assert R.value(y) == pytest.approx(ALL[name][1](y), rel=1e-13, abs=1e-14)


@every
@pytest.mark.parametrize("h", [1e-3, 0.5, 20.0])
def test_the_proximal_point_minimizes(name, h):
    R, x = field(name), states(name)
    v = R.prox(x, h)
    value = ALL[name][1]
    least = value(v) + square(x - v) / (2 * h)
    assert np.isfinite(least).all()
    # The objective has curvature 1/h: this is what a minimum says of every point.
    rng = np.random.default_rng(1)
    for size in (3.0, 0.1, 1e-4):
        for _ in range(20):
            y = R.prox(v + size * rng.normal(size=v.shape), 0.1 * h)
            other = value(y) + square(x - y) / (2 * h)
            slack = 1e-12 * (1 + np.abs(least) + square(x) / h)
            assert (other >= least + square(y - v) / (2 * h) - slack).all()


@every
def test_the_proximal_point_solves_its_inclusion(name):
    R, x = field(name), states(name)
    for h in (0.01, 0.7, 30.0):
        v = R.prox(x, h)
        assert np.abs(R.least(v, (v - x) / h)).max() < 1e-13 * (1 + 1 / h)


@every
def test_the_gradient_is_the_shortest_subgradient(name):
    R = field(name)
    x = R.prox(states(name), 0.8)
    g = 0.9 * states(name, seed=5)
    if name == "box":
        x[1, :2] = 0.0
    gaps = []
    for h in (1e-4, 1e-5, 1e-6):
        # The slope of a short proximal step tends to the shortest element.
        slope = (x - R.prox(x - h * g, h)) / h
        gaps.append(np.abs(slope - R.least(x, g)).max())
    if name in PIECEWISE_LINEAR:
        assert max(gaps) < 1e-8
    else:
        assert gaps[0] < 0.01
        assert gaps[2] < gaps[0] / 20 or gaps[2] < 1e-8
    assert R.gradient(x) == pytest.approx(R.least(x, 0 * x), abs=0)


@vectors
def test_the_derivative_of_the_map_is_its_difference_quotient(name):
    R, x, h, e = field(name), states(name), 0.6, 1e-6
    d = states(name, seed=2)
    quotient = (R.prox(x + e * d, h) - R.prox(x - e * d, h)) / (2 * e)
    D = R.derivative(x, h)
    product = D * d if R.separable else np.einsum("bij,bj->bi", D, d)
    assert product == pytest.approx(quotient, abs=1e-8)


@vectors
def test_every_row_is_a_problem_of_its_own_with_its_own_step(name):
    R, x = field(name), states(name)
    steps = np.linspace(0.1, 2.0, len(x))[:, None]
    whole = R.prox(x, steps)
    for row, h, v in zip(x, steps[:, 0], whole, strict=True):
        assert R.prox(row, float(h)) == pytest.approx(v, abs=1e-15)
        assert R.prox(row, h[None]) == pytest.approx(v, abs=1e-15)
    cube = np.stack([x, 2 * x])
    assert R.prox(cube, 0.5)[1] == pytest.approx(R.prox(2 * x, 0.5), abs=1e-15)
    assert R.value(cube).shape == (2, len(x))


@pytest.mark.parametrize("name", MATRICES)
def test_every_matrix_has_its_own_step(name):
    R, x = field(name), states(name)
    steps = np.linspace(0.1, 2.0, len(x))[:, None]
    whole = R.prox(x, steps)
    for W, h, v in zip(x, steps[:, 0], whole, strict=True):
        assert R.prox(W, float(h)) == pytest.approx(v, abs=1e-13)


@every
def test_tensors_give_the_same(name):
    torch = pytest.importorskip("torch")
    R, x = field(name), states(name)
    y = torch.from_numpy(x)
    for ours, theirs in (
        (R.prox(x, 0.4), R.prox(y, 0.4)),
        (R.value(x), R.value(y)),
        (R.gradient(R.prox(x, 0.4)), R.gradient(R.prox(y, 0.4))),
    ):
        assert isinstance(theirs, torch.Tensor)
        assert theirs.numpy() == pytest.approx(ours, abs=1e-12)


@every
def test_float32_stays(name):
    R, x = field(name), states(name).astype(np.float32)
    v = R.prox(x, 0.4)
    assert v.dtype == R.value(v).dtype == R.gradient(v).dtype == np.float32
    assert v == pytest.approx(R.prox(x.astype(float), 0.4), abs=2e-6)
    assert np.isfinite(R.value(v)).all()


@every
def test_potentials_pickle_scale_and_say_how_they_were_typed(name):
    P = ALL[name][0]
    x = states(name)
    again = pickle.loads(pickle.dumps(3.0 * P))
    assert again.prox(x, 0.2) == pytest.approx(P.function.prox(x, 0.2), abs=0)
    assert again.value_at(x) == pytest.approx(3 * P.value_at(x))
    assert repr(again) == f"3*{P!r}"
    assert repr(P).startswith("nonsmooth.")
    if not np.isinf(x).any():
        scaled = P.function.scaled(3.0)
        assert scaled.prox(x, 0.2) == pytest.approx(P.function.prox(x, 0.6), abs=1e-14)


def test_names_can_be_typed_again():
    for P, _ in ALL.values():
        copy = eval(repr(P), {"nonsmooth": ns, "np": np})
        assert repr(copy) == repr(P)


@given(
    name=st.sampled_from(list(ALL)),
    seed=st.integers(0, 2**32 - 1),
    h=st.floats(1e-6, 1e6),
    size=st.floats(1e-6, 1e6),
)
@settings(max_examples=150, deadline=None)
def test_proximal_maps_are_firmly_nonexpansive(name, seed, h, size):
    rng = np.random.default_rng(seed)
    R = field(name)
    x, y = size * rng.normal(size=(2, *((4, 3) if name in MATRICES else (N,))))
    v, w = R.prox(x, h), R.prox(y, h)
    assert np.sum((v - w) * (x - y)) >= np.sum((v - w) ** 2) - 1e-12 * (1 + size**2)


@given(seed=st.integers(0, 2**32 - 1), h=st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_moreau_decomposition_pairs_a_norm_with_the_ball_of_its_dual(seed, h):
    x = np.random.default_rng(seed).normal(size=7)
    a = 0.6
    # x = prox_{hR} x + h prox_{R*/h} (x/h); R* is the indicator of the dual ball.
    pairs = [
        (ns.l1(a), ns.box(-a, a).function.prox),
        (ns.l2(a), ns.ball(a).function.prox),
        (ns.linf(a), lambda y, _: onto_l1_ball(y, a)),
        (ns.quantile(0.3), ns.box(-0.7, 0.3).function.prox),
    ]
    for norm, onto in pairs:
        near, far = norm.function.prox(x, h), onto(x / h, 1.0 / h)
        assert near + h * far == pytest.approx(x, abs=1e-12 * (1 + h))


def onto_l1_ball(y, radius):
    """By bisection for the threshold."""
    if np.abs(y).sum() <= radius:
        return y
    low, high = 0.0, np.abs(y).max()
    for _ in range(200):
        theta = 0.5 * (low + high)
        if np.maximum(np.abs(y) - theta, 0).sum() > radius:
            low = theta
        else:
            high = theta
    return np.sign(y) * np.maximum(np.abs(y) - high, 0)


@pytest.mark.parametrize("name", EXACT)
def test_proximal_steps_are_the_flow_where_they_add_up(name):
    R, x = field(name), states(name)
    assert R.exact
    v = x
    for h in (0.1, 0.3, 0.05):
        v = R.prox(v, h)
    assert v == pytest.approx(
        R.prox(x, 0.45), abs=2e-15 if name != "nuclear" else 1e-13
    )


@pytest.mark.parametrize("name", ["huber", "spectral"])
def test_proximal_steps_that_do_not_add_up_are_not_called_exact(name):
    R, x = field(name), 3 * states(name)
    assert not R.exact
    assert np.abs(R.prox(R.prox(x, 0.3), 0.3) - R.prox(x, 0.6)).max() > 1e-3


def test_the_spectral_step_solves_its_equation():
    R = field("spectral")
    W = np.diag([4.0, 2.0, 1.0])
    for h in (0.1, 1.0, 10.0):
        sigma = np.linalg.svd(R.prox(W, h), compute_uv=False)
        m = sigma[0]
        assert h * m == pytest.approx(np.maximum([4 - m, 2 - m, 1 - m], 0).sum())
        assert sigma == pytest.approx(np.minimum([4.0, 2.0, 1.0], m))


def test_top_singular_values_share_the_subgradient():
    R = field("spectral")
    W = np.diag([2.0, 2.0, 1.0])
    assert R.gradient(W) == pytest.approx(np.diag([1.0, 1.0, 0.0]), abs=1e-14)
    assert R.gradient(np.zeros((2, 3))) == pytest.approx(np.zeros((2, 3)))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_total_variation_agrees_with_its_dual_problem(n):
    rng = np.random.default_rng(n)
    for y in (rng.normal(size=n), np.cumsum(rng.normal(size=n)), np.round(y_ramp(n))):
        for h in (0.05, 1.0, 50.0):
            D = np.diff(np.eye(n), axis=0)
            z = lsq_linear(D.T, y, bounds=(-h, h), tol=1e-14).x
            v = ns.total_variation().function.prox(y, h)
            assert v == pytest.approx(y - D.T @ z, abs=2e-6 * (1 + np.abs(y).max()))


def y_ramp(n):
    return np.linspace(-3, 3, n) + np.sin(np.arange(n))


def test_total_variation_is_the_same_compiled_and_in_python(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.round(np.cumsum(rng.normal(size=2500)), 1)
    R = ns.total_variation(0.3).function
    fast = R.prox(y, 2.0)
    monkeypatch.setattr(strings, "compiled", lambda: None)
    assert R.prox(y, 2.0) == pytest.approx(fast, abs=1e-12)
    assert np.abs(R.least(fast, (fast - y) / 2.0)).max() < 1e-11


@pytest.mark.parametrize("shape", ["walk", "ramp", "zigzag", "constant"])
def test_total_variation_of_a_million_takes_a_moment(shape):
    n = 1_000_000
    k = np.arange(n)
    y = {
        "walk": np.cumsum(np.random.default_rng(0).normal(size=n)),
        "ramp": k / 1000.0,
        "zigzag": (-1.0) ** k + k / n,
        "constant": np.full(n, 0.1),
    }[shape]
    R = ns.total_variation().function
    R.prox(y[:3000], 1.0)
    begin = time.perf_counter()
    v = R.prox(y, 10.0)
    # About 0.05 s; a quadratic method would take hours.
    assert time.perf_counter() - begin < 5.0
    assert np.mean(v) == pytest.approx(np.mean(y), abs=1e-9 * (1 + np.abs(y).max()))
    assert R.value(v) <= R.value(y)


def test_long_steps_of_total_variation_leave_the_mean():
    y = np.random.default_rng(0).normal(size=50)
    v = ns.total_variation().function.prox(y, 1e3)
    assert np.ptp(v) == 0.0
    assert v[0] == pytest.approx(y.mean(), abs=1e-15)
    assert ns.total_variation().function.prox(y[:1], 1.0) == y[0]


def test_a_large_point_is_projected_on_the_simplex_to_rounding():
    x = onto_simplex(np.array([1e12, 1e12 + 0.5, 3.0]), 1.0)
    assert x.sum() == pytest.approx(1.0, abs=1e-15)
    R = ns.simplex().function
    assert np.isfinite(R.value(R.prox(1e8 * states("simplex"), 1.0))).all()


def test_second_derivatives_are_those_of_the_gradient_away_from_kinks():
    d = states("l2", seed=3)[0]
    for name in ("l2", "huber", "l1", "linf"):
        R, x, e = field(name), states(name)[0], 1e-6
        quotient = (R.gradient(x + e * d) - R.gradient(x - e * d)) / (2 * e)
        assert R.hessian(x) @ d == pytest.approx(quotient, abs=1e-8)


def test_formulas_of_norms_enter_equations():
    import sympy

    x = sympy.Symbol("x", real=True)
    energy = ns.l1(2.0, center=1.0) + ns.l2(0.5)
    assert energy.first_variation(1) == 2 * sympy.Abs(x - 1) + sympy.Abs(x) / 2
    assert ns.hinge().function.expr(1).subs(x, -1) == 2


def test_sums_of_kinks_keep_them_in_order():
    parts = [ns.l1(1.0, center=c).function for c in (1.0, -1.0, 0.0)]
    whole = combined(parts)
    x = np.linspace(-6, 6, 41)[:, None]
    v = whole.prox(x, 0.5)
    assert np.abs(whole.least(v, (v - x) / 0.5)).max() < 1e-14
    assert whole.value(x) == pytest.approx(sum(p.value(x) for p in parts))
    assert set(v[np.isin(v, (-1.0, 0.0, 1.0))]) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: ns.l1(-1.0), ValueError, "`a` = -1.0 is not allowed"),
        (lambda: ns.l1("x"), TypeError, "`a` must be real numbers"),
        (lambda: ns.l1([[1.0]]), ValueError, r"`a` has shape \(1, 1\)"),
        (lambda: ns.l1([1.0, 2.0], center=[1, 2, 3]), ValueError, "2 and 3 entries"),
        (lambda: ns.l1(np.inf), ValueError, "not allowed"),
        (lambda: ns.l2(-1.0), ValueError, "`a` must be one number >= 0"),
        (lambda: ns.linf([1.0, 2.0]), ValueError, "`a` must be one number >= 0"),
        (lambda: ns.quantile(1.5), ValueError, "`q` = 1.5 is not allowed"),
        (lambda: ns.huber(0.0), ValueError, "`delta` must be positive"),
        (lambda: ns.simplex(0.0), ValueError, "`total` must be positive"),
        (lambda: ns.ball(-1.0), ValueError, "`radius` must be one number >= 0"),
        (lambda: ns.box(1.0, 0.0), ValueError, "must nowhere exceed"),
        (lambda: ns.box([0, 0], [1, 1, 1]), ValueError, "2 and 3 entries"),
        (lambda: ns.box(np.nan, 1.0), ValueError, "`lower` = nan"),
        (lambda: ns.l1([1.0, 2.0]).value_at(np.ones(3)), ValueError, "2 coordinate"),
        (lambda: ns.nuclear().value_at(np.ones(3)), ValueError, r"\(.., n, k\)"),
        (
            lambda: ns.nuclear().hessian_at(np.ones((2, 2))),
            TypeError,
            "second derivatives",
        ),
        (
            lambda: ns.nuclear().function.derivative(np.ones((2, 2)), 1.0),
            TypeError,
            "derivative of the proximal map",
        ),
    ],
)
def test_wrong_arguments_are_named(make, kind, text):
    with pytest.raises(kind, match=text):
        make()


def test_every_function_is_exported_and_documented():
    for name in set(ns.__all__) - {"ProxField", "potential"}:
        made = getattr(ns, name)
        assert made.__doc__
        assert isinstance(made(), fl.Potential)
