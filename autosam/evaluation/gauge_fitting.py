"""Fit what a model says of its own answers: on validation pictures, which nothing was trained on."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression, minimize

from autosam.models.gauges import Domain, Presence

LEAST_PICTURES = 3
"""With water and without, each, below which presence is not fitted."""
LEAST_SCORES = 8
"""Below which the distance says nothing of the IoU."""
KNOTS = 6
"""Groups of pictures, by distance, of which means are kept."""
LEAST_DEVIATION = 1e-3
RIDGE = 1e-3
"""On the slope, so that the fit is finite where pictures are told apart perfectly."""


def fit_presence(evidence: Sequence[float], wet: Sequence[bool]) -> Presence | None:
    """A logistic curve from the evidence for water to the probability of a river.

    Args:
        evidence: Of each picture, from `water_evidence`.
        wet: Whether its true mask has any water.

    Returns:
        None with too few pictures of one kind.

    Source:
        Platt 1999, with his smoothed targets, so that separable pictures do not make certainty.
    """
    seen, truth = np.asarray(evidence, float), np.asarray(wet, bool)
    with_water, without = int(truth.sum()), int((~truth).sum())
    if min(with_water, without) < LEAST_PICTURES:
        return None
    target = np.where(truth, (with_water + 1) / (with_water + 2), 1 / (without + 2))
    weight = np.where(truth, 0.5 / with_water, 0.5 / without)

    def loss(parameters: np.ndarray) -> float:
        logit = parameters[0] * seen + parameters[1]
        entropy = np.logaddexp(0, logit) - target * logit
        return float((weight * entropy).sum() + RIDGE * parameters[0] ** 2)

    scale, shift = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    if scale <= 0:  # more evidence never means less water
        return None
    return Presence(scale=float(scale), shift=float(shift))


def fit_domain(training: np.ndarray, validation: np.ndarray, iou: Sequence[float]) -> Domain | None:
    """The embeddings of training, and what IoU a distance from them has meant.

    Args:
        training: (pictures, channels) from `embedding_summary`.
        validation: The same, of validation pictures.
        iou: Of the validation pictures.

    Returns:
        None with too few pictures.
    """
    if len(iou) < LEAST_SCORES or len(training) < LEAST_SCORES:
        return None
    mean = training.mean(axis=0)
    deviation = np.maximum(training.std(axis=0), LEAST_DEVIATION)
    distance = np.sqrt((((validation - mean) / deviation) ** 2).mean(axis=1))
    order = np.argsort(distance, kind="stable")
    fitted = isotonic_regression(np.asarray(iou, float)[order], increasing=False).x
    parts = np.array_split(np.arange(len(order)), KNOTS)  # single pictures say too little
    return Domain(
        mean=tuple(np.round(mean, 5).tolist()),
        deviation=tuple(np.round(deviation, 5).tolist()),
        distances=tuple(float(distance[order][part].mean()) for part in parts),
        iou=tuple(float(np.clip(fitted[part].mean(), 0, 1)) for part in parts),
    )
