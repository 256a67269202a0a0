"""How much more 2:4 keeps of random matrices once their columns come in the best order found in a given time.

    python tools/bench_permutation.py

As NVIDIA apex's README counts it: the share of the gap between 2:4 of the given order and the best unstructured 50 % of
each row. `cpu` is the processor's time of this process, which on a busy machine is what the search really had.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from onnxprune.sparsity.permute import best_order

CASES = ((128, 64, 0.1), (128, 64, 2.0), (512, 512, 5.0), (2048, 2048, 40.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=2048, help="columns of the largest matrix")
    parser.add_argument("--stretch", type=float, default=1, help="limits times this, on a busy machine")
    given = parser.parse_args()
    for rows, columns, limit in (case for case in CASES if case[1] <= given.most):
        np.random.seed(1)  # the matrix of apex's README
        matrix = np.random.rand(rows, columns)
        free = float(np.sort(matrix, axis=1)[:, columns // 2 :].sum())
        for seed in range(given.seeds if columns <= 512 else 1):
            started, busy = time.perf_counter(), time.process_time()
            found = best_order(matrix.T, limit * given.stretch, seed)
            took, busy = time.perf_counter() - started, time.process_time() - busy
            gap = 100 * (found.after - found.before) / (free - found.before)
            what = f"{rows} x {columns}, {limit} s, seed {seed}"
            print(f"{what}: {gap:.1f} % in {took:.2f} s, {busy:.2f} s cpu", flush=True)


if __name__ == "__main__":
    main()
