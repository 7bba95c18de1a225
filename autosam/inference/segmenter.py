"""What a user holds: any picture in, its river out."""

import copy
import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float

from autosam.config import (
    Config,
    GeometricSettings,
    PromptSettings,
    SamSettings,
    config_from_dict,
)
from autosam.data.geometry import Frame, logits_to_original, valid_to_low
from autosam.errors import ConfigError, DataError, ModelError, PromptMismatchWarning
from autosam.files import PathLike
from autosam.inference.devices import choose_device
from autosam.inference.explaining import explain_mask
from autosam.inference.logits import image_embedding_of, low_logits
from autosam.inference.picture_sources import Source, is_single, listed, sample_of
from autosam.models.autosam import PromptedSam
from autosam.models.checkpoints import (
    COARSE,
    Decision,
    describe,
    load_checkpoint,
    push_checkpoint,
    save_checkpoint,
)
from autosam.models.contract import MaskNetwork
from autosam.models.embedded import RIVER_NANO
from autosam.models.exported_network import SUFFIX, ExportedNetwork, load_exported
from autosam.models.gauges import Gauges, embedding_summary, water_evidence
from autosam.models.methods import build_network, method_prompts
from autosam.models.sam import Sam
from autosam.prompts.coarse_masks import CoarseMask
from autosam.prompts.coarse_rules import coarse_from_dict, rule_bands
from autosam.prompts.corrections import corrected, correction
from autosam.prompts.prompters import (
    GeometricPrompter,
    Prompter,
    make_prompter,
    needs_coarse,
)
from autosam.types import (
    Explanation,
    ImageEmbedding,
    Prediction,
    Prompt,
    Query,
    Sample,
)

_TRAINED_ON_PROMPTS = ("decoder", "decoder-null", "decoder-box-full")
"""Methods whose decoder has learnt to expect one kind of prompt."""


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
            runtime: What encodes on a processor: 'torch', 'torch-bf16', 'onnx', 'openvino', or 'auto'
                for what `autosam doctor --bench` found fastest here. By default torch; of an ONNX file
                onnxruntime.

        Raises:
            MissingPathError: There is no such folder, or it holds no checkpoint.
            CheckpointError: A file is damaged or does not fit.
            FingerprintError: The SAM is another than the one that was trained with.
            AccessError: The hub refused or could not be reached.
            ModelError: The runtime is unknown, or its masks differ from torch's.
            MissingPackageError: The runtime is not installed.
        """
        if str(source).endswith(SUFFIX):
            return cls._exported(source, runtime)
        loaded = load_checkpoint(source, sam=sam, revision=revision, token=token, encoder=encoder)
        coarse: CoarseMask | None = None
        if loaded.coarse_folder is not None:
            coarse = cls._coarse_model(loaded.coarse_folder, loaded.network, sam, token, device)
        elif loaded.coarse is not None:
            coarse = coarse_from_dict(loaded.coarse)
        model = cls(
            loaded.config,
            network=loaded.network,
            decision=loaded.decision,
            facts=loaded.facts,
            coarse=coarse,
            gauges=loaded.gauges,
            device=device,
        )
        if runtime is not None:
            from autosam.inference.runtimes import set_runtime

            set_runtime(model, runtime)
        return model

    @classmethod
    def _exported(cls, path: PathLike, runtime: str | None) -> "AutoSam":
        """From an ONNX file."""
        if runtime not in (None, "auto", "onnx", "openvino"):
            raise ModelError(
                f"runtime must be 'onnx' or 'openvino' for an ONNX file, got {runtime!r} ({path}). "
                "Leave it out, or load the run that the file was exported from."
            )
        loaded = load_exported(path, compiler="openvino" if runtime == "openvino" else "onnx")
        return cls(
            loaded.config,
            network=loaded.network,
            decision=loaded.decision,
            facts=loaded.facts,
            device="cpu",
        )

    @classmethod
    def _coarse_model(
        cls,
        folder: PathLike,
        network: MaskNetwork,
        sam: Sam | str | None,
        token: str | None,
        device: str | None,
    ) -> "ModelMask":
        """A model as coarse mask; it does without an image encoder where ours is the same."""
        trained_with = describe(folder).get("sam")
        own = network.sam.fingerprint if isinstance(network, PromptedSam) else None
        shared = trained_with is not None and trained_with["fingerprint"] == own
        model = cls.from_pretrained(
            folder,
            sam=sam if shared and not isinstance(sam, Sam) else None,
            token=token,
            device=device,
            encoder=not shared,
        )
        return ModelMask(model, name=f"own model {model.config.method}")

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
        if not isinstance(self.network, PromptedSam) or self.network.prompter is not None:
            raise ModelError(
                f"other prompts must be for decoder, decoder-null, decoder-box-full or zero-shot, got "
                f"{self.config.method!r}, which needs none. Leave them out."
            )
        if oracle not in (None, True, False):
            raise ConfigError(f"oracle must be True or False, got {oracle!r}. Leave it out.")
        before = self.geometric or GeometricSettings(kind="null")
        values: dict[str, Any] = {**dataclasses.asdict(self.config.geometric), "kind": before.kind}
        if kind is not None:
            values["kind"] = kind
        if oracle is not None:
            values["source"] = "oracle" if oracle else "coarse"
        settings = config_from_dict({"geometric": values}).geometric
        if settings.kind != before.kind and self.config.method in _TRAINED_ON_PROMPTS:
            warnings.warn(
                f"{self.config.method!r} was trained with prompts of kind {before.kind!r} and is now given "
                f"{settings.kind!r}: its masks may suffer.",
                PromptMismatchWarning,
                stacklevel=2,
            )
        other = copy.copy(self)
        other.geometric = settings
        other.config = dataclasses.replace(self.config, geometric=settings)
        other.coarse = self.coarse if coarse is None else _as_coarse(coarse)
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
        names = list(self.network.bands)
        if self.geometric is not None and needs_coarse(self.geometric):
            if isinstance(self.coarse, ModelMask):
                names += self.coarse.model.bands
            else:
                names += rule_bands(self.config.coarse)
        return tuple(dict.fromkeys(names))

    @property
    def uses_truth(self) -> bool:
        """Whether its prompts are an oracle, made from the true mask."""
        prompts = self.geometric
        drawn = prompts is not None and prompts.kind not in ("null", "full-box")
        return prompts is not None and drawn and prompts.source == "oracle"

    @property
    def identity(self) -> str:
        """Its weights, decision and prompts in one line: equal for models that give equal masks."""
        coarse = f" {self.coarse.model.identity}" if isinstance(self.coarse, ModelMask) else ""
        decision = f"{self.decision.temperature:.6g} {self.decision.threshold:.6g}"
        prompts = "" if self.geometric is None else repr(self.geometric)
        words = f"{self._weights} {decision} {prompts} {self.prompt_source}{coarse}"
        digest = hashlib.sha256(words.encode()).hexdigest()
        return f"{self.config.method} {self.prompt_source} {digest[:16]}"

    @functools.cached_property
    def _weights(self) -> str:
        """Hex SHA-256 of what was trained and of the SAM behind it."""
        if isinstance(self.network, ExportedNetwork):
            return self.network.fingerprint
        digest = hashlib.sha256()
        for key, tensor in sorted(self.network.trained_state().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        if isinstance(self.network, PromptedSam):
            digest.update(self.network.sam.fingerprint.encode())
        return digest.hexdigest()

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
        return save_checkpoint(
            folder,
            self.network,
            self.config,
            decision=self.decision,
            facts=self.facts,
            coarse=self._saved_coarse(Path(folder)),
            gauges=self.gauges,
            bundle=bundle,
        )

    def _saved_coarse(self, folder: Path) -> Mapping[str, Any] | None:
        """The coarse mask's rule; a model in its place is written into the folder."""
        if isinstance(self.coarse, ModelMask):
            self.coarse.model.save_pretrained(folder / COARSE)
            return None
        if self.coarse is None:
            return None
        to_dict = getattr(self.coarse, "to_dict", None)
        if to_dict is None:
            raise ModelError(
                f"coarse mask must be a rule or a trained model to be saved, got {self.coarse.name!r}. "
                "Save the model without it, and pass coarse= again after loading."
            )
        rule: Mapping[str, Any] = to_dict()
        return rule

    def push_to_hub(
        self,
        repository: str,
        *,
        token: str | None = None,
        private: bool = False,
        bundle: bool = False,
    ) -> str:
        """Upload to ``owner/name`` on the hub and return the address of the commit."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, bundle=bundle)
            return push_checkpoint(folder, repository, token=token, private=private)

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

        Returns:
            A `Prediction`, or a list of them for a folder, pattern or list. For more pictures than
            fit in memory use `predict_each`.

        Raises:
            ImageError: A picture cannot be read, or a click lies outside it.
            DataError: Clicks without labels, a band that is missing, or corrections of many pictures.
            ModelError: Corrections of a model without a SAM.
            MissingPathError: There is no such file, or a folder or pattern finds none.
        """
        query = correction(points=points, labels=labels, box=box, scribbles=scribbles)
        single = is_single(source)
        if not single and (query is not None or previous is not None or bands is not None):
            raise DataError(
                "corrections and bands must be for a single picture, got a folder, pattern or list. "
                "Call predict once for each picture."
            )
        if not single:
            return list(self.predict_each(source))
        sample, _ = sample_of(source, self.bands, arrays=bands)
        return self.predict_sample(sample, query=query, previous=previous)

    def predict_each(self, source: Source | Sequence[Source]) -> Iterator[Prediction]:
        """As `predict`, one at a time, so that a folder of any length fits in memory."""
        for one in [source] if is_single(source) else listed(source):
            sample, _ = sample_of(one, self.bands)
            yield self.predict_sample(sample)

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
    ) -> Prediction:
        """Mask one sample, with its bands where the model reads them.

        The sample's true mask is never looked at, unless the prompts are an oracle. The prediction has
        no data where the sample is not valid.

        Args:
            sample: Picture, and perhaps bands.
            query: A person's correction.
            previous: The prediction before it.
            image_embedding: (1, channels, grid, grid), from a cache, in the place of encoding.

        Raises:
            ModelError: A correction of a model without a SAM.
            DataError: A band or, for oracle prompts, the true mask is missing.
        """
        if previous is not None:
            _check_previous(previous, sample, self.network)
        if image_embedding is None and (self._shares_embedding() or self.gauges.domain):
            image_embedding = self.embed(sample.image)
        prompt = self.prompt_for(sample, image_embedding=image_embedding)
        if query is not None or previous is not None:
            prompt = self._corrected(prompt, query)
        low, frame = low_logits(
            self.network, sample, prompt=prompt, image_embedding=image_embedding,
            mask_logits=None if previous is None else previous.mask_logits,
        )  # fmt: skip
        logits = logits_to_original(low, frame)
        probability = torch.sigmoid(logits / self.decision.temperature).cpu().numpy()
        prediction = Prediction(
            name=sample.name,
            image=sample.image,
            probability=probability,
            threshold=self.decision.threshold,
            valid=sample.valid,
            prompt=prompt,
            made_by=self.identity,
        )
        prediction = self._gauged(prediction, low, frame, image_embedding)
        if not isinstance(self.network, PromptedSam):
            return prediction
        return dataclasses.replace(
            prediction,
            mask_logits=low[0].cpu().numpy(),
            explain=functools.partial(self._explained, prediction),
        )

    def _gauged(
        self,
        prediction: Prediction,
        low: Float[torch.Tensor, "1 low low"],
        frame: Frame,
        image_embedding: ImageEmbedding | None,
    ) -> Prediction:
        """With what the model can say of its own answer, as far as it was fitted to."""
        presence, domain = self.gauges.presence, self.gauges.domain
        if presence is not None:
            likely = presence.probability(self.water_evidence(low, frame))
            prediction = dataclasses.replace(prediction, presence=likely)
        if domain is None or image_embedding is None:
            return prediction
        distance = domain.distance(embedding_summary(image_embedding)[0])
        return dataclasses.replace(
            prediction, domain_distance=distance, expected_iou=domain.expected_iou(distance)
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
        return image_embedding_of(self.network, image)

    def prompt_for(
        self, sample: Sample, *, image_embedding: ImageEmbedding | None = None
    ) -> Prompt | None:
        """The automatic prompt of one sample, in its own pixels; None where a network prompts itself.

        Args:
            sample: With its true mask where prompts are an oracle.
            image_embedding: Given on to a coarse mask that is a model behind the same encoder.
        """
        prompter = self.prompter
        if isinstance(prompter, GeometricPrompter) and isinstance(prompter.coarse, ModelMask):
            shared = image_embedding if self._shares_embedding() else None
            return prompter.draw(sample, prompter.coarse.mask_of(sample, image_embedding=shared))
        return None if prompter is None else prompter(sample)

    def _shares_embedding(self) -> bool:
        """Whether the coarse model can use the embedding that this one needs anyway."""
        coarse, network = self.coarse, self.network
        if not (isinstance(coarse, ModelMask) and isinstance(network, PromptedSam)):
            return False
        other = coarse.model.network
        return (
            isinstance(other, PromptedSam)
            and other.sam.encoder_fingerprint == network.sam.encoder_fingerprint
        )

    def _corrected(self, prompt: Prompt | None, query: Query | None) -> Prompt:
        if not isinstance(self.network, PromptedSam):
            raise ModelError(
                f"corrections must be for a method with a SAM, got {self.config.method!r}. "
                "Train autosam, autosam+decoder or decoder to correct by clicks."
            )
        return corrected(prompt or Prompt(source="learnt"), query)

    def _explained(self, prediction: Prediction) -> Explanation:
        """Encodes the picture again rather than keeping its embedding with every prediction."""
        if not isinstance(self.network, PromptedSam):
            raise AssertionError("only predictions with a SAM behind them are explained")
        embedding = image_embedding_of(self.network, prediction.image)
        return explain_mask(self.network.sam, embedding, prediction.mask, valid=prediction.valid)


def _check_previous(previous: Prediction, sample: Sample, network: MaskNetwork) -> None:
    """A correction goes on from a mask of the same picture on the same grid."""
    if not isinstance(previous, Prediction):
        raise DataError(
            f"previous must be a Prediction, got {type(previous).__name__}. "
            "Give what predict returned for this picture."
        )
    logits = previous.mask_logits
    side = network.low_side
    if not np.array_equal(previous.image, sample.image) or (
        logits is not None and logits.shape != (side, side)
    ):
        raise DataError(
            f"previous must be a prediction of the same picture by the same kind of model, got that of "
            f"{previous.name!r} {previous.image.shape[:2]} for {sample.name!r} {sample.size}. "
            "Predict this picture first."
        )


def _as_coarse(coarse: Any) -> CoarseMask:
    """A rule as it is; a model or a plain function with a name for tables."""
    if isinstance(coarse, AutoSam):
        return ModelMask(coarse, name=f"own model {coarse.config.method}")
    if not callable(coarse):
        raise ModelError(
            f"coarse mask must be a rule, a function from sample to mask or an AutoSam, got "
            f"{type(coarse).__name__}. Load a run with AutoSam.from_pretrained first."
        )
    if hasattr(coarse, "name"):
        return cast(CoarseMask, coarse)
    return FunctionMask(coarse)


class FunctionMask:
    """A plain function from sample to mask as a coarse mask.

    Args:
        function: Gives (height, width) bool.
    """

    def __init__(self, function: Callable[[Sample], np.ndarray]) -> None:
        self._function = function
        self.name = f"coarse {getattr(function, '__name__', type(function).__name__)}"

    def __call__(self, sample: Sample) -> np.ndarray:
        """(height, width) bool."""
        return self._function(sample)


class ModelMask:
    """A trained model's mask as the coarse mask of another's prompts.

    Args:
        model: Any `AutoSam`.
        name: For tables.
    """

    def __init__(self, model: AutoSam, *, name: str) -> None:
        self.model = model
        self.name = name

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


def _changed(config: Config, *, method: str | None, sam: str | None, prompt: str | None) -> Config:
    values = config.to_dict()
    if method is not None:
        values["method"] = method
    if sam is not None:
        values["sam"] = dataclasses.asdict(SamSettings(name=sam))
    if prompt is not None:
        values["prompt"] = dataclasses.asdict(PromptSettings(network=prompt))
    return config_from_dict(values)
