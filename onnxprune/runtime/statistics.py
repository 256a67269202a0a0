"""What calibration found: statistics of what flows into every consumer of every group, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.consumers import Consumer, Source
from onnxprune.runtime.moments import CHANNEL_KINDS

GRAM = "gram"
KINDS = (*CHANNEL_KINDS, GRAM)
"""What can be asked for: per index `mean`, `second`, `abs` and `zeros`; `gram`, products of whole rows."""


_DAMPING = 1e-3  # of the mean of the diagonal
_SHRINK = 10  # with as many rows as columns, products off the diagonal shrink by one eleventh


@dataclass(frozen=True)
class Gram:
    """Second moments of a consumer's rows, over the sampled places.

    `second` [groups, D, D] is the mean of x xᵀ (float64, symmetric), `mean` [groups, D] that of x, `rows` how many
    there were. D counts a block's channels, and of each channel the kernel's taps (Consumer.matrix has the same
    order). Padding counts as the zeros that the convolution reads there.
    """

    second: np.ndarray
    mean: np.ndarray
    rows: int

    @property
    def covariance(self) -> np.ndarray:
        """[groups, D, D]: the second moments around the mean."""
        return np.asarray(self.second - self.mean[:, :, None] * self.mean[:, None, :])

    def conditioned(self, block: int, *, centred: bool = True) -> np.ndarray:
        """The covariance of one block's rows [D, D] (or their second moments), fit to be inverted.

        It is shrunk towards its diagonal by how few rows there were, and damped.
        """
        found = self.second[block]
        if centred:
            found = found - np.outer(self.mean[block], self.mean[block])
        count = len(found)
        diagonal = np.diag(found).copy()
        found = found * (1 - count / (count + _SHRINK * max(self.rows, 1)))
        scale = float(diagonal.mean())
        found[np.diag_indices(count)] = diagonal + _DAMPING * (scale if scale > 0 else 1.0)
        return np.asarray(found)

    @property
    def has_enough_rows(self) -> bool:
        """Whether there are more rows than columns: with fewer, the matrix is singular whatever the data."""
        return bool(self.rows > self.second.shape[-1])


@dataclass(frozen=True)
class Statistics:
    """Statistics over `samples` samples of `origin`; `synthetic` where nobody gave data and noise was fed.

    `consumers` are all consumers of the model's groups, in graph order; `data_sha256` is the data's hash; `settings`
    what else decided the numbers; `arrays` holds them by `KIND SOURCE` (see `channel` and `gram`).
    """

    consumers: tuple[Consumer, ...]
    samples: int
    origin: str
    synthetic: bool
    data_sha256: str
    settings: Mapping[str, object] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def channel(self, kind: str, source: Source) -> np.ndarray:
        """Per index of the source's axis (float64 [size]), over all other axes and all samples.

        `mean` of x, `second` of its square, `abs` of its magnitude, `zeros` the share that is exactly 0. Raises
        SettingError where that kind was not collected.
        """
        return self._array(f"{kind} {source.key}", kind)

    def variance(self, source: Source) -> np.ndarray:
        """Per index (float64 [size], never negative): mean square minus squared mean."""
        return np.asarray(np.maximum(self.channel("second", source) - self.channel("mean", source) ** 2, 0))

    def count(self, source: Source) -> int:
        """Over how many places `channel` went."""
        return int(self._array(f"count {source.key}", "count"))

    def gram(self, consumer: Consumer) -> Gram:
        """The products of the consumer's rows. Raises SettingError where they were not collected."""
        key = consumer.key
        return Gram(
            self._array(f"gram {key}", GRAM), self._array(f"gram-mean {key}", GRAM),
            int(self._array(f"gram-rows {key}", GRAM)),
        )  # fmt: skip

    def summary(self) -> dict[str, object]:
        """What a plan or report says of the data, as JSON."""
        told = {"samples": self.samples, "origin": self.origin, "synthetic": self.synthetic}
        return {**told, "data_sha256": self.data_sha256, **self.settings}

    def _array(self, key: str, kind: str) -> np.ndarray:
        if key not in self.arrays:
            raise SettingError(f"statistics of kind {kind!r} were not collected", remedy="ask `calibrate` for them")
        return self.arrays[key]
