"""Derivatives through a flow, against exact ones and against finite differences."""

from __future__ import annotations

import itertools
import threading
import weakref

import numpy as np
import pytest

import flows as fl
from flows.linear import Operator

torch = pytest.importorskip("torch")

E = fl.Euclidean()
EXPLICIT = [
    fl.Euler(),
    fl.Heun(),
    fl.RK4(),
    fl.BogackiShampine(),
    fl.DormandPrince(),
    fl.Tsit5(),
    fl.DOP853(),
]
IMPLICIT = [
    fl.ImplicitEuler(),
    fl.TRBDF2(),
    fl.BDF2(),
    fl.SDIRK3(),
    fl.MinimizingMovement(),
    fl.BDF(),
]


def tensor(*values, grad=True):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def scalar(value, grad=True):
    return torch.tensor(value, dtype=torch.float64, requires_grad=grad)


def well(k):
    return fl.Potential("k*r**2/2 + x**4/4 + cos(x*y)", parameters={"k": k})


def captured(k):
    """The same energy, with k in a closure."""
    return fl.Potential(
        lambda x: 0.5 * k * (x**2).sum(-1) + x[..., 0] ** 4 / 4 + torch.cos(x.prod(-1))
    )


def run(energy, x, scheme, adjoint=None, dt=0.1, t=(0, 0.3), save_at=0.15, **more):
    flow = E.flow(energy)
    return fl.solve(flow, x, t, scheme, dt=dt, save_at=save_at, adjoint=adjoint, **more)


def numerical(loss, inputs, seed=0, e=1e-5):
    """Derivative of ``loss`` along a random direction by a central difference."""
    generator = torch.Generator().manual_seed(seed)
    ways = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in inputs]
    with torch.no_grad():
        up = loss(*(x + e * d for x, d in zip(inputs, ways, strict=True)))
        down = loss(*(x - e * d for x, d in zip(inputs, ways, strict=True)))
    return float(up - down) / (2 * e), ways


def along(grads, ways):
    return float(sum((g * d).sum() for g, d in zip(grads, ways, strict=True)))


@pytest.mark.parametrize("energy", [well, captured])
@pytest.mark.parametrize("scheme", EXPLICIT + IMPLICIT, ids=repr)
def test_gradients_of_a_run_pass_gradcheck(scheme, energy):
    x, k = tensor(1.0, -0.5), scalar(1.3)
    many = scheme in (fl.SDIRK3(), fl.DOP853())
    dt = 0.3 if many else 0.15

    def states(x, k):
        return run(energy(k), x, scheme, fl.Backprop(), dt=dt, save_at=0.3).u[1:]

    assert torch.autograd.gradcheck(states, (x, k))


def test_gradients_of_an_adaptive_run_are_those_of_its_steps():
    x, k = tensor(1.0, -0.5), scalar(1.3)
    for scheme in (fl.Tsit5(), fl.SDIRK3()):
        dt = fl.Adaptive(rtol=1e-5)
        sol = run(well(k), x, scheme, fl.Backprop(), dt=dt, save_at=None)
        value = (sol.u[-1] ** 3).sum()
        found = torch.autograd.grad(value, (x, k))

        def loss(x, k, scheme=scheme, times=sol.t):
            for a, b in itertools.pairwise(times):
                u = run(well(k), x, scheme, None, dt=1.0, t=(a, b), save_at=b - a).u
                x = u[-1]
            return (x**3).sum()

        expected, ways = numerical(loss, (x, k))
        assert along(found, ways) == pytest.approx(expected, rel=1e-6)


def test_gradients_by_the_start_of_a_quadratic_flow_are_the_exponential():
    A = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = tensor(1.0, -2.0)
    dt = fl.Adaptive(rtol=1e-10, atol=1e-12)
    values, vectors = np.linalg.eigh(A)
    expected = (vectors * np.exp(-1.5 * values)) @ vectors.T
    for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):

        def end(x, adjoint=adjoint):
            flow = E.flow(fl.quadratic(A))
            return fl.solve(
                flow, x, (0, 1.5), fl.DOP853(), dt=dt, save_at=1.5, adjoint=adjoint
            ).u[-1]

        found = torch.autograd.functional.jacobian(end, x)
        np.testing.assert_allclose(found, expected, atol=1e-8)
    exact = fl.solve(
        E.flow(fl.quadratic(A)), x, (0, 1.5), fl.Exact(), dt=1.5, adjoint=fl.Backprop()
    )
    found = torch.autograd.grad(exact.u[-1, 0], x)[0]
    np.testing.assert_allclose(found, expected[0], atol=1e-14)


def test_gradients_by_a_stiffness_are_those_of_the_exponential():
    k, x = scalar(2.0), tensor(1.5)
    energy = fl.Potential("k*x**2/2", parameters={"k": k})
    dt = fl.Adaptive(rtol=1e-10, atol=1e-12)
    for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
        sol = run(energy, x, fl.DOP853(), adjoint, dt=dt, t=(0, 1), save_at=1.0)
        found = torch.autograd.grad(sol.u[-1, 0], (x, k))
        np.testing.assert_allclose(found[0], np.exp(-2.0), rtol=1e-8)
        np.testing.assert_allclose(found[1], -1.5 * np.exp(-2.0), rtol=1e-8)


def test_implicit_euler_has_the_derivative_of_its_rational_function():
    k, x, h, n = scalar(7.0), tensor(1.5), 0.25, 4
    energy = fl.Potential("k*x**2/2", parameters={"k": k})
    sol = run(energy, x, fl.ImplicitEuler(), fl.Backprop(), dt=h, t=(0, 1), save_at=1.0)
    by_x, by_k = torch.autograd.grad(sol.u[-1, 0], (x, k))
    assert float(by_x) == pytest.approx((1 + 7 * h) ** -n, rel=1e-14)
    slope = -n * h * 1.5 * (1 + 7 * h) ** (-n - 1)
    assert float(by_k) == pytest.approx(slope, rel=1e-14)


@pytest.mark.parametrize(
    "scheme",
    [fl.RK4(), fl.TRBDF2(), fl.Radau(), fl.Rosenbrock(), fl.Exponential()],
    ids=repr,
)
def test_both_adjoints_agree_with_the_order_of_the_scheme(scheme):
    x, k = tensor(1.0, -0.5), scalar(1.3)
    gaps = []
    for n in (8, 16, 32, 64):
        found = []
        for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
            u = run(well(k), x, scheme, adjoint, dt=1 / n, t=(0, 1), save_at=0.5).u
            # Saved states in between make lambda jump.
            loss = (u[1] ** 2).sum() + (u[2] ** 3).sum() + u[0, 0]
            found.append(torch.cat([*map(torch.atleast_1d, grads(loss, x, k))]))
        gaps.append(float((found[0] - found[1]).abs().max()))
    slopes = np.diff(np.log2(gaps))
    assert slopes[-1] == pytest.approx(-scheme.order, abs=0.3)


def grads(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


def test_gradients_by_a_small_network():
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = torch.nn.Linear(2, 6, dtype=torch.float64)
            self.out = torch.nn.Linear(6, 1, dtype=torch.float64)

        def forward(self, x):
            return self.out(torch.tanh(self.hidden(x)))[..., 0] + (x**2).sum(-1)

    net = Net()
    x = torch.randn(3, 2, dtype=torch.float64)
    p = net.hidden.weight
    tight = fl.Adaptive(rtol=1e-9, atol=1e-11)
    cases = [
        (fl.Backprop(), fl.RK4(), 0.1),
        (fl.Backprop(2), fl.TRBDF2(), 0.1),
        (fl.ContinuousAdjoint(), fl.Tsit5(), tight),
        (fl.ContinuousAdjoint(parameters=net), fl.Tsit5(), tight),
    ]
    for adjoint, scheme, dt in cases:

        def loss(adjoint=None, scheme=scheme, dt=dt):
            return (run(fl.Potential(net), x, scheme, adjoint, dt=dt).u ** 2).sum()

        net.zero_grad()
        loss(adjoint).backward()
        # The velocity does not depend on the last bias.
        assert float(net.out.bias.grad) == 0.0
        way = torch.randn_like(p)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p += sign * 1e-5 * way
                values.append(float(loss()))
                p -= sign * 1e-5 * way
        expected = (values[0] - values[1]) / 2e-5
        assert float((p.grad * way).sum()) == pytest.approx(expected, rel=1e-5)


def test_second_derivatives_of_explicit_and_implicit_runs():
    x, k = tensor(1.0, -0.5), scalar(1.3)
    for scheme in (fl.RK4(), fl.ImplicitEuler()):

        def end(x, k, scheme=scheme):
            sol = run(well(k), x, scheme, fl.Backprop(), t=(0, 0.2), save_at=0.2)
            return sol.u[-1]

        assert torch.autograd.gradgradcheck(end, (x, k))


def test_third_derivatives_of_implicit_steps_are_refused():
    x = tensor(1.0, -0.5)
    end = run(well(1.0), x, fl.ImplicitEuler(), fl.Backprop()).u[-1, 0]
    first = torch.autograd.grad(end, x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="Third derivatives of implicit steps"):
        torch.autograd.grad(first.sum(), x, create_graph=True)


def test_the_continuous_adjoint_refuses_second_derivatives():
    x = tensor(1.0, -0.5)
    end = run(well(1.0), x, fl.RK4(), fl.ContinuousAdjoint()).u[-1]
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad((end**2).sum(), x, create_graph=True)


def test_tensors_that_were_computed_keep_their_graph():
    w, x = scalar(0.5), tensor(1.0, -0.5)
    k = torch.exp(w)
    for energy in (well(k), captured(k)):
        u = run(energy, x, fl.RK4(), fl.Backprop()).u
        by_k, by_w = torch.autograd.grad(u[-1].sum(), (k, w), retain_graph=True)
        torch.testing.assert_close(by_w, by_k * k.detach(), rtol=1e-13, atol=0)


def live_bytes(work):
    """Largest number of bytes in tensors made and still alive during ``work``."""
    from torch.utils._python_dispatch import TorchDispatchMode

    now, most, seen = [0], [0], set()

    def gone(key, size):
        seen.discard(key)
        now[0] -= size

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(x, torch.Tensor):
                    store = x.untyped_storage()
                    key, size = store._cdata, store.nbytes()
                    if key not in seen:
                        seen.add(key)
                        now[0] += size
                        most[0] = max(most[0], now[0])
                        weakref.finalize(store, gone, key, size)
            return out

    with Counter():
        work()
    return most[0]


def test_memory_of_backprop_grows_as_the_square_root_of_the_steps():
    x = torch.linspace(-1, 1, 2000, dtype=torch.float64, requires_grad=True)
    energy = fl.Potential(lambda x: torch.cosh(x).sum(-1))

    def peak(n, checkpoints=None):
        def work():
            sol = run(
                energy,
                x,
                fl.RK4(),
                fl.Backprop(checkpoints),
                dt=1 / n,
                t=(0, 1),
                save_at=1.0,
            )
            sol.u[-1].sum().backward()

        return live_bytes(work)

    few, many = peak(16), peak(256)
    # 16 times the steps: 4 times the memory, and whole graphs without checkpoints.
    assert many < 5 * few
    assert peak(256, 1) > 5 * many


def test_checkpoints_do_not_change_the_gradient():
    x, k = tensor(1.0, -0.5), scalar(1.3)
    found = []
    for checkpoints in (None, 1, 3, 100):
        for scheme in (fl.Tsit5(), fl.BDF2()):
            adjoint = fl.Backprop(checkpoints)
            u = run(well(k), x, scheme, adjoint, dt=0.02, save_at=0.1).u
            found.append(torch.cat([*map(torch.atleast_1d, grads(u.sum(), x, k))]))
    for a, b in zip(found[::2], found[2::2], strict=False):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)
    for a, b in zip(found[1::2], found[3::2], strict=False):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)


def test_values_are_those_of_a_run_without_adjoint():
    k, x = scalar(1.3), torch.randn(4, 2, dtype=torch.float64)
    for scheme in (fl.RK4(), fl.TRBDF2()):
        plain = run(well(1.3), x, scheme)
        for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
            sol = run(well(k), x, scheme, adjoint)
            assert sol.u.requires_grad
            assert not sol.final.u.requires_grad
            assert torch.equal(sol.u.detach(), plain.u)
            np.testing.assert_array_equal(sol.t, plain.t)
            np.testing.assert_allclose(sol.energy, plain.energy, rtol=1e-14)


def test_the_members_of_a_batch_share_their_steps():
    x, k = torch.tensor([[1.0, 0.5], [3.0, -2.0]], dtype=torch.float64), scalar(1.3)
    x.requires_grad_()
    dt = fl.Adaptive(rtol=1e-8, atol=1e-10)
    for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
        u = run(well(k), x, fl.Tsit5(), adjoint, dt=dt).u
        found = grads((u[-1] ** 2).sum(), x, k)
        expected, ways = numerical(
            lambda x, k: (run(well(k), x, fl.Tsit5(), dt=dt).u[-1] ** 2).sum(), (x, k)
        )
        assert along(found, ways) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.ImplicitEuler()], ids=repr)
def test_float32_stays_float32(scheme):
    x, k = tensor(1.0, -0.5), scalar(1.3)
    exact = grads(run(well(k), x, scheme, fl.Backprop(), dt=0.01).u[-1].sum(), x, k)
    low = x.detach().float().requires_grad_()
    for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
        u = run(well(k), low, scheme, adjoint, dt=0.01).u
        assert u.dtype == torch.float32
        g = grads(u[-1].sum(), low, k)
        assert (g[0].dtype, g[1].dtype) == (torch.float32, torch.float64)
        rounding = isinstance(adjoint, fl.Backprop)
        np.testing.assert_allclose(g[0], exact[0], rtol=1e-4 if rounding else 0.05)


SPACES = {
    "metric": lambda: fl.Euclidean(metric=np.array([[2.0, 0.5], [0.5, 1.0]])),
    "krylov": lambda: fl.Euclidean(jacobian=fl.Krylov()),
    "particles": lambda: fl.Particles(2),
    "positive": lambda: fl.Mirror.positive(),
}


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.ImplicitEuler()], ids=repr)
@pytest.mark.parametrize("name", SPACES)
def test_other_spaces_and_charts_are_differentiated(name, scheme):
    flow = SPACES[name]().flow
    x = torch.tensor([[1.0, 0.5], [0.7, 2.0]], dtype=torch.float64, requires_grad=True)
    k = scalar(1.3)

    def loss(x, k, adjoint=None):
        sol = fl.solve(flow(well(k)), x, (0, 0.2), scheme, dt=0.1, adjoint=adjoint)
        return (sol.u[1:] ** 2).sum()

    expected, ways = numerical(loss, (x, k))
    found = grads(loss(x, k, fl.Backprop()), x, k)
    assert along(found, ways) == pytest.approx(expected, rel=1e-6)


def test_interacting_particles_and_their_parameters():
    x = torch.randn(4, 2, dtype=torch.float64).requires_grad_()
    k = scalar(0.7)
    for scheme in (fl.RK4(), fl.TRBDF2()):

        def loss(x, k, adjoint=None, scheme=scheme):
            pull = fl.Interaction("-k*exp(-r**2/2)", parameters={"k": k})
            flow = fl.Particles(4).flow(pull + well(1.0))
            sol = fl.solve(flow, x, (0, 0.2), scheme, dt=0.1, adjoint=adjoint)
            return (sol.u[-1] ** 2).sum()

        expected, ways = numerical(loss, (x, k))
        found = grads(loss(x, k, fl.Backprop()), x, k)
        assert along(found, ways) == pytest.approx(expected, rel=1e-6)


def test_a_large_implicit_step_goes_through_a_krylov_method():
    n = 400

    def chain(x):
        return ((x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)

    x = torch.rand(n, dtype=torch.float64).requires_grad_()
    flow = fl.Euclidean(jacobian=fl.Krylov()).flow(fl.Potential(chain))

    def loss(x, adjoint=None):
        sol = fl.solve(flow, x, (0, 0.2), fl.ImplicitEuler(), dt=0.1, adjoint=adjoint)
        return (sol.u[-1] ** 2).sum()

    expected, ways = numerical(loss, (x,))
    assert along(grads(loss(x, fl.Backprop()), x), ways) == pytest.approx(
        expected, rel=1e-6
    )


def test_the_sphere_and_its_retraction_are_differentiated():
    c = tensor(1.0, 2.0, 0.5)
    y = tensor(1.0, 2.0, 2.0)
    energy = fl.Potential(lambda x: (c * x**2).sum(-1))

    def end(y, adjoint):
        return fl.solve(
            fl.Sphere().flow(energy),
            y / y.norm(),
            (0, 0.5),
            fl.Tsit5(),
            dt=fl.Adaptive(rtol=1e-9, atol=1e-11),
            save_at=0.5,
            adjoint=adjoint,
        ).u[-1, 0]

    a, b = (
        grads(end(y, adjoint), y, c)
        for adjoint in (fl.Backprop(), fl.ContinuousAdjoint())
    )
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-8)


def test_noise_counts_as_a_constant():
    x, k = torch.randn(3, 2, dtype=torch.float64).requires_grad_(), scalar(1.3)
    for scheme in (fl.EulerMaruyama(), fl.LeimkuhlerMatthews()):

        def loss(x, k, adjoint=None, scheme=scheme):
            flow = fl.LangevinParticles(3).flow(fl.Entropy(0.2) + well(k))
            sol = fl.solve(flow, x, (0, 0.3), scheme, dt=0.1, rng=1, adjoint=adjoint)
            return (sol.u[-1] ** 2).sum()

        expected, ways = numerical(loss, (x, k))
        found = grads(loss(x, k, fl.Backprop()), x, k)
        assert along(found, ways) == pytest.approx(expected, rel=1e-6)
        with pytest.raises(TypeError, match=r"it is random.*Take Backprop"):
            loss(x, k, fl.ContinuousAdjoint())


def test_a_proximal_map_is_differentiated_on_its_branch():
    def prox(x, h):
        return torch.sign(x) * torch.clamp(abs(x) - h, min=0.0)

    x = tensor(2.0, -0.05)
    energy = fl.Potential(lambda x: abs(x).sum(-1), prox=prox)
    sol = run(energy, x, fl.MinimizingMovement(), fl.Backprop())
    by = torch.autograd.grad(sol.u[-1].sum(), x)[0]
    assert by.tolist() == [1.0, 0.0]
    with pytest.raises(TypeError, match="has a kink"):
        run(energy, x, fl.MinimizingMovement(), fl.ContinuousAdjoint())


def test_a_splitting_is_differentiated():
    class Parts:
        space = None

        def __init__(self, k):
            self.k = k

        def parts(self):
            return {"A": E.flow(fl.quadratic([1.0, 2.0])), "B": E.flow(well(self.k))}

    x, k = tensor(1.0, -0.5), scalar(1.3)
    for inner in (fl.Heun(), fl.ImplicitEuler()):

        def loss(x, k, adjoint=None, inner=inner):
            scheme = fl.Splitting("ABA", inner=inner)
            sol = fl.solve(Parts(k), x, (0, 0.3), scheme, dt=0.1, adjoint=adjoint)
            return (sol.u[-1] ** 2).sum()

        expected, ways = numerical(loss, (x, k))
        found = grads(loss(x, k, fl.Backprop()), x, k)
        assert along(found, ways) == pytest.approx(expected, rel=1e-7)


def test_until_ends_a_run_at_a_constant_time():
    x = tensor(2.0)
    energy = fl.Potential("x**2/2")
    for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
        sol = run(
            energy,
            x,
            fl.Tsit5(),
            adjoint,
            dt=0.05,
            t=(0, 9),
            save_at=None,
            until=lambda t, u: float(u[0]) - 1.0,
        )
        assert sol.t[-1] == pytest.approx(np.log(2.0), rel=1e-8)
        # du/du0 = exp(-t) at that time, not the derivative of u(t*(u0)) = 1.
        (by,) = torch.autograd.grad(sol.u[-1, 0], x)
        assert float(by) == pytest.approx(0.5, rel=1e-7)


def test_a_run_goes_on_from_the_last_state_with_its_graph():
    x, k = tensor(1.0, -0.5), scalar(1.3)
    whole = run(well(k), x, fl.RK4(), fl.Backprop(), t=(0, 0.4), save_at=0.2).u[-1]
    half = run(well(k), x, fl.RK4(), fl.Backprop(), t=(0, 0.2), save_at=0.2).u[-1]
    rest = run(well(k), half, fl.RK4(), fl.Backprop(), t=(0.2, 0.4), save_at=0.2)
    for a, b in zip(
        grads(whole.sum(), x, k), grads(rest.u[-1].sum(), x, k), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_two_threads_at_once_equal_one_after_the_other():
    def work(seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2, generator=generator, dtype=torch.float64).requires_grad_()
        k = scalar(1.0 + seed)
        u = run(well(k), x, fl.TRBDF2(), fl.Backprop(), dt=0.02).u
        found[seed] = torch.cat([*map(torch.atleast_1d, grads(u.sum(), x, k))])

    found = {}
    for seed in (0, 1):
        work(seed)
    alone = dict(found)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        assert torch.equal(found[seed], alone[seed])


def test_without_adjoint_results_carry_no_graph():
    x, k = tensor(1.0, -0.5), scalar(1.3)
    for energy in (well(k), captured(k)):
        for scheme in (fl.RK4(), fl.TRBDF2()):
            sol = run(energy, x, scheme)
            assert not sol.u.requires_grad
            assert torch.is_grad_enabled()


def test_without_anything_to_differentiate_there_is_no_graph():
    sol = run(well(1.0), torch.ones(2, dtype=torch.float64), fl.RK4(), fl.Backprop())
    assert not sol.u.requires_grad


def test_a_run_of_no_time_is_the_identity():
    x = tensor(1.0, -0.5)
    for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
        sol = run(well(1.0), x, fl.RK4(), adjoint, t=(1, 1))
        assert torch.autograd.grad(sol.u[-1].sum(), x)[0].tolist() == [1.0, 1.0]


def test_what_cannot_be_differentiated_is_refused():
    x = tensor(1.0, -0.5)
    numpy = np.array([1.0, 2.0])
    with pytest.raises(TypeError, match=r"NumPy array: give `torch.as_tensor\(u0\)`"):
        run(well(1.0), numpy, fl.RK4(), fl.Backprop())
    with pytest.raises(TypeError, match=r"is the class Backprop; write `Backprop\(\)`"):
        run(well(1.0), x, fl.RK4(), fl.Backprop)
    with pytest.raises(TypeError, match=r"must be None, fl.Backprop\(\) or"):
        run(well(1.0), x, fl.RK4(), "backprop")
    with pytest.raises(TypeError, match=r"give `sol.u\[-1\]`, which keeps its graph"):
        run(well(1.0), run(well(1.0), x, fl.RK4()), fl.RK4(), fl.Backprop(), t=(0.3, 1))
    with pytest.raises(TypeError, match=r"solves equations of its own.*Continuous"):
        run(well(1.0), x, fl.ItohAbe(), fl.Backprop())
    fire = fl.Event(lambda t, u: float(u[0]) - 0.9, jump=lambda t, u: u)
    with pytest.raises(TypeError, match="does not go through `Event"):
        run(well(1.0), x, fl.RK4(), fl.Backprop(), until=fire)


def test_steps_outside_torch_are_refused():
    class Outside:
        space = None

        def velocity(self, t, u):
            return -u.detach()

    x = tensor(1.0)
    with pytest.raises(TypeError, match="cannot differentiate this flow with this"):
        fl.solve(
            Sealed(), x, (0, 1), fl.MinimizingMovement(), dt=0.1, adjoint=fl.Backprop()
        )
    with pytest.raises(TypeError, match="its velocity is computed outside torch"):
        fl.solve(Outside(), x, (0, 1), fl.RK4(), dt=0.1, adjoint=fl.ContinuousAdjoint())


def test_steps_that_autograd_does_not_go_back_through_are_refused():
    class Overwrites:
        space = None

        def prox(self, t, u, h, memory):
            v = torch.exp(u)
            w = v * v
            v[0] = 0.0
            return w, ()

    with pytest.raises(TypeError, match="autograd does not go back through a step"):
        fl.solve(
            Overwrites(),
            tensor(1.0),
            (0, 1),
            fl.MinimizingMovement(),
            dt=0.1,
            adjoint=fl.Backprop(),
        )


class Sealed:
    """A flow with a proximal map that autograd does not see."""

    space = None

    def prox(self, t, u, h, memory):
        return u.detach() / (1 + h), ()


def test_a_prox_that_solves_another_equation_is_refused():
    class Other:
        space = None

        def velocity(self, t, u):
            return -u

        def prox(self, t, u, h, memory):
            return u / (1 + 2 * h), ()

    with pytest.raises(TypeError, match="does not solve v = w"):
        fl.solve(
            Other(),
            tensor(1.0),
            (0, 1),
            fl.MinimizingMovement(),
            dt=0.1,
            adjoint=fl.Backprop(),
        )


def test_a_tensor_that_enters_later_is_an_error():
    x, k = tensor(1.0), scalar(2.0)
    late = {}

    def V(x, t):
        energy = 0.5 * (x**2).sum(-1)
        return energy if t < 0.2 else energy * late["k"]

    late["k"] = k
    energy = fl.Potential(V, time_dependent=True)
    # A dictionary that the function holds is looked through.
    u = run(energy, x, fl.Euler(), fl.Backprop()).u
    assert float(torch.autograd.grad(u[-1].sum(), k)[0]) != 0.0

    class Hidden:
        __slots__ = ("k",)

    hidden = Hidden()
    hidden.k = k

    def W(x, t):
        energy = 0.5 * (x**2).sum(-1)
        return energy if t < 0.2 else energy * hidden.k

    for adjoint in (fl.Backprop(), fl.ContinuousAdjoint()):
        u = run(fl.Potential(W, time_dependent=True), x, fl.Euler(), adjoint).u
        with pytest.raises(RuntimeError, match="the first step did not use"):
            u[-1].sum().backward()


def test_arguments_of_the_adjoints_are_checked():
    with pytest.raises(TypeError, match="`checkpoints` must be a positive integer"):
        fl.Backprop(2.0)
    with pytest.raises(ValueError, match="`checkpoints` must be a positive integer"):
        fl.Backprop(0)
    with pytest.raises(ValueError, match="`dt` must be a positive finite number"):
        fl.ContinuousAdjoint(dt=-1.0)
    with pytest.raises(TypeError, match="`parameters` must be tensors that require"):
        fl.ContinuousAdjoint(parameters=[torch.ones(2)])
    with pytest.raises(TypeError, match="`parameters` must be tensors"):
        fl.ContinuousAdjoint(parameters=[1.0])
    with pytest.raises(ValueError, match="has no error estimate for Adaptive"):
        run(
            well(1.0),
            tensor(1.0, 0.5),
            fl.RK4(),
            fl.ContinuousAdjoint(dt=fl.Adaptive()),
        )


def test_a_backward_pass_that_fails_says_what_to_try():
    x, k = tensor(1.0), scalar(1e4)
    energy = fl.Potential("k*x**2/2", parameters={"k": k})
    few = fl.Adaptive(max_steps=5)
    adjoint = fl.ContinuousAdjoint(fl.DormandPrince(), few)
    u = run(energy, x, fl.ImplicitEuler(), adjoint).u
    with pytest.raises(RuntimeError, match="adjoint equation was not solved"):
        u[-1].sum().backward()


def test_parameters_may_be_named():
    x, k = tensor(1.0, -0.5), scalar(1.3)
    tight = fl.Adaptive(rtol=1e-9)
    for named in ([k], k):
        adjoint = fl.ContinuousAdjoint(parameters=named)
        u = run(captured(k), x, fl.Tsit5(), adjoint, dt=tight).u
        found = grads(u.sum(), x, k)
        u = run(captured(k), x, fl.Tsit5(), fl.Backprop(), dt=tight).u
        torch.testing.assert_close(found, grads(u.sum(), x, k), rtol=1e-7, atol=1e-8)


def test_only_some_times_are_saved():
    x, k = tensor(1.0, -0.5), scalar(1.3)
    times = [0.1, 0.25]
    for adjoint in (fl.Backprop(), fl.Backprop(1), fl.ContinuousAdjoint()):

        def loss(x, k, adjoint=None):
            # The run goes on after the last saved time.
            sol = run(well(k), x, fl.RK4(), adjoint, dt=0.01, save_at=times)
            assert sol.t.tolist() == times
            return (sol.u[0] * sol.u[1]).sum()

        expected, ways = numerical(loss, (x, k))
        found = grads(loss(x, k, adjoint), x, k)
        assert along(found, ways) == pytest.approx(expected, rel=1e-7)


def test_a_solution_with_a_graph_is_still_a_solution(tmp_path):
    x, k = tensor(1.0, -0.5), scalar(1.3)
    sol = run(well(k), x, fl.RK4(), fl.Backprop(), save_at=None)
    assert sol.flow.space is E
    assert sol.stats["energy_rises"] == 0
    assert sol.stats["velocity_calls"] == 4 * sol.stats["steps"]
    assert "never rose" in str(sol)
    assert sol(0.05).requires_grad
    sol.save(tmp_path / "sol.npz")
    assert np.array_equal(
        fl.load(tmp_path / "sol.npz").u.numpy(), sol.u.detach().numpy()
    )


def test_quadratic_flows_are_differentiated_by_their_tensors():
    A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64).requires_grad_()
    b, x = tensor(0.3, -1.0), tensor(1.0, -2.0)

    def loss(A, b, x, scheme, adjoint=None):
        energy = fl.quadratic(0.5 * (A + A.mT), b=b)
        return (run(energy, x, scheme, adjoint).u[-1] ** 2).sum()

    for scheme in (fl.RK4(), fl.ImplicitEuler(), fl.TRBDF2()):
        expected, ways = numerical(
            lambda A, b, x, scheme=scheme: loss(A, b, x, scheme), (A, b, x)
        )
        found = grads(loss(A, b, x, scheme, fl.Backprop()), A, b, x)
        assert along(found, ways) == pytest.approx(expected, rel=1e-7)
    with pytest.raises(TypeError, match="does not see the tensor"):
        loss(A, b, x, fl.Exact(), fl.Backprop())
    a = scalar(2.0)
    sol = run(fl.quadratic(a), x, fl.RK4(), fl.Backprop(), dt=0.01)
    (by,) = grads(sol.u[-1, 0], a)
    assert float(by) == pytest.approx(-0.3 * np.exp(-0.6), rel=1e-8)
    energy = fl.quadratic(a)
    with torch.no_grad():
        a += 1.0
    with pytest.raises(ValueError, match="make the energy anew"):
        run(energy, x, fl.RK4(), fl.Backprop())


@pytest.mark.parametrize(
    "scheme",
    [
        fl.Radau(),
        fl.Rosenbrock(),
        fl.Exponential(),
        fl.AverageVectorField(),
        fl.Gonzalez(),
    ],
    ids=repr,
)
def test_schemes_that_solve_equations_of_their_own_have_exact_derivatives(scheme):
    def end(x, k):
        energy = fl.Potential("k*(x**2 - 1)**2/4 + x*y/3 + y**4/4", {"k": k})
        flow = fl.Euclidean().flow(energy)
        sol = fl.solve(
            flow, x, (0, 0.5), scheme, dt=0.1, save_at=[0.5], adjoint=fl.Backprop()
        )
        return sol.u[-1]

    k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    inputs = tensor(0.4, 1.1), k
    assert torch.autograd.gradcheck(end, inputs, eps=1e-5, atol=1e-7, rtol=1e-6)


METRIC = np.array([[2.0, 0.5], [0.5, 1.0]])
CENTER = torch.tensor([[1.0, 0.3], [2.0, 1.0], [0.5, -1.0]], dtype=torch.float64)


def plane(k):
    text = "k*r**2/2 + x**4/4 + cos(x*y)/2 + exp(0.3*y)"
    return fl.Potential(text, parameters={"k": k})


def solid(k):
    return fl.Potential("k*x**2 + 2*y**2 + z**2/2 + x*y*z", parameters={"k": k})


def matrices(k):
    return fl.Potential(lambda x: (k * (x - CENTER) ** 2 + x**3 / 6).sum((-1, -2)))


def orthogonal(x):
    """The orthonormal matrix next to x."""
    U, _, V = torch.linalg.svd(x, full_matrices=False)
    return U @ V


def same(x):
    return x


# Space, energy, start, and how the start is put into the space inside the graph.
PLACES = {
    "metric": (fl.Euclidean(metric=METRIC), plane, tensor(1.0, -0.5), same),
    "positive": (fl.Mirror.positive(), plane, tensor(1.0, 0.5), same),
    "simplex": (
        fl.Mirror.simplex(),
        solid,
        tensor(0.5, 0.3, 0.2),
        lambda x: x / x.sum(),
    ),
    "heavy ball": (fl.HeavyBall(1.0), plane, tensor(1.0, -0.5, 0.3, 0.1), same),
    # At rest the velocity does not change in time, but next to it it does.
    "Nesterov": (fl.Nesterov(), plane, tensor(1.0, -0.5, 0.0, 0.0), same),
    "sphere": (fl.Sphere(), solid, tensor(0.6, 0.0, 0.8), lambda x: x / x.norm()),
    "Stiefel": (fl.Stiefel(3, 2), matrices, 1.0 * CENTER, orthogonal),
    "l1": (fl.SteepestDescent(fl.norms.l1()), plane, tensor(1.0, -0.5), same),
    "l2": (fl.SteepestDescent(fl.norms.l2()), plane, tensor(1.0, -0.5), same),
    "linf": (fl.SteepestDescent(fl.norms.linf()), plane, tensor(1.0, -0.5), same),
    "unit speed": (
        fl.SteepestDescent(fl.norms.l2(), unit_speed=True),
        plane,
        tensor(1.0, -0.5),
        same,
    ),
    "spectral": (
        fl.SteepestDescent(fl.norms.spectral(3, 2)),
        matrices,
        CENTER + torch.eye(3, 2, dtype=torch.float64),
        same,
    ),
}
IMPLICIT_PLACES = ["metric", "positive", "simplex", "heavy ball", "Nesterov"]
ALL_PLACES = [
    fl.DormandPrince(),
    fl.ImplicitEuler(),
    fl.TRBDF2(),
    fl.BDF(),
    fl.Radau(),
    fl.Rosenbrock(),
    fl.Exponential(),
]


def at_place(name, scheme, dt, adjoint, x, k):
    space, energy, _, placed = PLACES[name]
    t, times = (0.5, 0.7), [0.6, 0.7]
    sol = fl.solve(
        space.flow(energy(k)),
        placed(x),
        t,
        scheme,
        dt=dt,
        save_at=times,
        adjoint=adjoint,
    )
    return (sol.u[0] ** 2).sum() + (sol.u[1] ** 3).sum()


@pytest.mark.parametrize("scheme", ALL_PLACES, ids=repr)
@pytest.mark.parametrize("name", PLACES)
def test_derivatives_in_every_geometry_are_those_of_differences(name, scheme):
    x, k = PLACES[name][2].detach().requires_grad_(), scalar(1.3)
    if name not in IMPLICIT_PLACES and scheme != fl.DormandPrince():
        with pytest.raises(TypeError, match=r"needs `.*Schemes that work here"):
            at_place(name, scheme, 0.05, fl.Backprop(), x, k)
        return
    tight = fl.Adaptive(1e-9, 1e-11)
    pairs = [(fl.Backprop(), 0.05)]
    if scheme.order > 2 and name not in ("linf", "spectral"):
        pairs.append((fl.ContinuousAdjoint(), tight))
    for adjoint, dt in pairs:

        def loss(x, k, adjoint=None, dt=dt):
            return at_place(name, scheme, dt, adjoint, x, k)

        expected, ways = numerical(loss, (x, k))
        found = grads(loss(x, k, adjoint), x, k)
        assert along(found, ways) == pytest.approx(expected, rel=1e-6, abs=1e-7)


ADJOINTS = [fl.Backprop(), fl.ContinuousAdjoint()]


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=lambda a: type(a).__name__)
def test_a_gradient_outside_the_graph_is_refused_and_a_constant_one_is_not(adjoint):
    def outside(x):
        return torch.as_tensor(3 * x.detach().numpy())

    for gradient in (outside, lambda x: 3 * x.detach()):
        energy = fl.Potential(lambda x: 1.5 * (x**2).sum(-1), gradient=gradient)
        with pytest.raises(TypeError, match="its velocity is computed outside torch"):
            run(energy, tensor(1.0, -0.5), fl.RK4(), adjoint)
    x = tensor(1.0)
    u = run(fl.Potential("-2*x"), x, fl.RK4(), adjoint).u
    assert float(grads(u[-1].sum(), x)[0]) == 1.0


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=lambda a: type(a).__name__)
def test_mistakes_with_torch_are_errors_or_harmless(adjoint):
    def loss(x, k):
        energy = fl.Potential(lambda x: 0.5 * k * (x**2).sum(-1))
        return run(energy, x, fl.RK4(), adjoint, dt=0.01).u[-1].sum()

    exact = 0.5 * np.exp(-0.3 * 1.3)
    x, k = tensor(1.0, -0.5), scalar(1.3)
    # A start that needs no derivative.
    (by_k,) = grads(loss(x.detach(), k), k)
    assert float(by_k) == pytest.approx(-0.3 * exact, rel=1e-8)
    with pytest.raises(TypeError, match="float64 on cpu for points that are float32"):
        loss(x.detach().float(), k)
    end = loss(x, k)
    end.backward(retain_graph=True)
    end.backward()
    assert float(k.grad) == pytest.approx(-0.6 * exact, rel=1e-8)
    with pytest.raises(RuntimeError, match="a second time"):
        end.backward()
    for changed in (x, k):
        end = loss(x, k)
        with torch.no_grad():
            changed.mul_(2.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            end.backward()


def test_singular_systems_of_a_derivative_are_a_refusal_that_names_the_way_out():
    """The square root in this norm has no derivative where it is 0."""
    flow = fl.SteepestDescent(fl.norms.l2()).flow(well(1.3))
    x = tensor(1.0, -0.5)
    with pytest.raises(TypeError, match=r"does not go back through.*DormandPrince"):
        fl.solve(flow, x, (0, 0.2), fl.Gonzalez(), dt=0.1, adjoint=fl.Backprop())


@pytest.mark.parametrize("scheme", [fl.Radau(), fl.Exponential()], ids=repr)
def test_schemes_for_lambda_that_need_a_jacobian(scheme):
    x, k = tensor(1.0, -0.5), scalar(1.3)
    tight = fl.Adaptive(1e-9, 1e-11)
    adjoint = fl.ContinuousAdjoint(scheme, tight)
    if scheme == fl.Exponential():
        with pytest.raises(TypeError, match=r"no exponentials.*scheme=Rosenbrock"):
            run(well(k), x, fl.DormandPrince(), adjoint, dt=tight)
        return
    found = grads(run(well(k), x, fl.DormandPrince(), adjoint, dt=tight).u.sum(), x, k)
    u = run(well(k), x, fl.DormandPrince(), fl.Backprop(), dt=tight).u
    torch.testing.assert_close(found, grads(u.sum(), x, k), rtol=1e-7, atol=1e-8)


def test_a_jacobian_without_transpose_leaves_bdf_for_lambda():
    """The heavy ball has a matrix that is known by its products only."""
    flow = Products(fl.HeavyBall(1.0).flow(well(1.3)))
    x, tight = tensor(1.0, -0.5, 0.3, 0.1), fl.Adaptive(1e-9, 1e-11)

    def loss(x, adjoint=None):
        sol = fl.solve(flow, x, (0, 0.2), fl.Radau(), dt=tight, adjoint=adjoint)
        return (sol.u[-1] ** 2).sum()

    expected, ways = numerical(loss, (x,))
    found = grads(loss(x, fl.ContinuousAdjoint()), x)
    assert along(found, ways) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(TypeError, match=r"needs the transpose.*scheme=BDF\(\)"):
        loss(x, fl.ContinuousAdjoint(fl.Radau()))


class Products:
    """A flow whose Jacobian is an operator."""

    def __init__(self, flow):
        self.flow = flow

    def __getattr__(self, name):
        return getattr(self.flow, name)

    def jacobian(self, t, u):
        J = self.flow.jacobian(t, u)
        return Operator(lambda v: (J @ v[..., None])[..., 0], False)
