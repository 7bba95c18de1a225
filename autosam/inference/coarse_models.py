"""What stands in for a rule as a coarse mask: a plain function, or a trained model's own mask."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from autosam.errors import ModelError
from autosam.models.autosam import PromptedSam
from autosam.models.contract import MaskNetwork
from autosam.prompts.coarse_masks import CoarseMask
from autosam.types import ImageEmbedding, Sample

if TYPE_CHECKING:
    from autosam.inference.segmenter import AutoSam


class FunctionMask:
    """A plain function from sample to mask as a coarse mask.

    Args:
        function: Gives (height, width) bool.
    """

    def __init__(self, function: Callable[[Sample], np.ndarray]) -> None:
        self._function = function
        self.name = f"coarse {getattr(function, '__name__', type(function).__name__)}"

    def __repr__(self) -> str:
        """Differs for functions whose code or constants differ, and stays the same in another process."""
        code = getattr(self._function, "__code__", None)
        inside = "" if code is None else f"{code.co_code.hex()} {code.co_consts} {code.co_names}"
        return f"{self.name} {hashlib.sha256(inside.encode()).hexdigest()[:16]}"

    def __call__(self, sample: Sample) -> np.ndarray:
        """(height, width) bool."""
        return self._function(sample)


class ModelMask:
    """A trained model's mask as the coarse mask of another's prompts.

    Args:
        model: Any; of a labelled sample it sees no label.
    """

    def __init__(self, model: "AutoSam") -> None:
        self.model = model
        self.name = f"own model {model.config.method}"

    def __call__(self, sample: Sample) -> np.ndarray:
        """(height, width) bool."""
        return self.mask_of(sample, image_embedding=None)

    def mask_of(self, sample: Sample, *, image_embedding: ImageEmbedding | None) -> np.ndarray:
        """(height, width) bool.

        Args:
            sample: The picture.
            image_embedding: Of the model's own image encoder; None to encode.
        """
        unlabelled = dataclasses.replace(sample, mask=None)
        return self.model.predict_sample(unlabelled, image_embedding=image_embedding).mask


def as_coarse(coarse: Any) -> CoarseMask:
    """A rule as it is; a plain function with a name for tables.

    Args:
        coarse: Anything but a trained model, which is a `ModelMask`.

    Raises:
        ModelError: It cannot be called.
    """
    if not callable(coarse):
        raise ModelError(
            f"coarse mask must be a rule, a function from sample to mask or an AutoSam, got "
            f"{type(coarse).__name__}. Load a run with AutoSam.from_pretrained first."
        )
    if hasattr(coarse, "name"):
        return cast(CoarseMask, coarse)
    return FunctionMask(coarse)


def shares_encoder(coarse: CoarseMask | None, network: MaskNetwork) -> bool:
    """Whether a coarse mask is a model behind the same image encoder: one embedding serves both."""
    if not (isinstance(coarse, ModelMask) and isinstance(network, PromptedSam)):
        return False
    other = coarse.model.network
    return (
        isinstance(other, PromptedSam)
        and other.sam.encoder_fingerprint == network.sam.encoder_fingerprint
    )
