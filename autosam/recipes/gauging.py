"""After training: fit what the model can say of its own answers, on the pictures that validated it."""

from collections.abc import Sequence

import numpy as np

from autosam.evaluation.gauge_fitting import fit_domain, fit_presence
from autosam.inference.logits import low_logits
from autosam.inference.segmenter import AutoSam
from autosam.models.autosam import PromptedSam
from autosam.models.gauges import Gauges, embedding_summary
from autosam.recipes.encoding import EncodedImages
from autosam.types import Sample

MOST_PICTURES = 1024
"""Of training, whose embeddings are summarised: more would change no mean."""


def fit_gauges(
    model: AutoSam,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    iou: Sequence[float],
    encoded: EncodedImages | None,
) -> Gauges:
    """Presence and domain, as far as the pictures allow.

    Args:
        model: Trained, with its decision.
        training: Whose cached embeddings say what is familiar.
        validation: Labelled.
        iou: Of the validation pictures, in their order.
        encoded: The cached embeddings; None for methods without, which know no domain.
    """
    network = model.network
    evidence, wet, summaries = [], [], []
    for sample in validation:
        embedding = encoded.embedding(sample.name) if encoded else None
        seen = model.judged(sample)
        prompt = model.prompt_for(seen, image_embedding=embedding)
        low, square = low_logits(network, seen, prompt=prompt, image_embedding=embedding)
        evidence.append(model.water_evidence(low, square.frame))
        wet.append(sample.mask is not None and bool((sample.mask & sample.valid_area).any()))
        if embedding is not None:
            summaries.append(embedding_summary(embedding)[0])
    domain = None
    if encoded is not None and isinstance(network, PromptedSam) and summaries:
        domain = fit_domain(_summaries(training, encoded), np.stack(summaries), iou)
    return Gauges(presence=fit_presence(evidence, wet), domain=domain)


def _summaries(training: Sequence[Sample], encoded: EncodedImages) -> np.ndarray:
    """(pictures, channels) of the training pictures, evenly spread where there are many."""
    names = list(getattr(training, "names", [sample.name for sample in training]))
    chosen = names[:: max(1, len(names) // MOST_PICTURES)]
    return np.concatenate([embedding_summary(encoded.embedding(name)) for name in chosen])
