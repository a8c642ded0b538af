"""Trains the small network behind `models/zoo/digits.onnx` and exports it.

Data: the 1,797 handwritten digits (8x8 pixels, 17 grey levels) that ship inside scikit-learn; nothing is downloaded.
Network: conv 1->16, ReLU, max-pool, conv 16->32, ReLU, max-pool, linear 128->64, ReLU, linear 64->10, softmax.

Writes, below `models/zoo/`:
    digits.onnx                   input `image` f32 [batch, 1, 8, 8] in 0..1, output `probabilities` f32 [batch, 10]
    digits/0.npy … digits/9.npy   one image per class from the test set, each classified correctly by torch
    digits/README.md              where the data comes from, the accuracy, how to repeat this

Then onnxruntime runs the exported file on the whole test set and on the ten images, and the script fails unless it
agrees with torch on each of them.

    python -m venv .venv
    .venv/bin/pip install numpy==2.4.6 scikit-learn==1.9.1 torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
    .venv/bin/python python/train_digits.py

Made with these versions on Python 3.11. Seeds, split and order of the batches are fixed and torch uses one thread, so a
second run on the same machine writes the same bytes; another CPU may round differently and so give other weights.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import sklearn.datasets
import sklearn.model_selection
import torch
from torch import nn

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 20240
TEST_IMAGES = 360
EPOCHS = 40
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
OPSET = 18


class Digits(nn.Module):
    """Reads 8x8 grey images. Gives logits, which the loss wants, while training, and class probabilities afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(32 * 2 * 2, 64)
        self.classes = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(image))
        x = self.pool(x)
        x = torch.relu(self.conv2(x))
        x = self.pool(x)
        x = torch.flatten(x, 1)
        x = torch.relu(self.hidden(x))
        logits = self.classes(x)
        return logits if self.training else torch.softmax(logits, dim=1)


def load_split() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images, test images, training labels, test labels; every class has its share in both parts."""
    bunch = sklearn.datasets.load_digits()
    images = (bunch.images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = bunch.target.astype(np.int64)
    parts = sklearn.model_selection.train_test_split(
        images, labels, test_size=TEST_IMAGES, random_state=SEED, stratify=labels
    )
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)


def train(images: torch.Tensor, labels: torch.Tensor) -> Digits:
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for batch in order.split(BATCH):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3}: loss {total / len(images):.4f}")
    return model.eval()


def correct(model: Digits, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(images).argmax(dim=1) == labels


def export(model: Digits, path: Path) -> None:
    """Writes the model as ONNX, keeping the exporter's node metadata, with paths cut to what any reader can find."""
    example = torch.zeros(2, 1, 8, 8)
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        verbose=False,
    )
    proto = program.model_proto
    for node in proto.graph.node:
        for entry in node.metadata_props:
            entry.value = without_machine_paths(entry.value)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def without_machine_paths(text: str) -> str:
    text = text.replace(f"{REPOSITORY}/", "")
    return re.sub(r'(?<=File ")[^"]*/site-packages/', "", text)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=REPOSITORY / "models" / "zoo", help="default: models/zoo")
    out = arguments.parse_args().out
    model_path, folder = out / "digits.onnx", out / "digits"
    folder.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    train_images, test_images, train_labels, test_labels = load_split()
    model = train(train_images, train_labels)
    train_hits = int(correct(model, train_images, train_labels).sum())
    test_correct = correct(model, test_images, test_labels)
    test_hits = int(test_correct.sum())
    train_line = f"{train_hits} of {len(train_images)} ({train_hits / len(train_images):.2%})"
    test_line = f"{test_hits} of {len(test_images)} ({test_hits / len(test_images):.2%})"
    print(f"train accuracy: {train_line}\ntest accuracy:  {test_line}")

    export(model, model_path)
    for digit in range(10):
        index = int(torch.nonzero((test_labels == digit) & test_correct)[0])
        np.save(folder / f"{digit}.npy", test_images[index : index + 1].numpy())
    (folder / "README.md").write_text(README.format(train=train_line, test=test_line), encoding="utf-8")

    verify(model, model_path, folder, test_images)


def verify(model: Digits, model_path: Path, folder: Path, test_images: torch.Tensor) -> None:
    """Fails unless onnxruntime, reading the files just written, agrees with torch and names all ten digits."""
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    (exported,) = session.run(["probabilities"], {"image": test_images.numpy()})
    with torch.no_grad():
        trained = model(test_images).numpy()
    np.testing.assert_allclose(exported, trained, rtol=1e-4, atol=1e-6)
    for digit in range(10):
        (probabilities,) = session.run(["probabilities"], {"image": np.load(folder / f"{digit}.npy")})
        if int(probabilities.argmax()) != digit:
            raise SystemExit(f"{folder / f'{digit}.npy'}: onnxruntime reads it as {int(probabilities.argmax())}")
        print(f"{digit}.npy: {digit} with probability {float(probabilities[0, digit]):.6f}")
    difference = float(np.abs(exported - trained).max())
    print(f"onnxruntime agrees on {len(test_images)} test images, largest difference {difference:.1e}")
    print(f"{model_path.name}: {model_path.stat().st_size} bytes")


README = """\
# digits

`../digits.onnx` reads 8x8 grey images of handwritten digits; `0.npy` to `9.npy` are ten of them, one per class, none seen in training.

- **Accuracy** (torch): {test} on the test set, {train} on the training set.
- **Data**: the digits bundled with scikit-learn, a copy of the test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin, C. Kaynak,
  UCI Machine Learning Repository, 1998, doi:10.24432/C50P49), licensed CC BY 4.0. The ten files are pixels of it divided by 16.
- **Repeat**: `python python/train_digits.py` (its first lines list the packages and what "the same bytes" covers).
"""


if __name__ == "__main__":
    main()
