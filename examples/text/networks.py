"""The two networks of the text example: one finds words, one reads them."""

from __future__ import annotations

import torch
from torch import nn


class Detector(nn.Module):
    """A grey picture in, a map of its words out, a cell for every 4 rows and 2 columns of pixels.

    Convolutions only, so that a picture of any size goes in: UINT8 [height, width] becomes FP32
    [3, height/4, width/2], rounded up to whole and to even: the probability that a cell is inside
    of a word, and how many pixels the line reaches above and below the cell's middle.
    """

    #: The last layers look further and further: at both the start and the end of a word.
    DILATIONS = (1, 2, 4, 8, 4, 1)

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        layers = [*_conv(1, 16, stride=2), *_conv(16, channels, stride=2)]
        for dilation in self.DILATIONS:
            layers += _conv(channels, channels, dilation=dilation)
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 4, 1))

    def raw(self, images: torch.Tensor) -> torch.Tensor:
        """What training needs: FP32 [batch, height, width] to logits and distances / 16."""
        means = images.mean(dim=(1, 2), keepdim=True)
        left, right, above, below = self.layers(((images - means) / 64)[:, None]).unbind(1)
        maps = ((left, right), (above, above), (below, below))
        return torch.stack([torch.stack(pair, -1).flatten(-2) for pair in maps], dim=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One picture."""
        raw = self.raw(image.to(torch.float32)[None])[0]
        return torch.cat([torch.sigmoid(raw[:1]), raw[1:] * 16])


class Recogniser(nn.Module):
    """Crops of words in, the probability of each character at each step from left to right out.

    FP32 [words, 32, width] becomes FP32 [words, width/2, characters + 1]; class 0 is "no (new)
    character", as connectionist temporal classification (CTC) has it.
    """

    def __init__(self, characters: int) -> None:
        super().__init__()
        halve, flatten = nn.MaxPool2d(2), nn.MaxPool2d((2, 1))
        self.columns = nn.Sequential(
            *_conv(1, 16), halve, *_conv(16, 32), flatten, *_conv(32, 64), flatten, *_conv(64, 64)
        )
        # A convolution as high as what is left, not a reshape: no word at all goes through it too.
        self.columns.extend([nn.Conv2d(64, 96, (4, 1)), nn.BatchNorm2d(96), nn.ReLU()])
        self.steps = nn.Sequential(
            nn.Conv1d(96, 96, 5, padding=2),
            nn.BatchNorm1d(96),
            nn.ReLU(),
            nn.Conv1d(96, characters + 1, 3, padding=1),
        )

    def logits(self, crops: torch.Tensor) -> torch.Tensor:
        """What training needs: not normalised."""
        return self.steps(self.columns(crops[:, None]).squeeze(2)).transpose(1, 2)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        return torch.softmax(self.logits(crops), dim=2)


def _conv(source: int, target: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(
        source, target, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )
    return [conv, nn.BatchNorm2d(target), nn.ReLU()]
