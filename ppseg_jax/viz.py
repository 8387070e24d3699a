"""Pictures of what a run did."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ppseg_jax import files

_TITLE = 16  # pixels above each picture
_GAP = 4
_CELL = 320  # the longest side of a picture on a sheet


def panel(pictures: dict[str, np.ndarray]) -> Image.Image:
  """Pictures, uint8 [H, W, 3] of one size, side by side under their titles.

  Small ones are enlarged by a whole factor, so that blocks stay sharp.
  """
  height, width = next(iter(pictures.values())).shape[:2]
  factor = max(1, 256 // height)
  height, width = height * factor, width * factor
  size = (len(pictures) * (width + _GAP) - _GAP, height + _TITLE)
  sheet = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(sheet)
  for column, (title, picture) in enumerate(pictures.items()):
    left = column * (width + _GAP)
    large = picture.repeat(factor, 0).repeat(factor, 1)
    sheet.paste(Image.fromarray(large), (left, _TITLE))
    draw.text((left + 2, 2), title, fill="black")
  return sheet


def sheet(pictures: list[np.ndarray], columns: int = 4) -> Image.Image:
  """Pictures, uint8 [H, W, 3] of any sizes, in a grid; large ones shrunk."""
  images = [Image.fromarray(picture) for picture in pictures]
  for image in images:
    image.thumbnail((_CELL, _CELL))
  rows = -(-len(images) // columns)
  across = max(image.width for image in images) + _GAP
  down = max(image.height for image in images) + _GAP
  page = Image.new("RGB", (columns * across - _GAP, rows * down - _GAP),
                   "white")
  for i, image in enumerate(images):
    page.paste(image, (i % columns * across, i // columns * down))
  return page


def split_panel(
    sheet: Image.Image, height: int, width: int
) -> list[np.ndarray]:
  """The pictures of a panel, uint8 [height, width, 3] each: undoes `panel`."""
  factor = (sheet.height - _TITLE) // height
  pixels = np.asarray(sheet.convert("RGB"))[_TITLE:]
  step = width * factor + _GAP
  return [
      pixels[::factor, left : left + width * factor : factor]
      for left in range(0, sheet.width, step)
  ]


def overlay(image: np.ndarray, colours: np.ndarray) -> np.ndarray:
  """The mean of an image and its label colours, uint8 [H, W, 3]."""
  mixed = (image.astype(np.uint16) + colours) // 2
  return mixed.astype(np.uint8)


def save_png(path: Path, image: Image.Image | np.ndarray) -> None:
  """Writes a PNG whole or not at all, making its folder."""
  if not isinstance(image, Image.Image):
    image = Image.fromarray(image)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.whole(path) as temporary:
    image.save(temporary, format="PNG")
