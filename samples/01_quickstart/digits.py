"""The sample's data: scikit-learn's handwritten digits, split once and for all by a seed.

1797 images of 8x8 pixels from the UCI "Optical Recognition of Handwritten Digits" set, which scikit-learn
carries inside its package: nothing is downloaded. Needs numpy and scikit-learn, not torch.
"""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

SEED = 20
VALIDATION = TEST = 360


class Part(NamedTuple):
    """One part of the split: float32 images [n, 1, 8, 8] within 0..1, int64 labels [n]."""

    images: np.ndarray
    labels: np.ndarray


def split(seed: int = SEED) -> tuple[Part, Part, Part]:
    """Train (1077), validation (360) and test (360) images: disjoint, and always the same for a seed."""
    bunch = load_digits()
    images = (bunch.images[:, None] / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    # RandomState's stream is frozen by NumPy's compatibility policy; default_rng's is not.
    order = np.random.RandomState(seed).permutation(len(labels))
    train, validation, test = (
        Part(images[chosen], labels[chosen])
        for chosen in np.split(order, [len(order) - VALIDATION - TEST, len(order) - TEST])
    )
    return train, validation, test
