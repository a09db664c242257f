"""Draws docs/tintype-grid.png: the 64 prompts below with tintype, seed 1 for each, in this order, none left out."""

import textwrap
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import daguerre

TARGET = Path(__file__).with_name("tintype-grid.png")
COLUMNS, SIZE, CAPTION = 8, 128, 26  # pixels
# Six rows of things and styles it was taught, but for the bus: that pair was held out.
TAUGHT = """
a red apple, 3d render | a banana, flat modern | a watermelon, glossy gradient | a strawberry, 3d render
a lemon, flat modern | a pineapple, glossy gradient | a carrot, 3d render | a mushroom, flat modern
a hamburger, 3d render | a pizza, glossy gradient | a doughnut, 3d render | a cupcake, flat modern
a lollipop, glossy gradient | a croissant, 3d render | a cookie, flat modern | a birthday cake, 3d render
a dog face, 3d render | a cat face, flat modern | a panda, glossy gradient | a penguin, 3d render
a frog, flat modern | a pig face, glossy gradient | a lion, 3d render | a rabbit face, flat modern
a whale, 3d render | a jellyfish, glossy gradient | a butterfly, flat modern | a snail, 3d render
a lady beetle, glossy gradient | a tropical fish, 3d render | a crab, flat modern | an owl, 3d render
a rocket, 3d render | an automobile, glossy gradient | a bicycle, flat modern | a bus, 3d render
a sailboat, glossy gradient | a helicopter, flat modern | a fire engine, 3d render | a tractor, glossy gradient
a sunflower, 3d render | a rose, flat modern | a red heart, glossy gradient | a violin, 3d render
a sun, flat modern | a rainbow, glossy gradient | a soccer ball, 3d render | an umbrella, flat modern
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
    model = daguerre.load_model()
    font = ImageFont.load_default(11)
    words = prompts()
    sheet = Image.new("RGB", (COLUMNS * SIZE, -(-len(words) // COLUMNS) * (SIZE + CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, prompt in enumerate(words):
        x, y = i % COLUMNS * SIZE, i // COLUMNS * (SIZE + CAPTION)
        for event in daguerre.text_to_image(model, replace(model.defaults, prompt=prompt, seed=1)):
            if isinstance(event, daguerre.Picture):
                sheet.paste(event.image, (x, y))
        pen.multiline_text((x + 4, y + SIZE), textwrap.fill(prompt, 21), "#555555", font, spacing=0)
    return sheet


if __name__ == "__main__":
    draw().save(TARGET, optimize=True)
