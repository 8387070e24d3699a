"""SETR (Zheng et al., CVPR 2021): a ViT encoder and a decoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.errors import UserError
from ppseg_jax.models.decoders import DECODERS
from ppseg_jax.models.vit import SIZES, ViT


class SETR(nn.Module):
  """Images, uint8 [B, H, W, C], to float32 logits [B, H, W, classes].

  Attributes:
    num_classes: of the label space.
    size: a key of `vit.SIZES`.
    patch: patch size P in pixels.
    form: scheme whose canonical form the patch embedding reads; `plain` for
      the usual linear embedding of the pixels.
    block: block size of that form; divides P.
    grid: patches (rows, columns) of the images trained on.
    dtype: of the computation; parameters, softmax and logits are float32.
    remat: recompute each block in the backward pass, to save memory.
    embed: a key of `embed.EMBEDS`.
    decoder: a key of `decoders.DECODERS`.
    aux: whether auxiliary heads are trained along.
    norm: of the decoder, a key of `decoders.parts.NORMS`.
    pos_embed, pos_region, stem, class_token, drop_path, dropout: of the
      encoder, see `ViT`.
  """

  num_classes: int
  size: str
  patch: int
  form: str
  block: int
  grid: tuple[int, int]
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  embed: str = "linear"
  decoder: str = "naive"
  aux: bool = False
  norm: str = "batch"
  pos_embed: str = "learned"
  pos_region: tuple[int, int] = (1, 1)
  stem: int = 0
  class_token: bool = False
  drop_path: float = 0.0
  dropout: float = 0.0

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
    decoder = DECODERS[self.decoder]
    if not (upsample or decoder.per_token):
      raise UserError(
          f"model.decoder='{self.decoder}' has no logits for each patch on its"
          " own; use model.decoder=naive."
      )
    features, layers = ViT(
        self.size, self.patch, self.form, self.block, self.grid, self.dtype,
        self.remat, decoder.layers(SIZES[self.size].depth, self.aux),
        self.embed, self.pos_embed, self.pos_region, self.stem,
        self.class_token, self.drop_path, self.dropout, name="encoder",
    )(images, train)
    logits, aux = decoder(
        self.num_classes, self.norm, self.aux, self.dtype, name="head"
    )(features, layers, train)

    def whole(logits: jax.Array) -> jax.Array:
      logits = logits.astype(jnp.float32)
      if not upsample:
        return logits
      shape = (*images.shape[:3], self.num_classes)
      return jax.image.resize(logits, shape, "bilinear")

    if not train:
      return whole(logits)
    return whole(logits), tuple(whole(x) for x in aux)
