import ast
import subprocess
from pathlib import Path

import pytest
from rooms import PACKAGE, ROOT


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file that is in git or about to be."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="session")
def package() -> dict[Path, ast.Module]:
    """The syntax tree of every module of the package."""
    return {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in sorted(PACKAGE.rglob("*.py"))}
