"""Readers are given what there is, and judged by what they got right."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from ppseg_jax.attacks import readers
from ppseg_jax.attacks.parts import eyes, right, subjects
from ppseg_jax.client import protect
from ppseg_jax.encryption import regions
from ppseg_jax.errors import UserError
from tests.helpers import photo

WORDS = ("STATION", "EXIT 24")
short = st.text("abc", max_size=6)


@given(short, short, short)
def test_edits_are_a_distance_and_take_one_step_for_one_letter(a, b, c):
  assert right.edits(a, b) == right.edits(b, a)
  assert (right.edits(a, b) == 0) == (a == b)
  assert right.edits(a, c) <= right.edits(a, b) + right.edits(b, c)
  assert right.edits(a, a + "d") == right.edits("d" + a, a) == 1
  assert abs(len(a) - len(b)) <= right.edits(a, b) <= max(len(a), len(b))


def test_characters_are_right_by_letters_and_digits_and_never_below_none():
  def read(true, *found):
    return right.of_texts([true] * len(found), found)

  assert read("No parking!", "NO PARKING") == {"characters": 1, "lines": 1}
  assert read("parking", "packing") == {
      "characters": pytest.approx(6 / 7), "lines": 0
  }
  assert read("ab", "", "xyzxyzxyz") == {"characters": 0, "lines": 0}
  # A long line counts for as many characters as it has.
  both = right.of_texts(["a", "bcd"], ["x", "bcd"])
  assert both == {"characters": 0.75, "lines": 0.5}


def test_a_box_is_found_by_one_that_mostly_covers_the_same():
  box = (10.0, 10.0, 20.0, 20.0)
  assert right.overlap(box, box) == 1
  assert right.overlap(box, (20.0, 0.0, 30.0, 30.0)) == 0
  assert right.overlap(box, (10.0, 10.0, 20.0, 15.0)) == 0.5
  near, large = (11.0, 10.0, 21.0, 20.0), (0.0, 0.0, 30.0, 30.0)
  assert right.of_boxes([box, box, box], [[near], [large], []]) == {
      "found": pytest.approx(1 / 3)
  }


def test_a_face_is_whose_is_nearest_and_surely_so_only_within_dlibs_distance():
  gallery = np.array([[0.0, 0], [0, 2]])
  probes = np.array([[0.0, 0.1], [0, 0.1], [0.9, 0], [0, 1.9]])
  found = right.of_persons([*"abab"], probes, [*"ab"], gallery)
  assert found == {"first": 0.75, "sure": 0.5, "mistaken": 0.25}


@pytest.mark.parametrize("size, box, shape", [
    (32, (40, 20, 60, 40), (64, 64)), (128, (0, 0, 20, 20), (192, 192)),
    (40, (10, 30, 90, 50), (64, 256)),
])
def test_a_window_has_its_subject_in_the_middle_at_the_size_asked_for(
    size, box, shape
):
  image = np.full((60, 100, 3), 200, np.uint8)
  left, top, right_, bottom = box
  image[top:bottom, left:right_] = 0
  seen = subjects.window(subjects.Subject("a", image, box, "x"), size)
  assert seen.image.shape == (*shape, 3) and seen.truth == "x"
  x0, y0, x1, y1 = seen.box
  assert y1 - y0 == size
  assert (x0 + x1, y0 + y1) == pytest.approx((shape[1], shape[0]))
  rows, columns = (slice(round(a) + 3, round(b) - 3)
                   for a, b in ((y0, y1), (x0, x1)))
  inner = seen.image[rows, columns]
  assert inner.max() < 20
  dark = (seen.image < 100).all(2).sum()
  inside = size**2 * (right_ - left) / (bottom - top)
  beyond = 4 if left == top == 0 else 1.1  # the picture's border goes on
  assert 0.8 * inside < dark < beyond * inside


def write(folder, name, listed, picture="a.png"):
  folder.mkdir()
  Image.fromarray(photo(40, 60)).save(folder / picture)
  (folder / name).write_text(
      listed if isinstance(listed, str) else json.dumps(listed)
  )
  return folder


@pytest.mark.parametrize("listed, said", [
    ("{", "is no JSON"), ([], "must give a list for each"),
    ('{"a.png": [], "a.png": []}', "names a picture twice"),
    ({"a.png": [["x"]]}, "not of the form"),
    ({"b.png": [{"text": "x", "box": [0, 0, 9, 9]}]}, "does not exist"),
    ({"a.png": [{"text": "-", "box": [0, 0, 9, 9]}]}, "with a letter"),
    ({"a.png": [{"text": "x", "box": [0, 0, 99, 9]}]}, "60x40 pixels"),
    ({"a.png": [{"text": "x", "box": [0, 0, 9, 1e-5]}]}, "a pixel each way"),
    ({"a.png": [{"text": "x", "box": "0099"}]}, "box 0099"),
    ("[" * 10**5, "is no JSON"),
    ({"a.png": [{"text": "x"}]}, "box None"), ({"a.png": []}, "no lines"),
])
def test_files_that_say_what_is_to_be_read_are_checked(tmp_path, listed, said):
  with pytest.raises(UserError, match=said):
    subjects.of_texts(write(tmp_path / "signs", "texts.json", listed))


def test_persons_are_named_as_boxes_are_for_protection(tmp_path):
  boxes = {"a.png": [[1, 2, 30, 40], [5, 5, 9, 9]]}
  folder = write(tmp_path / "people", "boxes.json", boxes)
  found = subjects.of_persons(folder)
  assert [each.box for each in found] == [(1, 2, 30, 40), (5, 5, 9, 9)]
  with pytest.raises(UserError, match=r"texts.json cannot be read"):
    subjects.of_texts(folder)


@pytest.mark.parametrize("words, said", [
    (["--schemes=nosuch"], "nosuch"), (["--attacks=nosuch"], "none of brute"),
    (["--attacks=unet"], "more than a ciphertext"),
    (["--sizes=4"], "must be 8 to 1024"), (["--most=-1"], "--most=-1"),
    (["--cells=3"], "none of none, 2"), (["--cells="], "at least one"),
    (["--blocks=16,24"], "whole blocks of 24"),
    (["--schemes=blockwise,plain", "--cells=2"], "plain"),
    (["--schemes=independent", "--cells=region"], "independent"),
])
def test_what_cannot_be_measured_is_refused_first(words, said):
  with pytest.raises(UserError, match=said):
    readers.parse(["texts", "--data=nowhere", *words])


def test_a_missing_library_is_named_with_how_to_install_it(monkeypatch, capsys):
  monkeypatch.setattr(eyes.importlib.util, "find_spec", lambda name: None)
  assert readers.main(["faces", "--data=nowhere"]) == 2
  said = capsys.readouterr().err
  assert "dlib-bin" in said and "pip install 'ppseg_jax[recognition]'" in said


def test_a_package_of_another_name_has_no_version(monkeypatch):
  def version(package):
    raise eyes.importlib.metadata.PackageNotFoundError(package)

  monkeypatch.setattr(eyes.importlib.metadata, "version", version)
  assert eyes.versions("persons") == {"opencv-python-headless": ""}


def test_no_record_is_overwritten(tmp_path):
  taken = tmp_path / "taken.json"
  taken.write_text("mine")
  for out, said in ((taken, "exists"), (tmp_path, "exists"),
                    (tmp_path / "none" / "a.json", "is no folder")):
    with pytest.raises(UserError, match=said):
      readers.parse(["texts", "--data=nowhere", f"--out={out}"])
  assert taken.read_text() == "mine"


def test_cells_are_attacked_as_blocks_of_their_size(monkeypatch):
  asked = []

  def attack(knowledge, seed, budget):
    asked.append(knowledge.block)
    return readers.ATTACKS["mosaic"](knowledge, seed, budget)

  monkeypatch.setattr(readers, "ATTACKS", readers.ATTACKS | {"mine": attack})
  image = np.zeros((64, 64, 3), np.uint8)
  for scheme, cell in (("blockwise", None), ("blockwise", 4),
                       ("blockwise", regions.REGION), ("blockwise_m2q4", 4)):
    readers.attacked("mine", readers.targets.get(scheme), 8, [image], cell)
  assert asked[0] == 8 and asked[2] == 8
  assert asked[1] == 32 and asked[3] == 16  # squares of two, again


def test_what_a_client_protects_is_the_box_and_a_little_around_it():
  subject = subjects.Subject("a", photo(64, 64), (16, 16, 48, 48))
  mask = readers.mask_of(subject, "boxes")
  assert mask[8:56, 8:56].all() and mask.sum() == 48**2


def test_a_table_gives_ciphertext_and_best_attack_by_size():
  rows = [
      {"scheme": "s", "block": 8, "size": size, "cell": "none", "attack": name,
       "seconds": 0.0, "subjects": 1, "found": found}
      for size, name, found in (
          (32, "ciphertext", 0.25), (32, "rank", 0.5), (32, "mosaic", 0.75),
          (64, "ciphertext", 1.0),
      )
  ]
  assert readers.figures_of(rows[0]) == {"found": 0.25}
  assert readers.table(rows, "found").splitlines()[2] == (
      "| `s` | 8 | none | 0.25, 0.75 | 1.00, - |"
  )


def test_signs_are_read_plain_and_not_encrypted(tmp_path, capsys):
  pytest.importorskip("rapidocr")
  listed = {}
  for i, words in enumerate(WORDS):
    sign = Image.new("RGB", (320, 90), "white")
    ImageDraw.Draw(sign).text(
        (20, 20), words, "black", ImageFont.load_default(44)
    )
    (tmp_path / "signs").mkdir(exist_ok=True)
    sign.save(tmp_path / "signs" / f"{i}.png")
    listed[f"{i}.png"] = [{"text": words, "box": [15, 15, 230, 75]}]
  (tmp_path / "signs" / "texts.json").write_text(json.dumps(listed))
  out = tmp_path / "out.json"
  assert readers.main([
      "texts", f"--data={tmp_path / 'signs'}", f"--out={out}", "--sizes=32",
      "--blocks=16", "--schemes=plain,blockwise", "--attacks=mosaic",
  ]) == 0
  record = json.loads(out.read_text())
  plain, cipher, mosaic = record["rows"]
  assert plain["characters"] == 1 and plain["lines"] == 1
  assert cipher["characters"] < 0.5 and cipher["lines"] == 0
  assert mosaic["attack"] == "mosaic" and mosaic["lines"] == 0
  assert record["versions"]["rapidocr"]
  assert "| `blockwise` | 16 | none |" in capsys.readouterr().out


def test_faces_are_found_and_recognised_plain_and_not_protected(tmp_path):
  pytest.importorskip("dlib")
  data = pytest.importorskip("skimage.data")
  face = Image.fromarray(data.astronaut()[20:200, 130:310])
  for person, pictures in {
      "a": (face, face.point(lambda x: x * 0.8)),
      "b": (face.transpose(Image.Transpose.FLIP_LEFT_RIGHT),),
  }.items():
    (tmp_path / person).mkdir()
    for i, picture in enumerate(pictures):
      picture.save(tmp_path / person / f"{i}.png")
  args = readers.parse([
      "faces", f"--data={tmp_path}", f"--out={tmp_path / 'out.json'}",
      "--sizes=64", "--blocks=16", "--schemes=blockwise", "--attacks=mosaic",
      "--cells=region",
  ])
  probes, judge, facts = readers.load("faces", tmp_path)
  assert [each.truth for each in probes] == ["a"] and facts["persons"] == 2
  plain = [subjects.window(probes[0], 64)]
  seen = judge(plain, [plain[0].image])
  assert (seen["found"], seen["first"], seen["sure"]) == (1, 1, 1)
  cell = protect.CELLS[args.cells[0]]
  hidden = readers.ciphertexts(
      readers.targets.get("blockwise"), 16, plain, 0, cell, "boxes"
  )
  seen = judge(plain, hidden)
  assert seen["found"] == seen["sure"] == 0
