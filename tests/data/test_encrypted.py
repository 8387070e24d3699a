"""Contributions as a source: who fits whom, which file is in which split."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ppseg_jax import data, pictures
from ppseg_jax.attacks import suite
from ppseg_jax.configs import attacks
from ppseg_jax.data import __main__ as command
from ppseg_jax.data import check, encrypted
from ppseg_jax.data.convert import convert
from ppseg_jax.data.encrypted import Declaration
from ppseg_jax.data.labels import CAMVID, CITYSCAPES, VOID
from ppseg_jax.data.layouts import LAYOUTS
from ppseg_jax.errors import UserError
from ppseg_jax.runs import keys, record
from tests.helpers import ROOT, photo, tiny_config

USUAL = Declaration("blockwise", 8, 48, 32, "places", CAMVID)


def write(folder, count=2, first=0, **other):
  """A contribution whose image i is `photo` of seed first + i, labels i."""
  declared = dataclasses.replace(USUAL, **other)
  size = (declared.height, declared.width)
  for i in range(count):
    pixels, labels = photo(*size, first + i), np.full(size, i, np.uint8)
    labels[:, -1] = VOID
    header = pictures.Header(declared.scheme, declared.block, *size[::-1])
    for kind, content in (
        ("images", pictures.encode(pixels, header)),
        ("labels", pictures.encode(labels[..., None])),
    ):
      path = folder / kind / f"{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(content)
  (folder / "encrypted.json").write_text(declared.to_text())
  return folder


def make(folders, **fields):
  return tiny_config(
      data__name="encrypted", data__dir=",".join(map(str, folders)), **fields
  )


@pytest.fixture
def clients(tmp_path):
  """Three: of train alone, of train and val, of val alone."""
  write(tmp_path / "a", 3)
  write(tmp_path / "b" / "train", 2, first=10)
  write(tmp_path / "b" / "val", 1, first=20)
  write(tmp_path / "c" / "val", 2, first=30)
  return [tmp_path / name for name in "abc"]


def test_what_is_declared_is_read_back(tmp_path):
  for name, (space, _) in (LAYOUTS | data.DRAWN).items():
    declared = dataclasses.replace(USUAL, space=space)
    (tmp_path / "encrypted.json").write_text(declared.to_text())
    found = encrypted.read_declaration(tmp_path)
    assert found.facts() == declared.facts(), name
    assert found.space.colours == space.colours


def test_images_come_as_they_were_sent_folder_after_folder(clients):
  config = make(clients)
  source = data.load(config.data, "train")
  assert len(source) == 5 and source.label_space.names == CAMVID.names
  for index, seed in enumerate((0, 1, 2, 10, 11)):
    image, labels = source[index]
    np.testing.assert_array_equal(image, photo(32, 48, seed))
    assert (labels[:, -1] == VOID).all()
    assert (labels[:, :-1] == seed % 10).all()
  val = data.load_test(config, "val")
  assert [val[i][0][0, 0, 0] for i in range(3)] == [
      photo(32, 48, seed)[0, 0, 0] for seed in (20, 30, 31)
  ]


def test_a_share_is_held_out_where_no_client_says_what_is_val(tmp_path):
  folder = write(tmp_path / "a", 12)
  config = make([folder], data__val_share=0.4)
  names = [
      {image for image, _ in data.load(config.data, split).files}
      for split in ("train", "val")
  ]
  assert not names[0] & names[1] and len(names[0] | names[1]) == 12
  with pytest.raises(UserError, match="no images of val"):
    data.load(make([folder]).data, "val")
  write(folder / "val")
  with pytest.raises(UserError, match="has a folder val, but data.val_share"):
    data.load(config.data, "train")


@pytest.mark.parametrize("other, said", [
    ({"scheme": "blockwise_value"}, "scheme is blockwise in the one and"),
    ({"block": 16}, "block is 8 in the one and 16"),
    ({"width": 64}, "size is 48x32 in the one and 64x32"),
    ({"space": CITYSCAPES}, "classes is sky, .* in the one and road"),
    ({"labels": "amounts"}, "labels is places in the one and amounts"),
])
def test_clients_that_do_not_fit_are_refused(tmp_path, other, said):
  one, two = write(tmp_path / "a", 1), write(tmp_path / "b", 1, **other)
  with pytest.raises(UserError, match=said):
    data.label_space(make([one, two]).data)


@pytest.mark.parametrize("fields, said", [
    ({"scheme": "blockwise_value"}, "use --config.scheme=blockwise,"),
    ({"block": 16}, "use --config.block=8,"),
    ({"data__height": 64}, "use --config.data.height=32,"),
    ({"data__width": 64}, "use --config.data.width=48,"),
])
def test_a_config_that_says_otherwise_is_refused(clients, fields, said):
  with pytest.raises(UserError, match=said):
    data.check_encrypted(make(clients, **fields))
  with pytest.raises(UserError, match=said.replace("scheme", "eval.scheme")):
    data.load_test(make(clients, **fields), "val")
  data.check_encrypted(make(clients))
  data.check_encrypted(tiny_config())


@pytest.mark.parametrize("fields, said", [
    ({"setting": "home"}, "use setting=cloud"),
    ({"key_plan": "shared"}, "key_plan=shared has no meaning"),
    ({"eval__key_plan": "client"}, "eval.key_plan=client has no meaning"),
    ({"start__adapt": True}, "start.adapt needs a key that images share"),
    ({"eval__adapt": True, "model__form": "plain"}, "eval.adapt needs a key"),
    ({"data__scale_max": 2.0}, "all that may augment them; use 1.0"),
    ({"data__photometric": 0.1}, "changes plain images"),
    ({"data__resize": "none"}, "use exact"),
    ({"data__crop_width": 20}, "not a multiple of"),
    ({"scheme": "blockwise_hidden"}, "use model.stem=0"),
    ({"scheme": "blockwise_hidden", "model__stem": 0}, "pos_embed=none"),
    ({"scheme": "blockwise_hidden", "model__stem": 0,
      "model__pos_embed": "none", "data__crop_width": 32}, "use eval.whole"),
    ({"scheme": "blockwise_scrambled", "model__stem": 0,
      "model__pos_embed": "none"}, "sorts the blocks of an image"),
])
def test_what_needs_plain_images_places_or_keys_is_refused(fields, said):
  with pytest.raises(UserError, match=said):
    make(["a"], **fields)


def test_a_model_of_moved_blocks_reads_the_form_that_leaves_them():
  fields = {"model__stem": 0, "model__pos_embed": "none"}
  config = make(["a"], scheme="blockwise_hidden", **fields)
  assert config.model.form == "blockwise"
  clients = keys.of_training(config)
  assert clients.moved and clients.scheme == "plain"
  other = make(["a"], scheme="blockwise_hidden", eval__data_name="streets",
               **fields)
  clients = keys.of_test(other)
  assert not clients.moved and clients.scheme == "blockwise_hidden"


def test_a_record_says_that_the_keys_were_the_clients():
  config = make(["a"])
  found = record.protocol(config, 1, {}, 0.0)
  assert (found["key_plan"], found["keys_seed"]) == ("the clients' own", None)
  assert (found["data"], found["counted_at"]) == ("encrypted", "input")
  config = tiny_config(eval__data_name="encrypted", eval__data_dir="x/a,y/b")
  assert record.name_of(config) == "blockwise_on_a_b"


def spoil(folder, what):
  path = folder / what / "0.png"
  if what == "labels":
    Image.fromarray(np.zeros((32, 56), np.uint8)).save(path)
  else:
    header = pictures.Header("blockwise", 16, 48, 32)
    path.write_bytes(pictures.encode(photo(32, 48), header))


@pytest.mark.parametrize("what, said", [
    ("labels", "labels of 56x32 pixels do not fit"),
    ("images", "blocks of 16, and not what its declaration says"),
])
def test_a_file_that_is_not_as_declared_is_found_before_training(
    tmp_path, what, said
):
  folder = write(tmp_path / "a")
  spoil(folder, what)
  with pytest.raises(UserError, match=said):
    check.scan(make([folder]).data, ("train",))


def test_a_plain_picture_among_the_ciphertexts_is_refused(tmp_path):
  folder = write(tmp_path / "a")
  Image.fromarray(photo(32, 48)).save(folder / "images" / "0.png")
  with pytest.raises(UserError, match="0.png was not written by 'encrypt'"):
    data.load(make([folder]).data, "train")[0]


def test_folders_that_moved_apart_are_the_same_data(clients, tmp_path):
  before = check.scan(make(clients).data, ("train", "val")).to_json()
  moved = []
  for number, folder in enumerate(clients):
    moved.append(tmp_path / f"disk{number}" / "moved")
    shutil.move(folder, moved[-1])
  after = check.scan(make(moved).data, ("train", "val"), before)
  assert after.fingerprint == before["fingerprint"]
  assert sum(after.splits["train"].pixels) == 5 * 32 * 48


@pytest.mark.parametrize("text, said", [
    ("", "needs the clients' folders"), ("a,b,a", "names 'a' twice"),
    ("nowhere", "'nowhere' has no encrypted.json"),
])
def test_folders_that_are_none_are_named(text, said):
  with pytest.raises(UserError, match=said):
    encrypted.contributions(text)


@pytest.mark.parametrize("change, said", [
    ({"format": 2}, "not of format 1"), ({"block": "8"}, "is damaged"),
    ({"width": 50}, "is damaged"), ({"keys": 1}, "is damaged"),
    ({"labels": "secret"}, "is damaged"), ({"classes": [{}]}, "entry 1"),
])
def test_a_declaration_that_is_not_one_is_refused(tmp_path, change, said):
  value = json.loads(USUAL.to_text()) | change
  (tmp_path / "encrypted.json").write_text(json.dumps(value))
  with pytest.raises(UserError, match=said):
    encrypted.read_declaration(tmp_path)


def test_the_commands_that_look_at_data_look_at_ciphertexts(
    clients, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  words = ["--config=configs/setr_enc.py", "--config.data.name=encrypted",
           f"--config.data.dir={','.join(map(str, clients))}",
           "--config.data.height=32", "--config.data.width=48"]
  panel = f"--panel={tmp_path / 'panel.png'}"
  assert command.main(["check", *words, panel]) == 0
  out = capsys.readouterr().out
  assert "train: 5 images" in out and "val: 3 images" in out
  assert (tmp_path / "panel.png").exists()
  assert command.main(["check", *words, "--config.block=16"]) == 2
  assert "use --config.block=8" in capsys.readouterr().err
  with pytest.raises(UserError, match="is not converted"):
    convert(make(clients).data, tmp_path)
  config = attacks.get_config()
  config.data.name = "encrypted"
  with pytest.raises(UserError, match="has no plain images"):
    suite.check(config)

