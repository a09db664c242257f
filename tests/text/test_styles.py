import pytest

from daguerre.request import RequestError
from daguerre.text.styles import Style, read_styles, styled

STYLES = {
    "oil": Style("oil painting, thick paint", "photo"),
    "framed": Style("a painting of {prompt} in a frame", "{prompt}, crooked"),
    "plain": Style(),
}


def written(tmp_path, text):
    path = tmp_path / "styles.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_file_that_others_write(tmp_path):
    text = '\ufeffname,prompt,negative_prompt\r\nA,"b, ""c""",d\r\n#--- old ---,,\r\nB,x\r\n"Two\nlines",y,z\r\n'
    expected = {"A": Style('b, "c"', "d"), "B": Style("x"), "Two\nlines": Style("y", "z")}
    assert read_styles(written(tmp_path, text)) == expected


def test_the_file_of_the_first_versions(tmp_path):
    assert read_styles(written(tmp_path, "name,text\nA,b\n")) == {"A": Style("b")}


def test_an_empty_file_has_no_styles(tmp_path):
    assert read_styles(written(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"name,prompt\nA,\xff\n", "no table in UTF-8"),
        ("a,b\n1,2\n", "first line must name the columns"),
        ("name,prompt\nA," + "x" * 200_000 + "\n", "no table"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(RequestError, match=words) as refused:
        read_styles(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ("a cat", "ugly")),
        (["oil"], ("a cat, oil painting, thick paint", "ugly, photo")),
        (["framed"], ("a painting of a cat in a frame", "ugly, crooked")),
        (["plain"], ("a cat", "ugly")),
        (["framed", "oil"], ("a painting of a cat in a frame, oil painting, thick paint", "ugly, crooked, photo")),
        (["oil", "oil"], ("a cat, oil painting, thick paint, oil painting, thick paint", "ugly, photo, photo")),
    ],
)
def test_styles_are_put_on_one_after_the_other(names, expected):
    assert styled("a cat", "ugly", names, STYLES) == expected


def test_a_style_alone_is_a_prompt():
    assert styled("", "", ["oil"], STYLES) == ("oil painting, thick paint", "photo")


def test_an_unknown_style_is_refused():
    with pytest.raises(RequestError, match="no style 'oill'; did you mean 'oil'"):
        styled("", "", ["oill"], STYLES)
