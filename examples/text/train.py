"""Train the two networks of the text example, and write them as ONNX.

    pip install torch onnx pillow
    python examples/text/train.py                # both, a few minutes each on one core
    python examples/text/train.py detect         # one of them
    python examples/text/measure.py              # how well they read

All they learn from is drawn on the way (render.py), no page twice. With the same versions of the
libraries a run repeats bit for bit. It writes

    text_repository/detect/1/model.onnx      image UINT8 [height,width] -> regions FP32 [3,...]
    text_repository/recognise/1/model.onnx   crops FP32 [words,32,width] -> scores FP32 [words,...]
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from networks import Detector, Recogniser
from render import Page, draw_page
from steps import REPOSITORY, letters, words
from torch import nn
from torch.nn import functional

SEED = 11
PAGE = (256, 192)  # width and height of a page to learn from
PAGES_A_STEP = 8
WORDS_A_STEP = 32
#: How much more than elsewhere it counts whether a cell at the end of a word is inside of it.
END_WEIGHT = 5
STEPS = {"detect": 2000, "recognise": 2000}

Floats = npt.NDArray[np.float32]


def train_detector(steps: int, generator: np.random.Generator) -> Detector:
    """Teach it to tell words from paper, and the height of their line."""
    model = Detector()
    optimizer, schedule = _optimizer(model, steps, 4e-3)
    for step in range(steps):
        pages = [draw_page(generator, *PAGE) for _ in range(PAGES_A_STEP)]
        images = torch.from_numpy(np.stack([page.image for page in pages])).float()
        wanted = torch.from_numpy(np.stack([regions_of(page) for page in pages]))
        raw = model.raw(images)
        inside, weight = wanted[:, 0], wanted[:, 3]
        found = functional.binary_cross_entropy_with_logits(raw[:, 0], inside, weight)
        reach = (raw[:, 1:] - wanted[:, 1:3] / 16).abs().sum(1) * inside
        loss = found + reach.sum() / inside.sum().clamp(min=1)
        _learn(loss, model, optimizer, schedule)
        _tell("detect", step, steps, loss)
    return model.eval()


def regions_of(page: Page) -> Floats:
    """What the detector should answer for a page (see words.find_words), and how much that counts.

    FP32 [4, rows, columns]. Around the ends of a word it counts more: neighbours must not touch.
    """
    height, width = page.image.shape
    rows = (np.arange(-(-height // 4)) + 0.5) * words.CELL_HEIGHT
    columns = (np.arange(2 * -(-width // 4)) + 0.5) * words.CELL_WIDTH
    regions = np.zeros((4, len(rows), len(columns)), dtype=np.float32)
    regions[3] = 1
    for word in page.words:
        left, top, right, bottom = word.box
        high = bottom - top
        lost = words.SHRUNK * high
        lost = min(lost, (right - left - words.CELL_WIDTH) / 2)  # one column is always left
        within = (rows > top + high / 4) & (rows < bottom - high / 4)
        inside = np.ix_(within, (columns >= left + lost) & (columns < right - lost))
        regions[0][inside] = 1
        regions[1][inside] = (rows - top)[inside[0]]
        regions[2][inside] = (bottom - rows)[inside[0]]
        for end in (left, right):
            regions[3][np.ix_(within, abs(columns - end) < high / 3)] = END_WEIGHT
    return regions


def train_recogniser(steps: int, generator: np.random.Generator) -> Recogniser:
    """Teach it to read crops, which are cut as unevenly as the detector will."""
    model = Recogniser(len(letters.CHARACTERS))
    optimizer, schedule = _optimizer(model, steps, 3e-3)
    crops: list[Floats] = []
    texts: list[str] = []
    for step in range(steps):
        while len(crops) < WORDS_A_STEP:
            page = draw_page(generator, *PAGE)
            for word in page.words:
                crops.append(words.cut_out(page.image, [_uneven(generator, word.box)])[0])
                texts.append(word.text)
        batch, crops = crops[:WORDS_A_STEP], crops[WORDS_A_STEP:]
        labels, texts = texts[:WORDS_A_STEP], texts[WORDS_A_STEP:]
        logits = model.logits(torch.from_numpy(_padded(batch)))
        loss = functional.ctc_loss(
            functional.log_softmax(logits, 2).transpose(0, 1),
            torch.tensor([letters.CHARACTERS.index(each) + 1 for each in "".join(labels)]),
            torch.full((len(batch),), logits.shape[1]),
            torch.tensor([len(text) for text in labels]),
            zero_infinity=True,
        )
        _learn(loss, model, optimizer, schedule)
        _tell("recognise", step, steps, loss)
    return model.eval()


def _uneven(generator: np.random.Generator, box: tuple[int, int, int, int]) -> words.Box:
    left, top, right, bottom = box
    height = bottom - top
    up, down = generator.normal(0, 0.03 * height, 2)
    before, after = generator.uniform(-2.5, 2.5, 2)
    return left + before, top + up, right + after, bottom + down


def _padded(crops: list[Floats]) -> Floats:
    width = max(crop.shape[1] for crop in crops)
    return np.stack([np.pad(crop, ((0, 0), (0, width - crop.shape[1]))) for crop in crops])


def _optimizer(
    model: nn.Module, steps: int, rate: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)


def _learn(
    loss: torch.Tensor,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def _tell(name: str, step: int, steps: int, loss: torch.Tensor) -> None:
    if (step + 1) % 100 == 0 or step + 1 == steps:
        done = f"{name}: step {step + 1} of {steps}, {time.process_time():.0f} s"
        print(f"{done}, loss {loss.item():.4f}", flush=True)


def save(
    model: nn.Module,
    path: Path,
    example: torch.Tensor,
    names: tuple[str, str],
    axes: dict[str, dict[int, str]],
) -> None:
    """Write a network as ONNX; batch normalisation is folded into the convolutions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # the exporter is the old one, which needs no other package
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def main() -> None:
    """Train what was asked for, and write it."""
    parser = argparse.ArgumentParser(description="Train the networks of the text example.")
    parser.add_argument("networks", nargs="*", choices=[*STEPS, []], metavar="NETWORK")
    parser.add_argument("--steps", type=int, help="fewer steps, to see whether it runs")
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in arguments.networks or STEPS:
        torch.manual_seed(SEED)
        generator = np.random.default_rng(SEED)
        steps = arguments.steps or STEPS[name]
        path = arguments.repository / name / "1" / "model.onnx"
        if name == "detect":
            image = torch.zeros(48, 64, dtype=torch.uint8)
            axes = {"image": {0: "height", 1: "width"}, "regions": {1: "rows", 2: "columns"}}
            save(train_detector(steps, generator), path, image, ("image", "regions"), axes)
        else:
            crops = torch.zeros(2, 32, 64)
            axes = {"crops": {0: "words", 2: "width"}, "scores": {0: "words", 1: "steps"}}
            save(train_recogniser(steps, generator), path, crops, ("crops", "scores"), axes)


if __name__ == "__main__":
    main()
