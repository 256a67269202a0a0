"""Where candidates run: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from onnxprune.errors import RuntimeMissingError, SettingError
from onnxprune.loop.candidate import Spec, Trial, evaluate

_RETRIES = 2  # of a candidate whose worker was lost


class Engine(Protocol):
    """Runs candidates side by side; trials come in the candidates' order."""

    def run(self, spec: Spec, candidates: Sequence[Mapping[str, str]]) -> list[Trial]: ...

    def close(self) -> None: ...


class Local:
    """`jobs` processes at a time; the threads here only wait for them."""

    def __init__(self, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(jobs)

    def run(self, spec: Spec, candidates: Sequence[Mapping[str, str]]) -> list[Trial]:
        """See Engine."""
        return list(self._pool.map(lambda values: evaluate(spec, values), candidates))

    def close(self) -> None:
        """Start no more."""
        self._pool.shutdown(cancel_futures=True)


class Dask:
    """The workers of the scheduler at `address`. Recipe, data and folder must be at the same paths for all of them."""

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError as error:
            raise RuntimeMissingError(
                "--scheduler needs distributed, which is not installed", remedy="`pip install onnxprune[cluster]`"
            ) from error
        try:
            module: Any = distributed
            self._client = module.Client(address, timeout="10s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise SettingError(
                f"--scheduler {address}: no scheduler answers there", remedy="start one with `dask scheduler`"
            ) from error

    def run(self, spec: Spec, candidates: Sequence[Mapping[str, str]]) -> list[Trial]:
        """See Engine. A candidate whose workers were lost again and again is a failed trial."""
        futures = [
            self._client.submit(evaluate, spec, dict(values), pure=False, retries=_RETRIES) for values in candidates
        ]
        trials = []
        for future, values in zip(futures, candidates, strict=True):
            error = future.exception()
            if error is None:
                trials.append(future.result())
            else:
                trials.append(Trial(dict(values), str(spec.folder_of(values)), 1, error=str(error)))
        return trials

    def close(self) -> None:
        """Leave the cluster as it is."""
        self._client.close()
