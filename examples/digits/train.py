"""Train the digit reader of the example repositories, measure it, and write it in both formats.

    pip install torch onnx scikit-learn pillow
    python examples/digits/train.py

The data are the 1,797 handwritten digits that come with scikit-learn: 8x8 pixels, each the amount
of ink from 0 to 16. 360 of them, the same share of each digit, are held back: the network never
sees them, and its accuracy is counted on them alone. With the same versions of the libraries the
run repeats bit for bit. It writes

    model_repository/digits/1/model.onnx      image FP32 [batch,1,8,8] -> scores FP32 [batch,10]
    pytorch_repository/digits/1/model.pt      the same network as TorchScript
    digits/ACCURACY.md                        what was measured
    digits/images/*.png                       some of the held-back digits, named by what they are
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import sklearn
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

EXAMPLES = Path(__file__).resolve().parent.parent
HELD_BACK = 360
EPOCHS = 80
BATCH = 64
SEED = 7
#: The value of a pixel that is all ink.
FULL_INK = 16.0

Array = npt.NDArray[np.float32]


class DigitReader(nn.Module):
    """Two convolutions and two dense layers; pixels of 0 to 16 in, probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.dense1 = nn.Linear(32 * 2 * 2, 64)
        self.dense2 = nn.Linear(64, 10)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """The unnormalised scores, which training needs."""
        x = functional.max_pool2d(functional.relu(self.conv1(image / FULL_INK)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.dense2(functional.relu(self.dense1(x.flatten(1))))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The probability of each digit."""
        return functional.softmax(self.logits(image), dim=1)


def jitter(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move and stretch each image by a little, so that digits off the middle are read as well."""
    count = len(images)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.empty(count).uniform_(0.94, 1.06, generator=generator)
    theta[:, 1, 1] = torch.empty(count).uniform_(0.94, 1.06, generator=generator)
    theta[:, :, 2] = torch.empty(count, 2).uniform_(-0.06, 0.06, generator=generator)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: Array, labels: npt.NDArray[np.int64]) -> DigitReader:
    """Train on these digits, the same way every time."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    model = DigitReader()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            loss = functional.cross_entropy(model.logits(jitter(x[rows], generator)), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def to_onnx(model: DigitReader) -> onnx.ModelProto:
    """The same network as an ONNX graph, written node by node: it needs no exporter.

    Opset 17 and IR 8, which every ONNX Runtime since 1.14 reads.
    """
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    weights["scale"] = np.array(1.0 / FULL_INK, dtype=np.float32)
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    halve = {"kernel_shape": [2, 2], "strides": [2, 2]}

    def dense(layer: str, source: str, result: str) -> onnx.NodeProto:
        names = [source, f"{layer}.weight", f"{layer}.bias"]
        return helper.make_node("Gemm", names, [result], transB=1)

    def conv(layer: str, source: str, result: str) -> onnx.NodeProto:
        names = [source, f"{layer}.weight", f"{layer}.bias"]
        return helper.make_node("Conv", names, [result], **same)

    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["ink"]),
        conv("conv1", "ink", "c1"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **halve),
        conv("conv2", "p1", "c2"),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], **halve),
        helper.make_node("Flatten", ["p2"], ["flat"]),
        dense("dense1", "flat", "d1"),
        helper.make_node("Relu", ["d1"], ["r3"]),
        dense("dense2", "r3", "logits"),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(result, full_check=True)
    return result


def save_torchscript(model: DigitReader, path: Path) -> None:
    """Trace and save the network; the file is what the pytorch backend of Triton calls model.pt."""
    with warnings.catch_warnings():  # TorchScript is deprecated, but it is what is wanted here
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*")
        traced = torch.jit.trace(model, torch.zeros(2, 1, 8, 8))
        torch.jit.save(torch.jit.freeze(traced), str(path))


def save_images(images: Array, labels: npt.NDArray[np.int64], folder: Path) -> None:
    """Write the first held-back image of each digit as it is, and two of them enlarged."""
    for digit in range(10):
        pixels = images[np.flatnonzero(labels == digit)[0], 0]
        small = Image.fromarray(np.round(pixels * 255 / FULL_INK).astype(np.uint8))
        small.save(folder / f"{digit}.png")
        if digit in (3, 8):
            small.resize((280, 280), Image.Resampling.BICUBIC).save(folder / f"{digit}_large.png")


def main() -> None:
    """Train, measure, write."""
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    seen_x, held_x, seen_y, held_y = train_test_split(
        images, labels, test_size=HELD_BACK, stratify=labels, random_state=0
    )
    model = train(seen_x, seen_y)
    with torch.no_grad():
        read = model(torch.from_numpy(held_x)).argmax(1).numpy()
    right = int((read == held_y).sum())
    accuracy = 100 * right / HELD_BACK
    print(f"{right} of {HELD_BACK} held-back digits read correctly: {accuracy:.2f} %")
    if accuracy < 97:
        raise SystemExit("that is below 97 %: nothing was written")

    onnx.save(to_onnx(model), EXAMPLES / "model_repository/digits/1/model.onnx")
    save_torchscript(model, EXAMPLES / "pytorch_repository/digits/1/model.pt")
    save_images(held_x, held_y, EXAMPLES / "digits/images")
    (EXAMPLES / "digits/ACCURACY.md").write_text(
        "# How well the example reads digits\n\n"
        f"{right} of {HELD_BACK} held-back digits are read correctly: **{accuracy:.2f} %**.\n\n"
        f"The network was trained on {len(seen_y)} of the {len(labels)} handwritten digits of\n"
        f"scikit-learn and never saw the other {HELD_BACK}, which hold the same share of each\n"
        f"digit. Written by `train.py` with torch {torch.__version__}, scikit-learn\n"
        f"{sklearn.__version__}, seed {SEED}, {EPOCHS} epochs.\n"
    )


if __name__ == "__main__":
    main()
