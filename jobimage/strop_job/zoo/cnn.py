"""A small convolutional classifier: two stages of convolution, batch normalisation and ReLU6, a mean over space."""
# mypy: disable-error-code="misc"
# torch is not followed by the type checker, so its Module is Any.

from torch import Tensor, nn


class Classifier(nn.Module):
    """Images to scores of classes; serves any image of at least 4 by 4 pixels."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU6(),
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, channels, height, width] to [batch, classes]."""
        scores: Tensor = self.head(self.features(image).mean(dim=(2, 3)))
        return scores


def classifier(channels: int = 1, width: int = 16, classes: int = 10) -> nn.Module:
    """An untrained classifier; `width` is the channels of its first convolution."""
    return Classifier(channels, width, classes)
