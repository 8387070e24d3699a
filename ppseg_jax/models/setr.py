"""SETR (Zheng et al., CVPR 2021): a ViT encoder and a decoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.errors import UserError
from ppseg_jax.models.decoders import DECODERS
from ppseg_jax.models.embed import EMBEDS
from ppseg_jax.models.vit import SIZES, ViT

# What else a config's section `model` holds: how to choose the modules, and
# what training does with them.
_NO_FIELDS = {
    "decoder", "aux_weight",
    "pretrained", "pretrained_missing", "pretrained_pixels",
}


class SETR(nn.Module):
  """Images, uint8 [B, H, W, C], to float32 logits [B, H, W, classes].

  Attributes:
    encoder: of the images.
    head: the decoder, one of `decoders.DECODERS` or another with their fields
      and call.
  """

  encoder: ViT
  head: nn.Module

  @property
  def num_classes(self) -> int:
    return self.head.num_classes

  @nn.compact
  def __call__(
      self, images: jax.Array, train: bool = False, upsample: bool = True
  ) -> jax.Array | tuple[jax.Array, tuple[jax.Array, ...]]:
    """Logits; in training (logits, auxiliary logits).

    Training changes the collection `batch_stats` (empty for norm=group) and
    draws from the stream `dropout` where `drop_path` or `dropout` are not 0.
    Without `upsample` the logits are those of each patch, [B, h, w, classes].

    Raises UserError for upsample=False with a decoder that mixes patches.
    """
    if not (upsample or self.head.per_token):
      raise UserError(
          f"the decoder {type(self.head).__name__} has no logits for each patch"
          " on its own; use model.decoder=naive."
      )
    layers = self.head.layers(SIZES[self.encoder.size].depth)
    logits, aux = self.head(*self.encoder(images, layers, train), train)

    def whole(logits: jax.Array) -> jax.Array:
      logits = logits.astype(jnp.float32)
      if not upsample:
        return logits
      shape = (*images.shape[:3], self.num_classes)
      return jax.image.resize(logits, shape, "bilinear")

    if not train:
      return whole(logits)
    return whole(logits), tuple(whole(x) for x in aux)


def from_config(
    section: Mapping[str, Any],
    num_classes: int,
    grid: tuple[int, int],
    block: int,
) -> SETR:
  """The model of a config's section `model`, resolved.

  Each module gets the entries that are called as its fields are. A new knob is
  thus a field of the module that reads it and an entry in the config.

  Args:
    section: the entries by name; `embed` and `decoder` choose the classes.
    num_classes: of the label space.
    grid: patches (rows, columns) of the images trained on.
    block: block size of the scheme in pixels.

  Raises:
    UserError: for an entry that no module has a field for.
  """
  kinds = (ViT, *EMBEDS.values(), *DECODERS.values())
  known = _NO_FIELDS.union(*map(_fields, kinds))
  if unread := sorted(set(section) - known):
    raise UserError(
        f"model.{unread[0]} is read by none of"
        f" {', '.join(kind.__name__ for kind in kinds)}; take it out of the"
        " config, or give one of them a field of that name."
    )
  entries = {  # a config that was stored as JSON holds lists
      name: tuple(value) if isinstance(value, list) else value
      for name, value in section.items()
  } | {
      "dtype": jnp.dtype(section["dtype"]), "num_classes": num_classes,
      "grid": grid, "block": block,
  }

  def make(kind: type[nn.Module], **given: Any) -> nn.Module:
    named = {name: entries[name] for name in _fields(kind) & entries.keys()}
    return kind(**(named | given))

  embed = make(EMBEDS[section["embed"]])
  return SETR(
      encoder=make(ViT, embed=embed),
      head=make(DECODERS[section["decoder"]]),
  )


def _fields(kind: type[nn.Module]) -> set[str]:
  """Names of a module's own fields, without those that Flax adds."""
  return {x.name for x in dataclasses.fields(kind)} - {"parent", "name"}
