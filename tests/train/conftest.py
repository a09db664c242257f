import pytest

from daguerre.data.pictures import Pictures
from tests.train import toys


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Twelve balls of 32 pixels: six colors in two styles."""
    return toys.balls(tmp_path_factory.mktemp("balls"))
