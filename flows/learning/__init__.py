"""Flows of machine learning: games, several objectives, masks, averages."""

from __future__ import annotations

from flows.learning.averages import Average, ExponentialAverage
from flows.learning.games import game
from flows.learning.hull import min_norm_weights
from flows.learning.masks import masked
from flows.learning.objectives import multi_objective

__all__ = [
    "Average",
    "ExponentialAverage",
    "game",
    "masked",
    "min_norm_weights",
    "multi_objective",
]
