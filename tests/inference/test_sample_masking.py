import numpy as np
import pytest
import torch
from raster_scenes import river

from autosam.config import config_from_dict
from autosam.errors import DataError
from autosam.inference import logits
from autosam.inference.segmenter import AutoSam
from autosam.models.gauges import Domain, Gauges, embedding_summary

PICTURE = river(60, 80)[0]


@pytest.fixture
def gauged(tiny_sam_folder):
    """Untrained, and it measures how far a picture is from those of training."""
    settings = {
        "sam": {"name": str(tiny_sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
    }
    torch.manual_seed(0)
    model = AutoSam(config_from_dict(settings), device="cpu")
    summary = embedding_summary(model.embed(PICTURE))[0]
    model.gauges = Gauges(
        presence=None,
        domain=Domain(
            mean=tuple((summary + 5).tolist()),
            deviation=(1.0,) * len(summary),
            distances=(1.0, 4.0),
            iou=(0.9, 0.3),
        ),
    )
    return model


def test_a_picture_is_put_into_its_square_once_for_mask_and_domain(gauged, monkeypatch):
    seen = []
    plain = logits.to_square

    def counted(image, side):
        seen.append(image.shape)
        return plain(image, side)

    monkeypatch.setattr(logits, "to_square", counted)
    prediction = gauged.predict_image(PICTURE)
    assert prediction.domain_distance is not None
    assert seen == [PICTURE.shape]


def test_the_domain_changes_no_mask(gauged):
    measured = gauged.predict_image(PICTURE)
    gauged.gauges = Gauges(presence=None, domain=None)
    np.testing.assert_array_equal(measured.probability, gauged.predict_image(PICTURE).probability)
    assert measured.probability.std() > 1e-4


def test_eight_views_of_a_turned_picture_are_the_turned_eight_views(gauged):
    """What one view says depends on how the picture lies; the mean of all eight does not."""
    lying, standing = gauged.predict(PICTURE), gauged.predict(np.rot90(PICTURE))
    assert np.abs(np.rot90(lying.probability) - standing.probability).max() > 1e-4
    lying = gauged.predict(PICTURE, dihedral=True)
    standing = gauged.predict(np.rot90(PICTURE), dihedral=True)
    np.testing.assert_allclose(np.rot90(lying.probability), standing.probability, atol=1e-6)


def test_eight_views_are_averaged_by_hand_and_keep_what_the_first_says(gauged):
    once, mean = gauged.predict(PICTURE), gauged.predict(PICTURE, dihedral=True)
    expected = np.zeros_like(once.probability)
    for mirrored in (False, True):
        for quarters in range(4):
            picture = np.rot90(np.fliplr(PICTURE) if mirrored else PICTURE, quarters)
            back = np.rot90(gauged.predict(picture).probability, -quarters)
            expected += (np.fliplr(back) if mirrored else back) / 8
    np.testing.assert_allclose(mean.probability, expected, atol=1e-6)
    assert mean.domain_distance == once.domain_distance
    assert mean.made_by != once.made_by  # a folder's masks of one view are not those of eight
    assert mean.as_points() is not None


def test_a_correction_is_of_one_view(gauged):
    with pytest.raises(DataError, match="dihedral must be False for a correction"):
        gauged.predict(PICTURE, points=[(3, 4)], labels=[1], dihedral=True)
