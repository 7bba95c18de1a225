"""What a model can say of its own answer: is there a river at all, and does it know such pictures?"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from autosam.errors import CheckpointError
from autosam.types import ImageEmbedding

EVIDENCE_QUANTILE = 0.995
"""Of the logits of a picture: high where a half per cent of it is surely water."""
FARTHEST_LOGIT = 12.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Presence:
    """Probability that a picture shows a river, from the logits of its wettest half per cent.

    Source: Platt 1999, fitted on validation pictures with and without water.
    """

    scale: float
    shift: float

    def probability(self, evidence: float) -> float:
        """0..1.

        Args:
            evidence: From `water_evidence`.
        """
        return 1 / (1 + math.exp(-float(np.clip(self.scale * evidence + self.shift, -30, 30))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domain:
    """How far a picture's embedding lies from those of training, and what IoU that has meant before."""

    mean: tuple[float, ...]
    """Over the training pictures, of each channel of `embedding_summary`."""
    deviation: tuple[float, ...]
    distances: tuple[float, ...]
    """Rising, of validation pictures."""
    iou: tuple[float, ...]
    """Falling; mean IoU of validation pictures about as far, after isotonic regression."""

    def distance(self, summary: Float[np.ndarray, "channels"]) -> float:
        """Root mean square of the deviations from the mean: about 1 for pictures like those of training."""
        scores = (summary - np.array(self.mean)) / np.array(self.deviation)
        return float(np.sqrt(np.mean(scores**2)))

    def expected_iou(self, distance: float) -> float:
        """IoU to expect at a distance, 0..1.

        Beyond the farthest validation picture nothing was measured: from there it falls in a straight
        line, to 0 at twice that distance.
        """
        farthest = self.distances[-1]
        reached = float(np.interp(distance, self.distances, self.iou))
        beyond = max(0.0, distance / farthest - 1)
        return reached * max(0.0, 1 - beyond)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gauges:
    """Both, as far as the validation pictures allowed to fit them."""

    presence: Presence | None = None
    domain: Domain | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Gauges":
        """What `to_dict` wrote; None gives gauges that say nothing.

        Raises:
            CheckpointError: A key or a value does not fit.
        """
        values = values or {}
        try:
            presence, domain = values.get("presence"), values.get("domain")
            if domain is not None:
                domain = Domain(**{key: tuple(map(float, row)) for key, row in domain.items()})
            return cls(presence=None if presence is None else Presence(**presence), domain=domain)
        except (TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"gauges must hold presence and domain as autosam writes them, got {error}. "
                "Download the model again."
            ) from error


def water_evidence(
    logits: Float[np.ndarray, "height width"], valid: np.ndarray | None, *, temperature: float
) -> float:
    """The calibrated logit that half a per cent of the picture exceeds, within ±12; -12 without data."""
    kept = logits if valid is None else logits[valid]
    if not kept.size:
        return -FARTHEST_LOGIT
    found = float(np.quantile(kept, EVIDENCE_QUANTILE)) / temperature
    return float(np.clip(found, -FARTHEST_LOGIT, FARTHEST_LOGIT))


def embedding_summary(image_embedding: ImageEmbedding) -> Float[np.ndarray, "batch doubled"]:
    """Mean and deviation over the grid of each channel: (batch, 2 * channels) float32."""
    flat = image_embedding.detach().float().flatten(2)
    summary: np.ndarray = np.concatenate(
        [flat.mean(dim=2).cpu().numpy(), flat.std(dim=2).cpu().numpy()], axis=1
    )
    return summary
