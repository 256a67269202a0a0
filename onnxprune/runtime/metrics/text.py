"""Metrics of text: perplexity of logits, and error rates of what was read or heard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.errors import SettingError
from onnxprune.runtime.metrics.metric import Metric, library, shape_error

_FIRST = 0xE000  # beginning of Unicode's private use area: whole-numbered symbols as characters from here on


class Perplexity(Metric):
    """Exponential of the mean negative log-likelihood per token.

    Outputs are logits [N, T, vocabulary]; the label at place t (whole-numbered [N, T]) is the token that the logits at
    t should foresee. Negative labels do not count.
    """

    name = "perplexity"
    higher_is_better = False

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's sum of losses (nats) and its number of tokens [N, 2]."""
        if predicted.ndim != 3 or wanted.shape != predicted.shape[:2] or wanted.dtype.kind not in "iu":
            raise shape_error(self.name, predicted, wanted, "logits [N, T, vocabulary] and labels [N, T]")
        labels = wanted.astype(np.int64)
        if labels.max(initial=0) >= predicted.shape[2]:
            raise SettingError(
                f"--metric perplexity: the data has the label {labels.max()}, and the output "
                f"{predicted.shape[2]} tokens",
                remedy="check the labels: negative ones are not counted",
            )
        log_softmax = library("scipy.special", "--metric perplexity").log_softmax
        found = []
        for logits, tokens in zip(predicted, labels, strict=True):  # a sample at a time: vocabularies are large
            use = tokens >= 0
            scores = log_softmax(logits[use].astype(np.float64), -1)
            found.append([-scores[np.arange(use.sum()), tokens[use]].sum(), use.sum()])
        return np.asarray(found, np.float64).reshape(-1, 2)

    def value(self, parts: np.ndarray) -> float:
        """NaN where no token counts."""
        loss, tokens = parts.sum(0)
        return float(np.exp(loss / tokens)) if tokens else float("nan")


class ErrorRate(Metric):
    """Edits that turn the output into the label, by the label's length: of characters or of words, by jiwer.

    Both are strings [N], or symbols as whole numbers [N, T] of which negative ones fill up; a symbol is then a
    character for `cer` and a word for `wer`.
    """

    higher_is_better = False

    def __init__(self, name: str) -> None:
        self.name = name

    def parts(self, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Each sample's edits and its label's length [N, 2]."""
        jiwer = library("jiwer", f"--metric {self.name}")
        found = []
        for mine, theirs in zip(self._texts(predicted, wanted), self._texts(wanted, predicted), strict=True):
            if not theirs.strip():  # nothing is wanted: all that is there is too much
                extra = len(mine.split()) if self.name == "wer" else len(mine)
                found.append([extra, 0])
                continue
            done = (jiwer.process_words if self.name == "wer" else jiwer.process_characters)(theirs, mine)
            edits = done.substitutions + done.deletions + done.insertions
            found.append([edits, done.hits + done.substitutions + done.deletions])
        return np.asarray(found, np.float64).reshape(-1, 2)

    def value(self, parts: np.ndarray) -> float:
        """NaN where all labels are empty."""
        edits, length = parts.sum(0)
        return float(edits / length) if length else float("nan")

    def _texts(self, array: np.ndarray, other: np.ndarray) -> Sequence[str]:
        if array.dtype.kind in "USO" and array.ndim <= 2:
            return [
                text.decode() if isinstance(text, bytes) else str(text) for text in array.reshape(len(array), -1)[:, 0]
            ]
        if array.dtype.kind in "iu" and array.ndim == 2:
            if self.name == "wer":
                return [" ".join(str(symbol) for symbol in row if symbol >= 0) for row in array.tolist()]
            return ["".join(chr(_FIRST + symbol) for symbol in row if symbol >= 0) for row in array.tolist()]
        raise shape_error(self.name, array, other, "strings [N] or symbols [N, T], whole-numbered")
