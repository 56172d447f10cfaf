"""The order of the minimizing-movement scheme.

    rho_{k+1} = argmin_rho  F(rho) + W_2(rho, rho_k)^2 / (2 tau)

The scheme of Jordan, Kinderlehrer and Otto (doi:10.1137/S0036141096303359) has order 1
in tau, for linear diffusion with drift and for a porous medium. Errors are measured
inside the space, so that its own resolution does not hide the order.
"""

# %%
import flows as fl
from flows import plotting

SIZES = [1 / 8, 1 / 16, 1 / 32, 1 / 64]


# %%
def study(p, t):
    space = fl.Quantiles(400)
    flow, end = space.flow(p.energy), space.project(p.exact(t[1]))

    def error(tau):
        sol = fl.solve(flow, p.exact(t[0]), t, fl.JKO(), dt=tau, save_at=[t[1]])
        return space.distance(sol.u[-1], end)

    return fl.convergence(error, SIZES, name="tau")


def main(plot=True, out="figures"):
    studies = {
        "Ornstein-Uhlenbeck": study(fl.problems.ornstein_uhlenbeck(1.5, 0.5), (0, 1)),
        "porous medium": study(fl.problems.barenblatt(m=2.0), (0.1, 1.1)),
    }
    for name, result in studies.items():
        print(name, result, sep="\n")

    if plot:
        (ax,) = plotting.new_axes()
        for name, result in studies.items():
            result.plot(ax, label=name)
        ax.set_xticks(SIZES, ["1/8", "1/16", "1/32", "1/64"])
        ax.set_yticks([0.005, 0.01, 0.02, 0.04], ["0.005", "0.01", "0.02", "0.04"])
        ax.minorticks_off()
        ax.set(xlabel=r"step $\tau$", ylabel="$W_2$ error at the end")
        plotting.legend(ax)
        plotting.save(ax, "06_jko_order.png", out)

    error, tolerance = max(abs(r.order[-1] - 1) for r in studies.values()), 0.1
    if error > tolerance:
        raise AssertionError(f"Observed orders {[r.order for r in studies.values()]}")
    return {"error": error, "tolerance": tolerance, "what": "observed order - 1"}


if __name__ == "__main__":
    print(main())
