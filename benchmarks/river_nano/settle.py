"""A trained prompt network behind a SAM that was refined since: temperature, threshold and gauges anew.

Nothing trains. The encoder must be the one that the prompt network was trained behind; what the decoder has
learnt since may help it or not, which the printed score on validation pictures says.

Run:    python -m benchmarks.river_nano.settle --start FOLDER --sam FOLDER --run runs/refined --out FOLDER
"""

import argparse
import json
from pathlib import Path

import numpy as np

from autosam import AutoSam
from autosam.config import Config, config_from_dict, load_config
from autosam.data.sources import open_data
from autosam.data.splits import read_split
from autosam.inference.devices import choose_device
from autosam.models.autosam import PromptedSam
from autosam.models.checkpoints import describe, load_checkpoint
from autosam.models.methods import build_network
from autosam.recipes.encoding import encode_split
from autosam.recipes.gauging import fit_gauges
from autosam.recipes.validating import Validation

RECIPE = Path(__file__).parents[2] / "configs" / "river-nano.yaml"
"""What it says of filter and false water holds for models that were trained before it said so."""


def settled(config: Config, network: PromptedSam, facts: dict[str, object]) -> AutoSam:
    """The model with decision and gauges from the validation part of `data.manifest`."""
    data, split = open_data(config.data), read_split(config.data.manifest)
    encoded = encode_split(config, data, split, device=choose_device(None), say=print)
    model = AutoSam(config, network=network)
    judge = Validation(model, data.samples.select(split.validation), encoded)
    model.decision, scores = judge.decide()
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
    recipe = load_config(RECIPE).to_dict()
    values["refine"] = recipe["refine"]
    values["train"]["most_false_water"] = recipe["train"]["most_false_water"]
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
