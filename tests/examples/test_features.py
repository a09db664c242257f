"""Every feature that docs/features.md lists has a test, and that test exists."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS, TESTS = ROOT / "docs", ROOT / "tests"
PROOF = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


FLAG = re.compile(r"--[a-z][a-z-]*[a-z](?![*a-z-])")


@cache
def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def rows_of_features() -> list[str]:
    rows = [row for row in (DOCS / "features.md").read_text().splitlines() if row.startswith("| ")]
    return [row for row in rows if not row.startswith(("| feature", "| ---"))]


def test_every_feature_has_a_test_that_exists() -> None:
    rows = rows_of_features()
    assert len(rows) > 80
    for row in rows:
        proofs = [(TESTS / name, test) for name, test in PROOF.findall(row) if test]
        assert proofs, f"no test: {row}"
        for path, test in proofs:
            assert path.is_file(), path
            assert test in functions_of(path), f"{path.name} has no {test}"


def test_every_flag_of_a_feature_is_typed_in_a_test_of_the_command_line() -> None:
    """The test of a row may be of the library; that the flag gets there is a matter of its own."""
    trees = [ast.parse(path.read_text()) for path in (TESTS / "cli").glob("test_*.py")]
    typed = {str(node.value) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    asked = {flag for row in rows_of_features() for flag in FLAG.findall(re.split(r"(?<!\\)\|", row)[2])}
    assert len(asked) > 60
    assert not sorted(asked - typed)
