"""Every feature that docs/features.md lists has a test, and that test exists."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS, TESTS = ROOT / "docs", ROOT / "tests"
PROOF = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


@cache
def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_feature_has_a_test_that_exists() -> None:
    rows = [row for row in (DOCS / "features.md").read_text().splitlines() if row.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| feature", "| ---"))]
    assert len(rows) > 80
    for row in rows:
        proofs = [(TESTS / name, test) for name, test in PROOF.findall(row) if test]
        assert proofs, f"no test: {row}"
        for path, test in proofs:
            assert path.is_file(), path
            assert test in functions_of(path), f"{path.name} has no {test}"
