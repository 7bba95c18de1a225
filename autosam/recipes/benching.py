"""What `autosam doctor --bench` does: time what can encode here, and keep the fastest that agrees."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from autosam.errors import AutoSamError, ModelError, one_line
from autosam.files import PathLike
from autosam.inference.runtimes import (
    LEAST_IOU,
    available_runtimes,
    encoder_on,
    measured_agreement,
    remember_choice,
)
from autosam.inference.segmenter import AutoSam
from autosam.models.autosam import PromptedSam
from autosam.models.exported_network import ExportedNetwork
from autosam.models.frozen_sam import Encode, Sam
from autosam.models.windowed_attention import encodes_in_strips
from autosam.types import ImageEmbedding, Pixels

REFERENCE = "transformers"
"""SAM's own encoder as transformers runs it; for a convolutional encoder there is none."""
ROUNDS = 3
WORTH_A_CHANGE = 1.05
"""How many times as fast as torch another runtime must be to be chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchedRuntime:
    """One way to encode a picture on this machine."""

    name: str
    milliseconds: float | None
    """Median of the rounds; None where it could not run."""
    times_as_fast: float | None
    """As the first row."""
    mask_iou: float | None
    """The lowest with torch's masks on drawn scenes."""
    chosen: bool = False
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)

    def sentence(self) -> str:
        """One row of a table."""
        if self.milliseconds is None or self.times_as_fast is None:
            return f"{self.name:14}{self.note}"
        iou = "" if self.mask_iou is None else f"  IoU {self.mask_iou:.4f}"
        picked = "  <- runtime='auto'" if self.chosen else ""
        note = f"  {self.note}" if self.note else ""
        return (
            f"{self.name:14}{self.milliseconds:9.1f} ms  x {self.times_as_fast:4.2f}{iou}"
            f"{picked}{note}"
        )


def bench_runtimes(
    source: PathLike, *, token: str | None = None, say: Callable[[str], None] = lambda _: None
) -> list[BenchedRuntime]:
    """Time every runtime that is installed, in turn round by round, and keep the choice for 'auto'.

    Args:
        source: 'river-nano', the folder of a run, or ``owner/name`` on the hub.
        token: For a private model.
        say: Told what happens next.

    Raises:
        ModelError: The model has no SAM whose encoder could be exchanged.
    """
    model = AutoSam.from_pretrained(source, token=token, device="cpu")
    network = model.network
    if not isinstance(network, PromptedSam) or network.sam.image_encoder is None:
        raise ModelError(
            f"model must have SAM's image encoder to be timed, got {_kind_of(model)} ({source}). "
            "Name river-nano, or an autosam, decoder or zero-shot run."
        )
    ways, notes, ious = _ways(model, network.sam, say)
    say(f"timing {', '.join(ways)}: {ROUNDS} rounds")
    milliseconds = _timed(ways, torch.randn(1, 3, network.side, network.side))
    chosen = _fastest(milliseconds, ious)
    first = next(iter(milliseconds.values()))
    rows = [
        BenchedRuntime(
            name=name,
            milliseconds=spent,
            times_as_fast=first / spent,
            mask_iou=ious.get(name),
            chosen=name == chosen,
            note=notes.get(name, ""),
        )
        for name, spent in milliseconds.items()
    ]
    rows += [
        BenchedRuntime(name=name, milliseconds=None, times_as_fast=None, mask_iou=None, note=note)
        for name, note in notes.items()
        if name not in milliseconds
    ]
    measured = {"milliseconds": milliseconds, "mask_iou": ious}
    say(f"kept in {remember_choice(model, chosen, measured)}")
    return rows


def _kind_of(model: AutoSam) -> str:
    exported = isinstance(model.network, ExportedNetwork)
    return "an exported graph" if exported else repr(model.config.method)


def _ways(
    model: AutoSam, sam: Sam, say: Callable[[str], None]
) -> tuple[dict[str, Encode], dict[str, str], dict[str, float]]:
    """What encodes, by name; what is to be said of some; and the lowest mask IoU with torch's."""
    ways: dict[str, Encode] = {}
    notes: dict[str, str] = {}
    ious: dict[str, float] = {}
    if encodes_in_strips(cast(torch.nn.Module, sam.image_encoder), torch.empty(0)):
        ways[REFERENCE] = _reference(sam)
    for name in available_runtimes():
        say(f"preparing {name}")
        try:
            encode = encoder_on(sam, name)
            ious[name] = min(measured_agreement(model, encode))
        except AutoSamError as error:
            notes[name] = one_line(error)
            continue
        ways[name] = encode or sam.encode_by_torch
        if ious[name] < LEAST_IOU:
            notes[name] = f"refused: masks must agree to {LEAST_IOU}"
    return ways, notes, ious


def _reference(sam: Sam) -> Encode:
    def encode(pixels: Pixels) -> ImageEmbedding:
        encoder = cast(Any, sam.image_encoder)
        return cast(Tensor, encoder(pixels).last_hidden_state)

    return encode


@torch.inference_mode()
def _timed(ways: Mapping[str, Encode], pixels: Pixels) -> dict[str, float]:
    """Median milliseconds; all ways in every round, so that what else the machine does meets all alike."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, encode in ways.items():
            start = time.perf_counter()
            encode(pixels)
            if number:  # the first round warms up
                spent[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in spent.items()}


def _fastest(milliseconds: Mapping[str, float], ious: Mapping[str, float]) -> str:
    """Of the runtimes whose masks agree; torch unless another is clearly faster."""
    fitting = {
        name: spent for name, spent in milliseconds.items() if ious.get(name, 0) >= LEAST_IOU
    }
    best = min(fitting, key=lambda name: fitting[name])
    return best if fitting[best] * WORTH_A_CHANGE < fitting["torch"] else "torch"
