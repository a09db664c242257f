import pytest

from tests.data.layouts import COUNT, write_folder, write_parquet, write_table, write_tar


@pytest.fixture(params=[write_folder, write_table, write_parquet, write_tar], ids=lambda f: f.__name__[6:])
def source(request, tmp_path):
    """The same six pictures in every layout."""
    return request.param(tmp_path / "source", COUNT)
