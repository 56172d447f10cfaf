"""Small networks with their gradients by input and by parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Network", "bound_ratio"]

Array = Any


def activated(name: str, z: Array) -> tuple[Array, Array]:
    """Values and derivatives of tanh, relu or the identity."""
    if name == "tanh":
        y = np.tanh(z)
        return y, 1.0 - y * y
    if name == "relu":
        return np.maximum(z, 0.0), (z > 0.0).astype(float)
    if name == "linear":
        return z, np.ones_like(z)
    raise ValueError(f"`activation` must be tanh, relu or linear, got {name!r}.")


@dataclass(frozen=True, eq=False)
class Network:
    """f(x) = c . h_l with h_0 = x and h_{t+1} = g(W_t h_t + b_t)."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    readout: Array
    activation: str

    @classmethod
    def random(
        cls, widths: tuple[int, ...], activation: str, rng: np.random.Generator
    ) -> Network:
        """Independent normal weights, divided by the root of the width."""
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        return cls(
            tuple(rng.normal(size=(m, n)) / np.sqrt(n) for m, n in pairs),
            tuple(rng.normal(size=m) for m, _ in pairs),
            rng.normal(size=widths[-1]),
            activation,
        )

    def layers(self, x: Array) -> tuple[list[Array], list[Array], list[Array]]:
        """Inputs h_t of the layers, their Jacobians dh_t/dx, and derivatives g'."""
        h, J = [x], [np.eye(len(x))]
        slopes = []
        for W, b in zip(self.weights, self.biases, strict=True):
            value, slope = activated(self.activation, W @ h[-1] + b)
            h.append(value)
            slopes.append(slope)
            J.append(slope[:, None] * (W @ J[-1]))
        return h, J, slopes

    def gradients(self, x: Array) -> tuple[Array, list[Array], list[Array]]:
        """df/dx, and df/dW_t, df/db_t of every layer."""
        h, _, slopes = self.layers(x)
        back, by_weight, by_bias = self.readout, [], []
        for t in reversed(range(len(self.weights))):
            delta = slopes[t] * back
            by_weight.append(np.outer(delta, h[t]))
            by_bias.append(delta)
            back = self.weights[t].T @ delta
        return back, by_weight[::-1], by_bias[::-1]


def bound_ratio(net: Network, x: Array) -> float:
    """Left side over right side of the bound of the input gradient at one sample,

        |df/dx|^2 sum_t (1 + |h_t|^2) / (|W_t|^2 |dh_t/dx|^2) <= |df/dtheta|^2

    in spectral norms; theta are the weights and biases of all layers.

    References
    ----------
    B. Dherin, M. Munn, M. Rosca, D. Barrett, Why neural networks find simple solutions,
    NeurIPS (2022), arXiv:2209.13083.
    """
    h, J, _ = net.layers(x)
    by_input, by_weight, by_bias = net.gradients(x)
    right = sum(float(np.sum(g * g)) for g in (*by_weight, *by_bias))
    terms = [
        (1.0 + float(a @ a)) / (np.linalg.norm(W, 2) * np.linalg.norm(D, 2)) ** 2
        for a, W, D in zip(h[:-1], net.weights, J[:-1], strict=True)
        if np.linalg.norm(D, 2) > 0.0
    ]
    left = float(by_input @ by_input) * float(np.sum(terms))
    return left / right if right > 0.0 else 0.0
