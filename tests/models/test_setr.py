"""The model that a config's section makes: its parts, names and values."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.configs import setr_enc
from ppseg_jax.errors import UserError
from ppseg_jax.models.decoders import DECODERS
from ppseg_jax.models.decoders.naive import Naive
from ppseg_jax.models.embed import PatchEmbed
from ppseg_jax.models.setr import SETR, from_config
from ppseg_jax.models.vit import ViT
from ppseg_jax.trees import named_leaves
from tests.helpers import make_setr, photo, random_variables

# Of the demo model for images of 32x48 with the key 0. Checkpoints and exports
# hold these names, and a seed gives the same figures only with these values.
DEMO = "783da8a5b5d7270c"


def test_names_and_first_values_are_those_that_checkpoints_hold():
  model = make_setr("blockwise", 8, grid=(4, 6), stem=2)
  image = jax.ShapeDtypeStruct((1, 32, 48, 3), jnp.uint8)
  variables = jax.jit(lambda: model.init(
      jax.random.key(0), jnp.zeros(image.shape, image.dtype)
  ))()
  found = hashlib.sha256()
  for name, leaf in named_leaves(variables).items():
    # Rounded: the last bits are the compiler's.
    values = np.round(np.asarray(leaf, np.float64), 4) + 0.0
    found.update(f"{name} {leaf.shape}".encode() + values.tobytes())
  assert found.hexdigest()[:16] == DEMO


def test_a_model_is_put_together_from_its_parts_or_from_a_config():
  ours = make_setr("blockwise", 16, 8, (3, 4), aux=True, norm="group",
                   dtype="bfloat16", pos_region=[2, 0], class_token=True)
  dtype = jnp.dtype("bfloat16")
  by_hand = SETR(
      encoder=ViT(
          PatchEmbed(16, "blockwise", 8, dtype=dtype), "demo", (3, 4), dtype,
          pos_region=(2, 0), class_token=True,
      ),
      head=Naive(19, "group", True, dtype),
  )
  assert ours == by_hand and hash(ours) == hash(by_hand)
  assert ours.num_classes == 19


def test_every_entry_of_the_section_reaches_a_module_or_is_refused():
  section = setr_enc.get_config().model
  section.form, section.patch = "plain", 8
  section.stems = 3
  with pytest.raises(UserError, match=r"model\.stems is read by none of ViT"):
    from_config(section, 19, (2, 3), 8)


def test_a_knob_of_one_decoder_may_stand_in_the_config_of_every_other():
  section = setr_enc.get_config().model
  section.form, section.patch = "plain", 8
  section.width = 32  # of PUP and MLA
  for name in DECODERS:
    section.decoder = name
    head = from_config(section, 19, (2, 3), 8).head
    assert getattr(head, "width", None) == (None if name == "naive" else 32)


def make(form="blockwise", grid=(6, 8), patch=8, block=8, **fields):
  model = make_setr(form, patch, block, grid, **fields)
  return model, random_variables(model, grid[0] * patch, grid[1] * patch)


def test_logits_have_the_size_of_the_image_and_are_float32():
  model, variables = make(dtype="bfloat16")
  logits = jax.eval_shape(model.apply, variables, photo(48, 64)[None])
  assert logits.shape == (1, 48, 64, 19) and logits.dtype == jnp.float32
  leaves = jax.tree.leaves(variables)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
