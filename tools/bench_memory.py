"""Peak anonymous memory on a 2.5 GB model with external data: analyse + apply of one group, and a whole prune.

    python tools/bench_memory.py [--folder build/large] [--gigabytes 2.5]

The model (a stack of wide MatMul blocks, one tensor much larger than the rest) is written by this script. RssAnon is
sampled from /proc every 10 ms; mapped pages of the data file do not count, and verification in ONNX Runtime runs in a
process of its own, as it does on the command line. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

WIDTH, HIDDEN, WIDE = 2048, 8192, 49152
LIMIT_ONE_GROUP = 1.2e9
LIMIT_WHOLE = (1.3, 1.0e9)  # times the largest tensor, plus

ONE_GROUP = """
import sys
from onnxprune.analyse import analyse
from onnxprune.edit import edit
from onnxprune.graph.io import save
coupling = analyse(sys.argv[1])
group = coupling.groups[0]
removed = coupling.removed_classes({group.index: list(range(group.size // 2))})
save(edit(coupling, removed).model, sys.argv[2])
"""


def write_model(folder: Path, gigabytes: float) -> tuple[Path, int]:
    """The model and the bytes of its largest tensor."""
    from onnx.external_data_helper import set_external_data

    folder.mkdir(parents=True, exist_ok=True)
    path, data = folder / "large.onnx", folder / "large.onnx.data"
    shapes: list[tuple[str, tuple[int, int]]] = [("wide.up", (WIDTH, WIDE)), ("wide.down", (WIDE, WIDTH))]
    block = 0
    while sum(4 * a * b for _, (a, b) in shapes) < gigabytes * 1e9:
        shapes += [(f"block{block}.up", (WIDTH, HIDDEN)), (f"block{block}.down", (HIDDEN, WIDTH))]
        block += 1
    nodes, value = [], "x"
    for index in range(0, len(shapes), 2):
        up, down = shapes[index][0], shapes[index + 1][0]
        nodes += [
            helper.make_node("MatMul", [value, up], [f"{up}.y"]),
            helper.make_node("Relu", [f"{up}.y"], [f"{up}.z"]),
            helper.make_node("MatMul", [f"{up}.z", down], [f"{down}.y"]),
            helper.make_node("Add", [f"{down}.y", value], [f"{down}.z"]),
        ]
        value = f"{down}.z"
    tensors, rng, offset = [], np.random.default_rng(0), 0
    with data.open("wb") as file:
        for name, shape in shapes:
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            tensor.raw_data = b"\0"  # set_external_data wants content; it is dropped below
            set_external_data(tensor, data.name, offset=offset, length=4 * shape[0] * shape[1])
            tensor.ClearField("raw_data")
            tensors.append(tensor)
            for _ in range(0, shape[0], 512):
                rows = min(512, shape[0])
                file.write(rng.normal(0, 0.02, (rows, shape[1])).astype(np.float32).tobytes())
            offset = file.tell()
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", WIDTH])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path, 4 * WIDTH * WIDE


def peak(command: list[str]) -> tuple[float, float]:
    """Peak RssAnon in bytes of the command's own process, and its seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                most = max(most, int(line.split()[1]) * 1024)
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return most, time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/large"))
    parser.add_argument("--gigabytes", type=float, default=2.5)
    arguments = parser.parse_args()
    model, largest = write_model(arguments.folder, arguments.gigabytes)
    out = arguments.folder / "pruned.onnx"
    cli = str(Path(sys.executable).with_name("onnxprune"))
    runs = {
        "analyse + apply of one group": (
            [sys.executable, "-c", ONE_GROUP, str(model), str(out)],
            LIMIT_ONE_GROUP,
        ),
        "onnxprune prune --pruning-ratio 0.5": (
            [cli, "prune", str(model), "-o", str(out), "--pruning-ratio", "0.5", "-q"],
            LIMIT_WHOLE[0] * largest + LIMIT_WHOLE[1],
        ),
    }
    table = Table("run", "peak RssAnon, GB", "limit, GB", "seconds")
    missed = 0
    for name, (command, limit) in runs.items():
        most, seconds = peak(command)
        missed += most > limit
        table.add_row(name, f"{most / 1e9:.2f}", f"{limit / 1e9:.2f}", f"{seconds:.1f}")
    Console().print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
