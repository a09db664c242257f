"""Training CLIP: pictures and their captions meet in one space (arXiv:2103.00020, figure 3)."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.phrases import pick
from ..data.pictures import Pictures
from ..models.clip import CLIPText
from ..models.vision import CLIPVision
from ..request import RequestError
from .contact_sheet import contact_sheet
from .randomness import generator

Tokenize = Callable[[list[str]], Tensor]  # captions -> padded token ids (B, context)


class Towers(nn.Module):
    """CLIP whole: both encoders and the learned scale between them."""

    def __init__(self, text: CLIPText, vision: CLIPVision):
        super().__init__()
        self.text, self.vision = text, vision
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, pictures: Tensor, ids: Tensor) -> Tensor:
        """Similarity of every picture to every caption, (B, B), times the learned scale."""
        used = int((ids != self.text.config.end_token).sum(dim=-1).max()) + 1  # causal: later tokens cannot matter
        a = F.normalize(self.vision(small(pictures, self.vision)), dim=-1)
        b = F.normalize(self.text(ids[:, :used]).pooled, dim=-1)
        return self.log_scale.clamp(max=math.log(100)).exp() * a @ b.T


def small(pictures: Tensor, vision: CLIPVision) -> Tensor:
    """Pictures in [-1, 1] at the size the vision tower wants."""
    return F.adaptive_avg_pool2d(pictures, vision.config.size)


class ContrastiveRecipe:
    """The loop's recipe for CLIP: in a batch, tell which caption belongs to which picture and the other way round."""

    def __init__(self, towers: Towers, pictures: Pictures, batch: int, seed: int, tokenize: Tokenize):
        self.trained = towers
        self.pictures, self.batch, self.seed, self.tokenize = pictures, batch, seed, tokenize

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        if len(part) < self.batch:
            raise RequestError("CLIP compares every picture of a batch with every caption: accumulate has to be 1")
        device = self.trained.log_scale.device
        rng = generator(self.seed, "pairs", step)
        index = torch.randint(len(self.pictures), (self.batch,), generator=rng)
        captions = [pick(self.pictures.rows[i], rng) for i in index.tolist()]
        logits = self.trained(self.pictures.batch(index).to(device), self.tokenize(captions).to(device))
        same = torch.tensor(
            [[a == b for b in captions] for a in captions], device=device
        ).float()  # equal ones fit both
        target = same / same.sum(dim=1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        right = same.gather(1, logits.argmax(dim=1, keepdim=True)).mean()
        return loss, {"accuracy": right.item()}

    def sample(self, path: Path) -> None:
        """The eight pictures nearest to each of eight captions, a row each."""
        index = torch.randperm(len(self.pictures), generator=generator(self.seed, "preview"))[:512]
        captions = [str(self.pictures.rows[i]["caption"]) for i in index[:8].tolist()]
        device = self.trained.log_scale.device
        pictures = self.pictures.batch(index).to(device)
        ids = self.tokenize(captions).to(device)
        seen = F.normalize(self.trained.vision(small(pictures, self.trained.vision)), dim=-1)
        said = F.normalize(self.trained.text(ids).pooled, dim=-1)
        contact_sheet(pictures[(said @ seen.T).topk(8).indices.flatten()], path, columns=8)
