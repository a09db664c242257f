import pytest

from daguerre.data.packages import Package, fetched

ADA = "fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029"  # SHA-256 of "ada"


def client(folder, name, script, monkeypatch):
    """A client that does as it is told."""
    (folder / "bin").mkdir()
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")


def test_names():
    art = Package("openclipart-svg", "1:0.18+dfsg-19", ADA, "debian")
    assert art.file == "openclipart-svg_1%3a0.18+dfsg-19_all.deb"
    assert str(art) == "openclipart-svg=1:0.18+dfsg-19"
    icons = Package("@iconify-json/noto", "1.2.9", ADA)
    assert icons.file == "iconify-json-noto-1.2.9.tgz"
    assert str(icons) == "@iconify-json/noto@1.2.9"
    words = Package("some-words", "0.1.0", ADA, "pypi")
    assert words.file == "some_words-0.1.0-py3-none-any.whl"
    assert str(words) == "some-words==0.1.0"


@pytest.mark.parametrize(
    ("package", "name", "asked"),
    [
        (Package("@ada/icons", "1.0", ADA), "npm", "pack --ignore-scripts --silent @ada/icons@1.0"),
        (Package("art", "2:1", ADA, "debian"), "apt-get", "download art=2:1"),
    ],
)
def test_a_client_fetches_what_is_not_there(tmp_path, monkeypatch, package, name, asked):
    client(tmp_path, name, f'[ "$*" = "{asked}" ] && printf ada > {package.file}', monkeypatch)
    path = fetched(package, tmp_path / "kept")
    assert path.read_bytes() == b"ada"
    monkeypatch.setenv("PATH", "")
    assert fetched(package, tmp_path / "kept") == path


def test_a_client_that_fails(tmp_path, monkeypatch):
    client(tmp_path, "apt-get", "echo no such thing >&2; exit 100", monkeypatch)
    with pytest.raises(OSError, match="apt-get could not fetch art=1: no such thing"):
        fetched(Package("art", "1", ADA, "debian"), tmp_path)


def test_pip_is_that_of_the_interpreter(tmp_path, monkeypatch):
    """A real pip, told to look in an empty folder: it fails, and says so."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = r"(?s)could not fetch no-such-words==1: .*no_such_words-1-py3-none-any\.whl there"
    with pytest.raises(OSError, match=said):
        fetched(Package("no-such-words", "1", ADA, "pypi"), tmp_path)


def test_a_client_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"fetching art=1 needs apt-get, .*, or put .*/art_1_all\.deb there"):
        fetched(Package("art", "1", ADA, "debian"), tmp_path)


def test_a_file_with_another_content(tmp_path):
    (tmp_path / "icons-1.0.tgz").write_bytes(b"eve")
    with pytest.raises(ValueError, match=rf"icons-1\.0\.tgz has SHA-256 .*, not the pinned {ADA}; remove it"):
        fetched(Package("icons", "1.0", ADA), tmp_path)
