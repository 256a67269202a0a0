"""Where candidates run: processes of this machine, or a cluster of Dask's or Ray's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
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


class Ray:
    """The nodes of the Ray cluster at `address` ("auto": the one of this machine). Paths must be the same for all."""

    def __init__(self, address: str) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise RuntimeMissingError(
                "--scheduler ray: needs ray, which is not installed", remedy="`pip install onnxprune[ray]`"
            ) from error
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SettingError(
                f"--scheduler ray:{address}: no Ray cluster answers there", remedy="start one with `ray start --head`"
            ) from error

    def run(self, spec: Spec, candidates: Sequence[Mapping[str, str]]) -> list[Trial]:
        """See Engine. A candidate whose node was lost again and again is a failed trial."""
        remote = self._ray.remote(max_retries=_RETRIES)(evaluate)
        futures = [remote.remote(spec, dict(values)) for values in candidates]
        trials = []
        for future, values in zip(futures, candidates, strict=True):
            try:
                trials.append(self._ray.get(future))
            except self._ray.exceptions.RayError as error:
                told = str(error).splitlines()[0]
                trials.append(Trial(dict(values), str(spec.folder_of(values)), 1, error=told))
        return trials

    def close(self) -> None:
        """Leave the cluster as it is."""
        self._ray.shutdown()


def engine_for(scheduler: str | None, jobs: int) -> Engine:
    """`jobs` processes here, or the cluster of a Dask scheduler (tcp://HOST:PORT) or Ray's (ray:HOST:PORT, ray:auto).

    Raises as the engines do.
    """
    if scheduler is None:
        return Local(jobs)
    return Ray(scheduler.removeprefix("ray:")) if scheduler.startswith("ray:") else Dask(scheduler)
