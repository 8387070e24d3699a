"""What the cloud's own labels show, with their places and without."""

import numpy as np

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import psnr
from ppseg_jax.encryption import BlockScramble, Scheme
from ppseg_jax.encryption.blocks import split
from tests.attacks.helpers import SMALL, hidden, know, street


def test_labels_without_places_show_less(scene):
  images, labels = zip(*(street(4, i) for i in range(4)), strict=True)
  truth = street()[1]
  shuffled = hidden("scramble", np.stack([truth] * 3, -1))[..., 0]
  found = {
      name: ATTACKS["label_map"](
          know(name, scene, others=np.stack(images),
               other_labels=np.stack(labels), labels=given[None], classes=19),
          0, SMALL).images[0]
      for name, given in (("blockwise", truth),
                          ("blockwise_scrambled", shuffled))
  }
  assert psnr(scene, found["blockwise"]) > psnr(
      scene, found["blockwise_scrambled"])


def test_labels_and_pieces_stay_in_the_band_they_are_in(scene):
  bands = Scheme("bands", (BlockScramble(height=2),), "", "")
  truth = street()[1]
  images, labels = (x[None] for x in street(4, 1))
  shuffled = hidden(bands, np.stack([truth] * 3, -1), block=16)[..., 0]
  known = know(bands, hidden(bands, scene, block=16), block=16, others=images,
               other_labels=labels, labels=shuffled[None], classes=19)
  laid = ATTACKS["jigsaw"](known, 0, SMALL).images[0]
  painted = ATTACKS["label_map"](known, 0, SMALL).images[0]
  for top in range(0, 96, 32):
    band = slice(top, top + 32)
    assert sorted(laid[band].ravel()) == sorted(scene[band].ravel())
    cells = split(truth[None, band, :, None], 16)[0].reshape(16, -1)
    major = [np.bincount(cell).argmax() for cell in cells]
    want = [np.rint(images[labels == label].mean(0)) if label in labels
            else np.full(3, 127) for label in major]
    found = split(painted[None, band], 16)[0][:, 0, 0]
    assert sorted(map(tuple, found)) == sorted(map(tuple, want))
