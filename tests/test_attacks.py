"""Attacks find what they should, and nothing where there is nothing."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from configs import setr_plain
from ppseg_jax import config as config_checks
from ppseg_jax.attacks import (
    ATTACKS,
    Budget,
    Knowledge,
    correlation,
    known_plaintext,
    layout,
    recognition,
    targets,
)
from ppseg_jax.attacks import challenge as challenges
from ppseg_jax.attacks.forms import make_forms
from ppseg_jax.attacks.knowledge import split
from ppseg_jax.attacks.scores import edge, psnr, scores, ssim
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.data.streets.source import render
from ppseg_jax.encryption import (
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    RotateFlip,
    Scheme,
    encrypt,
    get_scheme,
    key_from_seed,
)
from ppseg_jax.errors import UserError
from ppseg_jax.runs import checkpoints
from ppseg_jax.runs import model as models
from tests.helpers import photo, random_variables

BLOCK = 8
SMALL = Budget(steps=2, rounds=6, tries=8)


@pytest.fixture(scope="module")
def scene():
  return render(3, 5, 192, 256)[0]


def hidden(scheme, image, seed=0, block=BLOCK):
  return np.asarray(encrypt(scheme, key_from_seed(seed), image, block))


def know(scheme, *ciphertexts, block=BLOCK, **fields):
  scheme = scheme if isinstance(scheme, Scheme) else targets.get(scheme)
  return Knowledge(np.stack(ciphertexts), scheme, block, **fields)


def test_ssim_is_that_of_a_direct_computation():
  one, two = photo(13, 12, 0), photo(13, 12, 1)
  weights = np.array([0.299, 0.587, 0.114])
  x, y = one @ weights, two @ weights
  tap = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
  window = np.outer(tap, tap) / tap.sum() ** 2
  found = []
  for i in range(3):
    for j in range(2):
      a, b = x[i:i + 11, j:j + 11], y[i:i + 11, j:j + 11]
      ma, mb = (window * a).sum(), (window * b).sum()
      va = (window * (a - ma) ** 2).sum()
      vb = (window * (b - mb) ** 2).sum()
      cov = (window * (a - ma) * (b - mb)).sum()
      c1, c2 = 2.55**2, 7.65**2
      found.append((2 * ma * mb + c1) * (2 * cov + c2)
                   / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
  assert ssim(one, two) == pytest.approx(np.mean(found), abs=1e-9)


def test_equal_images_have_the_highest_scores_and_psnr_is_its_definition():
  image = photo(32, 32)
  assert scores(image[None], image[None]) == pytest.approx(
      {"ssim": 1, "psnr": 100, "edge": 1}
  )
  other = image.copy()
  other[image < 128] += 16
  other[image >= 128] -= 16
  assert psnr(image, other) == pytest.approx(20 * np.log10(255 / 16))
  assert edge(image, np.full_like(image, 9)) == 0


@pytest.mark.parametrize("unit", ["value", "channel", "pixel"])
def test_correlation_opens_a_shuffle_shared_by_all_blocks(unit, scene):
  scheme = Scheme("x", (PixelShuffle(unit=unit, scope="image"),), "", "")
  found = correlation.attack(know(scheme, hidden(scheme, scene)), 0, SMALL)
  assert ssim(scene, hidden(scheme, scene)) < 0.7
  assert ssim(scene, found.images[0]) > 0.85


def test_correlation_opens_it_under_a_random_sign_of_each_block(scene):
  scheme = targets.get("image_negative_block")
  others = np.stack([render(4, i, 192, 256)[0] for i in range(4)])
  found = correlation.attack(
      know(scheme, hidden(scheme, scene), others=others), 0, SMALL
  )
  assert edge(scene, found.images[0]) > 0.75


@pytest.mark.parametrize("scheme", ["blockwise", "blockwise_value"])
def test_correlation_gains_nothing_on_a_permutation_of_each_block(
    scheme, scene
):
  cipher = hidden(scheme, scene)
  found = correlation.attack(know(scheme, cipher), 0, SMALL)
  assert abs(ssim(scene, found.images[0]) - ssim(scene, cipher)) < 0.1
  assert edge(scene, found.images[0]) < edge(scene, cipher) + 0.1


@pytest.mark.parametrize("scheme", [
    "independent", "image_pixel", "image_channel", "image_negative_value",
    "image_negative_block", "scramble_image", "blockwise",
    "blockwise_scrambled", "negative_value", "le", "ele", "pe", "etc",
    "aso2024", "horio2024",
])
def test_a_known_pair_opens_itself_exactly(scheme, scene):
  scheme = targets.get(scheme)
  cipher = hidden(scheme, scene)
  found = known_plaintext.attack(
      know(scheme, cipher, pair=(scene, cipher)), 0, SMALL
  )
  np.testing.assert_array_equal(found.images[0], scene)


def test_a_known_pair_opens_other_images_under_the_same_key_alone(scene):
  other = render(3, 6, 192, 256)[0]
  same, fresh = (hidden("independent", other, seed) for seed in (0, 1))
  pair = (scene, hidden("independent", scene, 0))
  found = known_plaintext.attack(
      know("independent", same, fresh, pair=pair), 0, SMALL
  ).images
  np.testing.assert_array_equal(found[0], other)
  assert ssim(found[1], other) < 0.8


def test_jigsaw_finds_neighbours_far_oftener_than_chance(scene):
  blocks = split(scene[None], 16)[0]
  cipher = hidden(targets.get("scramble"), scene, block=16)
  found = ATTACKS["jigsaw"](know("scramble", cipher, block=16), 0, SMALL)
  laid = split(found.images, 16)[0]
  number = {block.tobytes(): k for k, block in enumerate(blocks)}
  order = np.array([number[block.tobytes()] for block in laid]).reshape(12, 16)
  right = (order[:, 1:] == order[:, :-1] + 1).mean()
  assert right > 0.1  # of a random order: 0.005


@given(st.integers(0, 95), st.integers(0, 95))
def test_forms_of_a_block_are_a_group(one, two):
  forms = make_forms(True, True, True)
  block = photo(8, 8)[None]
  once = forms.apply(block)[one]
  twice = forms.apply(once)[two]
  np.testing.assert_array_equal(
      twice, forms.apply(block)[forms.after[two, one]]
  )
  np.testing.assert_array_equal(forms.apply(once)[forms.inverse[one]], block)
  np.testing.assert_array_equal(
      forms.turns[two] @ forms.turns[one], forms.turns[forms.after[two, one]]
  )


@pytest.fixture(scope="module")
def smooth():
  coarse = Image.fromarray(photo(96, 128)[::12, ::12])
  return np.asarray(coarse.resize((128, 96), Image.BICUBIC))


@pytest.mark.parametrize("scheme, light", [
    ("scramble", 0.8), ("etc", 0.8), ("scramble", 0.3), ("scramble", None),
])
def test_jigsaw_opens_smooth_pictures_whatever_was_done_to_whole_blocks(
    scheme, light, smooth
):
  others = (light * smooth[None]).astype(np.uint8) if light else None
  found = ATTACKS["jigsaw"](
      know(scheme, hidden(targets.get(scheme), smooth), others=others), 0, SMALL
  )
  assert ssim(smooth, found.images[0]) > 0.9


@pytest.mark.parametrize("ops", [
    (BlockScramble(fraction=0.25),),
    (BlockScramble(fraction=0.9),),
    (BlockScramble(height=2, fraction=0.25),),
    (BlockScramble(fraction=0.25), RotateFlip(scope="block")),
])
def test_jigsaw_puts_the_share_of_blocks_back_that_moved(ops, smooth):
  part = Scheme("part", ops, "", "")
  cipher = hidden(part, smooth)
  assert ssim(smooth, cipher) < 0.8
  found = ATTACKS["jigsaw"](
      know(part, cipher, others=smooth[None] // 2), 0, SMALL
  )
  assert ssim(smooth, found.images[0]) > 0.95


@pytest.mark.parametrize("scheme", [
    Scheme("flat", (BlockScramble(),), "", ""),
    Scheme("rows", (BlockScramble(height=1),), "", ""),
    Scheme("most", (BlockScramble(fraction=0.9),), "", ""),
])
@pytest.mark.parametrize("image", [
    np.full((16, 32, 3), 9, np.uint8), photo(16, 16), photo(8, 64),
])
def test_jigsaw_gives_every_block_back_of_small_and_flat_pictures(
    scheme, image
):
  found = ATTACKS["jigsaw"](know(scheme, hidden(scheme, image)), 0, SMALL)
  assert sorted(found.images.ravel()) == sorted(image.ravel())


def test_jigsaw_refuses_what_has_no_borders_to_compare():
  for image, block in ((photo(8, 16), 8), (photo(8, 8), 1)):
    cipher = hidden(targets.get("scramble"), image, block=block)
    with pytest.raises(UserError, match="three blocks or more"):
      ATTACKS["jigsaw"](know("scramble", cipher, block=block), 0, SMALL)


def test_blocks_may_lie_in_every_region_that_scramblings_join():
  twice = Scheme("twice", (BlockScramble(height=2), BlockScramble()), "", "")
  bands = Scheme("bands", (BlockScramble(height=2),), "", "")
  image = photo(32, 32)
  assert layout.allowed_cells(know(twice, image)).all()
  allowed = layout.allowed_cells(know(bands, image))
  np.testing.assert_array_equal(allowed, np.kron(np.eye(2), np.ones((8, 8))))


def test_jigsaw_goes_on_where_correlation_opened_the_shuffle():
  image = render(3, 5, 96, 128)[0]
  others = np.stack([render(4, i, 96, 128)[0] for i in range(12)])
  known = know("aso2024", hidden("aso2024", image), others=others)
  start, found = (
      psnr(image, ATTACKS[name](known, 0, SMALL).images[0])
      for name in ("correlation", "jigsaw")
  )
  assert found > start + 0.5


def test_folding_shows_contours_whatever_the_key(scene):
  ciphers = [hidden(targets.get("negative_value"), scene, s) for s in (0, 1)]
  found = ATTACKS["features"](know("negative_value", *ciphers), 0, SMALL)
  np.testing.assert_array_equal(*found.images)
  assert edge(scene, found.images[0]) > edge(scene, ciphers[0]) + 0.3


def test_the_mosaic_is_the_block_means_under_any_key(scene):
  plain, one = (
      ATTACKS["mosaic"](know("blockwise", x), 0, SMALL).images
      for x in (scene, hidden("blockwise", scene))
  )
  np.testing.assert_array_equal(plain, one)


def test_networks_read_the_canonical_form_alone(scene):
  others = np.stack([render(4, i, 192, 256)[0] for i in range(3)])
  ciphers = [hidden("blockwise", scene, seed) for seed in (0, 1)]
  found = ATTACKS["likeliest"](
      know("blockwise", *ciphers, others=others), 0, SMALL
  )
  np.testing.assert_array_equal(*found.images)


def test_layout_places_every_block_once_and_better_than_the_ciphertext(scene):
  others = np.stack([render(4, i, 192, 256)[0] for i in range(12)])
  cipher = hidden(targets.get("scramble"), scene, block=16)
  known = know("scramble", cipher, block=16, others=others)
  found = layout.attack(known, 0, Budget(steps=60, rounds=3, tries=8))
  assert sorted(found.images.ravel()) == sorted(scene.ravel())
  assert psnr(scene, found.images[0]) > psnr(scene, cipher) + 1


def test_layout_leaves_blocks_in_the_band_they_are_in(scene):
  others = np.stack([render(4, i, 192, 256)[0] for i in range(4)])
  scheme = targets.get("blockwise_bands2")
  cipher = hidden(scheme, scene, block=16)
  known = know(scheme, cipher, block=16, others=others)
  found = layout.attack(known, 0, SMALL).images[0].astype(float)
  for top in range(0, 192, 32):
    band = slice(top, top + 32)
    assert abs(found[band].mean() - scene[band].mean()) < 3


def test_labels_without_places_show_less(scene):
  images, labels = zip(*(render(4, i, 192, 256) for i in range(4)),
                       strict=True)
  truth = render(3, 5, 192, 256)[1]
  shuffled = hidden(targets.get("scramble"), np.stack([truth] * 3, -1))[..., 0]
  found = {
      name: ATTACKS["label_map"](
          know(name, scene, others=np.stack(images),
               other_labels=np.stack(labels), labels=given[None], classes=19),
          0, SMALL).images[0]
      for name, given in (("blockwise", truth),
                          ("blockwise_scrambled", shuffled))
  }
  assert psnr(scene, found["blockwise"]) > psnr(
      scene, found["blockwise_scrambled"])


def test_labels_and_pieces_stay_in_the_band_they_are_in(scene):
  bands = Scheme("bands", (BlockScramble(height=2),), "", "")
  truth = render(3, 5, 192, 256)[1]
  images, labels = (x[None] for x in render(4, 1, 192, 256))
  shuffled = hidden(bands, np.stack([truth] * 3, -1), block=16)[..., 0]
  known = know(bands, hidden(bands, scene, block=16), block=16, others=images,
               other_labels=labels, labels=shuffled[None], classes=19)
  laid = ATTACKS["jigsaw"](known, 0, SMALL).images[0]
  painted = ATTACKS["label_map"](known, 0, SMALL).images[0]
  for top in range(0, 192, 32):
    band = slice(top, top + 32)
    assert sorted(laid[band].ravel()) == sorted(scene[band].ravel())
    cells = split(truth[None, band, :, None], 16)[0].reshape(32, -1)
    major = [np.bincount(cell).argmax() for cell in cells]
    want = [np.rint(images[labels == label].mean(0)) if label in labels
            else np.full(3, 127) for label in major]
    found = split(painted[None, band], 16)[0][:, 0, 0]
    assert sorted(map(tuple, found)) == sorted(map(tuple, want))


def test_brute_force_says_how_hopeless_it_is(scene):
  cipher = hidden("independent", scene)
  found = ATTACKS["brute_force"](know("independent", cipher), 0, SMALL)
  assert found.notes["key_bits"] == 128
  assert found.notes["keys_per_second"] > 0
  assert found.notes["log10_years"] > 15
  assert ssim(scene, found.images[0]) < 0.8


@pytest.mark.parametrize("attack, scheme, part", [
    ("brute_force", "plain", "there is no key"),
    ("known_plaintext", "independent", "needs Knowledge.pair"),
    ("correlation", "scramble", "it shuffles no values"),
    ("jigsaw", "independent", "blocks are at their places"),
    ("jigsaw", "blockwise_scrambled", "leaves no borders to fit"),
    ("jigsaw", Scheme("mine", (BlockScramble(), NegativePositive(
        unit="value", scope="block")), "", ""), "of whole blocks"),
    ("features", "independent", "it negates no values"),
    ("mosaic", "scramble", "not at their places"),
    ("likeliest", "blockwise", "needs Knowledge.others"),
    ("inversion", "independent", "needs Knowledge.others"),
    ("layout", "scramble", "needs Knowledge.others"),
    ("label_map", "blockwise", "needs Knowledge.labels"),
])
def test_an_attack_says_what_it_lacks(attack, scheme, part):
  with pytest.raises(UserError, match=part):
    ATTACKS[attack](know(scheme, photo(32, 32)), 0, SMALL)


def test_what_cannot_be_known_is_refused():
  with pytest.raises(UserError, match="uint8"):
    know("blockwise", np.zeros((32, 32, 3)))
  with pytest.raises(UserError, match="one size"):
    know("blockwise", photo(32, 32), others=photo(48, 32)[None])
  with pytest.raises(UserError, match=r"budget\.steps=0"):
    Budget(steps=0)
  with pytest.raises(UserError, match="'rot13' is none of"):
    targets.get("rot13")


def test_inversion_refuses_what_has_a_canonical_form():
  with pytest.raises(UserError, match="canonical form"):
    ATTACKS["inversion"](
        know("blockwise", photo(32, 32), others=photo(32, 32)[None]), 0, SMALL
    )


def test_folding_needs_no_name_in_the_library():
  mine = Scheme("mine", (NegativePositive(unit="value", scope="block"),), "",
                "")
  image = photo(32, 32)
  assert get_scheme(mine) is mine
  found = ATTACKS["features"](know(mine, hidden(mine, image)), 0, SMALL)
  np.testing.assert_array_equal(
      found.images[0], 2 * np.minimum(image, 255 - image)
  )


def test_a_challenge_is_won_by_the_plain_images_and_not_by_the_ciphertexts(
    tmp_path, capsys
):
  (tmp_path / "photos").mkdir()
  for i in range(2):
    Image.fromarray(photo(70, 90, i)).save(tmp_path / "photos" / f"me{i}.png")
  out = tmp_path / "out"
  assert challenges.main(["make", f"--images={tmp_path / 'photos'}",
                          f"--out={out}"]) == 0
  names = {path.name for path in (out / "public").rglob("*.png")}
  assert names == {"000.png", "001.png"}  # an image's own name is not told
  rows = challenges.score(out, out / "public")
  assert [row["won"] for row in rows] == [False] * len(challenges.LEVELS)
  assert all(abs(row["progress"]) < 1e-9 for row in rows)
  level = next(iter(challenges.LEVELS))
  (tmp_path / "answer").mkdir()
  (out / "private").rename(tmp_path / "answer" / level)
  assert challenges.main(["score", f"--challenge={out}",
                          f"--submission={tmp_path / 'answer'}"]) == 2
  assert "does not hold" in capsys.readouterr().err
  (tmp_path / "answer" / level).rename(out / "private")
  (tmp_path / "answer" / level).mkdir()
  for path in (out / "private").iterdir():
    (tmp_path / "answer" / level / path.name).write_bytes(path.read_bytes())
  (row,) = challenges.score(out, tmp_path / "answer")
  assert row["won"] and row["ssim"] == pytest.approx(1)
  Image.fromarray(photo(32, 32)).save(tmp_path / "answer" / level / "000.png")
  with pytest.raises(UserError, match="32x32 pixels"):
    challenges.score(out, tmp_path / "answer")


def test_a_segmenter_reads_what_it_was_trained_on_and_refuses_the_rest(
    tmp_path
):
  config = config_checks.resolve(setr_plain.get_config())
  config.data.crop_height, config.data.crop_width = 32, 48
  model = models.make(config, 19)
  variables = random_variables(model, 32, 48)
  (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
  with pytest.raises(UserError, match="no finished checkpoint"):
    recognition.load(str(tmp_path), CITYSCAPES, "streets")
  manager = checkpoints.open_manager(tmp_path / "checkpoints", {})
  checkpoints.save(manager, 1, variables)
  manager.wait_until_finished()
  read = recognition.load(str(tmp_path), CITYSCAPES, "streets")
  images = np.stack([photo(32, 48, seed) for seed in range(3)])
  labels = np.asarray(model.apply(variables, images).argmax(-1), np.uint8)
  assert read(images, labels) == {"miou": 1.0, "pixel_accuracy": 1.0}
  wrong = read(images[:1], labels[1:2])
  same = float((labels[0] == labels[1]).mean())
  assert wrong["pixel_accuracy"] == pytest.approx(same) and same < 1
  large = images.repeat(2, 1).repeat(2, 2)
  assert read(large, labels.repeat(2, 1).repeat(2, 2))["miou"] > 0.5
  with pytest.raises(UserError, match="data 'streets'; 'plain' and 'camvid'"):
    recognition.load(str(tmp_path), CITYSCAPES, "camvid")
  with pytest.raises(UserError, match="holds no trained model; train one"):
    recognition.load(str(tmp_path / "none"), CITYSCAPES, "streets")


def test_the_command_writes_rows_and_panels(tmp_path):
  from configs import attacks as config_file
  from ppseg_jax.attacks import suite
  config = config_file.get_config()
  config.data.height, config.data.width, config.block = 64, 96, 8
  config.images, config.others, config.panels = 2, 3, 1
  config.attacks = ("known_plaintext", "correlation", "jigsaw")
  config.schemes = ("independent",)
  lines = []
  rows = suite.run(config, tmp_path, lines.append)
  written = json.loads((tmp_path / "result.json").read_text())["rows"]
  assert written == rows and len(lines) == len(rows) + 1
  by = {(row["attack"], row["keys"]): row for row in rows}
  assert by["ceiling", ""]["ssim"] == pytest.approx(1)
  assert by["floor", ""]["ssim"] < 0.7
  assert by["known_plaintext", "shared"]["ssim"] > 0.95
  assert by["known_plaintext", "image"]["ssim"] < 0.8
  assert by["known_plaintext", "image"]["images"] == 1
  assert by["jigsaw", "image"]["ssim"] is None
  assert "at their places" in by["jigsaw", "image"]["refused"]
  assert by["correlation", "image"]["seconds"] > 0
  assert (tmp_path / "panels" / "independent_000.png").is_file()


@pytest.mark.parametrize("field, value, part", [
    ("images", 0, "images=0"),
    ("others", 1, "others=1"),
    ("attacks", ("guess",), "'guess' is none of"),
    ("schemes", ("rot13",), "'rot13' is none of"),
    ("schemes", (), "must each name"),
    ("block", 7, "not a multiple of the block size 7"),
])
def test_a_bad_config_is_refused_in_a_sentence(field, value, part):
  from configs import attacks as config_file
  from ppseg_jax.attacks import suite
  config = config_file.get_config()
  config[field] = value
  with pytest.raises(UserError, match=part):
    suite.check(config)
