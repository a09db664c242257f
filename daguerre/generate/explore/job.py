"""What one picture of many needs: its request, and what has to be loaded for it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ...adapters.adapted import AdapterFile
from ...families.model import Model
from ...request import TextToImage


@dataclass(frozen=True)
class Setup:
    """What has to be loaded for a picture; the names are for the caller's `Load`."""

    model: str = ""  # "": the caller's own choice
    vae: str = ""  # likewise; "none": the model's own
    adapters: tuple[AdapterFile, ...] = ()
    steered: str = ""  # by what else, in words of the caller's that change with it


@dataclass(frozen=True)
class Job:
    """One picture to draw."""

    request: TextToImage  # with a seed, and a count of 1
    setup: Setup = Setup()

    @property
    def digest(self) -> str:
        """12 digits that change with everything in it, by which its file is found again."""
        told = json.dumps([type(self.request).__name__, asdict(self.request), asdict(self.setup)], default=str)
        return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()[:12]


Load = Callable[[Setup], Model]  # the model with its VAE, without the adapters
