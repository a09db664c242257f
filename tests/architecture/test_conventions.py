"""Names that say something, no global state, printing in one room, docstrings, nothing of one machine."""

import ast
import re
from pathlib import Path

import pytest
from rooms import ROOT, module_name, room_of

SAYS_NOTHING = re.compile(r"(utils?|helpers?|common|misc|base|manager)", re.IGNORECASE)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#]+)")  # Markdown links to files
SELF_EVIDENT = 6  # lines of a function whose name and types may say it all
# Home folders, sibling folders of the checkout, package registries and the options that name one.
PRIVATE = re.compile(
    rb"(?<![\w.])/(?:root|work|home/\w+|Users/\w+)/|\.\./(?:shared|\.library)\b|/tmp/b[r]ief"
    rb"|--(?:extra-)?index[-]url|--find[-]links|\b(?:pypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs)"
)


def test_names_say_something(tracked: list[Path]) -> None:
    parts = {part for path in tracked for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not [part for part in parts if SAYS_NOTHING.fullmatch(part)]


def test_no_global_statement(package: dict[Path, ast.Module]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in package.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Global)
    ]
    assert not found


def test_only_the_command_line_prints(package: dict[Path, ast.Module]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in package.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "print" and room_of(module_name(path)) != "cli"
    ]
    assert not found


def speaks_for_itself(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Short functions, layers of a network, and records and protocols, whose members carry the words."""
    if isinstance(node, ast.FunctionDef):
        return node.end_lineno - node.lineno < SELF_EVIDENT
    decorators = {ast.unparse(d).split("(")[0] for d in node.decorator_list}
    bases = {ast.unparse(base).split("[")[0] for base in node.bases}
    return "dataclass" in decorators or bool(bases & {"NamedTuple", "Protocol", "TypedDict", "nn.Module"})


def test_public_names_are_documented(package: dict[Path, ast.Module]) -> None:
    silent = []
    for path, tree in package.items():
        where = str(path.relative_to(ROOT))
        if tree.body and ast.get_docstring(tree) is None:
            silent.append(where)
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None and not speaks_for_itself(node):
                silent.append(f"{where}:{node.lineno} {node.name}")
    assert not silent


def test_links_between_our_pages_lead_somewhere(tracked: list[Path]) -> None:
    pages = [path for path in tracked if path.suffix == ".md"]
    links = [(page, link) for page in pages for link in LINK.findall(page.read_text(encoding="utf-8"))]
    assert links
    assert not [f"{page.relative_to(ROOT)}: {link}" for page, link in links if not (page.parent / link).exists()]


def test_nothing_of_a_developers_machine(tracked: list[Path]) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in tracked
        if (match := PRIVATE.search(path.read_bytes()))
    ]
    assert not found


@pytest.mark.parametrize(
    ("text", "word"), [("see /{}/models", "root"), ("pip --{}-url x", "index"), ("../{}/data", "shared")]
)
def test_the_search_for_private_paths(text: str, word: str) -> None:
    assert PRIVATE.search(text.format(word).encode())
    assert not PRIVATE.search(text.format("weights").encode())
