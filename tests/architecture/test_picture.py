from draw_architecture import PICTURE, draw


def test_the_picture_shows_the_code_as_it_is() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run `make picture` and commit docs/architecture.svg"
