"""Run the benchmarks and print one line each: what, ours, the peer's, their ratio."""

from __future__ import annotations

import argparse
import platform

import numpy as np
import scipy
from scipy.integrate import solve_ivp

import flows as fl

from .compiled import COMPILED
from .timing import best
from .vectors import VECTORS


def fokker_planck() -> tuple[float, float]:
    """Ornstein-Uhlenbeck on 1000 cells to t = 1 within 1e-3 in L1: against BDF.

    The peer runs with its default tolerances, which give 2e-4.
    """
    p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
    grid = fl.Grid((-8, 8, 1000))
    exact = grid.project(p.exact(1.0))
    start = grid.project(p.exact(0.0))
    flow = grid.flow(p.energy)
    matrix = flow.generator().tocsc()

    def l1(u):
        return float(np.abs(u - exact).sum() * grid.volume)

    def ours():
        # The set-up belongs to the cost: a new flow in every call.
        return fl.solve(
            grid.flow(p.energy), start, (0, 1), fl.SDIRK3(), dt=1 / 4, save_at=[1.0]
        ).u[-1]

    def peer():
        return solve_ivp(
            lambda t, u: matrix @ u,
            (0, 1),
            start,
            method="BDF",
            jac=matrix,
            t_eval=[1.0],
        ).y[:, -1]

    for name, run in (("flows", ours), ("BDF", peer)):
        error = l1(run())
        assert error < 1e-3, f"{name} has error {error:.2e}"
    return best(ours, 15), best(peer)


def langevin() -> tuple[float, float]:
    """Seconds per step of 1e5 particles in the plane: against drawing the normals."""
    n = 100_000
    flow = fl.LangevinParticles(n).flow(
        fl.Entropy(0.3) + fl.Potential("(x**2 - 1)**2/4 + y**2/2")
    )
    start = np.zeros((n, 2))
    options = {"dt": 0.01, "save_at": [1.0], "rng": 0}
    scheme = fl.EulerMaruyama()
    ours = best(lambda: fl.solve(flow, start, (0, 1), scheme, **options), 3) / 100
    generator = np.random.default_rng(0)
    return ours, best(lambda: generator.standard_normal((n, 2)), 30)


BENCHMARKS = {
    **VECTORS,
    **COMPILED,
    "OU on 1000 cells to 1e-3 with set-up; peer solve_ivp(BDF)": (
        fokker_planck,
        8.0,
    ),
    "Langevin 1e5 x 2, per step; peer: NumPy draws the normals": (langevin, 0.5),
}


def main() -> int:
    """Print the table; the exit code says whether every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="benchmarks with this word")
    only = parser.parse_args().only
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"Python {platform.python_version()}, {versions}, {platform.machine()}")
    print(f"{'benchmark':64} {'ours':>10} {'peer':>10} {'ratio':>6} {'goal':>5}")
    missed = 0
    for name, (measure, goal) in BENCHMARKS.items():
        if only not in name:
            continue
        try:
            ours, peer = measure()
        except ImportError as error:
            print(f"{name:64} {error}; make benchmarks installs it")
            continue
        ratio = peer / ours
        missed += ratio < goal
        times = f"{ours * 1e3:8.4f}ms {peer * 1e3:8.4f}ms"
        print(f"{name:64} {times} {ratio:6.2f} {goal:5.2g}")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
