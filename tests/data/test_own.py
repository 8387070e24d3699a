"""One's own data set: classes.json, pairs, a held-out share."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.data import __main__ as command
from ppseg_jax.data import own
from ppseg_jax.data.labels import VOID, from_json
from ppseg_jax.errors import UserError
from tests.data.helpers import load
from tests.helpers import photo

RED, BLUE = (200, 0, 0), (0, 0, 200)
CLASSES = [
    {"id": 7, "name": "road", "colour": [200, 0, 0]},
    {"id": 2, "name": "car", "colour": [0, 0, 200]},
    {"id": 3, "name": "car", "colour": [0, 9, 200]},
    {"id": 255, "name": "void", "colour": [0, 0, 0], "void": True},
]
IDS = np.array([[7, 2], [3, 255]], np.uint8).repeat(12, 0).repeat(16, 1)
TRAINED = np.array([[0, 1], [1, VOID]])


def colours_of(ids):
  table = np.zeros((256, 3), np.uint8)
  for entry in CLASSES:
    table[entry["id"]] = entry["colour"]
  return table[ids]


def write(folder, names=("a",), labels=IDS, split="train", classes=CLASSES):
  """Pairs of 32x24 pixels whose labels are all the same."""
  for number, name in enumerate(names):
    for kind, pixels in (("images", photo(24, 32, number)), ("labels", labels)):
      path = folder / split / kind / f"{name}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels).save(path)
  if classes:
    (folder / "classes.json").write_text(json.dumps(classes))
  return folder


def corners(labels):
  return labels[::12, ::16]


@pytest.mark.parametrize("labels", [IDS, colours_of(IDS)])
def test_labels_are_ids_or_the_colours_of_the_classes(tmp_path, labels):
  write(tmp_path, labels=labels)
  source = load("folder", tmp_path)
  assert source.label_space.names == ("road", "car")
  np.testing.assert_array_equal(corners(source[0][1]), TRAINED)


def test_palette_files_are_read_by_index(tmp_path):
  write(tmp_path)
  labels = Image.fromarray(IDS, "P")
  labels.putpalette([9] * 768)
  labels.save(tmp_path / "train" / "labels" / "a.png")
  np.testing.assert_array_equal(
      corners(load("folder", tmp_path)[0][1]), TRAINED
  )


def test_colours_of_no_class_are_named(tmp_path):
  rgb = colours_of(IDS)
  rgb[0, 0] = 1, 2, 3
  write(tmp_path, labels=rgb)
  with pytest.raises(UserError, match=r"a\.png: the colours \(1, 2, 3\)"):
    load("folder", tmp_path)[0]


def test_masks_that_would_be_read_otherwise_than_they_are_are_refused(tmp_path):
  write(tmp_path, labels=colours_of(IDS))
  path = tmp_path / "train" / "labels" / "a.png"
  mask = Image.open(path)

  def refused(name, said, **options):
    path.unlink(missing_ok=True)
    mask.save(path.with_name(name), **options)
    with pytest.raises(UserError, match=said):
      load("folder", tmp_path)[0]
    path.with_name(name).unlink()

  refused("a.jpg", "lossy JPEG")
  refused("a.png", "has transparency", transparency=(0, 0, 0))
  path.write_bytes(deep_png(colours_of(IDS)))
  with pytest.raises(UserError, match="16 bits a value"):
    load("folder", tmp_path)[0]


def deep_png(rgb):
  """A 16-bit RGB PNG of [H, W, 3] by hand; Pillow writes none."""
  def chunk(kind, body):
    return (struct.pack(">I", len(body)) + kind + body
            + struct.pack(">I", zlib.crc32(kind + body)))

  height, width, _ = rgb.shape
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
  return (b"\x89PNG\r\n\x1a\n"
          + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0,
                                       0))
          + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_nested_folders_suffixes_in_any_case_and_grey_images(tmp_path):
  write(tmp_path, ("x/1", "x/y/2"))
  (tmp_path / "train" / "images" / "x" / "1.png").unlink()
  grey = Image.fromarray(photo(24, 32)[..., 0].copy())
  grey.save(tmp_path / "train" / "images" / "x" / "1.JPEG")
  labels = tmp_path / "train" / "labels" / "x"
  (labels / "1.png").rename(labels / "1.PNG")
  source = load("folder", tmp_path)
  assert [path.name for path, _ in source.files] == ["1.JPEG", "2.png"]
  image, ids = source[0]
  assert image.shape == (24, 32, 3) and (image[..., 0] == image[..., 2]).all()
  np.testing.assert_array_equal(corners(ids), TRAINED)


def test_files_that_differ_by_suffix_alone_are_refused(tmp_path):
  write(tmp_path)
  Image.new("L", (32, 24)).save(tmp_path / "train" / "labels" / "a.bmp")
  with pytest.raises(UserError, match="suffix alone"):
    load("folder", tmp_path)


def test_an_image_without_labels_is_named_when_it_is_read(tmp_path):
  write(tmp_path, ("a", "b"))
  (tmp_path / "train" / "labels" / "b.png").unlink()
  with pytest.raises(UserError, match=r"labels/b\.png is missing"):
    load("folder", tmp_path)[1]


def test_a_list_pairs_files_of_other_names(tmp_path):
  write(tmp_path, ("a",))
  train = tmp_path / "train"
  (train / "labels" / "a.png").rename(train / "labels" / "mask of a.png")
  (train / "pairs.csv").write_text(
      "image,label\nimages/a.png,labels/mask of a.png\n"
  )
  np.testing.assert_array_equal(
      corners(load("folder", tmp_path)[0][1]), TRAINED
  )
  (train / "pairs.csv").write_text("picture;mask\n1;2\n")
  with pytest.raises(UserError, match="line 2 names no image and label"):
    load("folder", tmp_path)


def test_a_held_out_share_parts_train_and_stays_when_images_come(tmp_path):
  def names(split):
    source = load("folder", tmp_path, split, val_share=0.4)
    return {path.stem for path, _ in source.files}

  write(tmp_path, [f"{i:02d}" for i in range(20)])
  train, val = names("train"), names("val")
  assert len(train) + len(val) == 20 and not train & val
  assert 3 <= len(val) <= 13
  write(tmp_path, [f"later {i}" for i in range(20)])
  assert train <= names("train") and val <= names("val")


def test_val_is_a_folder_or_a_share(tmp_path):
  write(tmp_path)
  with pytest.raises(UserError, match="has no folder val; .*val_share=0.2"):
    load("folder", tmp_path, "val")
  with pytest.raises(UserError, match="leaves no image"):
    load("folder", tmp_path, "val", val_share=1e-9)
  write(tmp_path, split="val")
  with pytest.raises(UserError, match="has a folder val, but"):
    load("folder", tmp_path, val_share=0.2)


@pytest.mark.parametrize("entries, said", [
    ("{", "not valid JSON"),
    ("[]", "a list with an entry"),
    ('[{"id": 1}]', "entry 1: must be like"),
    ('[{"id": 256, "name": "x", "colour": [1, 2, 3]}]', "from 0 to 255"),
    ('[{"id": true, "name": "x", "colour": [1, 2, 3]}]', "from 0 to 255"),
    ('[{"id": 1, "name": "x", "color": [1, 2, 3]}]', "'color' is none of"),
    ('[{"id": 1, "name": "x"}]', "three integers"),
    ('[{"id": 1, "name": "", "colour": [1, 2, 3]}]', "must be a text"),
    ('[{"id": 1, "name": "v", "void": true}]', "declares 0 classes"),
    ('[{"id": 1, "name": "v", "void": 1}]', "true or false"),
    ('[{"id": 1, "name": "x", "colour": [1, 2, 3]},'
     ' {"id": 1, "name": "y", "colour": [1, 2, 4]}]', "entry 2: id 1 is decl"),
    ('[{"id": 1, "name": "x", "colour": [1, 2, 3]},'
     ' {"id": 2, "name": "y", "colour": [1, 2, 3]}]', "another class's too"),
])
def test_a_wrong_declaration_is_refused_in_a_sentence(tmp_path, entries, said):
  (tmp_path / "classes.json").write_text(entries)
  with pytest.raises(UserError, match=said):
    own.read_space(tmp_path)


def test_a_label_space_is_the_same_after_json(tmp_path):
  space = own.read_space(write(tmp_path))
  assert from_json(json.loads(json.dumps(space.to_json()))) == space


def test_init_declares_what_the_labels_hold_and_reads_it(tmp_path, capsys):
  write(tmp_path, classes=None)
  assert command.main(["init", str(tmp_path)]) == 0
  assert "classes.json" in capsys.readouterr().out
  entries = json.loads((tmp_path / "classes.json").read_text())
  assert [entry["id"] for entry in entries] == [2, 3, 7, 255]
  assert [entry.get("void", False) for entry in entries] == [False] * 3 + [True]
  source = load("folder", tmp_path)
  np.testing.assert_array_equal(corners(source[0][1]), [[2, 0], [1, VOID]])
  assert len({*source.label_space.colours}) == 3
  before = (tmp_path / "classes.json").read_bytes()
  assert command.main(["init", str(tmp_path)]) == 2
  assert (tmp_path / "classes.json").read_bytes() == before


def test_init_declares_colours(tmp_path):
  write(tmp_path, labels=colours_of(IDS), classes=None)
  own.init(tmp_path)
  space = own.read_space(tmp_path)
  assert {*space.colours} == {RED, BLUE, (0, 9, 200), (0, 0, 0)}
  assert set(np.unique(load("folder", tmp_path)[0][1])) == {0, 1, 2, 3}


def test_init_takes_the_colours_of_a_palette(tmp_path):
  write(tmp_path, classes=None)
  labels = Image.fromarray(IDS, "P")
  labels.putpalette([value for i in range(256) for value in (i, 0, 1)])
  labels.save(tmp_path / "train" / "labels" / "a.png")
  own.init(tmp_path)
  assert own.read_space(tmp_path).colours == ((2, 0, 1), (3, 0, 1), (7, 0, 1))


def test_init_refuses_smooth_colours_and_mixed_files(tmp_path):
  write(tmp_path, labels=photo(24, 32), classes=None)
  with pytest.raises(UserError, match="more than 256 colours"):
    own.init(tmp_path)
  write(tmp_path, labels=colours_of(IDS), classes=None)
  write(tmp_path, split="val", classes=None)
  with pytest.raises(UserError, match="ids and others colours"):
    own.init(tmp_path)
  assert not (tmp_path / "classes.json").exists()
