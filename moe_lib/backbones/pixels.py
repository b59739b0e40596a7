"""Pictures as an encoder wants them: less the mean of those it was trained on, and over their deviation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1]


class Normalised(nn.Module):
    """What takes pictures in [0, 1] and knows the mean and the deviation of those it was trained on."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        super().__init__()
        for name, values in (("pixel_mean", mean), ("pixel_std", std)):
            self.register_buffer(name, torch.tensor(tuple(values)).view(3, 1, 1), persistent=False)

    def normalised(self, image: Tensor) -> Tensor:
        """Pictures in [0, 1] as the encoder wants them."""
        return (image - self.pixel_mean) / self.pixel_std
