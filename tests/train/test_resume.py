"""A run that was stopped and one that was not are the same run, bit for bit."""

from itertools import islice

import pytest

from daguerre.train import loop
from tests.train.line import QUICK, Line, finish, journal, same
from tests.train.toys import RECIPES


@pytest.fixture
def abandon(monkeypatch):
    """Makes some steps and goes away without a word."""

    def abandon(recipe, stage, run, steps: int) -> None:
        records = loop.train(recipe, stage, run)
        assert len(list(islice(records, steps))) == steps
        with monkeypatch.context() as patch:
            patch.setattr(loop._State, "save", lambda self, run: None)  # which closing would do
            records.close()

    return abandon


@pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
def test_resumed_equals_unbroken(tmp_path, pictures, make, abandon):
    finish(make(pictures), QUICK, tmp_path / "unbroken")
    broken = tmp_path / "broken"
    abandon(make(pictures), QUICK, broken, 1)  # before its first checkpoint
    abandon(make(pictures), QUICK, broken, 5)  # after the one of step 4, with the discriminator in play
    assert [record["step"] for record in journal(broken)] == [1, 2, 3, 4, 5]
    assert len(finish(make(pictures), QUICK, broken)) == 2
    same(broken, tmp_path / "unbroken")


def test_every_place_to_stop_is_as_good(tmp_path, abandon):
    finish(Line(), QUICK, tmp_path / "unbroken")
    for steps in range(1, 7):
        abandon(Line(), QUICK, tmp_path / str(steps), steps)
        finish(Line(), QUICK, tmp_path / str(steps))
        same(tmp_path / str(steps), tmp_path / "unbroken")


def test_resumed_from_the_checkpoint_before_a_damaged_one(tmp_path, abandon):
    finish(Line(), QUICK, tmp_path / "unbroken")
    abandon(Line(), QUICK, tmp_path / "broken", 4)
    (tmp_path / "broken" / "step-00000004" / "optimizer.safetensors").write_bytes(b"torn")
    assert len(finish(Line(), QUICK, tmp_path / "broken")) == 4
    same(tmp_path / "broken", tmp_path / "unbroken")


def test_a_torn_line_in_the_log_is_dropped(tmp_path, abandon):
    finish(Line(), QUICK, tmp_path / "unbroken")
    abandon(Line(), QUICK, tmp_path / "broken", 4)
    with (tmp_path / "broken" / "log.jsonl").open("a") as lines:
        lines.write('{"step": 5, "lo')
    finish(Line(), QUICK, tmp_path / "broken")
    same(tmp_path / "broken", tmp_path / "unbroken")
