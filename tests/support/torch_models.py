"""Tiny TorchScript models for tests, built on the spot; importing this needs PyTorch."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

# What has no types is taken as a value.
_jit: Any = import_module("torch.jit")


class RaggedSums(torch.nn.Module):
    """What onnx_models.ragged_sums computes."""

    def forward(self, x: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        before = torch.cat((torch.zeros(1), torch.cumsum(x, 0)))
        bounds = before[starts.long()]
        return x * 2, bounds[1:] - bounds[:-1]


class RunningSum(torch.nn.Module):
    """The sum so far twice, of which one comes back as `state`; `start` is not needed for it."""

    def forward(
        self, x: torch.Tensor, start: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total = x + state
        return total, total


class MaskedMean(torch.nn.Module):
    """What onnx_models.masked_mean computes."""

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, length: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean = (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return x - mean, mean, length


def save(module: torch.nn.Module, directory: Path) -> None:
    """Compile the module and write it into a version's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        _jit.save(_jit.script(module), str(directory / "model.pt"))
