"""What holds of every decoder."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.errors import UserError
from ppseg_jax.models.decoders import DECODERS
from tests.helpers import ROOT, make_setr, photo, random_variables


def abstract(model, height=32, width=48):
  shape = jax.ShapeDtypeStruct((2, height, width, 3), jnp.uint8)
  return jax.eval_shape(model.init, jax.random.key(0), shape), shape


def parameters(variables):
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# Zheng et al., CVPR 2021, table of model sizes, in millions. There PUP is
# counted with its auxiliary heads (9.5 M of 3x3 convs in SETR-PUP-L), Naive
# without; those of MLA weigh nothing.
PUBLISHED = {
    ("large", "naive"): 305.67, ("large", "mla"): 310.57,
    ("large", "pup"): 318.31, ("base", "naive"): 87.69,
    ("base", "mla"): 92.59, ("base", "pup"): 97.64,
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_parameter_counts_are_those_of_the_docs_and_the_paper(size, decoder):
  model = make_setr(patch=16, grid=(48, 48), size=size, decoder=decoder,
                    aux=decoder != "naive")
  millions = parameters(abstract(model, 768, 768)[0]) / 1e6
  readme = (ROOT / "docs" / "models.md").read_text()
  counts = re.search(rf"^\| `{size}` \|[^|]*\|(.*)\|$", readme, re.MULTILINE)
  column = ("naive", "pup", "mla").index(decoder)
  assert f"{millions:.2f}" == counts[1].split("|")[column].strip()
  if (size, decoder) in PUBLISHED:
    assert millions == pytest.approx(PUBLISHED[size, decoder], rel=0.005)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("decoder, aux", [("naive", 3), ("pup", 4), ("mla", 4)])
def test_logits_and_auxiliary_logits_have_the_size_of_the_image(
    decoder, aux, patch, norm
):
  fields = {"patch": patch, "grid": (32 // patch, 48 // patch), "norm": norm,
            "decoder": decoder, "dtype": "bfloat16"}
  model = make_setr(aux=True, **fields)
  variables, shape = abstract(model)
  assert ("batch_stats" in variables) == (norm == "batch")
  (logits, extra), changed = jax.eval_shape(
      lambda variables, images: model.apply(
          variables, images, train=True, mutable=["batch_stats"]
      ), variables, shape,
  )
  assert len(extra) == aux
  for x in (logits, *extra, jax.eval_shape(model.apply, variables, shape)):
    assert x.shape == (2, 32, 48, 19) and x.dtype == jnp.float32
  old = variables.get("batch_stats", {})
  assert jax.tree.structure(changed.get("batch_stats", {})) == (
      jax.tree.structure(old)
  )
  bare, _ = abstract(make_setr(**fields))
  assert parameters(bare) < parameters(variables)


@pytest.mark.parametrize("decoder", DECODERS)
def test_logits_for_each_patch_or_a_sentence(decoder):
  model = make_setr(grid=(4, 6), decoder=decoder)
  image = photo(32, 48)[None]
  if not DECODERS[decoder].per_token:
    with pytest.raises(UserError, match="model.decoder=naive"):
      model.apply({}, image, upsample=False)
    return
  variables = random_variables(model, 32, 48)
  small, whole = jax.jit(lambda variables, image: (
      model.apply(variables, image, upsample=False),
      model.apply(variables, image),
  ))(variables, image)
  assert small.shape == (1, 4, 6, 19)
  np.testing.assert_allclose(
      jax.image.resize(small, whole.shape, "bilinear"), whole, atol=1e-5
  )
