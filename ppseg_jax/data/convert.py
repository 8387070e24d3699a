"""Writes any source as a data set of tensorflow-datasets.

What is written is what training reads, decoded and resized, as PNG in
ArrayRecord files: pixels and labels come back as they were.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax import data
from ppseg_jax.data import tfds
from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.data.pipeline import in_order
from ppseg_jax.errors import UserError

LEVEL = 6  # of zlib, as PNG files usually have


def convert(
    config: ml_collections.ConfigDict, folder: Path, level: int = LEVEL
) -> Path:
  """Writes the splits `train` and `val` of a source; returns where.

  The data set has the name of the source, and is read back by
  `data.name=tfds:NAME` and `data.dir=folder`. Labels have raw ids, whose
  meaning is in its metadata. The order of examples is the source's.

  Args:
    config: the run's `data`; `leave_out` and `cache` do not count.
    folder: made if it is not there.
    level: of zlib, 0 to 9. Files of level 0 are not compressed: the largest,
      and the fastest to read.

  Raises:
    UserError: for a bad example, or where the folder has such a data set.
  """
  config = config.copy_and_resolve_references()
  config.update(leave_out="", cache=False)
  sources = {
      "train": data.load(config, "train"),
      "validation": data.load(config, "val"),
  }
  name = config.name.removeprefix(tfds.PREFIX).replace("/", "_")
  if any((folder / name).glob("*/dataset_info.json")):
    raise UserError(
        f"{folder / name} holds a data set already; remove it or give another"
        " folder."
    )
  space = _with_void(sources["train"].label_space)
  package = tfds.imported()

  def info(builder):
    return package.core.DatasetInfo(
        builder=builder,
        features=package.features.FeaturesDict({
            "image": package.features.Image(
                shape=(None, None, 3), encoding_format="png"
            ),
            "label": package.features.Image(
                shape=(None, None, 1), encoding_format="png"
            ),
        }),
        disable_shuffling=True,
        metadata=package.core.MetadataDict({tfds.SPACE: space.to_json()}),
    )

  def examples(source: data.Source) -> Iterator[tuple[int, dict]]:
    for index, (image, labels) in enumerate(in_order(source)):
      raw = space.to_raw_ids(labels)
      yield index, {"image": _png(image, level), "label": _png(raw, level)}

  with package.core.registered.skip_registration():
    builder_class = type("Builder", (package.core.GeneratorBasedBuilder,), {
        "__module__": __name__,
        "name": name,
        "VERSION": package.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": lambda self, manager: {
            split: examples(source) for split, source in sources.items()
        },
        "_generate_examples": lambda self: iter(()),
    })
  builder = builder_class(data_dir=folder, file_format="array_record")
  if not sys.stderr.isatty():
    package.disable_progress_bar()
  with (tempfile.TemporaryDirectory() as nothing,
        contextlib.redirect_stdout(io.StringIO())):  # it tells of downloads
    builder.download_and_prepare(download_dir=nothing)
  return Path(builder.data_dir)


def _with_void(space: LabelSpace) -> LabelSpace:
  """The space, in which some raw id is void: resizing may pad with it."""
  known = space.raw_to_train
  if VOID in known.values() or VOID in known:
    return space
  return LabelSpace(
      space.name, space.names, space.colours, {**known, VOID: VOID},
      space.raw_colours,
  )


def _png(values: np.ndarray, level: int) -> bytes:
  file = io.BytesIO()
  Image.fromarray(values).save(file, "PNG", compress_level=level)
  return file.getvalue()
