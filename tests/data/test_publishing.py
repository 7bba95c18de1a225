"""What is published is what was there: read back by us and by the datasets library, part by part."""

import io

import numpy as np
import pytest
import yaml
from PIL import Image

import autosam.data.publishing
from autosam.data.elwha import load_elwha
from autosam.data.folders import FolderDataset
from autosam.data.manifests import Split, add_hashes
from autosam.data.publishing import open_parts, write_hub_folder
from autosam.errors import DataError, OutputError, SplitError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()


def river(level, size=(24, 40)):
    """A picture that no other is like, and its water."""
    image = np.random.default_rng(level).integers(0, 256, (*size, 3), dtype=np.uint8)
    water = np.zeros(size, bool)
    water[level : level + 6, 3:30] = True
    return image, water


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def rivers(tmp_path):
    """Not square, wide and high; labels of 0/255 and of 0/1; PNG and JPEG; a valid area; no water."""
    root = tmp_path / "rivers"
    for level, (name, size) in enumerate({"a": (24, 40), "b": (40, 24), "c": (24, 40)}.items()):
        image, water = river(level, size)
        save(root / "images" / f"{name}.png", image)
        save(root / "masks" / f"{name}.png", (water * (255, 1, 0)[level]).astype(np.uint8))
    image, water = river(9)
    save(root / "images" / "turned.jpg", image, quality=60, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0"
         b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")  # fmt: skip
    save(root / "masks" / "turned.png", np.rot90(water, -1).astype(np.uint8) * 255)
    valid = np.ones((40, 24), bool)
    valid[:5] = False
    save(root / "valid" / "b.png", valid.astype(np.uint8) * 255)
    return root


def publish(source, folder, split=None, **options):
    parts = open_parts(source, split)
    return write_hub_folder(
        folder, parts, title="me/rivers", licence="cc-by-4.0", split=split, **options
    )


def assert_equal(found, expected):
    assert [sample.name for sample in found] == [sample.name for sample in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.valid_area, other.valid_area)
        if other.mask is None:
            assert one.mask is None
        else:
            np.testing.assert_array_equal(one.mask, other.mask)


def test_a_folder_is_read_back_with_equal_pixels_masks_and_valid_areas(rivers, tmp_path):
    published = publish(rivers, tmp_path / "hub")
    assert {path.name for path in (tmp_path / "hub" / "data").iterdir()} == {
        "train-00000-of-00001.parquet"
    }
    back = load_elwha(tmp_path / "hub", split="train")
    originals = FolderDataset(rivers)
    assert_equal(back, originals)
    assert back[3].size == (40, 24), "upright, as EXIF says"
    assert back[0].valid is None
    assert published["train"].pictures == 4
    assert published["train"].with_water == 3


def test_the_datasets_library_sees_pictures_and_labels_of_255(rivers, tmp_path):
    publish(rivers, tmp_path / "hub")
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "hub/data/*"), split="train")
    assert rows.column_names == ["image", "label", "name", "valid"]
    row = rows[1]
    assert row["name"] == "b"
    assert row["image"].mode == "RGB"
    np.testing.assert_array_equal(np.asarray(row["image"]), FolderDataset(rivers)[1].image)
    assert set(np.unique(np.asarray(row["label"]))) == {0, 255}
    assert np.asarray(row["valid"])[:5].max() == 0
    assert rows[0]["valid"] is None


def test_a_jpeg_goes_in_as_it_is_and_other_pictures_without_loss(rivers, tmp_path):
    publish(rivers, tmp_path / "hub")
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "hub/data/*"), split="train")
    stored = rows.cast_column("image", datasets.Image(decode=False))["image"]
    assert stored[3]["bytes"] == (rivers / "images" / "turned.jpg").read_bytes()
    assert Image.open(io.BytesIO(stored[0]["bytes"])).format == "PNG"


def test_without_valid_areas_there_is_no_such_column(rivers, tmp_path):
    (rivers / "valid" / "b.png").unlink()
    publish(rivers, tmp_path / "hub")
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "hub/data/*"), split="train")
    assert rows.column_names == ["image", "label", "name"]


def test_transparent_pixels_stay_without_data(rivers, tmp_path):
    (rivers / "valid" / "b.png").unlink()
    image, _ = river(0)
    alpha = np.full((24, 40, 1), 255, np.uint8)
    alpha[:, 35:] = 0
    save(rivers / "images" / "a.png", np.concatenate([image, alpha], axis=2))
    publish(rivers, tmp_path / "hub")
    back = load_elwha(tmp_path / "hub", split="train")
    assert not back[0].valid[:, 35:].any()
    assert back[0].valid[:, :35].all()
    assert_equal(back, FolderDataset(rivers))


def test_unlabelled_pictures_are_published_without_labels(rivers, tmp_path):
    for path in (rivers / "masks").iterdir():
        path.unlink()
    (rivers / "masks").rmdir()
    published = publish(rivers, tmp_path / "hub")
    assert_equal(load_elwha(tmp_path / "hub", split="train"), FolderDataset(rivers))
    assert published["train"].water_share is None
    assert "unlabelled" in (tmp_path / "hub" / "README.md").read_text()


def make_split(rivers, **parts):
    split = Split(kind="grouped", **{"train": ("a",), "validation": ("c",), "test": ("b",)} | parts)
    return add_hashes(split, FolderDataset(rivers))


def test_a_split_divides_a_folder_into_its_parts(rivers, tmp_path):
    split = make_split(rivers, unused=("turned",))
    publish(rivers, tmp_path / "hub", split)
    originals = {sample.name: sample for sample in FolderDataset(rivers)}
    for part, name in (("train", "a"), ("validation", "c"), ("test", "b")):
        assert (tmp_path / "hub" / "data" / f"{part}-00000-of-00001.parquet").is_file()
        assert_equal(load_elwha(tmp_path / "hub", split=part), [originals[name]])
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"1 left out, hash `{split.hash[:12]}`" in card


def test_a_part_without_pictures_is_no_file(rivers, tmp_path):
    publish(rivers, tmp_path / "hub", make_split(rivers, test=(), train=("a", "b")))
    names = {path.name.split("-")[0] for path in (tmp_path / "hub" / "data").iterdir()}
    assert names == {"train", "validation"}


def test_a_split_that_no_longer_matches_is_refused(rivers, tmp_path):
    split = make_split(rivers)
    save(rivers / "masks" / "a.png", np.zeros((24, 40), np.uint8))
    with pytest.raises(SplitError, match=r"in 1 of 3 samples \(a\)"):
        publish(rivers, tmp_path / "hub", split)
    stranger = Split(kind="grouped", train=("a", "gone"), validation=(), test=())
    with pytest.raises(SplitError, match=r"1 of its 2 names missing \(gone\)"):
        publish(rivers, tmp_path / "hub", stranger)
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_a_datasets_folder_keeps_its_parts_and_names(rivers, tmp_path, kind):
    split = make_split(rivers)
    publish(rivers, tmp_path / "first", split)
    source = tmp_path / "first"
    if kind == "saved":
        files = {
            part: str(tmp_path / f"first/data/{part}-00000-of-00001.parquet")
            for part in ("train", "validation", "test")
        }
        source = tmp_path / "saved"
        datasets.load_dataset("parquet", data_files=files).save_to_disk(source)
    assert list(publish(source, tmp_path / "second")) == ["train", "validation", "test"]
    for part in ("train", "validation", "test"):
        first, second = (load_elwha(tmp_path / f, split=part) for f in ("first", "second"))
        assert_equal(second, first)
    whole = {"train": ("a", "b", "c"), "validation": (), "test": ()}
    merged = publish(source, tmp_path / "merged", make_split(rivers, **whole))
    assert merged["train"].pictures == 3
    assert len(merged) == 1


def test_many_pictures_go_into_several_files(rivers, tmp_path, monkeypatch):
    monkeypatch.setattr(autosam.data.publishing, "SHARD_BYTES", 4000)
    published = publish(rivers, tmp_path / "hub")
    names = sorted(path.name for path in (tmp_path / "hub" / "data").iterdir())
    count = published["train"].files
    assert count > 1
    assert names == [f"train-{number:05}-of-{count:05}.parquet" for number in range(count)]
    back = load_elwha(tmp_path / "hub", split="train")
    assert back.repeated == (), "each row is in one file"
    assert_equal(back, FolderDataset(rivers))


def test_the_card_counts_what_was_written(rivers, tmp_path):
    published = publish(rivers, tmp_path / "hub")
    _, front, body = (tmp_path / "hub" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc-by-4.0"
    # Three rivers of 6 x 27 or, high, 6 x 21 pixels, in three pictures of 960 and one of 35 x 24; the
    # high one begins at row 1 and its first 5 rows do not count.
    share = (6 * 27 + 2 * 21 + 6 * 27) / (3 * 960 + 35 * 24)
    assert published["train"].water_share == pytest.approx(share)
    assert f"| train | 4 | 3 | {share:.1%} |" in body


def test_a_folder_that_holds_something_is_left_as_it_is(rivers, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "README.md").write_text("mine")
    with pytest.raises(OutputError, match="must be a new or empty folder, got"):
        publish(rivers, tmp_path / "hub")
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["README.md"]
    assert (tmp_path / "hub" / "README.md").read_text() == "mine"


def test_after_a_mistake_nothing_is_left_and_the_source_is_as_it_was(rivers, tmp_path):
    (rivers / "images" / "turned.jpg").write_bytes(b"\xff\xd8\xff broken")
    before = {path: path.read_bytes() for path in rivers.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"turned\.jpg"):
        publish(rivers, tmp_path / "hub")
    assert {path.name for path in tmp_path.iterdir()} == {"rivers"}
    assert before == {path: path.read_bytes() for path in rivers.rglob("*") if path.is_file()}


def test_what_is_no_dataset_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"must hold a picture, got none \(.*empty\)"):
        open_parts(tmp_path / "empty")


def test_labels_in_some_parts_only_are_refused(tmp_path):
    image, water = (Image.fromarray(array) for array in river(1))
    labelled = datasets.Dataset.from_dict({"image": [image], "label": [water], "name": ["a"]})
    bare = datasets.Dataset.from_dict({"image": [image], "name": ["b"]})
    for part, rows in (("train", labelled), ("validation", bare)):
        rows.to_parquet(tmp_path / "half" / f"{part}.parquet")
    with pytest.raises(DataError, match="masks for all pictures or none"):
        publish(tmp_path / "half", tmp_path / "hub")
