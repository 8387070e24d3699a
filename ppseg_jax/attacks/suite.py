"""Runs attacks on schemes over images, and scores what they find."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ppseg_jax import data, fields, viz
from ppseg_jax.attacks import ATTACKS, recognition, several, targets
from ppseg_jax.attacks.parts.knowledge import Attack, Budget, Knowledge
from ppseg_jax.attacks.parts.scores import scores
from ppseg_jax.config import check_budget
from ppseg_jax.data import encrypted
from ppseg_jax.encryption import (
    BlockScramble,
    Scheme,
    encrypt,
    image_keys,
    key_from_seed,
    layout,
    ops_of,
)
from ppseg_jax.encryption.blocks import check_size
from ppseg_jax.encryption.keys import EVAL
from ppseg_jax.errors import UserError
from ppseg_jax.runs import workdir

RECORD = "attacks.json"
_FIGURES = ("ssim", "psnr", "edge")


@dataclasses.dataclass(frozen=True)
class Images:
  """The images under attack and those of other places, with labels."""

  plain: np.ndarray
  labels: np.ndarray
  index: np.ndarray
  others: np.ndarray
  other_labels: np.ndarray


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for the first field whose value cannot work."""
  fields.check(config, fields.ATTACKS)
  if config.data.name == encrypted.NAME:
    raise UserError(
        f"data.name={encrypted.NAME} has no plain images, with which those that"
        " an attack finds are compared; give a data set that has."
    )
  for name in config.attacks:
    if name not in ATTACKS:
      raise UserError(f"attacks: '{name}' is none of {', '.join(ATTACKS)}.")
  names = [targets.get(name).name for name in config.schemes]
  if len(set(names)) < len(names):
    raise UserError(
        f"schemes: two of {', '.join(names)} have one name, by which rows and"
        " panels are told apart; rename one of them."
    )
  if not config.schemes or not config.attacks:
    raise UserError("attacks and schemes must each name at least one.")
  check_size((config.data.height, config.data.width, 3), config.block)
  if min(config.data.height, config.data.width) < 32:
    raise UserError(
        f"data.height={config.data.height} and data.width={config.data.width}"
        " must be at least 32."
    )
  Budget(**config.budget)
  check_budget(config.private, config.block)
  for attack in config.attacks:
    for name in config.schemes:
      several.check(config, ATTACKS[attack], targets.get(name))


def load_images(config: ml_collections.ConfigDict) -> Images:
  """`images` of the split `val` and `others` of `train`, evenly spread."""
  def spread(split: str, wanted: int):
    source = data.load(config.data, split)
    index = np.linspace(0, len(source) - 1, min(wanted, len(source)))
    index = np.unique(np.rint(index).astype(int))
    images, labels = zip(*(source[int(i)] for i in index), strict=True)
    return np.stack(images), np.stack(labels), index

  plain, labels, index = spread("val", config.images)
  others, other_labels, _ = spread("train", config.others)
  return Images(plain, labels, index, others, other_labels)


def _encrypt(config, scheme: Scheme, images: Images, plan: str):
  """Ciphertexts, and the labels as the cloud has them, under `plan`'s keys."""
  index = jnp.asarray(images.index)
  keys = image_keys(plan, key_from_seed(config.seed), index, index * 0, EVAL, 1)
  plain = several.let_out(config, images.plain, images.index)
  ciphertexts = np.asarray(jax.jit(encrypt, static_argnums=(0, 3))(
      scheme, keys, plain, config.block
  ))
  labels = images.labels
  if ops_of(scheme, BlockScramble):
    # The cloud labels blocks where the ciphertext has them.
    spread = np.repeat(labels[..., None], 3, -1)
    labels = encrypt(
        layout.moves_of(scheme), keys, spread, config.block
    )[..., 0]
  return ciphertexts, np.asarray(labels)


def run(
    config: ml_collections.ConfigDict,
    folder: Path,
    say: Callable[[str], None] = print,
) -> list[dict]:
  """Every attack on every scheme; writes panels and attacks.json to `folder`.

  Args:
    config: of configs/attacks.py.
    folder: the workdir.
    say: called with each line of the table as it is measured.

  Returns:
    The rows: `attack`, `scheme`, `block` (pixels), `keys` (plan), `ssim`,
    `psnr`, `edge`, `seconds` an image, `images` and `notes`, and where a
    segmenter is given `recognition.FIGURES`; figures are None where the attack
    refused, which `refused` explains. The attacks `floor` (unrelated
    images), `ceiling` (the plain images) and `ciphertext` (as it is) are not
    attacks but what to compare them with.
  """
  check(config)
  folder.mkdir(parents=True, exist_ok=True)  # or fail before hours of work
  images = load_images(config)
  read = None
  space = data.label_space(config.data)
  if config.recognition.workdir:
    read = recognition.load(
        config.recognition.workdir, space, config.data.name
    )
  rows = []
  shown = [{"plain": image} for image in images.plain[:config.panels]]

  def add(row: dict, found: np.ndarray | None, first: int = 0) -> None:
    figures = dict.fromkeys(_FIGURES)
    if found is not None:
      figures = scores(images.plain[first:], found[first:])
      if read:
        figures |= read(found[first:], images.labels[first:])
    rows.append({
        **row, **figures, "images": len(images.plain) - first,
        "block": config.block, "seed": config.seed,
    })
    say(line(rows[-1]))

  say(HEADER)
  again = np.arange(len(images.plain)) % len(images.others)
  base = {"scheme": "", "keys": "", "seconds": 0.0}
  add({"attack": "floor", **base}, images.others[again])
  add({"attack": "ceiling", **base}, images.plain)
  for name in config.schemes:
    scheme = targets.get(name)
    encrypted = functools.cache(
        functools.partial(_encrypt, config, scheme, images)
    )
    ciphertexts, _ = encrypted("image")
    base = {"scheme": scheme.name, "keys": "image"}
    add({"attack": "ciphertext", **base, "seconds": 0.0}, ciphertexts)
    panels = [panel | {scheme.name: x} for panel, x in
              zip(shown, ciphertexts, strict=False)]
    for attack in (ATTACKS[name] for name in config.attacks):
      for plan in attack.key_plans:
        found = _attack(
            config, attack, scheme, images, plan, encrypted(plan), space, add
        )
        if found is not None:
          title = attack.name
          if plan != "image":
            title += f" ({plan} key)"
          for panel, x in zip(panels, found, strict=False):
            panel[title] = x
    for i, panel in enumerate(panels):
      path = folder / "panels" / f"{scheme.name}_{i:03d}.png"
      viz.save_png(path, viz.panel(panel))
  workdir.write_json(folder / RECORD, {
      "rows": rows, "config": config.to_dict(),
      "versions": workdir.versions(),
  })
  return rows


def _attack(
    config, attack: Attack, scheme, images, plan, encrypted, space, add
):
  ciphertexts, labels = encrypted
  row = {"attack": attack.name, "scheme": scheme.name, "keys": plan}
  pair = None
  first = 0
  if "pair" in attack.needs and len(ciphertexts) > 1:
    pair, first = (images.plain[0], ciphertexts[0]), 1
  noise, groups = several.noise_of(config)
  given = several.told(config, attack, scheme, images.plain, images.index)
  start = time.perf_counter()
  try:
    outcome = attack(
        Knowledge(
            ciphertexts, scheme, config.block, pair, images.others,
            images.other_labels, labels, space.num_classes, **given,
            noise=noise, groups=groups,
        ),
        config.seed, Budget(**config.budget),
    )
  except UserError as error:
    add({**row, "seconds": None, "refused": str(error)}, None)
    return None
  seconds = (time.perf_counter() - start) / len(ciphertexts)
  notes = dict(outcome.notes)
  if pair:
    opened = scores(images.plain[:1], outcome.images[:1])
    notes["ssim_of_the_pair_itself"] = opened["ssim"]
  add({**row, "seconds": seconds, "notes": notes}, outcome.images, first)
  return outcome.images


HEADER = (f"{'attack':<16}{'scheme':<22}{'keys':<8}{'ssim':>6}{'psnr':>7}"
          f"{'edge':>7}{'mIoU':>7}{'s/image':>9}")


def line(row: dict) -> str:
  """A row as text."""
  head = f"{row['attack']:<16}{row['scheme']:<22}{row['keys']:<8}"
  if row["ssim"] is None:
    return f"{head}     -  {row['refused']}"
  miou = row.get("miou")
  text = (f"{head}{row['ssim']:6.3f}{row['psnr']:7.2f}{row['edge']:7.3f}"
          + ("      -" if miou is None else f"{miou:7.3f}")
          + f"{row['seconds']:9.2f}")
  notes = ", ".join(f"{k} {v:.4g}" for k, v in row.get("notes", {}).items())
  return text + (f"  {notes}" if notes else "")
