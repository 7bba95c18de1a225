"""The pictures on which a model does worst, kept small while the others pass by."""

import heapq
from typing import TypeAlias

import numpy as np

from autosam.drawing import ERROR_LEGEND, contact_sheet, error_map, hatched, overlay, shrink
from autosam.types import Sample

PANEL_SIDE = 420
"""Longest side in pixels: four panels side by side fill a screen."""

Strip: TypeAlias = list[tuple[str, np.ndarray]]


class WorstPictures:
    """A contact sheet in the making: never more than `count` pictures, already shrunk."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._kept: list[tuple[float, int, Strip]] = []  # best of the worst first
        self._offered = 0

    def offer(
        self,
        sample: Sample,
        *,
        predicted: np.ndarray,
        truth: np.ndarray,
        valid: np.ndarray,
        iou: float,
        source: str = "prediction",
    ) -> None:
        """Keep a picture if its IoU is among the lowest so far; of equals the earlier one.

        Args:
            sample: The picture and its name.
            predicted: (height, width) bool.
            truth: (height, width) bool.
            valid: (height, width) bool, what was scored.
            iou: In 0..1.
            source: Of the mask, for its title: a prompt's source, which says when it is an oracle.
        """
        self._offered += 1
        rank = (-iou, -self._offered)
        if len(self._kept) == self.count and rank <= self._kept[0][:2]:
            return
        strip = _strip(
            sample, predicted=predicted, truth=truth, valid=valid, iou=iou, source=source
        )
        entry = (*rank, strip)
        if len(self._kept) < self.count:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)

    def sheet(self) -> np.ndarray | None:
        """(height, width, 3) uint8, RGB: image, truth, prediction and errors, the worst at the top.

        None when nothing was offered.
        """
        if not self._kept:
            return None
        panels = [panel for entry in sorted(self._kept, reverse=True) for panel in entry[2]]
        return contact_sheet(
            [picture for _, picture in panels],
            [title for title, _ in panels],
            4,
            legend=ERROR_LEGEND,
        )


def _strip(
    sample: Sample,
    *,
    predicted: np.ndarray,
    truth: np.ndarray,
    valid: np.ndarray,
    iou: float,
    source: str,
) -> Strip:
    image, kept = shrink(sample.image, PANEL_SIDE), _shrunk(valid)
    truth_panel = hatched(overlay(image, _shrunk(truth & valid)), ~kept)
    # Errors are coloured at full size and then averaged: a thin one turns pale but does not vanish.
    errors = shrink(error_map(sample.image, predicted, truth, valid), PANEL_SIDE)
    return [
        (sample.name, image),
        ("truth", truth_panel),
        (f"{source}, IoU {iou:.3f}", overlay(image, _shrunk(predicted))),
        ("errors", errors),
    ]


def _shrunk(area: np.ndarray) -> np.ndarray:
    half: np.ndarray = shrink(area.astype(np.uint8) * 255, PANEL_SIDE) >= 128
    return half
