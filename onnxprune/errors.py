"""One hierarchy of errors; each kind is one exit code of the command line (README, "Exit codes")."""

from __future__ import annotations

from typing import ClassVar


class OnnxPruneError(Exception):
    """Anything that onnxprune refuses or cannot do.

    ``message`` names the culprit (file, tensor, node, option); ``remedy`` says what to do about it.
    ``str()`` is one line with both.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.message if self.remedy is None else f"{self.message.rstrip('.')}. {self.remedy}"
        return " ".join(text.split())

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments are lost by the default pickling, and errors cross process borders
        return _rebuild, (type(self), self.message, self.remedy)


def _rebuild(kind: type[OnnxPruneError], message: str, remedy: str | None) -> OnnxPruneError:
    return kind(message, remedy=remedy)


class SettingError(OnnxPruneError):
    """A bad option value, or a name that the model does not have."""

    exit_code: ClassVar[int] = 2


class ModelError(OnnxPruneError):
    """The model cannot be read: not ONNX, truncated, external data missing or outside the model's folder."""

    exit_code: ClassVar[int] = 3


class BudgetError(OnnxPruneError):
    """The budget cannot be reached; the message says how far one can get."""

    exit_code: ClassVar[int] = 4


class PlanError(OnnxPruneError):
    """The plan is refused, or belongs to another model."""

    exit_code: ClassVar[int] = 5


class OutputError(OnnxPruneError):
    """The output cannot be written."""

    exit_code: ClassVar[int] = 6


class RuntimeMissingError(OnnxPruneError):
    """An optional package is not installed; the remedy names the extra that brings it."""

    exit_code: ClassVar[int] = 7


class VerificationError(OnnxPruneError):
    """The result differs from what was predicted."""

    exit_code: ClassVar[int] = 8


class FloorError(OnnxPruneError):
    """The metric is worse than the limits that were set for it allow."""

    exit_code: ClassVar[int] = 9
