"""`encrypt --labels`: what leaves a client for others to train on."""

import json

import numpy as np
import pytest

from ppseg_jax import pictures
from ppseg_jax.client import files
from ppseg_jax.client.contribute import label_space
from ppseg_jax.data import encrypted
from ppseg_jax.data.labels import CAMVID, VOID
from ppseg_jax.encryption.blocks import split
from tests.client.helpers import SIZE, pixels, save
from tests.helpers import photo

BLOCK = 8
NAMES = ("a.png", "more/b.png")
CLASSES = [
    {"id": 7, "name": "road", "colour": [128, 64, 128]},
    {"id": 9, "name": "car", "colour": [0, 0, 142]},
    {"id": 3, "name": "other", "void": True},
]
TRAINED = {7: 0, 9: 1, 3: VOID}


def write(folder, size=SIZE):
  """Two pictures, their labels and the classes."""
  rng = np.random.default_rng(0)
  for seed, name in enumerate(NAMES):
    save(folder / "in" / name, photo(*size, seed))
    save(folder / "labels" / name, rng.choice([3, 7, 9], size).astype(np.uint8))
  (folder / "labels" / "classes.json").write_text(json.dumps(CLASSES))


@pytest.fixture
def contribute(tmp_path, capsys):
  """Calls the command in tmp_path; (exit code, stdout, stderr)."""
  from ppseg_jax.client.__main__ import main

  write(tmp_path)

  def call(*more, out="out"):
    code = main(["encrypt", str(tmp_path / "in"), str(tmp_path / out),
                 f"--labels={tmp_path / 'labels'}", f"--block={BLOCK}", *more])
    return code, *capsys.readouterr()

  return call


def trained(path):
  return np.vectorize(TRAINED.get)(pixels(path)).astype(np.uint8)


def in_blocks(values):
  """[H, W] or [H, W, C] -> sorted values of each block, [N, ...]."""
  values = values.reshape(*values.shape[:2], -1)
  blocks = split(values[None], BLOCK)[0]
  return np.sort(blocks.reshape(len(blocks), -1), axis=-1)


def as_bag(rows):
  return sorted(map(bytes, rows))


def test_labels_stay_where_they_are_and_padding_is_void(contribute, tmp_path):
  write(tmp_path, (20, 36))
  code, out, err = contribute(f"--keys={tmp_path / 'keys'}")
  assert code == 0, err
  assert "they show where each class is" in out and "padded (2)" in out
  for name in NAMES:
    labels = pixels(tmp_path / "out" / "labels" / name)
    assert labels.shape == (24, 40) == pixels(
        tmp_path / "out" / "images" / name
    ).shape[:2]
    np.testing.assert_array_equal(
        labels[:20, :36], trained(tmp_path / "labels" / name)
    )
    assert (labels[20:] == VOID).all() and (labels[:, 36:] == VOID).all()
    header = pictures.read_header(tmp_path / "out" / "images" / name)
    assert header == pictures.Header("blockwise", BLOCK, 36, 20)


def test_the_declaration_says_what_trains_and_nothing_else(
    contribute, tmp_path
):
  assert contribute(f"--keys={tmp_path / 'keys'}")[0] == 0
  declared = json.loads((tmp_path / "out" / "encrypted.json").read_text())
  classes = declared.pop("classes")
  assert declared == {"format": 1, "scheme": "blockwise", "block": BLOCK,
                      "width": 40, "height": 24, "labels": "places"}
  assert [entry["name"] for entry in classes] == ["road", "car", "void"]
  found = {path.relative_to(tmp_path / "out").as_posix()
           for path in (tmp_path / "out").rglob("*") if path.is_file()}
  assert found == {"encrypted.json", *(f"{kind}/{name}" for name in NAMES
                                       for kind in ("images", "labels"))}


def test_labels_move_with_their_blocks_and_tell_amounts_alone(
    contribute, tmp_path
):
  # In a block of one value the ciphertext is that value, wherever it went.
  number = np.arange(15).repeat(BLOCK).reshape(3, 5, BLOCK)[..., 0]
  flat = number.repeat(BLOCK, 0).repeat(BLOCK, 1)
  save(tmp_path / "in" / NAMES[0], (flat[..., None] * [9, 5, 1]).astype("u1"))
  raw = np.where(flat % 2, 7, 9).astype(np.uint8)
  save(tmp_path / "labels" / NAMES[0], raw)
  code, out, err = contribute("--scheme=blockwise_hidden")
  assert code == 0, err
  assert "not where the block was" in out
  moved = pixels(tmp_path / "out" / "images" / NAMES[0])[..., 2]
  assert (moved != flat).any()
  np.testing.assert_array_equal(
      pixels(tmp_path / "out" / "labels" / NAMES[0]), 1 - moved % 2
  )

  labels = pixels(tmp_path / "out" / "labels" / NAMES[1])
  plain = trained(tmp_path / "labels" / NAMES[1])
  assert as_bag(in_blocks(labels)) == as_bag(in_blocks(plain))
  rows = split(labels[None, ..., None], BLOCK).reshape(15, -1)
  np.testing.assert_array_equal(rows, np.sort(rows, axis=-1))
  # Each block still has its own labels beside it.
  sent = pixels(tmp_path / "out" / "images" / NAMES[1])
  assert as_bag(np.hstack([in_blocks(sent), in_blocks(labels)])) == as_bag(
      np.hstack([in_blocks(photo(*SIZE, 1)), in_blocks(plain)])
  )


def missing(folder):
  (folder / "labels" / NAMES[1]).unlink()


def of_another_size(folder):
  save(folder / "labels" / NAMES[1], np.full((24, 48), 7, np.uint8))


def of_an_unknown_id(folder):
  save(folder / "labels" / NAMES[1], np.full(SIZE, 8, np.uint8))


def of_two_sizes(folder):
  save(folder / "in" / NAMES[1], photo(24, 48))
  of_another_size(folder)


def not_whole_blocks(folder):
  write(folder, (20, 40))


def without_classes(folder):
  (folder / "labels" / "classes.json").unlink()


@pytest.mark.parametrize("spoil, said", [
    (missing, "b.png is missing"),
    (of_another_size, "labels of 48x24 pixels do not fit"),
    (of_an_unknown_id, r"label ids [8] are not in the label space"),
    (of_two_sizes, "a contribution has one size"),
    (not_whole_blocks, "would tell which lay at the edge"),
    (without_classes, "nor the two above it hold a classes.json"),
])
def test_what_does_not_fit_is_said_before_anything_is_written(
    contribute, tmp_path, spoil, said
):
  spoil(tmp_path)
  code, _, err = contribute("--scheme=blockwise_hidden")
  assert code == 2 and said in err and err.count("\n") == 1
  assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("more, said", [
    ({"out": "labels/out"}, "lie in one another"),
    ({"keys": "out/keys"}, "lies in OUT_DIR"),
    ({"keys": "labels/keys"}, "lies in LABEL_DIR"),
    ({"classes": "voc2013"}, "nor one of streets, camvid"),
])
def test_folders_and_classes_that_cannot_be_are_refused(
    contribute, tmp_path, more, said
):
  words = [f"--keys={tmp_path / more['keys']}"] if "keys" in more else []
  words += [f"--classes={more['classes']}"] if "classes" in more else []
  code, _, err = contribute(*words, out=more.get("out", "out"))
  assert code == 2 and said in err


def test_classes_without_labels_are_refused(tmp_path, capsys):
  from ppseg_jax.client.__main__ import main

  write(tmp_path)
  assert main(["encrypt", str(tmp_path / "in"), str(tmp_path / "out"),
               "--classes=camvid"]) == 2
  assert "no effect without --labels" in capsys.readouterr().err


def test_the_label_space_is_found_or_named(tmp_path):
  write(tmp_path)
  inner = tmp_path / "labels" / "x" / "y"
  inner.mkdir(parents=True)
  assert label_space("", inner).names == ("road", "car")
  assert label_space(str(tmp_path / "labels"), tmp_path).names == (
      "road", "car"
  )
  assert label_space("camvid", inner) == CAMVID


@pytest.mark.parametrize("scheme", ["blockwise", "blockwise_hidden"])
def test_a_stopped_command_goes_on_and_no_ciphertext_is_without_labels(
    contribute, tmp_path, monkeypatch, scheme
):
  write_file, written = files.Output.write, []

  def killed(self, name, content):
    if len(written) == 4:  # the declaration, one pair, and labels
      raise KeyboardInterrupt
    written.append(name)
    return write_file(self, name, content)

  monkeypatch.setattr(files.Output, "write", killed)
  assert contribute(f"--scheme={scheme}")[0] == 130
  monkeypatch.undo()
  out = tmp_path / "out"
  assert not (out / "images" / NAMES[1]).exists()
  first = (out / "images" / NAMES[0]).read_bytes()
  code, said, err = contribute(f"--scheme={scheme}")
  if scheme == "blockwise_hidden":  # its labels lie as a lost key had them
    assert code == 1 and "is there without it" in err
    (out / "labels" / NAMES[1]).unlink()
    code, said, err = contribute(f"--scheme={scheme}")
  assert code == 0 and "1 picture(s) encrypted, 1 done before" in said, err
  assert (out / "images" / NAMES[0]).read_bytes() == first

  (out / "labels" / NAMES[0]).unlink()
  code, _, err = contribute(f"--scheme={scheme}")
  if scheme == "blockwise_hidden":
    assert code == 1 and "nobody knows any more" in err
  else:
    assert code == 0 and (out / "labels" / NAMES[0]).exists()


def test_labels_that_changed_are_noticed(contribute, tmp_path):
  assert contribute()[0] == 0
  labels = pixels(tmp_path / "labels" / NAMES[0]).copy()
  labels[0, 0] = 7 if labels[0, 0] == 9 else 9
  save(tmp_path / "labels" / NAMES[0], labels)
  code, _, err = contribute()
  assert code == 1 and "holds other labels" in err


def test_parts_make_one_contribution_of_one_kind(contribute, tmp_path):
  assert contribute("--part=1/2")[0] == 0
  code, _, err = contribute("--part=2/2", "--scheme=blockwise_value")
  assert code == 2 and "whose scheme is blockwise, not blockwise_value" in err
  assert contribute("--part=2/2")[0] == 0
  found = encrypted.read_declaration(tmp_path / "out")
  assert (found.width, found.height) == (40, 24)
  assert len(list((tmp_path / "out" / "images").rglob("*.png"))) == 2
  assert len(list((tmp_path / "out" / "labels").rglob("*.png"))) == 2
