"""How many threads numpy's products take at this moment."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info


def threads_of_blas() -> set[int]:
    """Of each BLAS that is loaded: numpy's at the least."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
