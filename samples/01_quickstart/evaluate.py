"""Top-1 accuracy of a digits model in ONNX Runtime, and with a second model how their speeds compare.

    python samples/01_quickstart/evaluate.py MODEL [DENSE] [--data digits_test.npz]

Needs numpy and onnxruntime. The data file holds the model's input, `image`, and `labels`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
BATCH = 64
WARM_UP, ROUNDS = 20, 300


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def count_correct(session: onnxruntime.InferenceSession, image: np.ndarray, labels: np.ndarray) -> int:
    """How many images get their highest logit at their label."""
    (logits,) = session.run(["logits"], {"image": image})
    return int((logits.argmax(axis=1) == labels).sum())


def median_milliseconds(sessions: list[onnxruntime.InferenceSession], image: np.ndarray) -> list[float]:
    """Each session's median time for one batch, the sessions taking turns so that noise hits all alike."""
    feed = {"image": image[:BATCH]}
    times = np.zeros((WARM_UP + ROUNDS, len(sessions)))
    for row in times:
        for j, session in enumerate(sessions):
            began = time.perf_counter()
            session.run(None, feed)
            row[j] = time.perf_counter() - began
    return [float(t) for t in np.median(times[WARM_UP:], axis=0) * 1e3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("dense", type=Path, nargs="?", help="a second model, to compare speed with")
    parser.add_argument("--data", type=Path, default=HERE / "digits_test.npz")
    args = parser.parse_args()

    data = np.load(args.data)
    image, labels = data["image"], data["labels"]
    session = open_session(args.model)
    correct = count_correct(session, image, labels)
    print(f"top-1 accuracy {correct / len(labels):.2%} ({correct} of {len(labels)} images)")
    if args.dense:
        mine, dense = median_milliseconds([session, open_session(args.dense)], image)
        print(
            f"latency {mine:.3f} ms, {dense:.3f} ms for {args.dense.name}: {dense / mine:.2f} times as fast "
            f"(medians of {ROUNDS} interleaved runs, batch {BATCH}, one CPU thread)"
        )


if __name__ == "__main__":
    main()
