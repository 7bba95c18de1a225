"""What a user holds: any picture in, its river out."""

import copy
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from autosam.config import (
    Config,
    PromptSettings,
    SamSettings,
    config_from_dict,
)
from autosam.data.geometry import Frame, valid_to_low
from autosam.errors import DataError, ModelError
from autosam.files import PathLike
from autosam.inference.coarse_models import ModelMask, as_coarse
from autosam.inference.devices import choose_device
from autosam.inference.logits import image_embedding_of, square_of
from autosam.inference.model_prompts import (
    automatic_prompt,
    coarse_identity,
    other_prompts,
    prompt_bands,
)
from autosam.inference.picture_sources import Source, is_single, listed, sample_of
from autosam.inference.sample_masking import mask_sample, mask_views
from autosam.inference.stored_models import load_model, push_model, save_model, weights_digest
from autosam.models.autosam import PromptedSam
from autosam.models.checkpoints import Decision
from autosam.models.contract import MaskNetwork
from autosam.models.embedded import RIVER_NANO
from autosam.models.frozen_sam import Sam
from autosam.models.gauges import Gauges, water_evidence
from autosam.models.methods import build_network, method_prompts
from autosam.prompts.coarse_masks import CoarseMask
from autosam.prompts.corrections import correction
from autosam.prompts.prompters import Prompter, make_prompter, needs_coarse
from autosam.types import ImageEmbedding, Prediction, Prompt, Query, Sample


class AutoSam:
    """Prompt-free river segmentation: encode the image, prompt, decode the mask.

    Args:
        config: What to build; a `Config`, or None for the defaults changed by the arguments below.
        method: As `config.method`.
        sam: As `config.sam.name`.
        prompt: As `config.prompt.network`.
        network: A network that is already built; `config` must be the one that built it.
        decision: Temperature and threshold; neutral ones by default.
        facts: What is known of the weights, for the card.
        coarse: What points, boxes and masks are made from, for the methods that are prompted by them.
        gauges: What the model can say of its own answers; nothing by default.
        device: 'cuda', 'mps', 'cpu'; None takes the best there is.

    A model that was built rather than loaded has untrained weights: its masks mean nothing yet.

    Example:
        >>> model = AutoSam.from_pretrained("runs/elwha")       # doctest: +SKIP
        >>> model.predict("ortho.png").save("river.png")         # doctest: +SKIP
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        method: str | None = None,
        sam: str | None = None,
        prompt: str | None = None,
        network: MaskNetwork | None = None,
        decision: Decision | None = None,
        facts: Mapping[str, Any] | None = None,
        coarse: CoarseMask | None = None,
        gauges: Gauges | None = None,
        device: str | None = None,
    ) -> None:
        self.config = _changed(config or Config(), method=method, sam=sam, prompt=prompt)
        self.decision = decision or Decision()
        self.facts = dict(facts or {})
        self.gauges = gauges or Gauges()
        self.device = choose_device(device)
        built = build_network(self.config) if network is None else network
        self.network = built.to(self.device).eval()
        self.coarse = coarse
        self.geometric = method_prompts(self.config)
        """What prompts it at inference; None for the methods that prompt themselves."""

    @classmethod
    def from_pretrained(
        cls,
        source: PathLike = RIVER_NANO,
        *,
        sam: Sam | str | None = None,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
        encoder: bool = True,
        runtime: str | None = None,
    ) -> "AutoSam":
        """Load a trained model, key for key.

        Args:
            source: 'river-nano', which is installed with this package; the folder of a run;
                ``owner/name`` on the hub; or an ONNX file of `autosam export`, which predicts alone.
            sam: In the place of the SAM it names, for instance a local copy of the same weights.
            revision: Branch, tag or commit on the hub.
            token: For a private model; otherwise HF_TOKEN or the stored login is used.
            device: As for the constructor.
            encoder: False leaves SAM's image encoder out of memory; every call then brings the image
                embedding.
            runtime: What encodes on a processor: 'torch', 'onnx' and 'openvino' in float32,
                'torch-bf16' and 'openvino-bf16' in bfloat16, or 'auto' for what `autosam doctor
                --bench` found fastest here. By default torch; of an ONNX file onnxruntime.

        Raises:
            MissingPathError: There is no such folder, or it holds no checkpoint.
            CheckpointError: A file is damaged or does not fit.
            FingerprintError: The SAM is another than the one that was trained with.
            AccessError: The hub refused or could not be reached.
            ModelError: The runtime is unknown, or its masks differ from torch's.
            MissingPackageError: The runtime is not installed.
        """
        return load_model(
            cls, source, sam=sam, revision=revision, token=token, device=device, encoder=encoder,
            runtime=runtime,
        )  # fmt: skip

    def prompted_by(
        self,
        *,
        kind: str | None = None,
        oracle: bool | None = None,
        coarse: "CoarseMask | AutoSam | Callable[[Sample], np.ndarray] | None" = None,
    ) -> "AutoSam":
        """The same weights of a decoder or zero-shot method behind other prompts.

        `save_pretrained` keeps them for decoder and zero-shot; the other methods come back as trained.

        Args:
            kind: 'points', 'box', 'both', 'mask', 'null' or 'full-box'.
            oracle: True makes them from the true mask, False from the coarse mask.
            coarse: A rule, any callable from sample to mask, or a trained model.

        Raises:
            ModelError: The method has no prompts to change, or a coarse mask is none of these.
            ConfigError: The kind is unknown, or an oracle is not asked for by True or False.

        Warns:
            PromptMismatchWarning: The decoder was trained with prompts of another kind.
        """
        other = copy.copy(self)
        other.geometric = other_prompts(self, kind=kind, oracle=oracle)
        other.config = dataclasses.replace(self.config, geometric=other.geometric)
        if coarse is not None:
            other.coarse = ModelMask(coarse) if isinstance(coarse, AutoSam) else as_coarse(coarse)
        return other

    @property
    def prompter(self) -> Prompter | None:
        """What makes each picture's prompt; None for the methods that need none.

        Raises:
            ModelError: Prompts come from a coarse mask, and the model has none.
        """
        if self.geometric is None:
            return None
        if needs_coarse(self.geometric) and self.coarse is None:
            raise ModelError(
                f"prompts of kind {self.geometric.kind!r} must come from a coarse mask, got a model "
                f"({self.config.method!r}) without. Train it, or pass coarse= a rule or another model."
            )
        return make_prompter(self.geometric, self.coarse)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that it, or the coarse mask behind it, reads besides red, green and blue."""
        return tuple(dict.fromkeys((*self.network.bands, *prompt_bands(self))))

    @property
    def uses_truth(self) -> bool:
        """Whether its prompts are an oracle, made from the true mask."""
        prompts = self.geometric
        drawn = prompts is not None and prompts.kind not in ("null", "full-box")
        return prompts is not None and drawn and prompts.source == "oracle"

    @property
    def identity(self) -> str:
        """Its weights, decision and prompts in one line: others for models that may give other masks."""
        coarse = coarse_identity(self)
        decision = f"{self.decision.temperature:.6g} {self.decision.threshold:.6g}"
        prompts = "" if self.geometric is None else repr(self.geometric)
        refined = "" if self.network.guided_filter is None else repr(self.network.guided_filter)
        words = f"{self._weights} {decision} {prompts}{refined} {self.prompt_source}{coarse}"
        digest = hashlib.sha256(words.encode()).hexdigest()
        return f"{self.config.method} {self.prompt_source} {digest[:16]}"

    @functools.cached_property
    def _weights(self) -> str:
        """Hex SHA-256 of what was trained and of the SAM behind it."""
        return weights_digest(self.network)

    def judged(self, sample: Sample) -> Sample:
        """What the model may see of a labelled sample: nothing of its label, unless it is an oracle."""
        return sample if self.uses_truth else dataclasses.replace(sample, mask=None, valid=None)

    @property
    def prompt_source(self) -> str:
        """Where its prompts come from, for tables; begins with 'oracle' where the true mask is used."""
        prompter = self.prompter
        return "learnt" if prompter is None else prompter.source

    def save_pretrained(self, folder: PathLike, *, bundle: bool = False) -> Path:
        """Write config.json, model.safetensors (what was trained), preprocessor_config.json and a card.

        Args:
            folder: Made if it is not there.
            bundle: Also write the SAM itself, so that the folder needs nothing else.
        """
        return save_model(self, folder, bundle=bundle)

    def push_to_hub(
        self,
        repository: str,
        *,
        token: str | None = None,
        private: bool = False,
        bundle: bool = False,
    ) -> str:
        """Upload to ``owner/name`` on the hub and return the address of the commit."""
        return push_model(self, repository, token=token, private=private, bundle=bundle)

    def predict(
        self,
        source: Source | Sequence[Source],
        *,
        points: Sequence[Sequence[float]] | np.ndarray | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        box: Sequence[float] | np.ndarray | None = None,
        scribbles: Sequence[tuple[np.ndarray, int]] = (),
        previous: Prediction | None = None,
        bands: Mapping[str, np.ndarray] | None = None,
        dihedral: bool = False,
    ) -> Prediction | list[Prediction]:
        """Mask one picture or many; a person may correct the mask of one.

        What a person gives comes on top of the automatic prompt, which stays.

        Args:
            source: A path, an array ((height, width), (…, 3) or (…, 4); uint8, uint16, bool or float
                in 0..1), a PIL image; or a folder, a glob pattern or a list of these.
            points: Clicks, (x, y) in the picture's pixels.
            labels: One for each click: 1 water, 0 land.
            box: Left, top, right, bottom.
            scribbles: Pairs of a line, (count, 2) of (x, y), and its label.
            previous: The prediction that is being corrected: its mask is fed back as SAM's mask prompt.
            bands: For a model that reads more than RGB: (height, width) by name. Those of a path that
                are not given are read from folders beside the picture's own, e.g. ``../nir/``.
            dihedral: The mean probability of the picture turned and mirrored in all eight ways: eight
                times the work for steadier masks.

        Returns:
            A `Prediction`, or a list of them for a folder, pattern or list. For more pictures than
            fit in memory use `predict_each`.

        Raises:
            ImageError: A picture cannot be read, or a click lies outside it.
            DataError: Clicks without labels, a band that is missing, or corrections of many pictures or
                in eight views.
            ModelError: Corrections of a model without a SAM.
            MissingPathError: There is no such file, or a folder or pattern finds none.
        """
        if not isinstance(dihedral, bool | np.bool_):
            raise DataError(
                f"dihedral must be True or False, got {dihedral!r:.80}. Give one of them."
            )
        query = correction(points=points, labels=labels, box=box, scribbles=scribbles)
        single = is_single(source)
        if not single and (query is not None or previous is not None or bands is not None):
            raise DataError(
                "corrections and bands must be for a single picture, got a folder, pattern or list. "
                "Call predict once for each picture."
            )
        if not single:
            return list(self.predict_each(source, dihedral=dihedral))
        sample, _ = sample_of(source, self.bands, arrays=bands)
        return self.predict_sample(sample, query=query, previous=previous, dihedral=dihedral)

    def predict_each(
        self, source: Source | Sequence[Source], *, dihedral: bool = False
    ) -> Iterator[Prediction]:
        """As `predict`, one at a time, so that a folder of any length fits in memory."""
        for one in [source] if is_single(source) else listed(source):
            sample, _ = sample_of(one, self.bands)
            yield self.predict_sample(sample, dihedral=dihedral)

    def predict_image(
        self,
        image: np.ndarray,
        *,
        name: str = "image",
        valid: np.ndarray | None = None,
        image_embedding: ImageEmbedding | None = None,
    ) -> Prediction:
        """Mask an (height, width, 3) uint8 RGB array.

        Args:
            image: The picture.
            name: For the prediction.
            valid: (height, width) bool, False where the picture has no data.
            image_embedding: (1, channels, grid, grid), from a cache, in the place of encoding.
        """
        sample = Sample(name=name, image=image, valid=valid)
        return self.predict_sample(sample, image_embedding=image_embedding)

    def predict_sample(
        self,
        sample: Sample,
        *,
        query: Query | None = None,
        previous: Prediction | None = None,
        image_embedding: ImageEmbedding | None = None,
        dihedral: bool = False,
    ) -> Prediction:
        """Mask one sample, with its bands where the model reads them.

        The sample's true mask is never looked at, unless the prompts are an oracle. The prediction has
        no data where the sample is not valid.

        Args:
            sample: Picture, and perhaps bands.
            query: A person's correction.
            previous: The prediction before it.
            image_embedding: (1, channels, grid, grid), from a cache, in the place of encoding; of the
                sample as it is, also with `dihedral`.
            dihedral: The mean of its eight views, uncorrected.

        Raises:
            ModelError: A correction of a model without a SAM.
            DataError: A band or, for oracle prompts, the true mask is missing; a correction of eight views.
        """
        if dihedral:
            if query is not None or previous is not None:
                raise DataError(
                    "dihedral must be False for a correction, got True: a click is one view's. "
                    "Correct the mask of one view, or leave the clicks out."
                )
            return mask_views(self, sample, image_embedding=image_embedding)
        return mask_sample(
            self, sample, query=query, previous=previous, image_embedding=image_embedding
        )

    def water_evidence(self, low: Float[torch.Tensor, "1 low low"], frame: Frame) -> float:
        """What the presence of a river is judged by, from the logits of `low_logits`."""
        inside = valid_to_low(None, frame, self.network.low_side)[0].numpy()
        return water_evidence(low[0].cpu().numpy(), inside, temperature=self.decision.temperature)

    def embed(self, image: np.ndarray) -> ImageEmbedding | None:
        """Encode a picture once for many predictions; None for a method without a SAM.

        Args:
            image: (height, width, 3) uint8, RGB.

        Returns:
            (1, channels, grid, grid) for `image_embedding`.
        """
        if not isinstance(self.network, PromptedSam):
            return None
        return image_embedding_of(self.network, square_of(self.network, image))

    def prompt_for(
        self, sample: Sample, *, image_embedding: ImageEmbedding | None = None
    ) -> Prompt | None:
        """The automatic prompt of one sample, in its own pixels; None where a network prompts itself.

        Args:
            sample: With its true mask where prompts are an oracle.
            image_embedding: Given on to a coarse mask that is a model behind the same encoder.
        """
        return automatic_prompt(self, sample, image_embedding)


def _changed(config: Config, *, method: str | None, sam: str | None, prompt: str | None) -> Config:
    values = config.to_dict()
    if method is not None:
        values["method"] = method
    if sam is not None:
        values["sam"] = dataclasses.asdict(SamSettings(name=sam))
    if prompt is not None:
        values["prompt"] = dataclasses.asdict(PromptSettings(network=prompt))
    return config_from_dict(values)
