"""What every measurement needs: the model's pictures, the real ones, and what the judge sees in both."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from PIL import Image
from torch import Tensor

from ..families.model import Model
from ..files.durable import durable_write
from .drawings import Asked, Drawings, through_autoencoder, to_tensor
from .illustrations import Illustration, Illustrations, kept_features
from .judge import ConceptJudge, Described, StyleJudge
from .lite0 import Network, seen_by
from .suite import FULL, Amounts, Group, Taught, everything, groups

Item = TypeVar("Item")
Tell = Callable[[str, int, int], object]  # what is done, how many of it, of how many


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is judged by what."""

    pictures: Path  # table of illustrations
    out: Path  # folder for pictures, figures, report
    taught: Taught | None = None  # None: all training pictures of the table
    amounts: Amounts = FULL
    steps: int = 0  # 0: as the model likes it


class Looked(NamedTuple):
    """What the judge sees in N pictures."""

    style: Tensor  # (N, 384) unit vectors
    concept: Tensor  # (N, 1440) unit vectors
    top: Tensor  # (N, 1280), not standardized


class Bench:
    """Everything is made when it is asked for, and kept in the folder."""

    def __init__(self, model: Model, plan: Plan, network: Network, tell: Tell = lambda what, done, total: None):
        self.model, self.plan, self.network, self.tell = model, plan, network, tell
        self.folder = plan.out / "pictures"
        self.drawings = Drawings(model, self.folder, plan.steps)
        self.real = Illustrations(plan.pictures)
        total = len(self.real)
        self.features = self.real.seen(
            network, plan.out / "real.safetensors", lambda done: tell("looking at real pictures", done, total)
        )
        self.described = Described(self.features)
        vectors = self.described(self.features)
        self.vectors = vectors.concept  # (N, 1440), of all real pictures
        self.style_vectors = vectors.style
        self.concepts = ConceptJudge(vectors.concept, self.real)
        self.styles = StyleJudge(vectors.style, self.real)
        self.taught = plan.taught if plan.taught is not None else everything(self.real)

    def groups(self) -> list[Group]:
        """Pictures to draw that have a real one each."""
        return groups(self.real, self.taught, self.plan.amounts, self.concepts.judged)

    def drawn(self, what: str, asked: Sequence[Asked]) -> list[Image.Image]:
        """The model's pictures."""
        return list(self._told(f"drawing {what}", self.drawings.draw(asked), len(asked)))

    def counted(self, what: str, items: Sequence[Item]) -> Iterator[Item]:
        """Items one by one, told as progress."""
        return self._told(what, iter(items), len(items))

    def look(self, pictures: Sequence[Tensor]) -> Looked:
        """What the judge sees in pictures (3, H, W) in [-1, 1]."""
        features = seen_by(self.network, pictures)
        return Looked(*self.described(features), features.top)

    def kept(self, name: str, pictures: Iterable[Tensor]) -> Tensor:
        """Vectors (N, 1440) of pictures that depend on the table alone; looked at only once."""
        path = self.plan.out / f"{name}.safetensors"
        features = kept_features(path, self.real.sha256, lambda: seen_by(self.network, pictures))
        return self.described(features).concept

    def brought_back(self, what: str, items: Sequence[Illustration]) -> list[Tensor]:
        """Real pictures through the model's autoencoder, rounded to 8 bits."""
        pictures = (self._brought_back(item) for item in items)
        return [to_tensor(image) for image in self._told(f"autoencoding {what}", pictures, len(items))]

    def _brought_back(self, item: Illustration) -> Image.Image:
        picture = self.real.picture(item.number)
        path = self.folder / f"autoencoded-{sha256(self.model.sha256.encode() + _bytes(picture)).hexdigest()[:20]}.png"
        try:
            with Image.open(path, formats=["PNG"]) as stored:
                return stored.convert("RGB")
        except OSError:  # there is none yet
            image = to_image(through_autoencoder(self.model, picture))
            durable_write(path, lambda target: image.save(target, "PNG"))
            return image

    def _told(self, what: str, made: Iterator[Item], total: int) -> Iterator[Item]:
        for done, item in enumerate(made):
            yield item
            self.tell(what, done + 1, total)


def to_image(picture: Tensor) -> Image.Image:
    """A picture (3, H, W) in [-1, 1] as 8-bit RGB."""
    return Image.fromarray(_rounded(picture).permute(1, 2, 0).numpy())


def _bytes(picture: Tensor) -> bytes:
    return _rounded(picture).numpy().tobytes()


def _rounded(picture: Tensor) -> Tensor:
    return picture.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
