"""What a command tells of itself: all of its words, in panels, and no markup made of the prompt's language."""

import subprocess
import sys

import pytest


def help_of(*command: str) -> str:
    """Its words without the panels' frames and line breaks."""
    done = subprocess.run(
        [sys.executable, "-m", "daguerre.cli.main", *command, "--help"], capture_output=True, text=True, check=True
    )
    return " ".join(done.stdout.replace("│", " ").split())


def test_the_whole_docstring_is_shown_and_one_line_of_it_in_the_list():
    axes = 'An axis is "NAME: VALUES"'
    assert axes in help_of("grid")
    assert axes not in help_of()
    assert "Draw a grid over any settings, with labels." in help_of()


def test_what_a_prompt_can_say_is_shown_as_it_is_typed():
    told = help_of("generate")
    assert "__NAME__ choose; <lora:NAME:0.8> adds a LoRA" in told
    assert "The folder of files for <hypernet:NAME:WEIGHT>" in told


@pytest.mark.parametrize("command", ["generate", "inpaint", "grid"])
def test_flags_stand_in_panels_and_defaults_that_say_nothing_are_left_out(command):
    told = help_of(command)
    panels = ["Drawing ─", "What the prompt names ─", "Adapters ─", "Model ─"]
    assert sorted(panels, key=told.index) == panels
    assert "[default: ()]" not in told
    assert "[default: False]" not in told
