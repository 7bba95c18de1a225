"""Validation: the score that chooses the checkpoint, and the temperature and threshold that follow."""

from collections.abc import Sequence

import numpy as np

from autosam.data.sample_sequences import SampleSequence
from autosam.errors import DataError
from autosam.evaluation.calibration import LogitHistogram
from autosam.inference.logits import network_logits
from autosam.inference.segmenter import AutoSam
from autosam.models.checkpoints import Decision
from autosam.models.contract import MaskNetwork
from autosam.overlap import mask_iou, water_score
from autosam.recipes.encoding import EncodedImages
from autosam.types import Prompt, Sample

MEMORY_BYTES = 2**30
"""Pictures kept from one epoch to the next, for they are looked at after every one."""


CHOOSES = "water_score"
"""Which of the scores of a validation the best weights have."""


class KeptSamples(SampleSequence):
    """Samples that are decoded once, as far as they fit in memory; the others each time.

    Args:
        samples: Which decode when they are asked for.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._kept: dict[int, Sample] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, place: int) -> Sample:
        """The sample at a place, decoded now or before."""
        if place not in self._kept:
            sample = self._samples[place]
            size = sample.image.nbytes + 2 * sample.image.nbytes // 3
            size += sum(band.nbytes for band in sample.bands.values())
            if self._kept_bytes + size > MEMORY_BYTES:
                return sample
            self._kept[place] = sample
            self._kept_bytes += size
        return self._kept[place]


class Validation:
    """How good the masks are at native size, at a probability of one half, prompted as at inference.

    Args:
        model: Holds the network that is being trained, and what prompts it.
        samples: Labelled.
        encoded: Their cached image embeddings; None to encode.
    """

    def __init__(
        self, model: AutoSam, samples: Sequence[Sample], encoded: EncodedImages | None
    ) -> None:
        self._model, self._encoded = model, encoded
        self.samples = KeptSamples(samples)
        self._prompts: dict[int, Prompt | None] = {}

    def __call__(self, network: MaskNetwork) -> dict[str, float]:
        """Of a network, which is the model's own: mean IoU, and what chooses the best weights."""
        iou, wet, false_water = [], [], []
        for index, sample in enumerate(self.samples):
            water, truth = self._logits(index, sample) > 0, _labelled(sample)
            iou.append(mask_iou(water, truth, valid=sample.valid))
            valid = sample.valid_area
            if (truth & valid).any():
                wet.append(iou[-1])
            else:
                false_water.append(np.count_nonzero(water & valid) / max(1, valid.sum()))
        return {"iou": float(np.mean(iou)), CHOOSES: water_score(wet, false_water)}

    def decide(self) -> tuple[Decision, list[float]]:
        """Choose temperature and threshold; the scores are each picture's IoU with them."""
        self._model.network.eval()
        histogram = LogitHistogram()
        for index, sample in enumerate(self.samples):
            logits = self._logits(index, sample)
            histogram.add(logits, truth=_labelled(sample), valid=sample.valid)
        temperature = histogram.temperature()
        threshold, _ = histogram.threshold(
            temperature=temperature,
            most_false_water=self._model.config.train.most_false_water,
        )
        boundary = temperature * float(np.log(threshold / (1 - threshold)))
        scores = []
        for index, sample in enumerate(self.samples):
            water = self._logits(index, sample) >= boundary
            scores.append(mask_iou(water, _labelled(sample), valid=sample.valid))
        return Decision(temperature=temperature, threshold=threshold), scores

    def _logits(self, index: int, sample: Sample) -> np.ndarray:
        """Its prompt is made once: it depends on the picture alone, not on what was learnt since."""
        embedding = self._encoded.embedding(sample.name) if self._encoded else None
        seen = self._model.judged(sample)
        if index not in self._prompts:
            self._prompts[index] = self._model.prompt_for(seen, image_embedding=embedding)
        logits: np.ndarray = (
            network_logits(
                self._model.network, seen, prompt=self._prompts[index], image_embedding=embedding
            )
            .cpu()
            .numpy()
        )
        return logits


def _labelled(sample: Sample) -> np.ndarray:
    if sample.mask is None:
        raise DataError(
            f"validation samples must have a mask, got none (sample {sample.name!r}). "
            "Leave it out, or give it a mask."
        )
    return sample.mask
