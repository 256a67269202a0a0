"""Train the sample's classifier, export it as digits.onnx and write the held-out data beside it.

    python samples/01_quickstart/train.py [--out FOLDER] [--epochs N]

Needs torch, onnx, onnxruntime and scikit-learn; downloads nothing. One thread and fixed seeds: a second run
on the same machine gives the same files. The test images choose nothing: they are counted once, at the end.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import sklearn
import torch
from digits import SEED, Part, split
from evaluate import count_correct, open_session
from network import DigitsNet
from torch import Tensor, nn

HERE = Path(__file__).parent
BATCH = 64
SHIFT = 1.0  # pixels, in either direction
TURN = 0.15  # radians
ZOOM = 0.1  # share of the size


def augment(images: Tensor) -> Tensor:
    """Every image shifted by up to a pixel, turned and resized a little, black beyond its border."""
    n, size = len(images), images.shape[-1]
    shift = (torch.rand(n, 2, 1) * 2 - 1) * SHIFT * 2 / size
    angle = (torch.rand(n) * 2 - 1) * TURN
    zoom = 1 + (torch.rand(n) * 2 - 1) * ZOOM
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    grid = nn.functional.affine_grid(torch.cat([turn, shift], 2), list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def train(part: Part, epochs: int) -> DigitsNet:
    """A DigitsNet fitted to the part's images, in evaluation mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    model = DigitsNet()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = len(images) // BATCH  # an epoch leaves out the images of its last, incomplete batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=epochs * steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(epochs):
        for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            loss = loss_of(model(augment(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: DigitsNet, path: Path) -> None:
    """Write the model with the batch dynamic, BatchNorm as its own nodes, everything named after its module.

    torch's older exporter gives the graph that is easier to read here: nodes and tensors carry module paths
    (/stage1/conv1/conv1.0/Conv) and weights their names in the state dict. The current one numbers tensors
    (getitem_24), folds BatchNorm into the convolutions and stores stack traces with this machine's paths.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, 1, 8, 8),), str(path), input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}}, opset_version=17, dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip


def describe(path: Path, epochs: int, validation: Part, test: Part) -> dict[str, str]:
    """Measure the exported file in ONNX Runtime and write what it is into its metadata, which is returned."""
    session = open_session(path)
    correct = count_correct(session, test.images, test.labels)
    facts = {
        "data": "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits)",
        "seed": SEED, "epochs": epochs, "validation_images": len(validation.labels),
        "validation_correct": count_correct(session, validation.images, validation.labels),
        "test_correct": correct, "test_images": len(test.labels),
        "test_accuracy": f"{correct / len(test.labels):.4f}",
        "torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__, "scikit-learn": sklearn.__version__,
    }  # fmt: skip
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {key: str(value) for key, value in facts.items()})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return {entry.key: entry.value for entry in proto.metadata_props}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for digits.onnx and the npz files")
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()

    began = time.perf_counter()
    fit, validation, test = split()
    model = train(fit, args.epochs)
    args.out.mkdir(parents=True, exist_ok=True)
    export(model, args.out / "digits.onnx")
    np.savez_compressed(args.out / "digits_calib.npz", image=validation.images)
    np.savez_compressed(args.out / "digits_test.npz", image=test.images, labels=test.labels)
    facts = describe(args.out / "digits.onnx", args.epochs, validation, test)
    print(f"parameters           {sum(p.numel() for p in model.parameters())}")
    print(f"validation           {facts['validation_correct']} of {len(validation.labels)} images")
    print(f"test                 {facts['test_correct']} of {facts['test_images']} images")
    print(f"test accuracy        {float(facts['test_accuracy']):.2%}")
    print(f"time                 {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
