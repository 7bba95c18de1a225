"""The model card: written from the run's own numbers, so that it cannot claim more than was measured."""

from collections.abc import Mapping
from typing import Any

import yaml


def write_card(description: Mapping[str, Any]) -> str:
    """The text of a checkpoint's README.md.

    Args:
        description: What ``config.json`` holds: method, config, decision, facts, sam.
    """
    facts, config = description["facts"], description["config"]
    front = {
        "library_name": "autosam",
        "license": "apache-2.0",
        "pipeline_tag": "image-segmentation",
        "tags": ["segment-anything", "river", "remote-sensing", "water", description["method"]],
    }
    sections = [
        "---\n" + yaml.safe_dump(front, sort_keys=False) + "---",
        "# River masks without prompts",
        _summary(description),
        _use(),
        _data(config, facts),
        _scores(facts),
        _decision(description["decision"]),
        _limits(config),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(description: Mapping[str, Any]) -> str:
    sam = description.get("sam")
    behind = (
        f" behind the SAM `{sam['name']}` (fingerprint `{sam['fingerprint'][:12]}`)" if sam else ""
    )
    return (
        f"Method `{description['method']}` of autosam with the network "
        f"`{description['config']['prompt']['network']}`{behind}. {_promise(description['config'])}"
    )


def _promise(config: Mapping[str, Any]) -> str:
    geometric = config.get("geometric", {})
    drawn = geometric.get("kind", "null") not in ("null", "full-box")
    if config["method"] in ("decoder", "zero-shot") and drawn and geometric["source"] == "oracle":
        return (
            "Its prompts are an *oracle*, made from the true mask: an upper bound to compare with, which "
            "cannot mask a picture that has no mask yet."
        )
    return "It turns an aerial RGB picture into a mask of river water; nobody clicks."


def _use() -> str:
    return (
        "```python\nfrom autosam import AutoSam\n\n"
        'model = AutoSam.from_pretrained("path/or/hub-id")\n'
        'model.predict("ortho.png").save("river.png")\n```'
    )


def _data(config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    lines = [f"- sources: {', '.join(f'`{source}`' for source in config['data']['source'])}"]
    split = facts.get("split")
    if split:
        counts = ", ".join(f"{split[part]} {part}" for part in ("train", "validation", "test"))
        lines.append(f"- split: {split['kind']} ({counts}), hash `{split['hash'][:12]}`")
        if split.get("leak"):
            lines.append(f"- leak report: {split['leak']}")
    for key in ("steps", "training_seconds", "hardware"):
        if key in facts:
            lines.append(f"- {key.replace('_', ' ')}: {facts[key]}")
    return "## Training\n\n" + "\n".join(lines)


def _scores(facts: Mapping[str, Any]) -> str:
    scores = facts.get("scores")
    if not scores:
        return "## Scores\n\nNot evaluated yet: run `autosam evaluate` and read its metrics.json."
    lines = ["| part | prompts | images | mean IoU | median IoU |", "|---|---|---|---|---|"]
    lines += [
        f"| {part} | {row.get('prompt', 'learnt')} | {row['images']} | {row['iou_mean']:.3f} "
        f"| {row['iou_median']:.3f} |"
        for part, row in scores.items()
    ]
    return (
        "## Scores\n\nPer image, at native size, by the threshold below. Validation chose the "
        "checkpoint, temperature and threshold, so its row flatters.\n\n" + "\n".join(lines)
    )


def _decision(decision: Mapping[str, float]) -> str:
    return (
        "## From logits to mask\n\nSigmoid of the logits over a temperature of "
        f"{decision['temperature']:.3f}; water from a probability of {decision['threshold']:.3f}."
    )


def _limits(config: Mapping[str, Any]) -> str:
    has_sam = config["method"] not in ("unet", "segformer", "threshold")
    random_sam = has_sam and config["sam"]["name"] == "nano"
    lines = [
        "- Trained on the sources above and judged on their held-back parts; elsewhere it is unproven.",
        "- RGB only. The licence of the training data applies to what is made from it.",
    ]
    if random_sam:
        lines.append(
            "- The frozen SAM `nano` has random weights: the prompt network does all the seeing."
        )
    return "## Limits\n\n" + "\n".join(lines)
