import multiprocessing
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from daguerre.data.pictures import Pictures
from tests.toy import toy, write_toy
from tests.train import toys


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Twelve balls of 32 pixels: six colors in two styles."""
    return toys.balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a run needs: a model, pictures, pairs of pictures."""
    folder = tmp_path_factory.mktemp("materials")
    write_toy(toy("sd1"), folder / "base.safetensors")
    toys.picture_folder(folder / "pictures")
    toys.edits(folder / "edits.parquet")
    return folder


@pytest.fixture(scope="session")
def forkserver() -> BaseContext:
    """Begins processes that have all they need loaded, so that they can be killed many times."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "safetensors.torch", "tests.train.line", "tests.train.toys"])
    return context
