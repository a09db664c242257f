"""CI runs on exactly the pinned versions, none of them built for CUDA."""

import os
import re
from importlib.metadata import distributions

import pytest
from packaging.version import Version
from rooms import ROOT

pytestmark = pytest.mark.skipif(os.environ.get("CI") != "true", reason="only CI's installation has to be this one")
INSTALLED = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in distributions()}
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)


def test_nothing_is_built_for_cuda() -> None:
    assert "torch" in INSTALLED
    assert not [name for name in INSTALLED if name.startswith(("nvidia-", "torchvision", "triton"))]


def test_every_package_is_pinned() -> None:
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PINS.items()}
    ours = {"daguerre", "pip"}
    public = {name: Version(version).public for name, version in INSTALLED.items() if name not in ours}
    assert public == {name: pins.get(name) for name in public}
