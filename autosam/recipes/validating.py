"""Validation: the score that chooses the checkpoint, and the temperature and threshold that follow."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from autosam.errors import DataError
from autosam.evaluation.calibration import LogitHistogram
from autosam.inference.logits import network_logits
from autosam.inference.segmenter import AutoSam
from autosam.models.checkpoints import Decision
from autosam.models.contract import MaskNetwork
from autosam.overlap import mask_iou
from autosam.recipes.encoding import EncodedImages
from autosam.types import Prompt, Sample

MEMORY_BYTES = 2**30
"""Pictures kept from one epoch to the next, for they are looked at after every one."""


class KeptSamples(Sequence[Sample]):
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

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """One sample, or some in a list."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if index not in self._kept:
            sample = self._samples[index]
            size = sample.image.nbytes + 2 * sample.image.nbytes // 3
            size += sum(band.nbytes for band in sample.bands.values())
            if self._kept_bytes + size > MEMORY_BYTES:
                return sample
            self._kept[index] = sample
            self._kept_bytes += size
        return self._kept[index]


class Validation:
    """Mean per-image IoU at native size, at a probability of one half, prompted as at inference.

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
        """The score of a network, which is the model's own."""
        scores = []
        for index, sample in enumerate(self.samples):
            water = self._logits(index, sample) > 0
            scores.append(mask_iou(water, _labelled(sample), valid=sample.valid))
        return {"iou": float(np.mean(scores))}

    def decide(self) -> tuple[Decision, list[float]]:
        """Choose temperature and threshold; the scores are each picture's IoU with them."""
        self._model.network.eval()
        histogram = LogitHistogram()
        for index, sample in enumerate(self.samples):
            logits = self._logits(index, sample)
            histogram.add(logits, truth=_labelled(sample), valid=sample.valid)
        temperature = histogram.temperature()
        threshold, _ = histogram.threshold(temperature=temperature)
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
