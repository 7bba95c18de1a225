"""A very small SAM that answers points and boxes, for benchmarks where no published SAM can be had.

`nano` has random weights, and a decoder fine-tuned behind prompts that mean nothing says nothing of prompts.
So a smaller one, of side 256, trains here on drawn scenes of its own (seed 1; benchmarks draw from seed 0):
boxes first, then points, then both with simulated clicks and the mask fed back. It is no foundation model: it
knows rivers that were drawn, and nothing else.

Run:    python benchmarks/accuracy/promptable_sam.py --out runs/promptable [--epochs 12]
        then --sam runs/promptable/sam in the other scripts
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from transformers import SamConfig, SamModel

from autosam.config import GeometricSettings, PromptKind, TrainSettings
from autosam.data.synthetic import SyntheticDataset
from autosam.files import write_json
from autosam.inference.logits import network_logits
from autosam.models.autosam import PromptedSam
from autosam.models.contract import MaskNetwork, Need
from autosam.models.sam import canonical_shapes, load_sam, save_sam_hub
from autosam.models.sam_nano import NanoTensors
from autosam.models.sam_weights import POSITIONAL_KEY, TIED_POSITIONAL_KEY
from autosam.overlap import mask_iou
from autosam.prompts.prompters import OraclePrompter
from autosam.recipes.environment import environment
from autosam.training.batches import TrainingItems
from autosam.training.loop import fit

CURRICULUM: tuple[tuple[PromptKind, int], ...] = (("box", 0), ("points", 0), ("both", 2))
"""Kinds of prompt in turn, and simulated clicks on top."""
SEED = 1
CONFIG = {
    "vision_config": {
        "hidden_size": 128,
        "output_channels": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "image_size": 256,
        "patch_size": 16,
        "window_size": 8,
        "global_attn_indexes": [2, 5],
        "num_pos_feats": 32,
        "mlp_dim": 512,
    },
    "prompt_encoder_config": {"hidden_size": 64, "image_size": 256, "image_embedding_size": 16},
    "mask_decoder_config": {
        "hidden_size": 64,
        "mlp_dim": 256,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": 64,
    },
}


def random_sam(folder: Path) -> Path:
    """A SAM of that configuration in hub format, with weights drawn as those of `nano`."""
    model = SamModel(SamConfig(**CONFIG))
    drawn = NanoTensors(canonical_shapes(model))
    state = {key: drawn[key] for key in drawn}
    model.load_state_dict({**state, TIED_POSITIONAL_KEY: state[POSITIONAL_KEY]})
    model.save_pretrained(folder)
    return folder


class WholeSam(PromptedSam):
    """SAM behind points and boxes with everything trained but its prompt encoder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(load_sam(folder), None, method="decoder", iou_head=True)
        self.sam.unfreeze("image_encoder")

    @property
    def training_needs(self) -> frozenset[Need]:
        """The picture, since its encoder trains."""
        return frozenset({"pixels", "prompts"})

    def trained_parts(self) -> dict[str, torch.nn.Module]:
        """Decoder and encoder."""
        if self.sam.image_encoder is None:
            raise AssertionError("loaded with its encoder")
        return {"mask_decoder": self.sam.mask_decoder, "image_encoder": self.sam.image_encoder}


def scores(network: MaskNetwork, scenes: SyntheticDataset, kind: PromptKind) -> dict[str, float]:
    """Mean IoU on wet scenes, prompted from the true masks: an *oracle*."""
    prompter = OraclePrompter(GeometricSettings(kind=kind, source="oracle"))
    found = [
        mask_iou(
            (network_logits(network, scene, prompt=prompter(scene)) > 0).cpu().numpy(), scene.mask
        )
        for scene in scenes
        if scene.mask is not None and scene.mask.any()
    ]
    return {"iou": float(np.mean(found))}


def main() -> None:
    """Train through the curriculum, and write the SAM in hub format."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--scenes", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=12, help="of each turn")
    arguments = parser.parse_args()
    scenes = SyntheticDataset(arguments.scenes + 8, side=256, seed=SEED)
    training, held_back = scenes[: arguments.scenes], scenes[arguments.scenes :]
    network = WholeSam(random_sam(arguments.out / "random"))
    start, reached = time.perf_counter(), {}
    for kind, clicks in CURRICULUM:
        settings = TrainSettings(
            epochs=arguments.epochs, patience=0, learning_rate=5e-4, decoder_learning_rate=5e-4,
            views=8, jitter=0.4, simulated_corrections=clicks, iou_head=True, cache=False,
        )  # fmt: skip
        items = TrainingItems.of(
            network, training, geometric=GeometricSettings(kind=kind), views=range(8), seed=SEED
        )
        result = fit(
            network, items, settings, directory=arguments.out / kind, seed=SEED,
            validate=lambda network, kind=kind: scores(network, held_back, kind),
        )  # fmt: skip
        reached[kind] = result.best_score
        print(f"{kind}: oracle IoU {result.best_score:.3f} after {result.steps} steps", flush=True)
    save_sam_hub(network.sam, arguments.out / "sam")
    report = {
        "question": "promptable_sam",
        "oracle_iou_on_held_back_scenes": reached,
        "seconds": round(time.perf_counter() - start),
        "scenes": arguments.scenes,
        "epochs": arguments.epochs,
        "environment": environment(),
    }
    write_json(arguments.out / "promptable_sam.json", report)


if __name__ == "__main__":
    main()
