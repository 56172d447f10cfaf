"""One energy, three discretizations, one exact answer.

    F(rho) = int x^2/2 d rho + int rho log rho,    d_t rho = (rho' + x rho)'

The Wasserstein gradient flow of F is the Ornstein-Uhlenbeck equation (R. Jordan,
D. Kinderlehrer, F. Otto, doi:10.1137/S0036141096303359): by finite volumes, by
minimizing movements of quantiles, by noisy particles. All land on the exact Gaussian.
"""

# %%
import flows as fl
from flows import plotting

RUNS = {
    "finite volumes": (fl.Grid((-8, 8, 400)), fl.ImplicitEuler()),
    "minimizing movements": (fl.Quantiles(400), fl.JKO()),
    "Langevin particles": (fl.LangevinParticles(100_000), fl.EulerMaruyama()),
}


# %%
def main(plot=True, out="figures"):
    p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
    end = p.exact(p.t[1])
    sols, errors = {}, {}
    for name, (space, scheme) in RUNS.items():
        sols[name] = fl.solve(
            space.flow(p.energy), p.exact(0.0), p.t, scheme, dt=0.01, save_at=0.1, rng=0
        )
        errors[name] = fl.wasserstein(sols[name].measure(), end)

    if plot:
        axes = plotting.new_axes(3, height=2.4)
        for ax, (name, sol) in zip(axes, sols.items(), strict=True):
            if "particles" in name:
                plotting.plot_particles(sol, ax, exact=end)
            else:
                plotting.plot_density(sol, ax, count=5, exact=end, bar=False)
                ax.set_xlabel("$x$ (light: $t=0$, dark: $t=1$)")
            ax.set(xlim=(-4, 4), ylim=(0, 0.85))
            ax.set_title(f"{name}\n$W_2$ error {errors[name]:.1e}", fontsize=9)
        plotting.save(axes, "03_one_energy.png", out)

    error, tolerance = max(errors.values()), 0.02
    if error > tolerance:
        raise AssertionError(f"W2 errors {errors}")
    return {"error": error, "tolerance": tolerance, "what": "W2 to the exact law"}


if __name__ == "__main__":
    print(main())
