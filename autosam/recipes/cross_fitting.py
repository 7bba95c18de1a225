"""Cross-fitting: each sample's probability map from a model that never learnt from it.

A model that was trained on a wrong label repeats it. So the samples are divided into folds, one run is
trained for each on the others, with a small part of those to choose its checkpoint, temperature and
threshold by, and it masks the samples that it has not seen.
"""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from autosam.config import Config, load_config
from autosam.data.folds import fold_groups, fold_splits
from autosam.data.manifests import Split, content_hash, read_split, shown
from autosam.data.sources import SampleCollection, open_data
from autosam.embeddings import image_digest
from autosam.errors import ConfigError, DataError
from autosam.files import PathLike, replacing, write_json
from autosam.inference.devices import choose_device
from autosam.inference.segmenter import AutoSam
from autosam.models.embedded import RIVER_NANO
from autosam.models.methods import bands_needed, has_frozen_encoder, method_prompts
from autosam.overlap import mask_iou
from autosam.progress import progress_bar
from autosam.prompts.coarse_rules import RULES
from autosam.recipes.cross_fit_folder import (
    LEVELS,
    CrossFit,
    check_directory,
    check_unseen,
    claim,
    finished_file,
    fold_folder,
    leaving_nothing,
    open_cross_fit,
    probability_path,
)
from autosam.recipes.encoding import EncodedImages, Say, encode_samples, training_views
from autosam.recipes.training import train_run
from autosam.types import Sample


@dataclasses.dataclass(frozen=True)
class _Survey:
    """What one reading of every sample tells."""

    hashes: dict[str, str]
    digests: dict[str, str]
    places: dict[str, str]


def cross_fit(
    config: Config,
    directory: PathLike,
    *,
    folds: int = 3,
    token: str | None = None,
    say: Say = lambda line: None,
) -> CrossFit:
    """Train one run per fold and mask every sample with the run that has not seen it.

    All runs share one embedding cache, so each picture is encoded once. A folder that was cut off is
    gone on with: finished folds stay, the one under way resumes.

    Args:
        config: Method, data and settings of each run. `data.group_by` says which samples must stay
            together (otherwise see `fold_groups`); `data.label_noise` and `data.manifest` are not used.
        directory: New, empty, or of the same cross-fitting.
        folds: How often the data is divided: each model learns from 1 - 1/folds of it.
        token: For a private dataset or SAM.
        say: Told what happens next, and of each fold.

    Raises:
        DataError: A sample has no mask.
        SplitError: The samples cannot be divided so, or a model has seen what it should mask.
        OutputError: The folder holds something else.
        TrainingError: It holds a cross-fitting of another configuration, data or number of folds.
        ModelError, CacheError: What their names say.
    """
    directory, config = Path(directory), _of_each_run(config)
    check_directory(directory, config)
    samples = open_data(config.data, token=token, bands=bands_needed(config)).samples
    _check_blind(config, samples.names)
    survey = _survey(samples)
    splits = _make_splits(config, samples.names, survey, folds)
    with leaving_nothing(directory):
        claim(directory, config, splits)
        encoded = _encode(config, samples, survey, directory, splits, token, say)
        for fold in range(len(splits)):
            if not finished_file(directory, fold).is_file():
                _fit_fold(config, samples, directory, fold, encoded, token=token, say=say)
    return open_cross_fit(directory, samples)


def _of_each_run(config: Config) -> Config:
    """Without what is for measuring, or for another division."""
    data = dataclasses.replace(config.data, label_noise=0.0, manifest="")
    return dataclasses.replace(config, data=data)


def _check_blind(config: Config, names: Sequence[str]) -> None:
    """Refuse weights and prompts that know the labels which are to be doubted."""
    if config.start not in ("", RIVER_NANO) and (seen := _seen(config.start, names)):
        raise ConfigError(
            f"start must be a model that has seen none of these samples, got {config.start!r} "
            f"({shown(seen)}). Try river-nano, or begin with no other's weights."
        )
    prompts = method_prompts(config)
    if prompts is None or prompts.kind in ("null", "full-box"):
        return
    if prompts.source == "oracle":
        raise ConfigError(
            "geometric.source must be 'coarse' to judge labels, got 'oracle', which prompts from them. "
            "Set geometric.source=coarse, or use another method."
        )
    if config.coarse.source in RULES:
        return
    seen = _seen(config.coarse.source, names)
    if seen:
        raise ConfigError(
            f"coarse.source must be a rule, or a run that has seen none of these samples, got "
            f"{config.coarse.source!r} ({shown(seen)}). Try coarse.source=hsv, or the method autosam."
        )


def _seen(model: str, names: Sequence[str]) -> list[str]:
    """The samples that a run has trained on or chosen by, as its split says; without one, perhaps all."""
    path = Path(model) / "split.json"
    division = read_split(path) if path.is_file() else None
    return sorted({*names} & {*division.train, *division.validation}) if division else ["all?"]


def _survey(samples: SampleCollection) -> _Survey:
    """Read every sample once."""
    survey = _Survey({}, {}, {})
    with progress_bar("reading", total=len(samples)) as advance:
        for sample in samples:
            if sample.mask is None:
                raise DataError(
                    f"samples must have a mask to learn from, got none (sample {sample.name!r}). "
                    "Leave it out, or give it a mask."
                )
            survey.hashes[sample.name] = content_hash(sample)
            survey.digests[sample.name] = image_digest(sample.image)
            if sample.place:
                survey.places[sample.name] = sample.place
            advance(1)
    return survey


def _make_splits(config: Config, names: Sequence[str], survey: _Survey, folds: int) -> list[Split]:
    groups = fold_groups(names, group_by=config.data.group_by, places=survey.places)
    splits = fold_splits(
        groups, folds=folds, validation_share=config.data.validation_share, seed=config.seed
    )
    return [dataclasses.replace(split, hashes=survey.hashes) for split in splits]


def _encode(
    config: Config,
    samples: SampleCollection,
    survey: _Survey,
    directory: Path,
    splits: Sequence[Split],
    token: str | None,
    say: Say,
) -> EncodedImages | None:
    """Every picture, before the first fold that is still to be done."""
    if all(finished_file(directory, fold).is_file() for fold in range(len(splits))):
        return None
    if not (has_frozen_encoder(config) and config.train.cache):
        return None
    return encode_samples(
        config,
        samples,
        digests=survey.digests,
        views=training_views(config),
        device=choose_device(None),
        token=token,
        say=say,
    )


def _fit_fold(
    config: Config,
    samples: SampleCollection,
    directory: Path,
    fold: int,
    encoded: EncodedImages | None,
    *,
    token: str | None,
    say: Say,
) -> None:
    """Train a fold's run, or what is missing of it, and mask what it held out."""
    start, folder = time.perf_counter(), fold_folder(directory, fold)
    run = folder / "run"
    if not (run / "config.json").is_file():  # the checkpoint, which a run writes last
        _train(config, folder, token)
    split = read_split(folder / "split.json")
    check_unseen(run, split.test)
    model = AutoSam.from_pretrained(run, token=token, encoder=encoded is None)
    scores: dict[str, float] = {}
    with progress_bar(f"masking fold {fold + 1}", total=len(split.test)) as advance:
        for sample in samples.select(split.test):
            scores[sample.name] = _mask(model, sample, encoded, directory)
            advance(1)
    finished = {"threshold": model.decision.threshold, "iou": scores}
    write_json(finished_file(directory, fold), finished)
    agreement = float(np.median(list(scores.values())))
    say(
        f"Fold {fold + 1}: {len(split.train)} samples trained, {len(split.validation)} chose, "
        f"{len(split.test)} held out; masks and labels have a median IoU of {agreement:.3f}. "
        f"{time.perf_counter() - start:.0f} s"
    )


def _train(config: Config, folder: Path, token: str | None) -> None:
    run, manifest = folder / "run", str(folder / "split.json")
    resume = (run / "state").is_dir()
    if resume:
        manifest = load_config(run / "config.yaml").data.manifest  # the folder may have been moved
    elif run.exists():
        shutil.rmtree(run)  # killed before there was anything to go on from
    data = dataclasses.replace(config.data, manifest=manifest)
    train_run(dataclasses.replace(config, data=data), run, resume=resume, token=token)


def _mask(model: AutoSam, sample: Sample, encoded: EncodedImages | None, directory: Path) -> float:
    """Write a sample's probability map; returns the IoU of mask and label."""
    embedding = encoded.embedding(sample.name) if encoded else None
    prediction = model.predict_sample(model.judged(sample), image_embedding=embedding)
    levels = np.round(prediction.probability * LEVELS).astype(np.uint8)
    with replacing(probability_path(directory, sample.name)) as beside:
        Image.fromarray(levels).save(beside)
    label = np.zeros(sample.size, dtype=bool) if sample.mask is None else sample.mask
    return mask_iou(prediction.mask, label, valid=sample.valid_area)
