"""Band files against the values they were written from, squares against Pillow, statistics against numpy."""

import io

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from autosam.config import DataSettings
from autosam.data.bands import band_statistics, fill_gaps, read_band
from autosam.data.elwha import ElwhaDataset
from autosam.data.folders import FolderDataset
from autosam.data.geometry import Frame, bands_to_square, scale_sizes
from autosam.data.label_noise import add_label_noise
from autosam.data.sources import open_data
from autosam.errors import DataError, ImageError, MissingPathError
from autosam.types import Sample

SIZE = (6, 9)


def ramp(kind: str) -> np.ndarray:
    """Values that a wrong type would change: negative, above 255, or with a fraction."""
    values = np.arange(54).reshape(SIZE)
    return {
        "uint8": values,
        "int8": values - 40,
        "uint16": values * 1200,
        "int16": values * 600 - 16000,
        "uint32": values * 50_000_000 // 1024 * 1024,
        "int32": values * 100_000 - 2_000_000,
        "float32": values * 0.25 - 3.5,
    }[kind].astype(kind)


# --- files


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib", "predictor": True, "tile": (16, 16)}, {"bigtiff": True}],
    ids=["plain", "packed", "big"],
)
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"])
def test_every_kind_of_tiff_keeps_its_values(kind, options, tmp_path):
    if kind == "float32":
        options = {key: value for key, value in options.items() if key != "predictor"}
    tifffile.imwrite(tmp_path / "band.tif", ramp(kind), **options)
    band = read_band(tmp_path / "band.tif")
    assert band.dtype == np.float32
    np.testing.assert_array_equal(band.astype(np.float64), ramp(kind).astype(np.float64))


def test_a_height_model_with_the_predictor_for_floats_is_read(tmp_path):
    heights = np.linspace(1500, 1501, 54, dtype=np.float32).reshape(SIZE)
    Image.fromarray(heights).save(
        tmp_path / "dem.tif", compression="tiff_deflate", tiffinfo={317: 3}
    )
    np.testing.assert_array_equal(read_band(tmp_path / "dem.tif"), heights)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_grey_pngs_keep_their_values(kind, tmp_path):
    cv2.imwrite(str(tmp_path / "band.png"), ramp(kind))
    np.testing.assert_array_equal(read_band(tmp_path / "band.png"), ramp(kind))
    np.testing.assert_array_equal(read_band((tmp_path / "band.png").read_bytes()), ramp(kind))


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_three_equal_channels_are_one_and_three_others_are_refused(kind, tmp_path):
    colours = np.repeat(ramp(kind)[..., None], 3, axis=2)
    cv2.imwrite(str(tmp_path / "grey.png"), colours)
    np.testing.assert_array_equal(read_band(tmp_path / "grey.png"), ramp(kind))
    colours[2, 3, 1] += 1
    cv2.imwrite(str(tmp_path / "hot.png"), colours)
    with pytest.raises(ImageError, match=r"must have one channel, got 3 that differ .*hot\.png"):
        read_band(tmp_path / "hot.png")


def test_a_palette_of_colours_is_refused_rather_than_read_as_indices(tmp_path):
    picture = Image.fromarray(ramp("uint8"), mode="P")
    picture.putpalette([channel for index in range(256) for channel in (index, 0, 255 - index)])
    picture.save(tmp_path / "iron.png")
    with pytest.raises(ImageError, match="3 that differ"):
        read_band(tmp_path / "iron.png")


@pytest.mark.parametrize("values", [np.zeros((5, 6)), np.zeros((5, 6, 7), np.float32)])
def test_other_kinds_of_tiff_are_refused_with_a_way_out(values, tmp_path):
    tifffile.imwrite(
        tmp_path / "band.tif",
        values,
        photometric="minisblack",
        planarconfig="contig" if values.ndim == 3 else None,
    )
    with pytest.raises(ImageError, match=r"one channel of 8, 16 or 32 bits, .*-ot Float32"):
        read_band(tmp_path / "band.tif")


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(MissingPathError, match=r"absent\.tif"):
        read_band(tmp_path / "absent.tif")
    (tmp_path / "text.tif").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"text\.tif"):
        read_band(tmp_path / "text.tif")


# --- gaps


def test_values_without_data_become_gaps(tmp_path):
    values = ramp("float32")
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -9999
    tifffile.imwrite(tmp_path / "dem.tif", values, extratags=[(42113, "s", 0, "-9999", True)])
    gaps = np.zeros(SIZE, bool)
    gaps[[0, 1, 2], [0, 1, 2]] = True
    np.testing.assert_array_equal(np.isnan(read_band(tmp_path / "dem.tif")), gaps)
    # Without the tag nobody knows that it is no height.
    tifffile.imwrite(tmp_path / "bare.tif", values)
    assert read_band(tmp_path / "bare.tif")[2, 2] == -9999


def test_transparent_pixels_are_gaps(tmp_path):
    alpha = np.full(SIZE, 255, np.uint8)
    alpha[:, 4:] = 0
    merged = Image.merge("LA", (Image.fromarray(ramp("uint8")), Image.fromarray(alpha)))
    merged.save(tmp_path / "band.png")
    band = read_band(tmp_path / "band.png")
    assert np.isnan(band[:, 4:]).all()
    np.testing.assert_array_equal(band[:, :4], ramp("uint8")[:, :4])


def test_gaps_are_filled_with_the_median_and_are_not_valid():
    band = np.array([[1, 2, np.nan], [9, np.nan, np.nan]], np.float32)
    filled, valid = fill_gaps(band, name="dem")
    assert filled.tolist() == [[1, 2, 2], [9, 2, 2]]
    assert valid.tolist() == [[True, True, False], [True, False, False]]
    assert np.isnan(band[0, 2])
    whole = np.ones((2, 2), np.float32)
    assert fill_gaps(whole, name="dem") == (whole, None)
    with pytest.raises(DataError, match=r"must hold data, got a file of gaps alone \(dem\)"):
        fill_gaps(np.full((2, 2), np.nan, np.float32), name="dem")


# --- folders


@pytest.fixture
def root(tmp_path):
    """Two labelled pictures with heights and temperatures; one height is missing, and tagged so."""
    for folder in ("images", "masks", "dem", "thermal"):
        (tmp_path / folder).mkdir()
    for index, stem in enumerate("ab"):
        Image.fromarray(np.full((*SIZE, 3), index, np.uint8)).save(tmp_path / f"images/{stem}.png")
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(tmp_path / f"masks/{stem}.png")
        heights = ramp("float32") + 1500 * index
        heights[5, 8] = -9999
        tag = (42113, "s", 0, "-9999", True)
        tifffile.imwrite(tmp_path / f"dem/{stem}.tif", heights, extratags=[tag])
        cv2.imwrite(str(tmp_path / f"thermal/{stem}.png"), ramp("uint16"))
    return tmp_path


def test_bands_are_paired_by_stem_and_keep_their_unit(root):
    samples = FolderDataset(root, bands=("dem", "thermal"))
    assert samples.bands == ("dem", "thermal")
    for index, sample in enumerate(samples):
        assert list(sample.bands) == ["dem", "thermal"]
        np.testing.assert_array_equal(sample.bands["thermal"], ramp("uint16"))
        expected = ramp("float32") + 1500 * index
        np.testing.assert_array_equal(sample.bands["dem"].ravel()[:-1], expected.ravel()[:-1])
        assert np.argwhere(~sample.valid).tolist() == [[5, 8]]
    assert [list(sample.bands) for sample in samples[1:]] == [["dem", "thermal"]]
    assert FolderDataset(root)[0].bands == {}
    assert FolderDataset(root)[0].valid is None


def test_gaps_join_the_valid_folder_and_transparency(root):
    (root / "valid").mkdir()
    area = np.full(SIZE, 255, np.uint8)
    area[0, 0] = 0
    Image.fromarray(area).save(root / "valid/a.png")
    rgba = np.full((*SIZE, 4), 255, np.uint8)
    rgba[0, 1, 3] = 0
    Image.fromarray(rgba).save(root / "images/a.png")
    valid = FolderDataset(root, bands=("dem",))[0].valid
    assert np.argwhere(~valid).tolist() == [[0, 0], [0, 1], [5, 8]]


def test_a_missing_folder_is_named_with_its_band(root):
    with pytest.raises(MissingPathError, match=r"band 'nir' must have a folder beside images/"):
        FolderDataset(root, bands=("dem", "nir"))


def test_a_picture_without_its_band_and_a_band_without_its_picture_are_refused(root):
    (root / "dem/b.tif").rename(root / "b.tif")
    words = r"images in images/ must match the files of band 'dem' in dem/ .*partner for b\.png"
    with pytest.raises(DataError, match=words):
        FolderDataset(root, bands=("dem",))
    (root / "b.tif").rename(root / "dem/b.tif")
    (root / "thermal/c.png").write_bytes((root / "thermal/a.png").read_bytes())
    with pytest.raises(DataError, match=r"files of band 'thermal' in thermal/ .*for c\.png"):
        FolderDataset(root, bands=("thermal",))


def test_a_band_of_another_size_is_refused_with_its_sample(root):
    cv2.imwrite(str(root / "thermal/b.png"), ramp("uint16")[1:])
    samples = FolderDataset(root, bands=("thermal",), prefix="dam/")
    with pytest.raises(
        DataError,
        match=r"height and width \(6, 9\), got \(5, 9\) \(band 'thermal' of sample 'dam/b'",
    ):
        samples[1]


def test_what_cannot_be_read_is_named_with_band_and_sample(root):
    (root / "thermal/b.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"band 'thermal' of sample 'b', .*thermal.b\.png"):
        FolderDataset(root, bands=("thermal",))[1]


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        (("masks",), "other than images, masks, valid, got 'masks'"),
        (("dem", "dem"), "each once, other than .*, got 'dem'"),
        (("../dem",), r"got '\.\./dem'"),
        (("a/b",), "got 'a/b'"),
        (("",), "got ''"),
        ("dem", r"several names, got 'dem'. Write \['dem'\]"),
    ],
)
def test_names_that_are_no_bands_are_refused(root, bands, words):
    with pytest.raises(DataError, match=words):
        FolderDataset(root, bands=bands)


def test_real_thermal_frames_are_read(shared_data):
    samples = FolderDataset(shared_data / "elwha_thermal", bands=("thermal",))
    assert len(samples) == 3
    for sample in samples:
        band = sample.bands["thermal"]
        assert band.shape == sample.size == (640, 480)
        assert (band.min(), band.max()) == (3, 255)
        # The river is cold, and cold is dark.
        assert np.median(band[sample.mask]) < np.percentile(band[~sample.mask], 10)


# --- columns of a dataset, and what else samples pass through


def rows(**columns):
    import datasets

    def encoded(values: np.ndarray) -> dict[str, object]:
        stream = io.BytesIO()
        tifffile.imwrite(stream, values)
        return {"bytes": stream.getvalue(), "path": None}

    columns = {
        "image": [np.zeros((*SIZE, 3), np.uint8)] * 2,
        "label": [np.ones(SIZE, np.uint8)] * 2,
    } | columns
    data = {name: [encoded(one) for one in some] for name, some in columns.items()}
    features = datasets.Features({name: datasets.Image() for name in data})
    return datasets.Dataset.from_dict(data, features=features)


def test_bands_are_columns_of_a_dataset():
    heights = ramp("float32")
    heights[0, 0] = np.nan
    data = rows(dem=[heights, ramp("int16")])
    tiles = ElwhaDataset(data, split="train", source="rows", bands=("dem",))
    np.testing.assert_array_equal(tiles[0].bands["dem"].ravel()[1:], heights.ravel()[1:])
    assert np.argwhere(~tiles[0].valid).tolist() == [[0, 0]]
    np.testing.assert_array_equal(tiles[1].bands["dem"], ramp("int16"))
    assert tiles[1].valid is None
    assert ElwhaDataset(data, split="train", source="rows")[0].bands == {}


def test_a_dataset_without_the_column_or_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"column for band 'nir', got image, label \(rows\)"):
        ElwhaDataset(rows(), split="train", source="rows", bands=("nir",))
    with pytest.raises(DataError, match=r"other than image, label, .*got 'label'"):
        ElwhaDataset(rows(), split="train", source="rows", bands=("label",))
    small = rows(dem=[ramp("uint8")[1:]] * 2)
    tiles = ElwhaDataset(small, split="train", source="rows", bands=("dem",))
    with pytest.raises(
        DataError, match=r"got \(5, 9\) \(band 'dem' of sample 'train_00000 of rows'"
    ):
        tiles[0]


def test_opened_data_brings_the_bands_of_every_kind_of_source(root, tmp_path):
    folders = open_data(DataSettings(source=(str(root),)), bands=("dem", "thermal"))
    assert set(folders.samples[0].bands) == {"dem", "thermal"}
    scenes = open_data(DataSettings(synthetic_count=3, synthetic_side=32), bands=("nir",))
    assert scenes.samples[2].bands["nir"].shape == (32, 32)
    saved = tmp_path / "saved"
    import datasets

    parts = {"train": rows(dem=[ramp("int32")] * 2), "validation": rows(dem=[ramp("int8")] * 2)}
    datasets.DatasetDict(parts).save_to_disk(saved)
    tiles = open_data(DataSettings(source=(str(saved),)), bands=("dem",))
    np.testing.assert_array_equal(tiles.samples[-1].bands["dem"], ramp("int8"))
    with pytest.raises(DataError, match="column for band 'nir', got image, label, dem"):
        open_data(DataSettings(source=(str(saved),)), bands=("nir",))


def test_spoiled_labels_keep_the_bands():
    band = ramp("float32")
    image = np.zeros((*SIZE, 3), np.uint8)
    samples = [Sample(name="a", image=image, mask=band > 3, bands={"dem": band})]
    noisy = add_label_noise(samples, share=1.0, seed=0)
    assert noisy.spoiled
    np.testing.assert_array_equal(noisy[0].bands["dem"], band)


# --- into the square


def triangles(length: int, scale: float, count: int) -> np.ndarray:
    """(count, length) weights of an antialiased bilinear resize, the edge pixels going on for ever."""
    wide = max(1.0, 1 / scale)
    reach = int(np.ceil(wide)) + 1
    weights = np.zeros((count, length))
    for place in range(count):
        middle = (place + 0.5) / scale
        for pixel in range(int(middle) - reach, int(middle) + reach + 1):
            share = max(0.0, 1 - abs(pixel + 0.5 - middle) / wide)
            weights[place, min(max(pixel, 0), length - 1)] += share
    return weights / weights.sum(axis=1, keepdims=True)


def rough(size: tuple[int, int]) -> np.ndarray:
    generator = np.random.default_rng(0)
    return cv2.GaussianBlur(generator.normal(0, 50, size).astype(np.float32), (0, 0), 2) + 1500


@pytest.mark.parametrize("size", [(300, 170), (170, 300), (40, 31), (31, 40), (300, 21)])
def test_bands_shrink_by_triangles_at_the_scale_of_the_square(size):
    band, frame = rough(size), Frame.fit(*size, 256)
    square = bands_to_square([band, -band], frame, 64)
    assert square.shape == (2, 64, 64)
    # A quarter of where the picture ends in SAM's square, which need not be whole.
    scales = [inner / 4 / outer for inner, outer in zip(frame.square_size, size, strict=True)]
    height, width = (max(1, int(inner / 4 + 0.5)) for inner in frame.square_size)
    rows, columns = triangles(size[0], scales[0], height), triangles(size[1], scales[1], width)
    expected = rows @ band.astype(np.float64) @ columns.T
    inside = square[0, :height, :width].numpy()
    # At an edge torch weighs the picture alone; past a last pixel that is not full, its edge goes on.
    kept = tuple(slice(1, None if inner / 4 % 1 >= 0.5 else -1) for inner in frame.square_size)
    assert inside[kept].size
    np.testing.assert_allclose(inside[kept], expected[kept], atol=2e-3)
    np.testing.assert_allclose(square[1].numpy(), -square[0].numpy(), atol=1e-3)
    outside = np.concatenate([square[0, height:].ravel(), square[0, :, width:].ravel()])
    np.testing.assert_allclose(outside, inside.mean(dtype=np.float64), atol=2e-3)


@pytest.mark.parametrize("size", [(300, 300), (300, 150), (150, 300), (20, 40)])
def test_bands_shrink_as_pillow_shrinks_floats_where_sides_are_whole(size):
    square = bands_to_square([rough(size)], Frame.fit(*size, 256), 64)[0].numpy()
    height, width = (64 * length // max(size) for length in size)
    picture = Image.fromarray(rough(size)).resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(square[:height, :width], np.asarray(picture), atol=2e-3)


def test_a_whole_factor_agrees_with_means_over_areas():
    rows_, columns = np.mgrid[:256, :256].astype(np.float32)
    band = np.sin(rows_ / 30) * np.cos(columns / 40)
    square = bands_to_square([band], Frame.fit(256, 256, 512), 64)[0].numpy()
    area = cv2.resize(band, (64, 64), interpolation=cv2.INTER_AREA)
    # The outermost cells see less of their neighbours.
    np.testing.assert_allclose(square[1:-1, 1:-1], area[1:-1, 1:-1], atol=5e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([32, 64]),
)
def test_a_constant_band_stays_constant(size, value, side):
    band = np.full(size, value, np.float32)
    square = bands_to_square([band], Frame.fit(*size, 96), side)
    np.testing.assert_allclose(square.numpy(), value, rtol=1e-6)


def test_bands_lie_on_the_picture():
    from autosam.data.geometry import shrink_squares, to_square

    generator = np.random.default_rng(1)
    grey = cv2.GaussianBlur(generator.uniform(0, 255, (200, 333)).astype(np.float32), (0, 0), 4)
    image = np.repeat(np.rint(grey)[..., None], 3, axis=2).astype(np.uint8)
    square, frame = to_square(image, 256)
    rgb = shrink_squares(square[None], 64, antialias=True)[0, 0].float()
    band = bands_to_square([image[..., 0].astype(np.float32)], frame, 64)[0]
    height = int(scale_sizes(torch.tensor([frame.square_size]), 256, 64)[0, 0])
    errors = [
        float((rgb[2 : height - 3, 2:-2] - band.roll((dy, dx), (0, 1))[2 : height - 3, 2:-2]).std())
        for dy in (0, -1, 1)
        for dx in (0, -1, 1)
    ]
    assert errors[0] < 0.25 * min(errors[1:])


@pytest.mark.parametrize("band", [np.zeros((4, 5), np.float32), np.zeros((5, 4), np.float64)])
def test_a_band_of_another_picture_or_type_is_refused(band):
    with pytest.raises(ImageError, match=r"must be float32 with its picture's .* \(5, 4\), got"):
        bands_to_square([band], Frame.fit(5, 4, 32), 32)


# --- statistics


def sample_of(values: np.ndarray, valid: np.ndarray | None = None, **bands: np.ndarray) -> Sample:
    image = np.zeros((*values.shape, 3), np.uint8)
    return Sample(name="a", image=image, valid=valid, bands={"dem": values, **bands})


def test_statistics_equal_those_of_all_valid_pixels_together():
    generator = np.random.default_rng(0)
    samples, kept = [], []
    for index in range(6):
        size = tuple(generator.integers(3, 40, 2))
        values = generator.normal(1500 + 100 * index, 3, size).astype(np.float32)
        valid = None if index == 0 else generator.random(size) < index / 6
        if index == 3:
            valid = np.zeros(size, bool)
        samples.append(sample_of(values, valid, nir=values * 2))
        kept.append(values if valid is None else values[valid])
    pixels = np.concatenate([one.ravel() for one in kept]).astype(np.float64)
    mean, std = band_statistics(iter(samples), ("nir", "dem"))
    np.testing.assert_allclose(mean, [2 * pixels.mean(), pixels.mean()], rtol=1e-12)
    np.testing.assert_allclose(std, [2 * pixels.std(), pixels.std()], rtol=1e-10)


@pytest.mark.parametrize("value", [0.0, 1234.567, -3e30])
def test_a_constant_band_has_a_deviation_that_divides(value):
    mean, std = band_statistics([sample_of(np.full((7, 9), value, np.float32))] * 3, ("dem",))
    assert mean[0] == pytest.approx(np.float32(value))
    assert std[0] == 1


def test_statistics_need_the_band_and_a_valid_pixel():
    sample = sample_of(np.zeros((2, 3), np.float32), np.zeros((2, 3), bool))
    with pytest.raises(DataError, match=r"valid pixels to learn from, got none \(dem\)"):
        band_statistics([sample], ("dem",))
    with pytest.raises(DataError, match="got none"):
        band_statistics([], ("dem",))
    labelled = sample_of(np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match=r"must have the band 'nir', got dem \(sample 'a'\)"):
        band_statistics([labelled], ("nir",))
