"""A trained prompt network behind a SAM that was refined since: temperature, threshold and gauges anew.

Of all thresholds it takes the one of the best IoU over validation pictures with water that calls hardly any
of the dry ones water: what masks pictures that nobody looks at should be silent where there is no river.
Nothing trains. The encoder must be the one that the prompt network was trained behind; what the decoder has
learnt since may help it or not, which the printed score on validation pictures says.

Run:    python -m benchmarks.river_nano.settle --start FOLDER --sam FOLDER --run runs/refined --out FOLDER
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autosam import AutoSam
from autosam.config import Config, config_from_dict
from autosam.data.sources import open_data
from autosam.data.splits import read_split
from autosam.inference.devices import choose_device
from autosam.models.autosam import PromptedSam
from autosam.models.checkpoints import describe, load_checkpoint
from autosam.models.methods import build_network
from autosam.overlap import mask_iou
from autosam.recipes.encoding import encode_split
from autosam.recipes.gauging import fit_gauges
from autosam.recipes.validating import Validation
from autosam.types import Sample

MOST_FALSE_WATER = 0.005
"""Mean share of the pixels of dry validation pictures."""
BINS = 1000


def capped_threshold(
    probabilities: Sequence[np.ndarray], samples: Sequence[Sample]
) -> tuple[float, float, float]:
    """Threshold, mean IoU over pictures with water, and mean false water of the others."""
    iou, false = [], []
    for probability, sample in zip(probabilities, samples, strict=True):
        if sample.mask is None:
            raise AssertionError("validation pictures are labelled")
        valid, truth = sample.valid_area, sample.mask & sample.valid_area
        land, water = (  # pixels at or above the lower edge of each bin
            np.histogram(probability[area], BINS, (0, 1))[0][::-1].cumsum()[::-1]
            for area in (valid & ~truth, truth)
        )
        if truth.any():
            iou.append(water / (truth.sum() + land))
        else:
            false.append(land / max(1, valid.sum()))
    wet, dry = np.mean(iou, axis=0), np.mean(false, axis=0)
    best = int(np.argmax(np.where(dry <= MOST_FALSE_WATER, wet, -1)))
    return best / BINS, float(wet[best]), float(dry[best])


def settled(config: Config, network: PromptedSam, facts: dict[str, object]) -> AutoSam:
    """The model with decision and gauges from the validation part of `data.manifest`."""
    data, split = open_data(config.data), read_split(config.data.manifest)
    encoded = encode_split(config, data, split, device=choose_device(None), say=print)
    model = AutoSam(config, network=network)
    judge = Validation(model, data.samples.select(split.validation), encoded)
    model.decision, _ = judge.decide()
    found = [model.predict_sample(model.judged(s)).probability for s in judge.samples]
    threshold, wet, dry = capped_threshold(found, judge.samples)
    print(f"IoU with water {wet:.3f}, false water without {dry:.2%} at {threshold:.3f}.")
    model.decision = dataclasses.replace(model.decision, threshold=threshold)
    scores = [
        mask_iou(probability >= threshold, s.mask & s.valid_area, valid=s.valid)
        for probability, s in zip(found, judge.samples, strict=True)
        if s.mask is not None
    ]
    training = data.samples.select(split.train)
    model.gauges = fit_gauges(model, training, judge.samples, scores, encoded)
    scored = {
        "images": len(scores), "iou_mean": float(np.mean(scores)), "iou_median": float(np.median(scores)),
        "prompt": model.prompt_source,
    }  # fmt: skip
    model.facts = {**facts, "scores": {"validation": scored}}
    return model


def main() -> None:
    """Settle and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--start", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--sam", type=Path, required=True, help="what `refine` wrote")
    parser.add_argument("--run", type=Path, required=True, help="folder with the split of `crops`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the settled model")
    arguments = parser.parse_args()
    description = describe(arguments.start)
    values = description["config"]
    values["sam"] = {"name": str(arguments.sam)}
    values["data"]["manifest"] = str(arguments.run / "river_split.json")
    values["data"]["source"] = json.loads((arguments.run / "river_sources.json").read_text())
    values["cache"] = {"directory": str(arguments.out / "embeddings")}
    config = config_from_dict(values)
    network = build_network(config)
    network.load_trained_state(
        load_checkpoint(arguments.start, encoder=False).network.trained_state()
    )
    if not isinstance(network, PromptedSam):
        parser.error(f"--start must be a model behind a SAM, got {config.method!r}.")
    model = settled(config, network, description["facts"])
    model.save_pretrained(arguments.out)
    print(model.facts["scores"], model.decision)


if __name__ == "__main__":
    main()
