"""Compact forms: the image that carries a level, and back, and nothing else."""

import contextlib
import struct
import zlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax.encryption import compact, get_scheme, reference, representative
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.levels import Level
from ppseg_jax.errors import UserError

BLOCK, SHAPE = 4, (16, 24, 3)
NAMES = ("blockwise", "blockwise_value", "blockwise_q4", "blockwise_q2b5",
         "blockwise_b3", "blockwise_m2q8b2", "blockwise_value_q12",
         "blockwise_value_m2q3b4")


def carried(name, seed):
  """The image that carries the level, by the NumPy reference."""
  image = np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)
  level = compact.level_of(name)
  blocks = split(image[None], BLOCK)[0].reshape(-1, BLOCK**2, 3)
  grid = (SHAPE[0] // BLOCK, SHAPE[1] // BLOCK)
  left = reference.leave(level, blocks, grid)
  return join(left.reshape(1, -1, BLOCK, BLOCK, 3), grid)[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(NAMES))
def test_decode_inverts_encode(seed, name):
  image = carried(name, seed)
  body = compact.encode(name, image, BLOCK)
  np.testing.assert_array_equal(compact.decode(body), image)
  head = compact.read_head(body)
  assert (head.level, head.block, head.size) == (
      compact.level_of(name), BLOCK, SHAPE[:2]
  )


@pytest.mark.parametrize("way", (0, 1, 2))
@pytest.mark.parametrize("name", NAMES[::3])
def test_every_filter_is_undone(name, way):
  image = carried(name, 7)
  head = compact.read_head(compact.encode(name, image, BLOCK))
  head = compact.Head(head.level, head.block, head.size, way)
  g, c, rows, columns = head.shape
  numbers = np.sort(np.random.default_rng(0).integers(
      0, 1 << head.level.bits, head.shape, np.uint8
  ), 0)
  body = compact._pack(head, numbers)
  np.testing.assert_array_equal(
      compact.decode(body), compact._image(numbers, head)
  )


def test_it_is_the_released_image_that_is_packed():
  image = np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8)
  release = jax.jit(lambda x: representative("blockwise_m2q4", x, BLOCK))
  shown = np.asarray(release(image))
  body = compact.encode("blockwise_m2q4", shown, BLOCK)
  np.testing.assert_array_equal(compact.decode(body), shown)
  with pytest.raises(UserError, match="carries more than level 'm2q4'"):
    compact.encode("blockwise_m2q4", image, BLOCK)
  with pytest.raises(UserError, match="whole blocks"):
    compact.encode("blockwise", image[:15], BLOCK)


def changed(body, **fields):
  names = ("magic", "version", "unit", "way", "bits", "merge", "groups",
           "block", "height", "width")
  values = dict(zip(names, struct.unpack(">4s4B3H2I", body[:22]), strict=True))
  return struct.pack(">4s4B3H2I", *(values | fields).values()) + body[22:]


@pytest.mark.parametrize("fields, words", [
    ({"magic": b"\x89PNG"}, "no compact form"), ({"version": 2}, "version"),
    ({"unit": 2}, "header"), ({"way": 3}, "header"), ({"bits": 0}, "header"),
    ({"bits": 9}, "header"), ({"merge": 0}, "header"), ({"block": 0}, "header"),
    ({"height": 0}, "header"), ({"width": 23}, "header"),
    ({"groups": 5}, "header"), ({"merge": 65535}, "header"),
    ({"height": 32}, "damaged"), ({"groups": 2}, "damaged"),
    ({"bits": 1}, "larger numbers"),
    ({"height": 2**31, "width": 2**31}, "header"),
    ({"height": 2**20, "width": 2**20}, "damaged"),
])
def test_what_does_not_fit_its_header_is_refused(fields, words):
  body = compact.encode("blockwise_q4", carried("blockwise_q4", 2), BLOCK)
  with pytest.raises(UserError, match=words):
    compact.decode(changed(body, **fields))


def test_damaged_bodies_give_a_sentence_and_no_more_memory_than_fits():
  body = compact.encode("blockwise_q4", carried("blockwise_q4", 3), BLOCK)
  for bad in (b"", body[:21], body[:-1], body + b"x", body[:30],
              body[:22] + zlib.compress(bytes(10**7))):
    with pytest.raises(UserError):
      compact.decode(bad)
  head = compact.Head(Level("channel", groups=2), BLOCK, SHAPE[:2], 0)
  falling = np.zeros(head.shape, np.uint8)
  falling[0] = 9
  with pytest.raises(UserError, match="not sorted"):
    compact.decode(compact._pack(head, falling))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 60))
def test_any_bytes_give_an_image_or_a_sentence(noise, at):
  body = compact.encode("blockwise_q2b5", carried("blockwise_q2b5", 4), BLOCK)
  for given_body in (noise, body[:at] + noise + body[at + len(noise) :]):
    with contextlib.suppress(UserError):
      assert compact.decode(given_body).dtype == np.uint8


@pytest.mark.parametrize("name", ("plain", "blockwise_pixel", "etc",
                                  "blockwise_hidden", "blockwise_negative"))
def test_schemes_without_a_compact_form_are_refused(name):
  assert get_scheme(name)
  with pytest.raises(UserError, match="no compact form"):
    compact.level_of(name)
