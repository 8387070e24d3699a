"""What the suites of full frames share: `paper.py:camvid_full` and others.

The model creator trains at home on plain images of its own, scaled, mirrored
and changed in colour as in the recipe for Cityscapes, on crops where the images
are larger than those, and tests on whole images by windows. So every row but
those of a shared key, and two that say so, has the same augmentation. No suite
by itself. `horio2024`, whose one key moves blocks over the whole image, is left
out where crops are trained on; other rows that move blocks are tested on whole
images.

Sizes, augmentation and rates are those of `setr_pretrained.py`.
"""

import dataclasses
from collections.abc import Callable

from ppseg_jax.configs.setr_pretrained import (
    AUGMENTED,
    FINE_TUNED,
    FRAMES,
    ON_A_GPU,
)
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Row, Run

IMAGES = "the images themselves, with the cloud"
NOTHING = "no key"
ALL = "one secret key: all clients with each other and the model creator"
ALL_CLOUD = ALL + ", who gives the cloud a model made with it"
TRAINED_SHARED = "training: one key; the clients then share no key"
_TEACHER = "no key; the model creator has a plain model as well"

PLAIN = (  # rows of a model of plain images
    Row("plain SETR", IMAGES),
    Row("plain SETR, tested on encrypted images", NOTHING,
        {"scheme": "independent"}),
    Row("plain SETR, tested on blockwise", NOTHING, {"scheme": "blockwise"}),
    Row("kiya2022", ALL_CLOUD,
        {"scheme": "kiya2022", "key_plan": "shared", "adapt": True},
        attacked="independent"),
)


def _of(run: str) -> str:
  """The folder of that run, of the same seed."""
  return f"{{workdir}}/{run}-{{seed}}"


_PLAIN = _of("plain")
_LEVELS = ("", "q4", "q1", "m2", "m2q4", "m4", "m4q4")
_WHOLE_IN_CROPS = ("q4", "q1", "m2", "m2q4")  # of 176x240
# Which divide into blocks of 32, as those do not.
_CROPS_OF_32 = {"data__crop_height": 192, "data__crop_width": 256}
DECIDING = (0, 1, 2)  # seeds of the rows that decide; the others have one


def suite(
    data: str, fields: dict | None = None, *, block: int = 8,
    pretrained: bool = True,
) -> list[Run]:
  """The comparison on one data set of `setr_pretrained.FRAMES`.

  Args:
    data: argument of the config files.
    fields: of every run.
    block: of every scheme, and the patch.
    pretrained: whether it is a SETR-S from weights; else `demo` from nothing.
  """
  fields = {"block": block, "batch_size": 8, **FRAMES[data],
            **(FINE_TUNED if pretrained else {}), **(fields or {})}
  cropped = "data.crop_height" in fields
  middle = 6 if pretrained else 2  # half of the encoder's blocks

  def run(name, config, rows, seeds=(0,), missing="head", after="", **more):
    """Trained at home unless it is under the keys of `cloud`.

    It starts from what `after` names, if it names one, and not from weights.
    """
    more = {k.replace("__", "."): v for k, v in more.items()}
    cloud = more.pop("cloud", False)
    found = fields | ({} if cloud else {"setting": "home"} | AUGMENTED[data])
    if after:
      found["start.workdir"] = _of(after)
      for name_of_weights in ("model.pretrained", "model.pretrained_missing"):
        found.pop(name_of_weights, None)
    elif pretrained:
      found["model.pretrained_missing"] = missing
    return Run(
        name=name, config=f"configs/{config}.py:{data}", rows=rows,
        fields=found | more, seeds=seeds, after=after,
    )

  def ours(name, title, seeds=(0,), missing="head,embed,stem", shares=NOTHING,
           test=None, **more):
    fresh = pretrained and "embed" in missing  # what is new learns as the head
    rate = {"optim__embed_lr": 5.0} if fresh else {}
    return run(name, "setr_enc", (Row(title, shares, test or {}),), seeds,
               missing, **(rate | more))

  runs = [
      run("plain", "setr_plain", PLAIN, DECIDING),
      # A mirrored ciphertext is none of the shared key.
      run("sueyoshi2025", "setr_paper", (
          Row("sueyoshi2025", ALL, attacked="independent"),
          Row("sueyoshi2025, tested with independent keys", TRAINED_SHARED,
              {"key_plan": "image"}, attacked="independent"),
      ), after="plain", cloud=True, scheme="sueyoshi2025", key_plan="shared",
          data__flip=False, start__adapt=True),
      run("independent", "setr_paper", (
          Row("independent, a key an image, trained in the cloud", NOTHING),
      ), cloud=True),
      run("independent_epoch", "setr_paper", (
          Row("independent, trained at home under fresh keys", NOTHING),
      ), DECIDING),
      run("aso2024", "setr_paper", (Row("aso2024", NOTHING),),
          scheme="aso2024", eval__whole=cropped),
      *hao2025(run, cropped),
      ours("blockwise", "blockwise, canonical form (ours)", DECIDING),
      ours("blockwise_cloud", "blockwise, trained in the cloud (ours)",
           cloud=True),
      ours("blockwise_value", "blockwise_value, canonical form (ours)",
           scheme="blockwise_value"),
      # Trained with blocks in place, tested with them scrambled.
      ours("blockwise_hidden", "blockwise, layout hidden (ours)",
           missing="head,embed", test={"scheme": "blockwise_hidden"},
           model__pos_embed="none", model__stem=0, eval__whole=cropped),
      ours("blockwise_bands",
           "blockwise, layout hidden in bands of 2 rows (ours)",
           missing="head,embed", test={"scheme": "blockwise_bands2"},
           model__pos_region=(2, 0), model__stem=0, eval__whole=cropped),
      # First embedding and stem alone, which learn what the plain model makes
      # of a patch, then all of it on the labels.
      *taught(ours, "", "blockwise, taught by the plain model (ours)",
              middle),
  ]
  if not cropped:
    runs.append(run("horio2024", "setr_paper", (
        Row("horio2024", ALL),
        Row("horio2024, tested with independent keys", TRAINED_SHARED,
            {"key_plan": "image"}),
    ), cloud=True, scheme="horio2024", key_plan="shared", data__flip=False))
  pictures = {"missing": "head", "model__embed": "rank", "model__stem": 0}
  # The weights of a model that knows the classes are nearer than those that
  # know pictures.
  from_plain = pictures | {"after": "plain", "shares": _TEACHER}
  if pretrained:
    runs.append(ours("rank_after", "blockwise, read as a picture by the plain"
                     " model, trained on (ours)", DECIDING, **from_plain))
  if block == 16:
    eights = "patches of 8"  # four times as many tokens as of 16
    runs += [
        ours("blockwise_16_of_8", "blockwise, block 8 in patches of 16 (ours)",
             DECIDING, block=8),
        *taught(ours, "_16_of_8", "blockwise, block 8 in patches of 16, taught"
                " by the plain model (ours)", middle, block=8),
        ours("rank_16_of_8",
             "blockwise, block 8 in patches of 16, read as a picture (ours)",
             block=8, **pictures),
        _also_at(_WHOLE_IN_CROPS if cropped else (), ours(
            "rank_16_of_8_after",
            "blockwise, block 8 in patches of 16, read as a picture by the"
            " plain model, trained on (ours)", DECIDING, block=8,
            **from_plain)),
        run("plain_8", "setr_plain", (Row(f"plain SETR, {eights}", IMAGES),),
            DECIDING, model__patch=8),
        ours("rank_8_after",
             f"blockwise, block 8 in {eights}, read as a picture by the plain"
             " model, trained on (ours)", DECIDING, block=8, model__patch=8,
             **from_plain | {"after": "plain_8"}),
    ]
  if block == 16 and cropped:
    runs.append(run("plain_192", "setr_plain", (
        Row("plain SETR, crops of 192x256", IMAGES),
    ), **_CROPS_OF_32))
    runs.append(_levels(ours, fields["steps"], from_plain))
  return runs


def batches(machine: str, suite: str) -> dict:
  """Fields for a `cpu` or `gpu`; UserError for another argument of a suite."""
  if machine not in ("cpu", "gpu"):
    raise UserError(
        f"'{machine}' is neither cpu nor gpu; write"
        f" --suite=configs/suites/{suite}:gpu, for example."
    )
  return ON_A_GPU if machine == "gpu" else {}


def _also_at(levels: tuple[str, ...], run: Run) -> Run:
  """The run, tested on levels too."""
  (row,) = run.rows
  title = row.name.removesuffix(" (ours)")
  return dataclasses.replace(run, rows=(row, *(
      dataclasses.replace(
          row, name=f"{title}, tested on blockwise_{level} (ours)",
          test={"scheme": f"blockwise_{level}"},
      ) for level in levels
  )))


def _levels(ours: Callable[..., Run], steps: int, how: dict) -> Run:
  """One model for what clients may show of blocks of 8, of 16 and of 32.

  Squares of 2x2 and 4x4 blocks of 8 show what blocks of 16 and 32 do. Twice the
  steps, after a plain model of the same crops.
  """
  how = how | {"after": "plain_192"}
  return _also_at(_LEVELS[1:], ours(
      "levels_16_of_8", "one model for all levels (ours)", block=8,
      steps=2 * steps, eval__every=steps, levels=_LEVELS, **_CROPS_OF_32, **how,
  ))


def hao2025(run: Callable[..., Run], cropped: bool) -> list[Run]:
  """The two encryptions of Hao et al., each with a model of its own.

  Blocks are in place in training, which makes no difference to a model without
  places, and in no order at the test.
  """
  return [
      run("hao2025_shuffle", "setr_plain", (
          Row("hao2025, patches shuffled", NOTHING, {"scheme": "plain_hidden"},
              attacked="scramble"),
      ), model__pos_embed="none", eval__whole=cropped),
      run("hao2025_mix", "setr_paper", (
          Row("hao2025, sub-patches mixed", NOTHING),
      ), scheme="hao2025_mix"),
  ]


def taught(
    ours: Callable[..., Run], suffix: str, title: str, layer: int, **more
) -> list[Run]:
  """Two runs after `plain`: embedding and stem alone, and then everything.

  The first is to give the features after block `layer`.
  """
  first = f"features{suffix}"
  return [
      ours(first, f"{title}, before it saw labels", DECIDING, shares=_TEACHER,
           after="plain", start__fresh="embed,stem",
           loss__objective="features", loss__teacher=_PLAIN,
           loss__teacher_layers=(layer,), optim__only="embed,stem",
           optim__lr=1e-3, optim__embed_lr=1.0, **more),
      ours(f"taught{suffix}", title, DECIDING, shares=_TEACHER, after=first,
           loss__objective="taught", loss__teacher=_PLAIN, **more),
  ]
