"""Prompts drawn on their frame: green on the object, red beside it, a yellow box."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from auralsam2_client.prompts import LABELS, Prompts

ON, BESIDE, BOX, RIM = (60, 220, 90), (235, 60, 50), (255, 210, 40), (255, 255, 255)


def draw_prompts(frame: NDArray[np.uint8], prompts: Prompts) -> NDArray[np.uint8]:
    """Draw the points and the box of `prompts` on a copy of a frame [H, W, 3] uint8. A mask is not drawn."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    # 3 px at 240 lines, in step with the picture.
    radius = max(3, round(min(frame.shape[:2]) / 80))
    if prompts.box is not None:
        draw.rectangle(prompts.box, outline=BOX, width=max(1, radius // 2))
    for x, y, label in prompts.points:
        colour = ON if LABELS[label] else BESIDE
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=RIM)
    return np.asarray(image)
