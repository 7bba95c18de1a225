"""What `autosam vectorise`, `autosam river` and `autosam change` do: finished masks in, products out.

Each takes files, writes files and says in a few lines what came out. Errors are `AutoSamError`s: the command
line prints one line and exits with 2.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autosam.errors import AutoSamError, ConfigError, OutputError
from autosam.files import PathLike, read_json, write_json
from autosam.inference.planned_rasters import outputs_of, seen_from
from autosam.maps.banks import BankChoice, write_banks
from autosam.maps.change import CHANGE, ChangeChoice, write_change
from autosam.maps.finished_rasters import FinishedRaster, find_raster
from autosam.maps.river import RiverChoice, RiverMeasures, measure_rivers
from autosam.maps.river_layers import write_river_layers
from autosam.maps.river_report import save_report
from autosam.maps.river_tables import reach_rows, river_row, write_tables
from autosam.maps.styles import Styled, write_style
from autosam.maps.vector_files import check_replaceable, vector_format
from autosam.maps.vectors import MASK_ID, VectorChoice, mask_id, write_polygons
from autosam.recipes.map_pages import masked_picture
from autosam.wording import counted

Say = Callable[[str], None]
_SUFFIXES = (
    ".gpkg", ".json", "-banks.gpkg", "-report.png", "-rivers.csv", "-reaches.csv", "-stations.csv",
)  # fmt: skip
"""Of what is measured of a river, after the mask's name."""


def vectorise(
    mask: PathLike,
    output: PathLike,
    *,
    probability: PathLike | None = None,
    choice: VectorChoice | None = None,
    style: bool = False,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Write a mask's water as polygons.

    Args:
        mask: GeoTIFF of 0 and 1 (or 255).
        output: .gpkg, .geojson, .parquet or .fgb.
        probability: On the same grid, for the mean of each polygon; by default the one that was written
            with the mask, if any.
        choice: Minimum area, simplification and so on.
        style: Also write QGIS styles beside the rasters.
        overwrite: Also over a file that is not autosam's.
        say: Takes lines for the user.

    Returns:
        ``polygons``, ``area_m2``, ``unit``, ``output``.

    Raises:
        OutputError: The suffix is none of these, the file is somebody else's, or cannot be written.
    """
    vector_format(output)  # before anything is read
    if not overwrite:
        check_replaceable(output, column=MASK_ID)
    raster = find_raster(mask, _probability_of(mask, probability))
    count = write_polygons(raster, output, choice=choice)
    if style:
        write_styles(raster)
    square = _square(count.unit)
    polygons = counted(count.polygons, "polygon")
    say(f"{output}: {polygons}, {count.area:.1f} {square}{_pixel_words(raster)}")
    return {
        "polygons": count.polygons,
        "area_m2": count.area,
        "unit": count.unit,
        "output": str(output),
    }


def measure_river(
    mask: PathLike,
    output: PathLike,
    *,
    probability: PathLike | None = None,
    choice: RiverChoice | None = None,
    report: bool = True,
    say: Say = print,
) -> dict[str, Any]:
    """Measure the rivers of a mask into a folder.

    Writes, all named after the mask: ``.gpkg`` (water, centreline, reaches, sections, stations,
    islands), ``-rivers.csv``, ``-reaches.csv``, ``-stations.csv``, ``.json``, with a probability also
    ``-banks.gpkg``, and ``-report.png``.

    Args:
        mask: GeoTIFF of 0 and 1 (or 255).
        output: Folder.
        probability: Calibrated, on the same grid, for intervals and bank lines; by default the one that
            was written with the mask, if any.
        choice: Minimum areas, spacing, coverage and so on.
        report: Also draw the page.
        say: Takes lines for the user.

    Returns:
        What the JSON holds.

    Raises:
        OutputError: The JSON would take the place of the mask's report, the folder holds what was measured
            of another mask of that name, or it cannot be written.
        AutoSamError: The mask or the probability cannot be read or measured.
    """
    folder, stem = Path(output), Path(mask).stem
    has_report = masked_picture(Path(mask))[0] is not None
    if has_report and folder.resolve() == Path(mask).parent.resolve():
        raise OutputError(
            f"output must be another folder than that of the mask, whose report {stem}.json would be "
            f"replaced, got {folder}. Choose another with -o."
        )
    _check_folder(folder, Path(mask))
    raster = find_raster(mask, _probability_of(mask, probability))
    measures = measure_rivers(raster, choice=choice)
    about = {"mask": _told_of_mask(Path(mask), folder), **_river_numbers(measures)}
    # Before the others, so that what a killed run leaves is known for ours and for unfinished.
    write_json(folder / f"{stem}.json", {**about, "unfinished": True})
    files = {"layers": write_river_layers(folder / f"{stem}.gpkg", measures)}
    files |= write_tables(folder, measures, stem=stem)
    numbers: dict[str, Any] = {}
    if raster.probability is not None:
        files["banks"] = folder / f"{stem}-banks.gpkg"
        numbers["bank_band"] = dataclasses.asdict(
            write_banks(raster, files["banks"], choice=_bank_choice(measures.choice))
        )
    if report:
        files["report"] = save_report(folder / f"{stem}-report.png", measures)
    numbers |= about
    numbers["files"] = {name: path.name for name, path in files.items()}
    write_json(folder / f"{stem}.json", numbers)
    for line in _river_sentences(measures):
        say(line)
    return numbers


def _told_of_mask(mask: Path, folder: Path) -> dict[str, str]:
    """Where a mask lies, as seen from the folder, and which it is."""
    return {"file": seen_from(folder / f"{mask.stem}.json", mask), MASK_ID: mask_id(mask)}


def _check_folder(folder: Path, mask: Path) -> None:
    """Refuse to write over what no `autosam river` made, which its JSON tells, or made of another mask."""
    stem, wanted = mask.stem, "a folder in which nothing of that name lies"
    numbers = folder / f"{stem}.json"
    try:
        before = read_json(numbers)
        ours = {"rivers", "reaches", "decimation"} <= before.keys()
    except (OSError, AutoSamError, AttributeError):
        before, ours = {}, False
    there = [file for suffix in _SUFFIXES if (file := folder / f"{stem}{suffix}").exists()]
    if there and not ours:
        raise OutputError(
            f"output must be {wanted}, or of an earlier `autosam river`, got {there[0]}, which is something "
            "else and would be lost. Choose another folder with -o."
        )
    other, own = before.get("mask"), _told_of_mask(mask, folder) if mask.is_file() else None
    if other and own and all(other.get(key) != own[key] for key in own):
        raise OutputError(
            f"output must be {wanted}, or of the same mask, got {numbers}, which is of "
            f"{(folder / other['file']).resolve()} and would be lost. Choose another folder with -o."
        )


def compare_dates(
    first: PathLike,
    second: PathLike,
    output: PathLike,
    *,
    choice: ChangeChoice | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Write where a river gained and lost water between two masks of one place.

    Args:
        first: Mask of the earlier date.
        second: Mask of the later date, in the same coordinate reference system.
        output: .gpkg, .geojson, .parquet or .fgb.
        choice: Allowed shift, bank error and so on.
        say: Takes lines for the user.

    Returns:
        `ChangeMeasures` as JSON values, and ``output``.
    """
    vector_format(output)
    check_replaceable(output, column=CHANGE)
    if Path(first).resolve() == Path(second).resolve():
        raise ConfigError(f"dates must be two files, got {first} twice. Name the later one second.")
    rasters = find_raster(first), find_raster(second)
    measures = write_change(*rasters, output, choice=choice)
    square = _square(measures.unit)
    if measures.decimation > 1:
        say(f"compared on blocks of {measures.decimation} x {measures.decimation} pixels")
    say(f"registration: {measures.shift.sentence(measures.unit)}")
    say(
        f"{output}: gained {measures.gained:.0f} {square}, lost {measures.lost:.0f} {square}, wider than "
        f"{measures.minimum_width:.2f} {measures.unit}; at all: {measures.gained_at_all:.0f} and "
        f"{measures.lost_at_all:.0f}{_pixel_words(rasters[0])}"
    )
    return {**dataclasses.asdict(measures), "output": str(output)}


def _probability_of(mask: PathLike, given: PathLike | None) -> PathLike | None:
    """What was asked for, else what `autosam map` wrote beside the mask."""
    beside, _ = outputs_of(Path(mask))
    return beside if given is None and beside.is_file() else given


def write_styles(raster: FinishedRaster) -> list[Path]:
    """QGIS styles beside a mask and its probability."""
    written = [write_style(raster.mask, of="mask" if raster.has_nodata else "picture")]
    if raster.probability is not None:
        scaled = raster.probability_is_scaled
        kind: Styled = "probability-uint8" if scaled else "probability-float"
        written.append(write_style(raster.probability, of=kind))
    return written


def _bank_choice(choice: RiverChoice) -> BankChoice:
    """The lines at which the common-error interval ends."""
    return BankChoice(
        inner=(1 + choice.coverage) / 2,
        outer=(1 - choice.coverage) / 2,
        pixel_budget=choice.pixel_budget,
    )


def _river_numbers(measures: RiverMeasures) -> dict[str, Any]:
    ground = measures.raster.ground
    length = measures.choice.reach_length
    return {
        "unit": ground.unit,
        "pixel_m": ground.pixel,
        "decimation": measures.raster.step,
        "notes": list(measures.notes),
        "rivers": [river_row(river) for river in measures.rivers],
        "reaches": [
            row for river in measures.rivers for row in reach_rows(river, reach_length=length)
        ],
    }


def _river_sentences(measures: RiverMeasures) -> list[str]:
    lines = []
    for river in measures.rivers[:10]:
        row, unit = river_row(river), river.ground.unit
        words = [f"river {river.number}: {river.area:.0f} {_square(unit)}"]
        if river.interval is not None:
            words.append(f"{river.interval.low:.0f} to {river.interval.high:.0f}")
        if row["length_m"] is not None:
            words.append(f"{row['length_m']:.0f} {unit} long")
        if row["width_mean_m"] is not None:
            words.append(f"{row['width_mean_m']:.1f} {unit} wide")
        if row["braiding_index"] is not None:
            words.append(f"braiding {row['braiding_index']:.2f}")
        lines.append(", ".join([*words, f"{len(river.islands)} islands"]))
    if len(measures.rivers) > len(lines):
        lines.append(f"and {len(measures.rivers) - len(lines)} smaller ones")
    return lines + [f"note: {note}" for note in measures.notes]


def _square(unit: str) -> str:
    return "px" if unit == "px" else "m²"


def _pixel_words(raster: FinishedRaster) -> str:
    return " (no coordinate reference system: in pixels)" if raster.ground.unit == "px" else ""
