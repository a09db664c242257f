"""Draws docs/tintype-grid.png: the 64 prompts below with tintype, seed 1 for each, in this order, none left out."""

from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import daguerre
from daguerre.cli.models import BUILT_IN, resolve

TARGET = Path(__file__).with_name("tintype-grid.png")
COLUMNS, SIZE, CAPTION = 8, 128, 26  # pixels
# Six rows of things and styles it was taught; five of the pairs were held out: the octopus, the turtle, the bus, the
# cactus and the guitar.
TAUGHT = """
a red apple, 3d render | a banana, 3d render | a watermelon, flat modern | a strawberry, glossy gradient
a lemon, flat vector sticker | a pineapple, soft gradient cartoon | a carrot, 3d render | a mushroom, flat modern
a hamburger, 3d render | a pizza, flat vector sticker | a doughnut, glossy gradient | a cupcake, soft gradient cartoon
a lollipop, flat modern | a hot beverage, 3d render | a cookie, flat vector sticker | a birthday cake, 3d render
a dog face, 3d render | a cat face, flat vector sticker | a panda, flat modern | a penguin, glossy gradient
a frog, soft gradient cartoon | a pig face, 3d render | a lion, flat vector sticker | a rabbit face, flat modern
a whale, 3d render | an octopus, glossy gradient | a butterfly, flat vector sticker | a snail, soft gradient cartoon
a lady beetle, 3d render | a turtle, flat modern | a crab, 3d render | an owl, flat vector sticker
a rocket, 3d render | an automobile, flat modern | a bicycle, flat vector sticker | a bus, soft gradient cartoon
a sailboat, glossy gradient | a helicopter, 3d render | a fire engine, flat vector sticker | a tractor, 3d render
a sunflower, 3d render | a cactus, flat modern | a red heart, 3d render | a guitar, glossy gradient
a sun, soft gradient cartoon | a rainbow, flat vector sticker | a soccer ball, 3d render | a crown, flat vector sticker
"""
# Two rows beyond that: other words, other colors, two things, no style, a scene.
BEYOND = """
a green apple | a blue car, 3d render | a kitten | a puppy, flat modern
a purple heart and a star | a cat and a dog | a yellow rocket, 3d render | a sleepy bear wearing a hat
two bananas | a castle at night | a red sports car, photo | a house, 3d render
a robot holding a flower | a black and white penguin | a portrait of a woman | a forest in the rain, oil painting
"""


def prompts() -> list[str]:
    """All 64, row by row."""
    lines = (TAUGHT + BEYOND).strip().splitlines()
    return [prompt.strip() for line in lines if line for prompt in line.split("|")]


def draw() -> Image.Image:
    """The grid, a caption under every picture."""
    model = daguerre.load_model(resolve(BUILT_IN))
    font = ImageFont.load_default(11)
    words = prompts()
    sheet = Image.new("RGB", (COLUMNS * SIZE, -(-len(words) // COLUMNS) * (SIZE + CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, prompt in enumerate(words):
        x, y = i % COLUMNS * SIZE, i // COLUMNS * (SIZE + CAPTION)
        for event in daguerre.text_to_image(model, replace(model.defaults, prompt=prompt, seed=1)):
            if isinstance(event, daguerre.Picture):
                sheet.paste(event.image, (x, y))
        pen.multiline_text((x + 4, y + SIZE), prompt.replace(", ", ",\n"), "#555555", font, spacing=0)
    return sheet


if __name__ == "__main__":
    draw().save(TARGET, optimize=True)
