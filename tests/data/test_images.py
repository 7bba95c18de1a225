import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from autosam.data.images import find_images, read_image, read_labels, read_mask, to_picture
from autosam.errors import ImageError, MissingPathError

SHOWS_NOTHING = [124, 116, 104]
"""SAM's mean of red, green and blue, rounded."""


@pytest.fixture
def colours() -> np.ndarray:
    """(5, 7, 3): taller sides differ from wider ones, and no two pixels are equal."""
    return np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png_16_bit(values: np.ndarray, *, colour_type: int, clear: tuple[int, ...] = ()) -> bytes:
    """A PNG written by hand: (height, width, channels) uint16, one grey or colour of it transparent."""
    rows = [row.astype(">u2").tobytes() for row in values]
    return png(rows, values.shape[1], bits=16, colour_type=colour_type, clear=clear)


def png(
    rows: list[bytes], width: int, *, bits: int, colour_type: int, clear: tuple[int, ...] = ()
) -> bytes:
    """By the specification: https://www.w3.org/TR/png-3/."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", np.array(clear, ">u2").tobytes()) if clear else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_a_picture_without_loss_is_read_as_it_was_written(tmp_path, colours, suffix):
    path = tmp_path / f"river{suffix}"
    Image.fromarray(colours).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    picture = read_image(path)
    np.testing.assert_array_equal(picture.image, colours)
    assert picture.image.dtype == np.uint8
    assert picture.valid is None
    assert picture.notes == ()


def test_bytes_are_read_as_the_file_is(tmp_path, colours):
    content = encoded(Image.fromarray(colours))
    np.testing.assert_array_equal(read_image(content).image, colours)


def test_grey_is_repeated_in_three_channels(colours):
    grey = colours[..., 0]
    picture = read_image(encoded(Image.fromarray(grey)))
    for channel in range(3):
        np.testing.assert_array_equal(picture.image[..., channel], grey)
    assert picture.notes == ("grey repeated in three channels",)


def test_one_bit_becomes_black_and_white():
    bits = np.array([[True, False, True]])
    image = read_image(encoded(Image.fromarray(bits))).image
    np.testing.assert_array_equal(image[0, :, 1], [255, 0, 255])


def test_a_palette_gives_its_colours():
    picture = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    image = read_image(encoded(picture)).image
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[0, 1].tolist() == [40, 50, 60]


def test_a_transparent_palette_entry_is_not_valid():
    picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    read = read_image(encoded(picture, transparency=1))
    assert read.valid.tolist() == [[True, False]]
    assert read.image[0].tolist() == [[10, 20, 30], SHOWS_NOTHING]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_only_full_transparency_is_not_valid_and_other_colours_stay(colours, kind):
    alpha = np.full((5, 7, 1), 255, np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 1
    picture = read_image(encoded(Image.fromarray(np.concatenate([colours, alpha], 2)), kind))
    colours[0, 0] = SHOWS_NOTHING  # whatever lies beneath: a model must not see it
    np.testing.assert_array_equal(picture.image, colours)
    assert np.argwhere(~picture.valid).tolist() == [[0, 0]]
    assert picture.notes == ("2.9% transparent, without data",)


def test_opaque_alpha_is_no_valid_area(colours):
    assert read_image(encoded(Image.fromarray(colours).convert("RGBA"))).valid is None


def test_grey_with_alpha_is_read(colours):
    grey = Image.fromarray(colours[..., 0]).convert("LA")
    grey.putpixel((3, 2), (77, 0))
    picture = read_image(encoded(grey))
    assert np.argwhere(~picture.valid).tolist() == [[2, 3]]
    assert picture.image[2, 3].tolist() == SHOWS_NOTHING


def test_cmyk_has_the_colours_of_its_inks():
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    picture = read_image(encoded(Image.fromarray(inks, mode="CMYK"), "TIFF"))
    assert picture.image.tolist() == [[[255, 255, 255], [0, 255, 255], [0, 0, 0]]]
    assert picture.notes == ("CMYK converted to RGB",)


def test_a_cmyk_jpeg_is_not_inverted():
    paper = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    assert read_image(encoded(paper, "JPEG", quality=95)).image.min() > 245


# How each orientation is stored (EXIF 2.3, tag 0x0112: where row 0 and column 0 of the file belong).
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "deep PNG", "deep TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_turned_upright(tmp_path, colours, orientation, kind):
    stored = {
        1: colours,
        2: np.fliplr(colours),
        3: np.rot90(colours, 2),
        4: np.flipud(colours),
        5: colours.transpose(1, 0, 2),
        6: np.rot90(colours, 1),
        7: np.rot90(colours, 2).transpose(1, 0, 2),
        8: np.rot90(colours, -1),
    }[orientation]
    path = tmp_path / "turned"
    if kind.startswith("deep"):
        write_deep_turned(path, stored, orientation, kind.split()[1])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(path, kind, exif=exif)
    picture = read_image(path)
    upright = to_picture(colours.astype(np.uint16) * 257) if "deep" in kind else to_picture(colours)
    np.testing.assert_array_equal(picture.image, upright.image)


def test_a_turned_picture_says_so(colours):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(colours), "JPEG", exif=exif)
    picture = read_image(content)
    assert picture.image.shape == (7, 5, 3)
    assert picture.notes == ("turned upright (EXIF orientation 6)",)


def write_deep_turned(path, stored: np.ndarray, orientation: int, kind: str) -> None:
    deep = np.ascontiguousarray(stored).astype(np.uint16) * 257
    if kind == "PNG":
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = png_16_bit(deep, colour_type=2)
        payload = b"eXIf" + exif.tobytes()[6:]
        chunk = (
            struct.pack(">I", len(payload) - 4) + payload + struct.pack(">I", zlib.crc32(payload))
        )
        path.write_bytes(content[:33] + chunk + content[33:])
    else:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(
            path, deep, photometric="rgb", extratags=[(274, "H", 1, orientation, True)]
        )


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_grey_is_stretched_between_two_percentiles(tmp_path, suffix):
    # 0..100 in steps of one: the percentiles 2 and 98 are the values 2 and 98.
    values = np.arange(101, dtype=np.uint16).reshape(1, 101) + 1000
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(values).save(path)
    picture = read_image(path)
    expected = np.clip(np.rint((np.arange(101) - 2) * 255 / 96), 0, 255)
    np.testing.assert_array_equal(picture.image[0, :, 0], expected)
    assert "16 bits stretched to 8 between 1002 and 1098 (2 % and 98 %" in picture.notes[0]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_colours_share_one_stretch_and_keep_their_order(tmp_path, suffix):
    generator = np.random.default_rng(3)
    values = generator.integers(300, 4000, (40, 30, 3)).astype(np.uint16)
    values[..., 2] //= 2  # less blue: a stretch of each channel alone would hide it
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), values[..., ::-1])
    low, high = np.percentile(values, [2, 98])
    expected = np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255)
    np.testing.assert_array_equal(read_image(path).image, expected.astype(np.uint8))


def test_sixteen_bit_transparent_pixels_do_not_count_in_the_stretch():
    values = np.full((10, 11, 4), 65535, np.uint16)
    values[..., :3] = (np.arange(110, dtype=np.uint16) + 500).reshape(10, 11, 1)
    values[0, :, :3], values[0, :, 3] = 0, 0
    picture = read_image(png_16_bit(values, colour_type=6))
    low, high = np.percentile(np.repeat(np.arange(11, 110) + 500, 3), [2, 98])
    assert f"between {low:g} and {high:g}" in picture.notes[0]
    assert picture.valid.sum() == 99
    assert not picture.valid[0].any()


def test_sixteen_bit_grey_with_alpha_is_read_in_full_depth():
    values = np.zeros((1, 101, 2), np.uint16)
    values[0, :, 0], values[0, :, 1] = np.arange(101) + 40, 65535
    image = read_image(png_16_bit(values, colour_type=4)).image
    assert len(np.unique(image)) == 97  # all but the clipped ends; eight bits would leave one


@pytest.mark.parametrize("colour_type", [0, 2])
def test_the_transparent_value_of_a_sixteen_bit_png_has_no_data(colour_type):
    # 256 * 3 + 7 and the transparent 256 * 3 + 9 are one in their high byte, which is not enough.
    channels = 3 if colour_type == 2 else 1
    values = (np.arange(110, dtype=np.uint16) + 777).reshape(10, 11, 1).repeat(channels, 2)
    values[4, 5], values[4, 6, 0] = 65535, 65535  # bright, and not to count; the other to stay
    clear = (65535,) * channels
    seen = png_16_bit(values, colour_type=colour_type, clear=clear)
    picture, plain = read_image(seen), read_image(png_16_bit(values, colour_type=colour_type))
    expected = (values == 65535).all(axis=2)
    np.testing.assert_array_equal(picture.valid, ~expected)
    low, high = np.percentile(values[~expected], [2, 98])
    levels = np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    shown = np.where(expected[..., None], SHOWS_NOTHING, levels)
    np.testing.assert_array_equal(picture.image, shown)
    assert plain.valid is None
    assert picture.notes[0].startswith("16 bits stretched to 8 between ")
    assert picture.notes[-1] == f"{expected.mean():.1%} transparent, without data"
    assert not any("converted" in note for note in picture.notes)
    mask = read_labels(seen)
    np.testing.assert_array_equal(mask, values.max(axis=2))


@pytest.mark.parametrize(
    ("bits", "row", "expected"),
    [
        (1, b"\x40", [True, False, True, True]),
        (2, b"\x1b", [True, False, True, True]),
        (4, b"\x01\x23", [True, False, True, True]),
        (8, b"\x00\x01\x02\x03", [True, False, True, True]),
    ],
)
def test_the_transparent_grey_of_a_png_is_found_at_every_depth(bits, row, expected):
    picture = read_image(png([row], 4, bits=bits, colour_type=0, clear=(1,)))
    assert picture.valid.tolist() == [expected]
    assert picture.notes == (
        "grey repeated in three channels",
        "25.0% transparent, without data",
    )


def test_the_transparent_colour_of_a_png_is_found_and_nothing_else_is_said(colours):
    content = encoded(Image.fromarray(colours), transparency=tuple(colours[2, 3].tolist()))
    picture = read_image(content)
    assert np.argwhere(~picture.valid).tolist() == [[2, 3]]
    colours[2, 3] = SHOWS_NOTHING
    np.testing.assert_array_equal(picture.image, colours)
    assert picture.notes == ("2.9% transparent, without data",)


def test_a_flat_sixteen_bit_picture_keeps_its_brightness():
    flat = np.full((3, 4), 32896, np.uint16)
    assert (to_picture(flat).image == 128).all()


def test_a_float_tiff_is_refused_by_name(tmp_path):
    path = tmp_path / "depth.tif"
    Image.fromarray(np.full((3, 4), 0.5, np.float32)).save(path)
    with pytest.raises(ImageError, match=r"8 or 16 bits per channel, got floats \(.*depth\.tif"):
        read_image(path)


def test_a_float_colour_tiff_is_refused_by_name(tmp_path):
    path = tmp_path / "depth.tif"
    cv2.imwrite(str(path), np.full((3, 4, 3), 0.5, np.float32))
    with pytest.raises(ImageError, match=r"TIFF of another kind .*depth\.tif.*floats"):
        read_image(path)


def test_integers_of_32_bits_are_refused_by_name():
    content = encoded(Image.fromarray(np.array([[-5, 70000]], np.int32)), "TIFF")
    with pytest.raises(ImageError, match="got 32-bit integers"):
        read_image(content)


def test_a_tiff_of_four_bands_without_transparency_is_all_valid(tmp_path, colours):
    tifffile = pytest.importorskip("tifffile")
    infrared = np.zeros((5, 7, 1), np.uint8)
    path = tmp_path / "four.tif"
    tifffile.imwrite(
        path,
        np.concatenate([colours, infrared], 2),
        photometric="rgb",
        extrasamples=["unspecified"],
    )
    picture = read_image(path)
    np.testing.assert_array_equal(picture.image, colours)
    assert picture.valid is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (1, 10_000), (2, 3)])
def test_every_size_is_read(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(image))).image, image)


def test_pillows_own_size_limit_does_not_stop_us_and_is_left_alone(monkeypatch, colours):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(colours))).image, colours)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_gigantic_picture_is_refused_before_it_is_decoded():
    content = bytearray(encoded(Image.new("1", (8, 8))))
    content[16:24] = struct.pack(">II", 40_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    with pytest.raises(ImageError, match="at most 500 million pixels, got 40000 x 20000"):
        read_image(bytes(content), name="huge.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
def test_a_file_cut_at_any_place_is_refused(kind):
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(image), kind)
    for share in np.linspace(0.01, 0.97, 25):
        with pytest.raises(ImageError, match=r"\(cut\)"):
            read_image(content[: int(len(content) * share)], name="cut")


def test_damage_of_a_deep_picture_is_found(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (50, 40, 3)).astype(np.uint16)
    content = png_16_bit(values, colour_type=2)
    with pytest.raises(ImageError, match="complete and undamaged"):
        read_image(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must not be empty, got 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a file that is none"),
        (b"<html>not found</html>", "got a file that is none"),
        (b"\x89PNG\r\n\x1a\n", "picture must be"),
        (b"\x00" * 1000, "got a file that is none"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "river.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        read_image(path)
    assert "river.png" in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(MissingPathError, match=r"must exist, got .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="must be a file, got a folder"):
        read_image(tmp_path)


def test_arrays_of_each_kind_give_the_same_picture(colours):
    alpha = np.full((5, 7, 1), 255, np.uint8)
    for same in (
        colours,
        np.concatenate([colours, alpha], axis=2),
        colours / np.float32(255),
        colours / np.float64(255),
        Image.fromarray(colours),
        colours[:, ::-1][:, ::-1],
    ):
        picture = to_picture(same)
        np.testing.assert_array_equal(picture.image, colours)
        assert picture.valid is None
        assert picture.image.flags.c_contiguous


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_the_nearest_level(kind):
    levels = np.arange(256)
    for offset in (-0.3, 0, 0.3):
        near = np.clip((levels + offset) / 255, 0, 1).astype(kind)
        image = to_picture(near.reshape(16, 16)).image
        np.testing.assert_array_equal(image[..., 0].ravel(), levels)


def test_grey_arrays_with_and_without_a_channel_axis_are_equal(colours):
    flat, deep = to_picture(colours[..., 1]), to_picture(colours[..., 1:2])
    np.testing.assert_array_equal(flat.image, deep.image)
    np.testing.assert_array_equal(flat.image[..., 2], colours[..., 1])


def test_a_bool_array_is_black_and_white():
    assert to_picture(np.array([[True, False]])).image[0, :, 0].tolist() == [255, 0]


def test_alpha_of_an_array_gives_the_valid_area():
    array = np.full((2, 2, 4), 0.5)
    array[1, 1, 3] = 0
    assert to_picture(array).valid.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 40, 50), np.uint8), r"got \(3, 40, 50\) .*Put the channels last"),
        (np.zeros((4, 5, 2), np.uint8), r"got \(4, 5, 2\)"),
        (np.zeros(7, np.uint8), r"got \(7,\)"),
        (np.zeros((0, 5, 3), np.uint8), r"at least one pixel, got \(0, 5, 3\)"),
        (np.zeros((4, 5), np.int64), "uint8, uint16, bool or float, got int64"),
        (np.zeros((4, 5), complex), "got complex128"),
        (np.full((4, 5), 255.0), r"lie in 0\.\.1, got 255\.\.255"),
        (np.full((4, 5), -0.1), r"lie in 0\.\.1, got -0\.1"),
        (np.full((4, 5), np.nan), r"lie in 0\.\.1, got nan"),
        ([[1, 2]], "numpy array or Pillow image, got list"),
        (None, "got NoneType"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array, words):
    with pytest.raises(ImageError, match=words):
        to_picture(array, name="mine")


@pytest.mark.parametrize("high", [1, 127, 255])
def test_any_mask_value_but_zero_is_water(high):
    truth = np.array([[0, 1, 1], [0, 0, 1]], bool)
    mask = read_mask(encoded(Image.fromarray(truth.astype(np.uint8) * high)))
    np.testing.assert_array_equal(mask, truth)
    assert mask.dtype == np.bool_


def test_masks_of_each_mode_are_read_alike():
    truth = np.array([[0, 1, 1], [0, 0, 1]], bool)
    ones = truth.astype(np.uint8)
    palette = Image.fromarray(ones, mode="P")
    palette.putpalette([200, 200, 200, 0, 0, 0])  # the index counts, not the colour
    blue = np.zeros((2, 3, 3), np.uint8)
    blue[..., 2] = ones * 9
    for picture in (
        Image.fromarray(truth),
        palette,
        Image.fromarray(blue),
        Image.fromarray(ones).convert("LA"),
        Image.fromarray(np.dstack([blue, np.full((2, 3), 255, np.uint8)])),
        Image.fromarray(ones.astype(np.uint16) * 3),
    ):
        np.testing.assert_array_equal(read_mask(encoded(picture)), truth, err_msg=picture.mode)
    deep = np.repeat(ones.astype(np.uint16)[..., None], 3, 2)  # value 1 of 65535
    np.testing.assert_array_equal(read_mask(png_16_bit(deep, colour_type=2)), truth)
    floats = encoded(Image.fromarray(truth.astype(np.float32)), "TIFF")
    np.testing.assert_array_equal(read_mask(floats), truth)


def test_transparency_of_a_mask_is_ignored():
    values = np.zeros((1, 2, 2), np.uint8)
    values[0, 0] = 255, 0
    values[0, 1] = 0, 255
    assert read_mask(encoded(Image.fromarray(values, mode="LA"))).tolist() == [[True, False]]


def test_a_mask_is_turned_as_its_picture_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.array([[0, 0, 255], [0, 0, 0]], np.uint8)
    mask = read_mask(encoded(Image.fromarray(values), exif=exif))
    np.testing.assert_array_equal(mask, np.rot90(values > 0, -1))


def test_labels_keep_their_values():
    values = np.array([[0, 1, 2]], np.uint8)
    assert read_labels(encoded(Image.fromarray(values))).tolist() == [[0, 1, 2]]


def test_a_jpeg_mask_is_refused_because_its_land_is_not_zero():
    content = encoded(Image.new("L", (8, 8)), "JPEG")
    with pytest.raises(ImageError, match=r"without loss, got a JPEG \(m\.jpg\)"):
        read_mask(content, name="m.jpg")


def test_a_mask_with_nan_is_refused():
    content = encoded(Image.fromarray(np.array([[np.nan, 1]], np.float32)), "TIFF")
    with pytest.raises(ImageError, match="finite numbers, got NaN"):
        read_mask(content)


@pytest.fixture
def album(tmp_path):
    """Five pictures in two folders, and what is none."""
    (tmp_path / "inner").mkdir()
    for name in ("b.png", "a.JPG", "c.tif", "inner/d.png", "x[1].png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._b.png").write_bytes(b"a file manager's own")
    return tmp_path


def test_a_folder_gives_its_own_pictures_sorted(album):
    found = [path.name for path in find_images(album)]
    assert found == ["a.JPG", "b.png", "c.tif", "x[1].png"]


def test_a_pattern_gives_what_matches(album):
    assert [path.name for path in find_images(str(album / "*.png"))] == ["b.png", "x[1].png"]
    found = [path.name for path in find_images(f"{album}/**/*.png")]
    assert found == ["b.png", "d.png", "x[1].png"]


def test_a_relative_pattern_starts_here(album, monkeypatch):
    monkeypatch.chdir(album)
    assert [str(path) for path in find_images("inner/*")] == ["inner/d.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(album):
    assert find_images(album / "x[1].png") == [album / "x[1].png"]


def test_a_list_gives_each_file_once(album):
    found = find_images([album / "b.png", str(album / "*.png"), album / "inner"])
    assert [path.name for path in found] == ["b.png", "d.png", "x[1].png"]


def test_a_named_file_may_have_any_suffix(album):
    assert find_images(album / "notes.txt") == [album / "notes.txt"]


def test_nothing_found_is_refused_by_name(album):
    (album / "empty").mkdir()
    with pytest.raises(ImageError, match=r"folder must hold at least one picture .*empty"):
        find_images(album / "empty")
    with pytest.raises(ImageError, match=r"pattern must hold at least one picture .*\*\.webp"):
        find_images(str(album / "*.webp"))
    with pytest.raises(ImageError, match="at least one picture, got an empty list"):
        find_images([])
    with pytest.raises(MissingPathError, match=r"must exist, got .*gone"):
        find_images(album / "gone")
