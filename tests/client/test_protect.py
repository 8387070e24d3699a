"""Protected regions on the client's side: what is named is what is merged."""

import json

import numpy as np
import pytest
import skimage.data
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.client import detect, keyfile, protect
from ppseg_jax.encryption import regions
from ppseg_jax.encryption.blocks import split
from tests.client import fake_server
from tests.client.helpers import SIZE, decrypt_all, entries, pixels, save

BOXES = {"one.png": [[10, 4, 12.5, 9]], "more/two.jpg": [], "grey.png": [
    [0, 0, 3, 3], [30, 20, 40, 24],
]}


@pytest.fixture
def boxes(place):
  (place / "boxes.json").write_text(json.dumps(BOXES))
  return f"--protect={place / 'boxes.json'}"


def encrypt(client, *args, out="@out"):
  return client("encrypt", "@in", out, "--block=8", *args)


def test_decrypt_gives_back_what_was_protected_and_the_rest_is_as_it_was(
    client, place, boxes
):
  code, printed, err = encrypt(client, "--keys=@keys", boxes)
  assert code == 0, err
  assert "Where the protected regions lie" in printed
  assert "nothing in them is protected (1): more/two.jpg" in printed
  lines = (place / "keys").read_text().splitlines()
  assert json.loads(lines[0])["ppseg_jax_keys"] == 2
  held = {entry["name"]: entry.get("protect") for entry in entries(place)}
  assert held["more/two.png"] is None and held["one.png"].startswith("0:")
  found = regions.from_text(held["one.png"], 3, 5)
  np.testing.assert_array_equal(
      found > 0, [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0] * 5]
  )
  for name, boxed in BOXES.items():
    path = place / "out" / name.replace(".jpg", ".png")
    assert bool(pictures.read_header(path).protect) == bool(boxed)
  plain, sealed = (
      split(pixels(place / at / "one.png")[None], 8)[0] for at in ("in", "out")
  )
  inside = found.ravel() > 0
  for a, b in zip(plain[~inside], sealed[~inside], strict=True):
    np.testing.assert_array_equal(
        np.sort(a.reshape(64, 3), 0), np.sort(b.reshape(64, 3), 0)
    )
  both = [np.sort(x[inside].reshape(-1, 3), 0) for x in (plain, sealed)]
  np.testing.assert_array_equal(*both)
  assert (np.sort(plain[inside].reshape(2, 64, 3), 1)
          != np.sort(sealed[inside].reshape(2, 64, 3), 1)).any()
  code, _, err = decrypt_all(client)
  assert code == 0, err
  for name in BOXES:
    np.testing.assert_array_equal(
        pixels(place / "back" / name.replace(".jpg", ".png")),
        np.squeeze(pictures.read_picture(place / "in" / name)),
    )
  code, printed, err = encrypt(client, "--keys=@keys", boxes)
  assert code == 0 and "3 done before" in printed, err


def test_a_run_that_protects_other_blocks_is_refused_by_name(
    client, place, boxes
):
  assert encrypt(client, boxes)[0] == 0
  assert encrypt(client, boxes)[0] == 0
  code, _, err = encrypt(client)
  assert code == 1 and err.count("other blocks of its file in OUT_DIR") == 2
  code, _, err = encrypt(client, boxes, "--protect-cell=2")
  assert code == 1 and err.count("other blocks of its file in OUT_DIR") == 2


def test_a_key_file_without_regions_does_not_take_some(client, place, boxes):
  assert encrypt(client, "--keys=@keys")[0] == 0
  code, _, err = encrypt(client, "--keys=@keys", boxes)
  assert code == 2 and "begun without --protect" in err


def test_a_damaged_mask_in_the_key_file_is_said(client, place, boxes):
  assert encrypt(client, "--keys=@keys", boxes)[0] == 0
  lines = (place / "keys").read_text().splitlines()
  for i, line in enumerate(lines[1:], 1):
    entry = json.loads(line)
    if entry["name"] == "one.png":
      lines[i] = json.dumps(entry | {"protect": "0:AAAA"})
  (place / "keys").write_text("\n".join(lines) + "\n")
  code, _, err = decrypt_all(client)
  assert code == 1 and "does not open it" in err
  with pytest.raises(keyfile.UserError, match="damaged"):
    (place / "keys").write_text("\n".join(
        [lines[0], json.dumps(entry | {"protect": 3})]
    ) + "\n")
    keyfile.read(place / "keys")


@pytest.mark.parametrize("content, words", [
    ("{", "no file of boxes"), ('{"one.png": [[1, 2, 3]]}', "no file of boxes"),
    ('{"one.png": [[3, 2, 1, 4]]}', "one.png"), ("[]", "no file of boxes"),
    ('{"one.png": [["a", 2, 3, 4]]}', "no file of boxes"),
    ('{"one.png": [[1, 2, 3, NaN]]}', "no file of boxes"),
    ('{"one.png": 3}', "no file of boxes"),
    ('{"one.png": {}}', "is no list"), ('{"one.png": ""}', "is no list"),
    ('{"one.png": [[0, 0, 9, 9]], "one.png": []}', "a picture twice"),
    ('{"one.png": [[0, 0, 1%s, 4]]}' % ("0" * 400), "no file of boxes"),
])
def test_what_is_no_file_of_boxes_is_refused(client, place, content, words):
  (place / "boxes.json").write_text(content)
  code, _, err = encrypt(client, f"--protect={place / 'boxes.json'}")
  assert code == 2 and words in err and "Traceback" not in err
  assert not (place / "out").exists()


def test_pictures_of_which_nothing_is_said_are_refused(client, place):
  (place / "boxes.json").write_text(json.dumps({
      "one.png": [[400, 0, 410, 9]], "grey.png": [],
  }))
  code, printed, err = encrypt(client, f"--protect={place / 'boxes.json'}")
  assert code == 1 and "does not name it" in err
  assert "lies outside its 40x24 pixels" in err and "1 picture(s)" in printed
  code, _, err = encrypt(client, "--protect=@none.json", out="@other")
  assert code == 2 and "cannot be read" in err
  code, _, err = encrypt(client, "--protect-cell=2", out="@other")
  assert code == 2 and "no effect without --protect" in err


def test_masks_protect_what_is_not_zero(client, place):
  for name in BOXES:
    mask = np.zeros(SIZE, np.uint8)
    mask[3, 30] = name == "one.png"
    save(place / "masks" / name.replace(".jpg", ".png"), mask)
  code, printed, err = encrypt(
      client, f"--protect={place / 'masks'}", "--protect-cell=2",
      "--keys=@keys",
  )
  assert code == 0 and "grey.png, more/two.jpg" in printed, err
  (text,) = (entry["protect"] for entry in entries(place)
             if "protect" in entry)
  np.testing.assert_array_equal(
      regions.from_text(text, 3, 5) > 0, [[0, 0, 1, 1, 0]] * 2 + [[0] * 5]
  )
  save(place / "masks" / "one.png", np.zeros((8, 8), np.uint8))
  code, _, err = encrypt(client, f"--protect={place / 'masks'}", out="@other")
  assert code == 1 and "a mask of 8x8 pixels" in err


def test_the_server_gets_a_region_as_one_histogram_and_no_word_of_it(
    client, place, boxes
):
  with fake_server.running() as server:
    code, printed, err = client(
        "segment", "@in", "@out", f"--server={server.url}", "--form", boxes
    )
    assert code == 0, err
    assert "Where the protected regions lie" in printed
    line = server.heard[-1]
    assert "protect" not in line[0] + line[1]
    sent = {Image.open(fake_server.io.BytesIO(body)).size
            for body in server.uploads}
    assert sent == {SIZE[::-1]}
    code, _, err = client(
        "segment", "@in", "@out", f"--server={server.url}", "--form"
    )
    assert code == 2 and "asked for in another way" in err
  said = json.loads((place / "out" / "labels.json").read_text())
  assert said["protect"].startswith("boxes ")


def test_what_a_resize_and_padding_make_of_protected_pixels_is_protected():
  mask = protect.of_boxes([[10, 10, 11, 11]], (48, 64))
  values = np.where(mask, 255, 0).astype(np.uint8)
  for size in ((24, 32), (96, 100), (17, 64)):
    made = np.asarray(Image.fromarray(values).resize(
        size[::-1], Image.Resampling.BILINEAR
    ))
    assert protect.resized(mask, size)[made > 0].all()
    assert protect.resized(mask, size).mean() < 0.02
  mask = protect.of_boxes([[0, 15, 1, 16]], (20, 16))
  protection = protect.Protection(None, regions.REGION, "")
  cells = protection.cells(mask, (20, 16), (8,), 8, "blockwise")
  # Row 15 is also row 23, in the padding.
  np.testing.assert_array_equal(cells > 0, [[0, 0], [1, 0], [1, 0]])


@pytest.mark.parametrize("cell", [regions.REGION, 2])
def test_a_copy_of_a_block_in_the_padding_is_of_the_cell_of_the_block(cell):
  # A server chooses its patch: of a part of a region it must not get more.
  mask = protect.of_boxes([[0, 0, 24, 16]], (16, 40))
  protection = protect.Protection(None, cell, "")
  alone = protection.cells(mask, (16, 40), (8,), 8, "blockwise")
  numbers = np.arange(alone.size, dtype=np.uint8).reshape(2, 5)
  image = numbers.repeat(8, 0).repeat(8, 1)[..., None]
  for unit in (16, 32, 64):
    cells = protection.cells(mask, (16, 40), (8, unit), 8, "blockwise")
    copies = pictures.pad(image, unit)[::8, ::8, 0]  # the block each is of
    np.testing.assert_array_equal(cells, alone.ravel()[copies])


def test_without_opencv_a_sentence_says_how_to_get_it(
    client, place, monkeypatch
):
  monkeypatch.setattr(detect.importlib.util, "find_spec", lambda name: None)
  code, _, err = encrypt(client, "--protect=faces")
  assert code == 2 and "ppseg_jax[recognition]" in err


def test_a_face_is_found_and_protected_and_an_even_picture_holds_none(
    client, place
):
  pytest.importorskip("cv2")
  for name in BOXES:
    (place / "in" / name).unlink()
  face = skimage.data.astronaut()[32:192:2, 152:312:2]  # 80 x 80
  save(place / "in" / "face.png", face)
  save(place / "in" / "even.png", np.full((80, 80, 3), 90, np.uint8))
  protection = protect.read("faces", "region")
  mask = protection.find(None, face)
  assert mask[30:60, 25:48].all() and not mask.all()
  with fake_server.running() as server:
    server.said["largest"] = [96, 96]
    code, printed, err = client(
        "segment", "@in", "@out", f"--server={server.url}", "--form",
        "--protect=faces", "--jobs=1",
    )
  assert code == 0, err
  assert "nothing in them is protected (1): even.png" in printed
