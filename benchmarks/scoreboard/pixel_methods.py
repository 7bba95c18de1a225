"""What needs no network: Otsu's threshold on one picture, and a random forest on colours and texture.

Both are adapters as a foreign model would be: `fit` may learn, a call gives probabilities.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from skimage.filters import threshold_otsu

from autosam.types import Sample

SCALES = (1.0, 2.0, 4.0)
"""Pixels over which features are smoothed."""
LONGEST = 512
"""Pictures are shrunk to at most so many pixels a side before features are made."""
PIXELS_A_PICTURE = 1500


class Otsu:
    """Water is the darker or the lighter side of Otsu's threshold, whichever is nearer to training water."""

    def __init__(self) -> None:
        self.dark = True

    def fit(self, training: Sequence[Sample], validation: Sequence[Sample], *, seed: int) -> None:
        """Learn only on which side of the threshold water lies."""
        signs = []
        for sample in training:
            if sample.mask is None or not (sample.mask & sample.valid_area).any():
                continue
            grey = _grey(sample.image)
            valid = sample.valid_area
            water, land = grey[sample.mask & valid], grey[~sample.mask & valid]
            if land.size:
                signs.append(np.sign(np.median(land) - np.median(water)))
        self.dark = float(np.sum(signs)) >= 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(height, width) float32: .9 on water's side, .1 on the other."""
        grey = _grey(image)
        flat = grey.min() == grey.max()
        level = float(grey.min()) if flat else float(threshold_otsu(grey))
        below = grey <= level
        return np.where(below == self.dark, 0.9, 0.1).astype(np.float32)


class RandomForest:
    """scikit-learn's forest on colours, their means and their spread around a pixel."""

    def fit(self, training: Sequence[Sample], validation: Sequence[Sample], *, seed: int) -> None:
        """Learn from some pixels of every training picture, as many of water as of land where it can."""
        from sklearn.ensemble import RandomForestClassifier

        generator = np.random.default_rng(seed)
        features, labels = [], []
        for sample in training:
            if sample.mask is None:
                continue
            image, mask, valid = _shrunk(sample)
            flat, truth = _features(image).reshape(-1, 9 * len(SCALES)), mask.ravel()
            for side in (True, False):
                where = np.flatnonzero((truth == side) & valid.ravel())
                chosen = generator.permutation(where)[: PIXELS_A_PICTURE // 2]
                features.append(flat[chosen])
                labels.append(np.full(len(chosen), side))
        self.forest = RandomForestClassifier(
            n_estimators=60, min_samples_leaf=20, n_jobs=-1, random_state=seed
        )
        self.forest.fit(np.concatenate(features), np.concatenate(labels))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(height, width) float32: share of the trees, smoothed by the enlargement."""
        height, width = image.shape[:2]
        small = cv2.resize(image, _small_size(height, width), interpolation=cv2.INTER_AREA)
        found = self.forest.predict_proba(_features(small).reshape(-1, 9 * len(SCALES)))
        water = found[:, list(self.forest.classes_).index(True)].astype(np.float32)
        enlarged = cv2.resize(
            water.reshape(small.shape[:2]), (width, height), interpolation=cv2.INTER_LINEAR
        )
        return np.clip(enlarged, 0, 1)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _small_size(height: int, width: int) -> tuple[int, int]:
    share = min(1.0, LONGEST / max(height, width))
    return max(1, round(width * share)), max(1, round(height * share))


def _shrunk(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if sample.mask is None:
        raise AssertionError("a forest learns from labelled pictures")
    size = _small_size(*sample.size)
    areas = [
        cv2.resize(area.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        for area in (sample.mask, sample.valid_area)
    ]
    return cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA), areas[0], areas[1]


def _features(image: np.ndarray) -> np.ndarray:
    """(height, width, 9 * scales): Lab, its local mean and its local deviation at each scale."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    found = []
    for scale in SCALES:
        near = cv2.GaussianBlur(lab, (0, 0), scale)
        wide = cv2.GaussianBlur(lab, (0, 0), 4 * scale)
        square = cv2.GaussianBlur(lab**2, (0, 0), 4 * scale)
        found += [near, wide, np.sqrt(np.maximum(square - wide**2, 0))]
    return np.concatenate(found, axis=2)
