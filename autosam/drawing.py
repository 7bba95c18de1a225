"""Pictures for people: water on its image, errors on a map, many pictures on one sheet.

Colours come from the palette of Okabe and Ito (2008), which people of every colour vision can tell
apart. It knows arrays and paths, and neither datasets nor networks.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from autosam.errors import DataError
from autosam.files import PathLike, replacing
from autosam.plotting import save_curves, save_histogram, save_reliability

__all__ = [
    "ERROR_LEGEND",
    "contact_sheet",
    "error_map",
    "hatched",
    "overlay",
    "save_curves",
    "save_histogram",
    "save_picture",
    "save_reliability",
    "shrink",
]

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

WATER: Colour = (0, 114, 178)
FOUND: Colour = (0, 114, 178)
FALSE_WATER: Colour = (230, 159, 0)
MISSED: Colour = (208, 28, 139)
"""Magenta: the palette's vermilion lies too near to its orange for thin lines."""
IGNORED: Colour = (125, 125, 125)
IGNORED_LIGHT: Colour = (165, 165, 165)
PREDICTED_OUTLINE: Colour = (255, 240, 60)
TRUTH_OUTLINE: Colour = (255, 255, 255)
INK: Colour = (30, 30, 30)

ERROR_LEGEND: tuple[tuple[str, Colour], ...] = (
    ("water found", FOUND),
    ("land called water", FALSE_WATER),
    ("water missed", MISSED),
    ("ignored", IGNORED),
)
"""What the colours of `error_map` mean, for `contact_sheet`."""


def overlay(image: np.ndarray, mask: np.ndarray, *, truth: np.ndarray | None = None) -> np.ndarray:
    """Tint the water blue and outline its bank, so that the picture can still be judged below it.

    Args:
        image: (height, width, 3) uint8, RGB.
        mask: (height, width) bool, True for water; tinted, with a yellow outline.
        truth: (height, width) bool; when given, outlined in white beside the mask.

    Returns:
        (height, width, 3) uint8, RGB; an empty mask gives the image as it was.

    Raises:
        DataError: The shapes do not belong together.
    """
    _check_area(image, mask, "mask")
    drawn = _blend(image, mask, WATER, 0.42)
    width = _line_width(image)
    if truth is not None:
        _check_area(image, truth, "truth")
        drawn = _outlined(drawn, truth, TRUTH_OUTLINE, width)
    return _outlined(drawn, mask, PREDICTED_OUTLINE, width)


def error_map(
    image: np.ndarray, predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray | None
) -> np.ndarray:
    """Colour each pixel by what the prediction got right and wrong; `ERROR_LEGEND` says how.

    Args:
        image: (height, width, 3) uint8, RGB; its pale grey shows where rightly nothing was found.
        predicted: (height, width) bool, True for water.
        truth: (height, width) bool, True for water.
        valid: (height, width) bool, False where the label is ignored; None when all of it counts.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        DataError: The shapes do not belong together.
    """
    kept = np.ones(image.shape[:2], dtype=bool) if valid is None else valid
    for name, area in (("predicted", predicted), ("truth", truth), ("valid", kept)):
        _check_area(image, area, name)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    pale = (185 + grey * (70 / 255)).astype(np.uint8)
    drawn: np.ndarray = cv2.cvtColor(pale, cv2.COLOR_GRAY2RGB)
    for area, colour in (
        (predicted & truth, FOUND),
        (predicted & ~truth, FALSE_WATER),
        (truth & ~predicted, MISSED),
    ):
        drawn = _blend(drawn, area & kept, colour, 0.85)
    return hatched(drawn, ~kept)


def marked(
    image: np.ndarray,
    *,
    points: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    boxes: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Draw what prompted a mask: a disc on water, a cross on land, boxes as white frames.

    Shapes and not colours alone tell the two kinds apart, for people of every colour vision.

    Args:
        image: (height, width, 3) uint8, RGB.
        points: (count, 2) of (x, y) in pixel indices.
        labels: (count,): 1 water, 0 land; others are not drawn.
        boxes: Each left, top, right, bottom.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    drawn: np.ndarray = image.copy()
    size = 3 * _line_width(image) + 2
    for box in boxes:
        corners = [round(float(value)) for value in box]
        for colour, width in ((INK, size // 2 + 2), (TRUTH_OUTLINE, size // 2)):
            cv2.rectangle(drawn, corners[:2], corners[2:], colour, max(1, width))
    pairs = [] if points is None or labels is None else zip(points, labels, strict=True)
    for (x, y), label in pairs:
        place = (round(float(x)), round(float(y)))
        if label == 1:
            cv2.circle(drawn, place, size + 1, INK, -1, cv2.LINE_AA)
            cv2.circle(drawn, place, size - 1, PREDICTED_OUTLINE, -1, cv2.LINE_AA)
        elif label == 0:
            for colour, width in ((INK, size), (TRUTH_OUTLINE, max(1, size // 2))):
                cv2.drawMarker(drawn, place, colour, cv2.MARKER_TILTED_CROSS, 2 * size, width)
    return drawn


def hatched(image: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Cover what is ignored with grey diagonals, which no picture shows by itself.

    Args:
        image: (height, width, 3) uint8, RGB.
        area: (height, width) bool, what to cover.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    _check_area(image, area, "area")
    period = 6 * _line_width(image) + 2
    rows, columns = np.ogrid[: area.shape[0], : area.shape[1]]
    dark = (rows + columns) % period < period / 2
    levels = np.array((IGNORED_LIGHT, IGNORED), dtype=np.uint8)
    covered: np.ndarray = np.where(area[:, :, None], levels[dark.astype(np.uint8)], image)
    return covered


def contact_sheet(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int,
    *,
    legend: Sequence[tuple[str, Colour]] = (),
) -> np.ndarray:
    """Lay pictures out in rows, each under its title; a title too long loses its middle.

    Args:
        pictures: Each (height, width, 3) uint8, RGB, of any size; shown as large as they are.
        titles: One for each picture.
        columns: Pictures side by side, at least 1.
        legend: (meaning, colour) pairs for a line at the foot.

    Returns:
        (height, width, 3) uint8, RGB, on white.

    Raises:
        DataError: There is no picture, not one title for each, or no column.
    """
    if not pictures or len(pictures) != len(titles) or columns < 1:
        raise DataError(
            f"contact sheet must have pictures, a title for each and a column, got {len(pictures)} "
            f"pictures, {len(titles)} titles, {columns} columns. Give one title per picture."
        )
    columns = min(columns, len(pictures))
    width = max(picture.shape[1] for picture in pictures)
    points = max(11, round(width / 24))
    font, gap, line = ImageFont.load_default(points), max(6, width // 40), math.ceil(points * 1.6)
    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    heights = [max(picture.shape[0] for picture in row) + line for row in rows]
    sheet_width = columns * (width + gap) + gap
    places = _legend_places(legend, font, width=sheet_width - 2 * gap, line=line)
    foot = places[-1][1] + line + gap if places else 0
    size = (sheet_width, sum(heights) + gap * (len(rows) + 1) + foot)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        row, column = divmod(index, columns)
        left, top = gap + column * (width + gap), gap * (row + 1) + sum(heights[:row])
        draw.text((left, top), _shortened(title, font, width), fill=INK, font=font)
        sheet.paste(Image.fromarray(picture), (left, top + line))
    for (meaning, colour), (left, top) in zip(legend, places, strict=True):
        left, top = left + gap, top + size[1] - foot
        draw.rectangle((left, top, left + points, top + points), fill=colour)
        draw.text((left + 1.5 * points, top), meaning, fill=INK, font=font)
    return np.asarray(sheet)


def _legend_places(
    legend: Sequence[tuple[str, Colour]], font: Font, *, width: int, line: int
) -> list[tuple[int, int]]:
    """(left, top) of each entry, on as many lines as the width asks for."""
    places, left, top = [], 0, 0
    for meaning, _ in legend:
        needed = math.ceil(font.getlength(meaning)) + 2 * line
        if left and left + needed > width:
            left, top = 0, top + line
        places.append((left, top))
        left += needed
    return places


def _shortened(title: str, font: Font, width: int) -> str:
    """Cut the middle: names of tiles differ at their ends, and scores stand there."""
    if font.getlength(title) <= width:
        return title
    for kept in range(len(title) - 1, 1, -1):
        short = title[: kept // 3] + "…" + title[len(title) - (kept - kept // 3) :]
        if font.getlength(short) <= width:
            return short
    return "…"


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """Average a picture down until neither side exceeds `longest`; smaller ones stay as they are."""
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: np.ndarray = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return small


def save_picture(path: PathLike, picture: np.ndarray) -> Path:
    """Write a (height, width[, 3]) uint8 picture in one step; the suffix says the format.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(path)
    with replacing(path) as beside:
        Image.fromarray(picture).save(beside)
    return path


def _check_area(image: np.ndarray, area: np.ndarray, name: str) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(
            f"image must be (height, width, 3) uint8, got {image.shape} {image.dtype}. "
            "Convert it to RGB first."
        )
    if area.shape != image.shape[:2] or area.dtype != np.bool_:
        raise DataError(
            f"{name} must be bool with the image's height and width {image.shape[:2]}, "
            f"got {area.dtype} {area.shape}. Check that both show the same picture."
        )


def _blend(image: np.ndarray, area: np.ndarray, colour: Colour, strength: float) -> np.ndarray:
    """Through a table of the 256 levels, which spares large pictures eight bytes per value."""
    levels = np.arange(256)[:, None] * (1 - strength) + np.array(colour) * strength
    tinted = cv2.LUT(image, np.round(levels).astype(np.uint8)[None])
    blended: np.ndarray = np.where(area[:, :, None], tinted, image)
    return blended


def _line_width(image: np.ndarray) -> int:
    """Thick enough to be seen when the whole picture fills a screen."""
    return max(1, round(math.hypot(*image.shape[:2]) / 700))


def _outlined(image: np.ndarray, mask: np.ndarray, colour: Colour, width: int) -> np.ndarray:
    """A bright line in the water along the bank, and a dark one on land, seen on snow and on shadow."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    water = mask.astype(np.uint8)
    # What lies outside the picture changes neither: its frame is no bank.
    inside, around = cv2.erode(water, kernel).astype(bool), cv2.dilate(water, kernel).astype(bool)
    drawn = _blend(image, around & ~mask, INK, 0.55)
    drawn[mask & ~inside] = colour
    return drawn
