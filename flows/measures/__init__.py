"""Probability measures: initial data, targets and exact solutions.

A measure knows its dimension, moments, samples and, where they exist, its density, cdf
and quantile function; a space turns it into a state.
"""

from __future__ import annotations

from flows.measures.barenblatt import Barenblatt
from flows.measures.base import Measure, Pieces
from flows.measures.cells import cell_masses
from flows.measures.density import Density
from flows.measures.discrete import Dirac, Empirical
from flows.measures.divergence import kl_divergence
from flows.measures.gaussian import Gaussian
from flows.measures.histogram import Histogram
from flows.measures.mixture import Mixture
from flows.measures.uniform import Uniform

__all__ = [
    "Barenblatt",
    "Density",
    "Dirac",
    "Empirical",
    "Gaussian",
    "Histogram",
    "Measure",
    "Mixture",
    "Pieces",
    "Uniform",
    "cell_masses",
    "kl_divergence",
]
