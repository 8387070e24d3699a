"""What the cloud's own predictions show of a scene.

Assumes the label map the cloud computed, taken to be right, and labelled
images of other places. With layout privacy the labels come block by block
without places, or within bands without them; where each class mostly lies in
other scenes then decides.
Source: this project.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from ppseg_jax.attacks.parts import regions
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    scrambles,
)
from ppseg_jax.encryption.blocks import split


@declare(needs=("labels", "others", "other_labels"))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Paints every label in its class's mean colour in other images.

  The ciphertexts are not looked at. Notes: `places_known`, whether the labels
  have their places (1) or come block by block without (0).
  """
  del seed, budget
  colour = np.full((256, 3), 127.0)
  for label in range(knowledge.classes):
    pixels = knowledge.others[knowledge.other_labels == label]
    if len(pixels):
      colour[label] = pixels.mean(0)
  labels = knowledge.labels
  hidden = scrambles(knowledge.scheme)
  if hidden:
    labels = np.stack([_place(knowledge, one) for one in labels])
  images = np.rint(colour[labels]).astype(np.uint8)
  return Outcome(images, {"places_known": float(not hidden)})


def _place(knowledge: Knowledge, labels: np.ndarray) -> np.ndarray:
  """Puts a bag of block labels where other scenes have them, uint8 [H, W]."""
  classes, block = knowledge.classes, knowledge.block

  def shares(maps: np.ndarray) -> np.ndarray:  # [B, N, classes]
    cells = split(maps[..., None], block)
    return np.stack(
        [(cells == k).mean((2, 3, 4)) for k in range(classes)], -1
    )

  prior = np.log(shares(knowledge.other_labels).mean(0) + 1e-3)
  bag = shares(labels[None])[0]
  likely = np.where(
      regions.allowed_cells(knowledge), bag @ prior.T, regions.NEVER
  )
  found, place = linear_sum_assignment(-likely)
  major = bag.argmax(1).astype(np.uint8)
  put = np.empty(len(bag), np.uint8)
  put[place] = major[found]
  return put.reshape(knowledge.grid).repeat(block, 0).repeat(block, 1)
