"""The encoder and the decoders are those of timm, transformers and the paper.

All at random weights, which go through the converters of pretrained weights.
`pip install -e ".[test,parity]"`, then `python -m pytest -m parity`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax import trees
from ppseg_jax.models import convert, pretrained
from tests.helpers import make_setr, photo

torch = pytest.importorskip(
    "torch", reason='needs the extra parity: pip install -e ".[parity]"'
)
pytestmark = pytest.mark.parity

SIZES = [(32, 48), (64, 64)]
NORMALISE = {
    "half": (torch.full((3,), 0.5), torch.full((3,), 0.5)),
    "imagenet": (torch.tensor([0.485, 0.456, 0.406]),
                 torch.tensor([0.229, 0.224, 0.225])),
}


def theirs(image, pixels):
  """uint8 [H, W, 3] as a torch model wants it, [1, 3, H, W]."""
  mean, std = NORMALISE[pixels]
  x = (torch.tensor(image) / 255 - mean) / std
  return x.permute(2, 0, 1)[None]


def randomise(module):
  """Every weight and statistic of its usual size, none of them zero or one."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, value in module.state_dict().items():
      if value.dtype != torch.float32:
        continue
      noise = torch.randn(value.shape, generator=generator)
      if value.ndim > 1:
        fan_in = value[0].numel()
        value.copy_(noise * (fan_in**-0.5 if "weight" in name else 0.5))
      elif name.endswith(("weight", "running_var")):
        value.copy_(1 + 0.3 * noise.tanh())
      else:
        value.copy_(0.3 * noise)
  return module.eval()


def assert_close(ours, theirs):
  theirs = np.asarray(theirs)
  scale = np.abs(theirs).max()
  assert scale > 0.1
  np.testing.assert_allclose(np.asarray(ours) / scale, theirs / scale,
                             rtol=0, atol=1e-4)


def load(path, model, pixels="", expected=()):
  rows, columns = model.encoder.grid
  patch = model.encoder.embed.patch
  shape = (1, rows * patch, columns * patch, 3)
  abstract = jax.eval_shape(
      model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.uint8)
  )
  values, report = pretrained.load(path, model, abstract, expected, pixels)
  variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)
  return jax.tree_util.tree_map_with_path(
      lambda key, leaf: values.get(trees.path_name(key), leaf), variables
  ), report


def features(model, variables, image):
  x, _ = jax.jit(model.encoder.apply)(
      {"params": variables["params"]["encoder"]}, image[None]
  )
  return x.reshape(1, -1, x.shape[-1])


def make(size, height, width, patch=16, **fields):
  return make_setr(
      patch=patch, grid=(height // patch, width // patch), size=size, **fields
  )


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("size, patch", [("tiny", 16), ("tiny", 8),
                                         ("deit_tiny", 16)])
def test_features_are_those_of_timm(size, patch, height, width, tmp_path):
  pytest.importorskip("timm")
  from safetensors.torch import save_file
  from timm.models.deit import VisionTransformerDistilled
  from timm.models.vision_transformer import VisionTransformer

  distilled = size == "deit_tiny"
  build = VisionTransformerDistilled if distilled else VisionTransformer
  vit = randomise(build(
      img_size=(height, width), patch_size=patch, embed_dim=192, depth=12,
      num_heads=3,
  ))
  save_file(vit.state_dict(), tmp_path / "vit.safetensors")
  model = make(size, height, width, patch, class_token=True)
  variables, report = load(
      tmp_path / "vit.safetensors", model, expected=["head"]
  )
  assert report.kind == "timm" and not report.resized
  assert all(name.startswith("head") for name in report.left_over)
  image = photo(height, width)
  with torch.no_grad():
    expected = vit.forward_features(theirs(image, report.pixels))
  skip = 2 if distilled else 1
  assert_close(features(model, variables, image), expected[:, skip:])


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("size", ["tiny", "deit_tiny"])
def test_features_are_those_of_hugging_face(size, height, width, tmp_path):
  transformers = pytest.importorskip("transformers")
  distilled = size == "deit_tiny"
  kind = "DeiT" if distilled else "ViT"
  settings = getattr(transformers, f"{kind}Config")(
      hidden_size=192, num_hidden_layers=12, num_attention_heads=3,
      intermediate_size=768, image_size=(height, width), patch_size=16,
  )
  vit = randomise(getattr(transformers, f"{kind}Model")(
      settings, add_pooling_layer=False
  ))
  vit.save_pretrained(tmp_path)
  model = make(size, height, width, class_token=True)
  variables, report = load(
      tmp_path / "model.safetensors", model, expected=["head"]
  )
  assert report.kind == "Hugging Face" and not report.left_over
  image = photo(height, width)
  with torch.no_grad():
    expected = vit(theirs(image, report.pixels)).last_hidden_state
  skip = 2 if distilled else 1
  assert_close(features(model, variables, image), expected[:, skip:])


@pytest.mark.parametrize("whose, height, width", [
    *(("timm", *size) for size in SIZES),
    ("Hugging Face", 64, 64),  # its grid of positions must be square
])
def test_features_are_those_of_dinov2(whose, height, width, tmp_path):
  """Which has layer scale, here at a patch of 16."""
  from safetensors.torch import save_file

  if whose == "timm":
    pytest.importorskip("timm")
    from timm.models.vision_transformer import VisionTransformer

    vit = randomise(VisionTransformer(
        img_size=(height, width), patch_size=16, embed_dim=192, depth=12,
        num_heads=3, init_values=1e-5, num_classes=0,
    ))
    run = vit.forward_features
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
  else:
    transformers = pytest.importorskip("transformers")
    vit = randomise(transformers.Dinov2Model(transformers.Dinov2Config(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3,
        image_size=(height, width), patch_size=16,
    )))
    vit.save_pretrained(tmp_path)  # its files have other names than the module

    def run(image):
      return vit(image).last_hidden_state

  model = make("tiny", height, width, class_token=True)
  variables, report = load(
      tmp_path / "model.safetensors", model, expected=["head"]
  )
  assert report.kind == whose and report.pixels == "imagenet"
  assert not report.resized
  assert all("mask_token" in name for name in report.left_over)
  image = photo(height, width)
  with torch.no_grad():
    expected = run(theirs(image, "imagenet"))
  assert_close(features(model, variables, image), expected[:, 1:])


@pytest.mark.parametrize("old, new", [(14, 16), (14, 8), (16, 32)])
def test_a_patch_kernel_is_resized_as_timm_does(old, new):
  layers = pytest.importorskip("timm.layers")
  kernel = np.random.default_rng(0).normal(size=(5, 3, old, old))
  expected = layers.resample_patch_embed(
      torch.tensor(kernel, dtype=torch.float32), [new, new],
      interpolation="bicubic", antialias=False,
  )
  found = {convert.KERNEL: kernel.transpose(2, 3, 1, 0)}
  convert.resize_patch(found, new)
  assert_close(found[convert.KERNEL], expected.permute(2, 3, 1, 0))


def test_timm_reads_what_we_export(tmp_path):
  pytest.importorskip("timm")
  from safetensors.torch import load_file
  from timm.models.vision_transformer import VisionTransformer

  model = make("tiny", 32, 48, class_token=True)
  image = photo(32, 48)
  variables = jax.jit(model.init)(jax.random.key(1), image[None])
  pretrained.export(tmp_path / "model.safetensors", model, variables)
  vit = VisionTransformer(
      img_size=(32, 48), patch_size=16, embed_dim=192, depth=12, num_heads=3,
      num_classes=0,
  ).eval()
  found = vit.load_state_dict(
      load_file(tmp_path / "model.safetensors"), strict=False
  )
  assert not found.missing_keys
  with torch.no_grad():
    expected = vit.forward_features(theirs(image, "half"))[:, 1:]
  assert_close(features(model, variables, image), expected)


# The decoders of the paper, section 3.2, on a ViT of torch's own layers, with
# the names of mmsegmentation's SETR.


class Named(torch.nn.Module):
  """Sub-modules by name."""

  def __init__(self, **modules):
    super().__init__()
    for name, module in modules.items():
      self.add_module(name, module)


class Layer(torch.nn.Module):

  def __init__(self, width, heads):
    super().__init__()
    self.ln1 = torch.nn.LayerNorm(width, eps=1e-6)
    self.attn = Named(
        attn=torch.nn.MultiheadAttention(width, heads, batch_first=True)
    )
    self.ln2 = torch.nn.LayerNorm(width, eps=1e-6)
    self.ffn = Named(layers=torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Linear(width, 4 * width),
                            torch.nn.GELU()),
        torch.nn.Linear(4 * width, width),
    ))

  def forward(self, x):
    y = self.ln1(x)
    x = x + self.attn.attn(y, y, y, need_weights=False)[0]
    return x + self.ffn.layers(self.ln2(x))


def conv_norm(inputs, outputs, kernel):
  return Named(
      conv=torch.nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2,
                           bias=False),
      bn=torch.nn.BatchNorm2d(outputs),
  )


def run(block, x):
  return torch.relu(block.bn(block.conv(x)))


def enlarge(x, factor):
  return torch.nn.functional.interpolate(
      x, scale_factor=factor, mode="bilinear", align_corners=False
  )


def up_head(convs, kernel, width=192):
  widths = (width, *(256,) * convs)
  return Named(
      norm=torch.nn.LayerNorm(width, eps=1e-6),
      up_convs=torch.nn.ModuleList(
          torch.nn.ModuleList([conv_norm(a, b, kernel)])
          for a, b in itertools.pairwise(widths)
      ),
      conv_seg=torch.nn.Conv2d(256, 19, 1),
  )


class Torch(torch.nn.Module):
  """SETR of size tiny with one of the decoders and its auxiliary heads."""

  def __init__(self, decoder, grid):
    super().__init__()
    self.decoder, self.grid = decoder, grid
    n = torch.nn
    self.backbone = Named(
        patch_embed=Named(projection=n.Conv2d(3, 192, 16, 16)),
        layers=n.ModuleList(Layer(192, 3) for _ in range(12)),
    )
    self.backbone.cls_token = n.Parameter(torch.zeros(1, 1, 192))
    self.backbone.pos_embed = n.Parameter(
        torch.zeros(1, 1 + grid[0] * grid[1], 192)
    )
    if decoder == "mla":
      self.neck = Named(
          norm=n.ModuleList(n.LayerNorm(192, eps=1e-6) for _ in range(4)),
          mla=Named(
              channel_proj=n.ModuleList(
                  conv_norm(192, 256, 1) for _ in range(4)
              ),
              feat_extract=n.ModuleList(
                  conv_norm(256, 256, 3) for _ in range(4)
              ),
          ),
      )
      self.decode_head = Named(
          up_convs=n.ModuleList(
              n.ModuleList([conv_norm(256, 128, 3), conv_norm(128, 128, 3)])
              for _ in range(4)
          ),
          conv_seg=n.Conv2d(512, 19, 1),
      )
      self.auxiliary_head = n.ModuleList(
          Named(conv_seg=n.Conv2d(256, 19, 1)) for _ in range(4)
      )
    else:
      naive = decoder == "naive"
      self.decode_head = up_head(*((1, 1) if naive else (4, 3)))
      self.auxiliary_head = n.ModuleList(
          up_head(1, 1 if naive else 3) for _ in range(3 if naive else 4)
      )

  def forward(self, image):
    x = self.backbone.patch_embed.projection(image).flatten(2).mT
    x = torch.cat([self.backbone.cls_token, x], 1) + self.backbone.pos_embed
    outputs = []
    for layer in self.backbone.layers:
      x = layer(x)
      outputs.append(x[:, 1:])
    return getattr(self, self.decoder)(outputs)

  def image(self, tokens):
    return tokens.mT.unflatten(2, self.grid)

  def naive(self, outputs):
    def logits(head, tokens):
      x = run(head.up_convs[0][0], self.image(head.norm(tokens)))
      return enlarge(head.conv_seg(x), 16)

    layers = (outputs[2], outputs[5], outputs[8])
    return logits(self.decode_head, outputs[11]), [
        logits(*pair) for pair in zip(self.auxiliary_head, layers, strict=True)
    ]

  def pup(self, outputs):
    head = self.decode_head
    x = self.image(head.norm(outputs[11]))
    for (block,) in head.up_convs:
      x = enlarge(run(block, x), 2)
    layers = (outputs[2], outputs[5], outputs[8], outputs[11])
    return head.conv_seg(x), [
        enlarge(aux.conv_seg(enlarge(
            run(aux.up_convs[0][0], self.image(aux.norm(layer))), 4
        )), 4)
        for aux, layer in zip(self.auxiliary_head, layers, strict=True)
    ]

  def mla(self, outputs):
    layers = (outputs[2], outputs[5], outputs[8], outputs[11])
    reduced = [
        run(block, self.image(norm(layer)))
        for block, norm, layer in zip(
            self.neck.mla.channel_proj, self.neck.norm, layers, strict=True
        )
    ]
    total, merged = 0, []
    for x, block in zip(
        reversed(reduced), self.neck.mla.feat_extract, strict=True
    ):
      total = total + x
      merged.append(run(block, total))
    streams = [
        enlarge(run(second, run(first, x)), 4)
        for (first, second), x in zip(
            self.decode_head.up_convs, merged, strict=True
        )
    ]
    logits = self.decode_head.conv_seg(torch.cat(streams, 1))
    aux = [head.conv_seg(x) for head, x in
           zip(self.auxiliary_head, merged, strict=True)]
    return enlarge(logits, 4), [enlarge(x, 16) for x in reversed(aux)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_logits_are_those_of_the_published_decoders(
    decoder, height, width, tmp_path
):
  reference = randomise(Torch(decoder, (height // 16, width // 16)))
  torch.save(
      {"meta": {"epoch": 1}, "state_dict": reference.state_dict()},
      tmp_path / "setr.pth",
  )
  model = make("tiny", height, width, decoder=decoder, aux=True,
               class_token=True)
  variables, report = load(tmp_path / "setr.pth", model)
  assert report.kind == "mmsegmentation" and not report.missing
  assert all("num_batches" in name for name in report.left_over)
  image = photo(height, width)
  with torch.no_grad():
    logits, aux = reference(theirs(image, "imagenet"))
  ours = jax.jit(model.apply)(variables, image[None])
  assert_close(ours, logits.permute(0, 2, 3, 1))

  # Auxiliary heads run in training alone, on the statistics of the batch.
  with torch.no_grad():
    _, aux = reference.train()(theirs(image, "imagenet"))
  (_, ours), _ = jax.jit(
      lambda variables, images: model.apply(
          variables, images, train=True, mutable=["batch_stats"]
      )
  )(variables, image[None])
  assert len(ours) == len(aux) == len(reference.auxiliary_head)
  for one, other in zip(ours, aux, strict=True):
    assert_close(one, other.permute(0, 2, 3, 1))
