import pickle

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

import autosam.data.folders
from autosam.data.folders import FolderDataset
from autosam.errors import DataError, ImageError, MissingPathError


def save(path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def root(tmp_path):
    """Three labelled pictures of different size, the second with a valid area."""
    for number, name in enumerate(("a", "b", "c"), start=1):
        save(tmp_path / "images" / f"{name}.png", np.full((4, 3 + number, 3), number, np.uint8))
        mask = np.zeros((4, 3 + number), np.uint8)
        mask[:number] = 255
        save(tmp_path / "masks" / f"{name}.png", mask)
    valid = np.full((4, 5), 255, np.uint8)
    valid[3] = 0
    save(tmp_path / "valid" / "b.png", valid)
    return tmp_path


def test_pictures_masks_and_valid_areas_are_paired_by_stem(root):
    samples = FolderDataset(root)
    assert samples.names == ("a", "b", "c")
    for number, sample in enumerate(samples, start=1):
        assert (sample.image == number).all()
        assert sample.mask.sum() == number * (3 + number)
        assert sample.mask[:number].all()
    assert samples[0].valid is None
    assert samples[1].valid[:3].all()
    assert not samples[1].valid[3].any()
    assert samples.labelled


def test_suffixes_may_differ_between_picture_and_mask(root):
    (root / "images" / "a.png").unlink()
    save(root / "images" / "a.tif", np.full((4, 4, 3), 9, np.uint8))
    assert FolderDataset(root)[0].image[0, 0, 0] == 9


def test_the_prefix_comes_before_each_stem(root):
    samples = FolderDataset(root, prefix="dubai/")
    assert samples.names[0] == "dubai/a"
    assert samples[2].name == "dubai/c"


def test_folder_names_can_be_chosen(root):
    (root / "masks").rename(root / "labels")
    assert not FolderDataset(root).labelled
    assert FolderDataset(root, masks="labels")[0].mask.any()


def test_without_a_folder_of_masks_samples_are_unlabelled(root):
    for path in (root / "masks").iterdir():
        path.unlink()
    with pytest.raises(
        DataError, match=r"images in images/ must match the masks .* for a\.png, b\.png"
    ):
        FolderDataset(root)
    (root / "masks").rmdir()
    assert [sample.mask for sample in FolderDataset(root)] == [None, None, None]


def test_transparent_pixels_and_the_valid_folder_both_exclude(root):
    rgba = np.full((4, 5, 4), 255, np.uint8)
    rgba[0, 0, 3] = 0
    save(root / "images" / "b.png", rgba)
    expected = np.ones((4, 5), bool)
    expected[0, 0], expected[3] = False, False
    np.testing.assert_array_equal(FolderDataset(root)[1].valid, expected)


def test_nothing_is_read_before_it_is_asked_for(root, monkeypatch):
    (root / "images" / "c.png").write_bytes(b"damaged")
    read = []
    real = autosam.data.folders.read_image
    monkeypatch.setattr(
        autosam.data.folders, "read_image", lambda path: read.append(path.stem) or real(path)
    )
    samples = FolderDataset(root)
    assert read == []
    samples[1]
    assert read == ["b"]
    with pytest.raises(ImageError, match=r"c\.png"):
        samples[2]


def test_a_slice_is_a_lazy_part(root):
    (root / "images" / "a.png").write_bytes(b"damaged")
    part = FolderDataset(root)[1:]
    assert part.names == ("b", "c")
    assert len(part) == 2
    assert part[-1].name == "c"
    with pytest.raises(IndexError):
        part[2]


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("images", r"images in images/ must match the masks in masks/ .*partner for extra\.png"),
        ("masks", r"masks in masks/ must match the images in images/ .*partner for extra\.png"),
        ("valid", r"valid areas in valid/ must match the images in images/ .*extra\.png"),
    ],
)
def test_leftovers_on_either_side_are_refused_by_name(root, folder, words):
    save(root / folder / "extra.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=words):
        FolderDataset(root)


def test_of_many_leftovers_five_are_named(root):
    for number in range(8):
        save(root / "images" / f"extra{number}.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"extra0\.png, .*extra4\.png and 3 more\. Add"):
        FolderDataset(root)


def test_equal_stems_are_refused(root):
    save(root / "images" / "a.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"stems must be unique .* a\.jpg and a\.png"):
        FolderDataset(root)


@pytest.mark.parametrize(("folder", "kind"), [("masks", "mask"), ("valid", "valid area")])
def test_another_size_than_the_picture_is_refused(root, folder, kind):
    save(root / folder / "b.png", np.zeros((5, 4), np.uint8))
    with pytest.raises(
        DataError, match=rf"{kind} must have its image's .*\(4, 5\), got \(5, 4\) \(.*b\.png"
    ):
        FolderDataset(root)[1]


def test_missing_and_empty_folders_are_told_apart(tmp_path):
    with pytest.raises(MissingPathError, match=r"got no folder .*images"):
        FolderDataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="at least one picture, got none"):
        FolderDataset(tmp_path)


def test_worker_processes_read_the_same(root):
    samples = FolderDataset(root)
    loader = DataLoader(samples, batch_size=None, num_workers=2)
    assert [(sample.name, int(sample.mask.sum())) for sample in loader] == [
        ("a", 4),
        ("b", 10),
        ("c", 18),
    ]
    assert pickle.loads(pickle.dumps(samples))[2].name == "c"


def test_real_folders_are_read(shared_data):
    samples = FolderDataset(shared_data / "dubai")
    assert len(samples) == 70
    sample = samples[0]
    assert 0 < sample.mask.mean() < 1
    assert sample.valid is not None
    assert len(FolderDataset(shared_data / "dry_land")) == 22
    assert not FolderDataset(shared_data / "dry_land")[0].mask.any()
