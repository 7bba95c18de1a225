"""One sample masked by one model: embed, prompt, decode, and what the model says of its own answer."""

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from autosam.data.augmentation import VIEWS, mean_of_views, view_sample
from autosam.data.geometry import Frame
from autosam.errors import DataError, ModelError
from autosam.inference.coarse_models import shares_encoder
from autosam.inference.explaining import explain_mask
from autosam.inference.logits import image_embedding_of, low_logits, original_logits, square_of
from autosam.models.autosam import PromptedSam
from autosam.models.contract import MaskNetwork
from autosam.models.gauges import embedding_summary
from autosam.prompts.corrections import corrected
from autosam.types import Explanation, ImageEmbedding, Prediction, Prompt, Query, Sample

if TYPE_CHECKING:
    from autosam.inference.segmenter import AutoSam


def mask_sample(
    model: "AutoSam",
    sample: Sample,
    *,
    query: Query | None = None,
    previous: Prediction | None = None,
    image_embedding: ImageEmbedding | None,
) -> Prediction:
    """As `AutoSam.predict_sample`."""
    network, square = model.network, None
    if previous is not None:
        _check_previous(previous, sample, network)
    wanted = model.gauges.domain or shares_encoder(model.coarse, network)
    if image_embedding is None and wanted and isinstance(network, PromptedSam):
        square = square_of(network, sample.image)
        image_embedding = image_embedding_of(network, square)
    prompt = model.prompt_for(sample, image_embedding=image_embedding)
    if query is not None or previous is not None:
        prompt = _corrected(model, prompt, query)
    low, square = low_logits(
        network, sample, square=square, prompt=prompt, image_embedding=image_embedding,
        mask_logits=None if previous is None else previous.mask_logits,
    )  # fmt: skip
    logits = original_logits(network, low, square)
    prediction = Prediction(
        name=sample.name,
        image=sample.image,
        probability=torch.sigmoid(logits / model.decision.temperature).cpu().numpy(),
        threshold=model.decision.threshold,
        valid=sample.valid,
        prompt=prompt,
        made_by=maker(model, dihedral=False),
    )
    if sample.valid_area.any():  # of a picture without data there is nothing to say
        prediction = _gauged(model, prediction, low, square.frame, image_embedding)
    if isinstance(network, PromptedSam):
        prediction = dataclasses.replace(prediction, mask_logits=low[0].cpu().numpy())
    return _explainable(model, prediction)


def maker(model: "AutoSam", *, dihedral: bool) -> str:
    """What a prediction says of who made it: `made_by`."""
    return f"{model.identity} in {len(VIEWS)} views" if dihedral else model.identity


def mask_views(
    model: "AutoSam", sample: Sample, *, image_embedding: ImageEmbedding | None
) -> Prediction:
    """The prediction of the sample as it is, with the mean probability of its eight views.

    What else the model says, its gauges and what clicks would go on from, is of the first view.
    """
    first = mask_sample(model, sample, image_embedding=image_embedding)

    def answer(view: int) -> list[np.ndarray]:
        if view == 0:
            return [first.probability]
        turned = mask_sample(model, view_sample(sample, view), image_embedding=None)
        return [turned.probability]

    (probability,) = mean_of_views(answer)
    mean = dataclasses.replace(first, probability=probability, made_by=maker(model, dihedral=True))
    return _explainable(model, mean)


def _corrected(model: "AutoSam", prompt: Prompt | None, query: Query | None) -> Prompt:
    if not isinstance(model.network, PromptedSam):
        raise ModelError(
            f"corrections must be for a method with a SAM, got {model.config.method!r}. "
            "Train autosam, autosam+decoder or decoder to correct by clicks."
        )
    return corrected(prompt or Prompt(source="learnt"), query)


def _gauged(
    model: "AutoSam",
    prediction: Prediction,
    low: Float[torch.Tensor, "1 low low"],
    frame: Frame,
    image_embedding: ImageEmbedding | None,
) -> Prediction:
    """With what the model can say of its own answer, as far as it was fitted to."""
    presence, domain = model.gauges.presence, model.gauges.domain
    if presence is not None:
        likely = presence.probability(model.water_evidence(low, frame))
        prediction = dataclasses.replace(prediction, presence=likely)
    if domain is None or image_embedding is None:
        return prediction
    distance = domain.distance(embedding_summary(image_embedding)[0])
    return dataclasses.replace(
        prediction, domain_distance=distance, expected_iou=domain.expected_iou(distance)
    )


def _explainable(model: "AutoSam", prediction: Prediction) -> Prediction:
    """With `as_points`, where there is a SAM to try points on."""
    if not isinstance(model.network, PromptedSam):
        return prediction
    return dataclasses.replace(
        prediction, explain=functools.partial(_explained, model.network, prediction)
    )


def _explained(network: PromptedSam, prediction: Prediction) -> Explanation:
    """Encodes the picture again rather than keeping its embedding with every prediction."""
    embedding = image_embedding_of(network, square_of(network, prediction.image))
    return explain_mask(network.sam, embedding, prediction.mask, valid=prediction.valid)


def _check_previous(previous: Prediction, sample: Sample, network: MaskNetwork) -> None:
    """A correction goes on from a mask of the same picture on the same grid."""
    if not isinstance(previous, Prediction):
        raise DataError(
            f"previous must be a Prediction, got {type(previous).__name__}. "
            "Give what predict returned for this picture."
        )
    logits = previous.mask_logits
    side = network.low_side
    if logits is None and isinstance(network, PromptedSam):
        raise DataError(
            f"previous must be a prediction of a model with a SAM, whose mask can be fed back, got that of "
            f"{previous.made_by or 'another'} without. Correct what this model predicted."
        )
    if not np.array_equal(previous.image, sample.image) or (
        logits is not None and logits.shape != (side, side)
    ):
        raise DataError(
            f"previous must be a prediction of the same picture by the same kind of model, got that of "
            f"{previous.name!r} {previous.image.shape[:2]} for {sample.name!r} {sample.size}. "
            "Predict this picture first."
        )
