"""Fisher metrics: Gaussian coordinates, categorical laws, torch models, their flows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import flows as fl
from flows import metrics
from flows.linear import NewtonFailure
from flows.spaces.fisher_models import FisherModel

CHARTS = [
    metrics.fisher_cholesky,
    metrics.fisher_covariance,
    metrics.fisher_natural,
    metrics.fisher_moments,
]
each_chart = pytest.mark.parametrize("chart", CHARTS, ids=lambda c: c.__name__)
each_dimension = pytest.mark.parametrize("d", [1, 2, 4])
PROBLEMS = [fl.problems.forward_kl, fl.problems.reverse_kl]
each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.__name__)
START = fl.Gaussian([2.0, -1.0], [[0.3, -0.1], [-0.1, 0.6]])
GOAL = fl.Gaussian([0.0, 1.0], [[1.0, 0.3], [0.3, 0.5]])


def law(d, seed):
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(d, d))
    return fl.Gaussian(rng.normal(size=d), B @ B.T + 0.5 * np.eye(d))


# Coordinates.


@each_chart
@each_dimension
def test_packing_and_unpacking_are_inverse(chart, d):
    metric, g = chart(d), law(d, 1)
    z = metric.start(g)
    assert z.shape == (metric.count,) == (d + d * (d + 1) // 2,)
    m, S = metric.unpack(z)
    assert m == pytest.approx(g.center, abs=1e-12)
    assert pytest.approx(g.covariance, abs=1e-12) == S
    assert metric.measure(z).center == pytest.approx(g.center)
    means = np.stack([g.center, g.center + 1.0])
    many = metric.pack(means, np.stack([g.covariance, 2 * g.covariance]))
    assert many[0] == pytest.approx(z)
    assert metric.unpack(many)[1][1] == pytest.approx(2 * g.covariance)
    assert metric.admissible(many).tolist() == [True, True]
    assert metric.admissible(z) is True


def test_the_layout_is_the_lower_triangle_row_by_row():
    S = np.array([[4.0, 2.0], [2.0, 10.0]])
    assert metrics.fisher_cholesky(2).pack([5.0, 6.0], S) == pytest.approx(
        [5.0, 6.0, 2.0, 1.0, 3.0]
    )
    assert metrics.fisher_covariance(2).pack([5.0, 6.0], S) == pytest.approx(
        [5.0, 6.0, 4.0, 2.0, 10.0]
    )
    P = np.linalg.inv(S)
    assert metrics.fisher_natural(2).pack([5.0, 6.0], S) == pytest.approx(
        [*(P @ [5.0, 6.0]), P[0, 0], P[1, 0], P[1, 1]]
    )
    assert metrics.fisher_moments(2).pack([5.0, 6.0], S) == pytest.approx(
        [5.0, 6.0, 29.0, 32.0, 46.0]
    )


# Metrics.


@each_chart
@each_dimension
def test_the_metric_is_the_second_derivative_of_kl(chart, d):
    metric = chart(d)
    g = law(d, 2)
    z = metric.start(g)
    v = np.random.default_rng(3).normal(size=metric.count)
    v *= 0.2 / np.sqrt(v @ metric.apply(z, v))
    for kl in (metric.forward_kl(g), metric.reverse_kl(g)):
        assert kl.value_at(z) == pytest.approx(0.0, abs=1e-12)
        second = [
            (kl.value_at(z + e * v) + kl.value_at(z - e * v)) / e**2
            for e in (2e-2, 1e-2)
        ]
        best = (4 * second[1] - second[0]) / 3
        assert best == pytest.approx(v @ metric.apply(z, v), rel=1e-5)


@each_chart
def test_the_metric_is_the_covariance_of_the_scores(chart):
    # Exact by quadrature: scores are polynomials of degree 2 in x.
    metric = chart(2)
    g = law(2, 4)
    z = metric.start(g)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    w = np.outer(weights, weights).ravel() / (2 * np.pi)
    x = g.center + grid @ np.linalg.cholesky(g.covariance).T

    def log_density(z):
        m, S = metric.unpack(z)
        e = x - m
        quadratic = np.sum(e * np.linalg.solve(S, e.T).T, axis=1)
        return -0.5 * quadratic - 0.5 * np.linalg.slogdet(S)[1]

    e = 1e-5
    scores = [
        (log_density(z + e * u) - log_density(z - e * u)) / (2 * e) for u in np.eye(5)
    ]
    F = np.einsum("ik,jk,k->ij", scores, scores, w)
    assert metric.dense(z) == pytest.approx(F, rel=1e-6, abs=1e-7)


@each_chart
@each_dimension
def test_solve_inverts_apply_in_batches_and_in_torch(chart, d):
    torch = pytest.importorskip("torch")
    metric = chart(d)
    z = np.stack([metric.start(law(d, k)) for k in range(3)])
    v, w = np.random.default_rng(5).normal(size=(2, *z.shape))
    assert metric.solve(z, metric.apply(z, v)) == pytest.approx(v, abs=1e-9)
    assert metric.apply(z, metric.solve(z, v)) == pytest.approx(v, abs=1e-9)
    left = np.sum(w * metric.apply(z, v), -1)
    assert left == pytest.approx(np.sum(v * metric.apply(z, w), -1))
    for name in ("apply", "solve"):
        whole = getattr(metric, name)(z, v)
        row = getattr(metric, name)(z[1], v[1])
        assert whole[1] == pytest.approx(row)
        tensor = getattr(metric, name)(torch.tensor(z), torch.tensor(v))
        assert tensor.numpy() == pytest.approx(whole, rel=1e-10, abs=1e-10)
        narrow = getattr(metric, name)(z.astype("float32"), v.astype("float32"))
        assert narrow.dtype == np.float32


@each_chart
@each_dimension
def test_kl_has_exact_gradients_and_the_values_of_the_measures(chart, d):
    torch = pytest.importorskip("torch")
    metric, g, goal = chart(d), law(d, 6), law(d, 7)
    z = metric.start(g)
    S, T = g.covariance, goal.covariance
    e = g.center - goal.center

    def kl(e, S, T):
        P = np.linalg.inv(T)
        log = np.linalg.slogdet(T)[1] - np.linalg.slogdet(S)[1]
        return 0.5 * (np.trace(P @ S) - d + e @ P @ e + log)

    for energy, value in (
        (metric.reverse_kl(goal), kl(e, S, T)),
        (metric.forward_kl(goal), kl(e, T, S)),
    ):
        assert energy.value_at(z) == pytest.approx(value)
        slope = [
            (energy.value_at(z + 1e-5 * u) - energy.value_at(z - 1e-5 * u)) / 2e-5
            for u in np.eye(len(z))
        ]
        gradient = energy.gradient_at(z)
        assert gradient == pytest.approx(slope, rel=1e-5, abs=1e-6)
        t = torch.tensor(z)
        assert energy.gradient_at(t).numpy() == pytest.approx(gradient)
        assert float(energy.value_at(t)) == pytest.approx(value)
        batch = energy.gradient_at(np.stack([z, z]))
        assert batch == pytest.approx(np.stack([gradient] * 2))


# Flows.


@each_problem
def test_all_coordinates_move_the_same_law(problem):
    ends = []
    for chart in CHARTS:
        p = problem(START, GOAL, chart(2))
        metric = p.constants["metric"]
        flow = fl.Euclidean(metric=metric).flow(p.energy)
        tight = fl.Adaptive(rtol=1e-9, atol=1e-11)
        sol = fl.solve(flow, p.exact(0.0), (0, 2), fl.DOP853(), dt=tight)
        assert sol.u[-1] == pytest.approx(p.exact(2.0), abs=1e-7)
        assert sol.energy[-1] == pytest.approx(p.exact_energy(2.0), abs=1e-8)
        assert (np.diff(sol.energy) < 0).all()
        ends.append(np.concatenate([a.ravel() for a in metric.unpack(sol.u[-1])]))
    assert np.ptp(ends, axis=0).max() < 1e-7


@each_problem
def test_implicit_steps_follow_the_natural_gradient(problem):
    p = problem(START, GOAL, metrics.fisher_cholesky(2))
    flow = fl.Euclidean(metric=p.constants["metric"]).flow(p.energy)
    errors = [
        np.abs(
            fl.solve(flow, p.exact(0.0), (0, 1), fl.TRBDF2(), dt=h, save_at=[1.0]).u[-1]
            - p.exact(1.0)
        ).max()
        for h in (1 / 8, 1 / 16)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.3)


def test_moments_and_precisions_relax_linearly():
    blend = lambda a, b, s: s * a + (1 - s) * b  # noqa: E731
    s = np.exp(-0.7)
    forward = fl.problems.forward_kl(START, GOAL, metrics.fisher_moments(2))
    at = metrics.fisher_moments(2).start
    assert forward.exact(0.7) == pytest.approx(blend(at(START), at(GOAL), s))
    reverse = fl.problems.reverse_kl(START, GOAL, metrics.fisher_natural(2))
    at = metrics.fisher_natural(2).start
    assert reverse.exact(0.7) == pytest.approx(blend(at(START), at(GOAL), s))
    assert reverse.limit == pytest.approx(at(GOAL))


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0])
def test_euler_is_exact_in_the_coordinates_that_relax(h):
    for problem, chart in (
        (fl.problems.forward_kl, metrics.fisher_moments),
        (fl.problems.reverse_kl, metrics.fisher_natural),
    ):
        p = problem(law(3, 8), law(3, 9), chart(3))
        flow = fl.Euclidean(metric=p.constants["metric"]).flow(p.energy)
        run = fl.steps(flow, p.exact(0.0), fl.Euler(), dt=h)
        for k, (_, u) in zip(range(1, 7), run, strict=False):
            assert u == pytest.approx(p.exact.step(h, k), abs=1e-12)


def test_maximum_likelihood_ends_at_the_moments_of_the_data():
    data = np.random.default_rng(0).normal(size=(50, 2)) @ [[1.0, 0.5], [0.0, 2.0]]
    metric = metrics.fisher_cholesky(2)
    flow = fl.Euclidean(metric=metric).flow(metric.forward_kl(data))
    u0 = metric.pack([3.0, 0.0], np.eye(2))
    m, S = metric.unpack(fl.solve(flow, u0, (0, 30), fl.DormandPrince()).u[-1])
    assert m == pytest.approx(data.mean(0), abs=1e-6)
    assert pytest.approx(np.cov(data.T, bias=True), abs=1e-5) == S


def test_three_metrics_move_one_law_differently():
    # mu0 = 1.5, sigma0 = 0.4 towards N(0, 1), at t = 1.2.
    p = fl.problems.reverse_kl()
    tight = fl.Adaptive(rtol=1e-10, atol=1e-12)

    def end(metric):
        flow = fl.Euclidean(metric=metric).flow(p.energy)
        return fl.solve(flow, p.exact(0.0), (0, 1.2), fl.DOP853(), dt=tight).u[-1]

    assert end(p.constants["metric"]) == pytest.approx([1.093917, 0.622420], abs=1e-6)
    # In one dimension (mu, sigma) are flat coordinates of the Wasserstein metric.
    assert end(None) == pytest.approx([0.451791, 0.961144], abs=1e-6)
    line = fl.problems.ornstein_uhlenbeck(1.5, 0.4).exact(1.2)
    assert [line.mean, line.std] == pytest.approx([0.451791, 0.961144], abs=1e-6)


def test_steps_out_of_the_positive_matrices_are_taken_back():
    p = fl.problems.forward_kl(START, GOAL, metrics.fisher_natural(2))
    flow = fl.Euclidean(metric=p.constants["metric"]).flow(p.energy)
    sol = fl.solve(flow, p.exact(0.0), (0, 1), fl.Euler(), dt=0.1)
    assert sol.stats["halved"] > 0
    assert flow.admissible(sol.u).all()
    assert not flow.admissible(np.array([0.0, 0.0, -1.0, 0.0, -1.0]))
    assert not metrics.fisher_cholesky(1).admissible(np.zeros(2))
    assert not metrics.fisher_moments(1).admissible(np.array([2.0, 4.0]))


# Categorical laws.


def test_softmax_solves_by_the_pseudo_inverse():
    z, g = np.random.default_rng(0).normal(size=(2, 3, 4))
    metric = metrics.fisher_softmax()
    F = metric.dense(z)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    for i in range(3):
        assert F[i] == pytest.approx(np.diag(p[i]) - np.outer(p[i], p[i]))
        solved = metric.solve(z, g)[i]
        assert solved == pytest.approx(np.linalg.pinv(F[i], 1e-12) @ g[i])
    far = metric.apply(np.array([1000.0, 0.0]), np.ones(2))
    assert far == pytest.approx(np.zeros(2))


def test_logits_and_probabilities_move_the_same_law():
    q = np.array([0.1, 0.2, 0.3, 0.4])
    p0 = np.array([0.7, 0.1, 0.1, 0.1])

    def softmax(z):
        w = np.exp(z - z.max(-1, keepdims=True))
        return w / w.sum(-1, keepdims=True)

    def by_p(p):
        return np.sum(p * np.log(p / q), -1)

    def slope(p):
        return np.log(p / q) + 1.0

    def by_z(z):
        return by_p(softmax(z))

    def slope_z(z):
        p = softmax(z)
        g = slope(p)
        return p * (g - np.sum(p * g, -1, keepdims=True))

    tight = fl.Adaptive(rtol=1e-10, atol=1e-12)
    exact = p0 ** np.exp(-1.0) * q ** (1 - np.exp(-1.0))
    exact /= exact.sum()
    flow = fl.Euclidean(metric=metrics.fisher_softmax()).flow(
        fl.Potential(by_z, gradient=slope_z)
    )
    sol = fl.solve(flow, np.log(p0), (0, 1), fl.DOP853(), dt=tight)
    assert softmax(sol.u[-1]) == pytest.approx(exact, abs=1e-9)
    assert np.ptp(sol.u.mean(-1)) < 1e-12
    flow = fl.Euclidean(metric=metrics.fisher_categorical()).flow(
        fl.Potential(by_p, gradient=slope)
    )
    sol = fl.solve(flow, p0, (0, 1), fl.DOP853(), dt=tight)
    assert sol.u[-1] == pytest.approx(exact, abs=1e-9)
    assert sol.u.sum(-1) == pytest.approx(np.ones(len(sol.t)), abs=1e-12)
    v = np.array([0.1, -0.2, 0.1, 0.0])
    metric = metrics.fisher_categorical()
    assert metric.solve(p0, metric.apply(p0, v)) == pytest.approx(v)


# Models.


def data():
    torch = pytest.importorskip("torch")
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(30, 2, generator=rng, dtype=torch.float64)
    y = torch.sin(x[:, 0]) + 0.1 * torch.randn(30, generator=rng, dtype=torch.float64)
    return torch, x, y


def test_regression_fisher_is_the_gauss_newton_matrix():
    torch, x, _ = data()

    def model(w):
        return torch.tanh(x.to(w.dtype) @ w[:2]) * w[2] + w[3]

    w = np.array([0.3, -1.0, 0.8, 0.1])
    J = torch.func.jacrev(model)(torch.tensor(w)).numpy()
    F = J.T @ J / 30 / 0.25
    metric = metrics.fisher_regression(model, std=0.5, damping=0.1)
    assert metric.dense(w) == pytest.approx(F + 0.1 * np.eye(4))
    g = np.array([1.0, 2.0, -1.0, 0.5])
    exact = np.linalg.solve(F + 0.1 * np.eye(4), g)
    assert metric.solve(w, g) == pytest.approx(exact)
    both = metric.solve(np.stack([w, 2 * w]), np.stack([g, g]))
    assert both[0] == pytest.approx(exact)
    tensor = metric.solve(torch.tensor(w), torch.tensor(g))
    assert tensor.dtype == torch.float64
    assert tensor.numpy() == pytest.approx(exact)
    narrow = metric.solve(w.astype("float32"), g.astype("float32"))
    assert narrow.dtype == np.float32
    assert narrow == pytest.approx(exact, rel=1e-3)


def test_classification_fisher_averages_over_the_models_own_labels():
    torch, x, _ = data()

    def logits(w):
        return x @ w.reshape(2, 3)

    w = torch.tensor(np.random.default_rng(1).normal(size=6))
    p = torch.softmax(logits(w), -1)
    F = torch.zeros(6, 6, dtype=torch.float64)
    for label in range(3):
        log = torch.func.jacrev(lambda w: torch.log_softmax(logits(w), -1)[:, label])  # noqa: B023
        scores = log(w)
        F += torch.einsum("n,ni,nj->ij", p[:, label], scores, scores) / 30
    metric = metrics.fisher_classification(logits)
    assert metric.dense(w).numpy() == pytest.approx(F.numpy(), abs=1e-12)


def test_empirical_fisher_is_the_mean_of_outer_products_of_scores():
    torch, x, y = data()

    def log_likelihood(w):
        return -0.5 * (y - x @ w) ** 2

    w = torch.tensor([0.5, -0.3], dtype=torch.float64)
    scores = torch.func.jacrev(log_likelihood)(w)
    metric = metrics.fisher_empirical(log_likelihood)
    exact = (scores.T @ scores / 30).numpy()
    assert metric.dense(w).numpy() == pytest.approx(exact)
    true = metrics.fisher_regression(lambda w: x @ w).dense(w).numpy()
    assert np.abs(true - exact).max() > 0.1


def test_natural_gradient_of_linear_regression_goes_straight_to_the_solution():
    torch, x, y = data()
    metric = metrics.fisher_regression(lambda w: x.to(w.dtype) @ w)
    energy = fl.Potential(lambda w: 0.5 * ((w @ x.T - y) ** 2).mean(-1))
    flow = fl.Euclidean(metric=metric).flow(energy)
    w0 = np.array([2.0, -3.0])
    best = torch.linalg.lstsq(x, y[:, None]).solution[:, 0].numpy()
    sol = fl.solve(flow, w0, (0, 1), fl.RK4(), dt=0.1)
    assert sol.u[-1] == pytest.approx(best + np.exp(-1.0) * (w0 - best), abs=1e-6)


# Refusals.


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`d` must be a positive integer"):
        metrics.fisher_cholesky(0)
    metric = metrics.fisher_covariance(2)
    with pytest.raises(ValueError, match="expected"):
        metric.pack([1.0, 2.0], np.eye(3))
    with pytest.raises(np.linalg.LinAlgError, match="covariance of the Gaussian"):
        metric.pack([1.0, 2.0], -np.eye(2))
    with pytest.raises(np.linalg.LinAlgError, match="precision of the Gaussian"):
        metrics.fisher_natural(1).unpack(np.array([1.0, -1.0]))
    flow = fl.Euclidean(metric=metric).flow(metric.reverse_kl(GOAL))
    with pytest.raises(ValueError, match=r"fisher_covariance\(2\) has 5 coordinates"):
        fl.solve(flow, np.ones(4), (0, 1), fl.RK4(), dt=0.1)


def test_wrong_targets_are_refused():
    metric = metrics.fisher_cholesky(2)
    with pytest.raises(TypeError, match="`target` must be a Gaussian"):
        metric.reverse_kl(np.ones((3, 2)))
    with pytest.raises(TypeError, match="a measure with a mean and a covariance"):
        metric.forward_kl("data")
    with pytest.raises(ValueError, match="data are"):
        metric.forward_kl(np.ones(3))
    with pytest.raises(ValueError, match="lives in R"):
        metric.forward_kl(fl.Gaussian(0.0, 1.0))
    with pytest.raises(ValueError, match="is singular"):
        metric.forward_kl(np.ones((3, 2)))
    with pytest.raises(TypeError, match="`law` must be a Gaussian"):
        fl.problems.reverse_kl(law=1.0)
    with pytest.raises(ValueError, match="they must agree"):
        fl.problems.reverse_kl(START, fl.Gaussian(0.0, 1.0))
    with pytest.raises(TypeError, match="must be a Fisher metric of Gaussians"):
        fl.problems.forward_kl(START, GOAL, np.eye(2))


def test_wrong_models_are_refused():
    x = data()[1]
    with pytest.raises(TypeError, match="must be a callable of the parameters"):
        metrics.fisher_regression(3.0)
    with pytest.raises(ValueError, match="`std` must be positive"):
        metrics.fisher_regression(lambda w: x @ w, std=0.0)
    with pytest.raises(ValueError, match="`damping` must be at least 0"):
        metrics.fisher_regression(lambda w: x @ w, damping=-1.0)
    with pytest.raises(TypeError, match="tensor with one row a sample"):
        metrics.fisher_regression(lambda w: w.sum()).apply(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="logits are"):
        metrics.fisher_classification(lambda w: x @ w).apply(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="one number a sample"):
        metrics.fisher_empirical(lambda w: x * w).apply(np.ones(2), np.ones(2))
    flat = FisherModel(lambda w: 0.0 * (x @ w), lambda out, w: w)
    with pytest.raises(NewtonFailure, match="positive definite"):
        flat.solve(np.ones(2), np.ones(2))


def test_flows_in_closed_metrics_can_be_differentiated_and_model_metrics_refuse():
    torch, x, y = data()
    p = fl.problems.reverse_kl(START, GOAL, metrics.fisher_cholesky(2))
    flow = fl.Euclidean(metric=p.constants["metric"]).flow(p.energy)

    def final(u, adjoint=None):
        return fl.solve(
            flow, u, (0, 1), fl.RK4(), dt=0.1, save_at=[1.0], adjoint=adjoint
        ).u[-1][0]

    u0 = p.exact(0.0)
    u = torch.tensor(u0, requires_grad=True)
    (slope,) = torch.autograd.grad(final(u, fl.Backprop()), u)
    near = [(final(u0 + 1e-6 * e) - final(u0 - 1e-6 * e)) / 2e-6 for e in np.eye(5)]
    assert slope.numpy() == pytest.approx(near, abs=1e-7)
    metric = metrics.fisher_regression(lambda w: x @ w)
    energy = fl.Potential(lambda w: 0.5 * ((w @ x.T - y) ** 2).mean(-1))
    flow = fl.Euclidean(metric=metric).flow(energy)
    w = torch.tensor([2.0, -3.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(TypeError, match="is not differentiated itself"):
        fl.solve(flow, w, (0, 1), fl.RK4(), dt=0.1, adjoint=fl.Backprop())


@each_chart
def test_everything_pickles(chart):
    metric = chart(2)
    for p in (metric.forward_kl(GOAL), metric.reverse_kl(GOAL)):
        again = pickle.loads(pickle.dumps(p))
        z = metric.start(START)
        assert again.value_at(z) == p.value_at(z)
    problem = fl.problems.reverse_kl(START, GOAL, metric)
    again = pickle.loads(pickle.dumps(problem))
    assert (again.exact(1.0) == problem.exact(1.0)).all()
    assert repr(metric) == f"{chart.__name__.replace('Fisher', 'fisher_').lower()}(2)"


def test_a_torch_module_is_a_function_of_its_parameters_and_stays_what_it_is():
    torch, x, y = data()
    labels = (y > 0).long()
    torch.manual_seed(0)
    layers = torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
    module = torch.nn.Sequential(*layers)
    outputs = metrics.outputs(module, x)
    start = outputs.start.double()
    assert torch.allclose(outputs(start), module(x.float()).double(), atol=1e-6)
    both = outputs(torch.stack([start, 2.0 * start]))
    assert torch.equal(both[1], outputs(2.0 * start))

    def loss(w):
        each = [torch.nn.functional.cross_entropy(z, labels) for z in outputs(w)]
        return torch.stack(each)

    def logs(w):
        return torch.log_softmax(outputs(w), -1)[torch.arange(30), labels]

    V = fl.Potential(lambda w: loss(w[None])[0] if w.ndim == 1 else loss(w))
    true = metrics.fisher_classification(outputs, damping=1e-2)
    J = torch.func.jacrev(outputs)(start)
    p = torch.softmax(outputs(start), -1)
    H = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    F = torch.einsum("nip,nij,njq->pq", J, H, J) / 30
    v = torch.linspace(-1.0, 1.0, 22, dtype=torch.float64)
    assert torch.allclose(true.apply(start, v), F @ v + 1e-2 * v, atol=1e-14)
    S = torch.func.jacrev(logs)(start)
    empirical = metrics.fisher_empirical(logs, damping=1e-2)
    F = S.T @ S / 30
    assert torch.allclose(empirical.apply(start, v), F @ v + 1e-2 * v, atol=1e-14)
    before = [p.clone() for p in module.parameters()]
    for metric in (true, empirical):
        flow = fl.Euclidean(metric=metric).flow(V)
        sol = fl.solve(flow, start, (0, 0.5), fl.Heun(), dt=0.1)
        assert sol.energy[-1] < sol.energy[0]
    assert all(map(torch.equal, before, module.parameters()))


def test_models_that_are_no_functions_of_the_parameters_are_refused():
    torch, x, _ = data()
    module = torch.nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"give fl.metrics.outputs\(module, inputs\)"):
        metrics.fisher_classification(module)
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module"):
        metrics.outputs(lambda w: w, x)
    with pytest.raises(TypeError, match="`inputs` must be a tensor"):
        metrics.outputs(module, x.numpy())
    with pytest.raises(ValueError, match="has 6 parameters, got a vector of shape"):
        metrics.outputs(module, x)(torch.zeros(5))
    constant = metrics.fisher_regression(lambda w: 0.0 * w[:1] + x[:, 0])
    with pytest.raises(NewtonFailure, match=r"give a \(larger\) `damping`"):
        constant.solve(np.ones(2), np.ones(2))
