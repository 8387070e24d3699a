"""Pictures released with differential privacy before they are encrypted."""

import numpy as np
import pytest

from ppseg_jax import pictures
from ppseg_jax.encryption.blocks import split
from tests.client.helpers import SIZE, pixels, save
from tests.helpers import photo

NOISE = ("--block=8", "--epsilon=3/2", "--pixels=2")


@pytest.fixture
def only(place):
  """`place` with one picture that is 3 rows higher and 5 columns wider."""
  for name in ("one.png", "grey.png", "more/two.jpg"):
    (place / "in" / name).unlink()
  save(place / "in" / "odd.png", photo(SIZE[0] + 3, SIZE[1] + 5))
  return place


def test_what_is_encrypted_is_a_release_of_its_own_noise(client, only):
  shown = []
  for out in ("@out", "@again"):
    code, printed, err = client("encrypt", "@in", out, *NOISE, "--crop")
    assert code == 0, err
    path = only / out[1:] / "odd.png"
    assert pictures.read_header(path) == pictures.Header(
        "blockwise_q1", 8, SIZE[1], SIZE[0], noise="epsilon 3/2, 2 pixels"
    )
    blocks = split(pixels(path)[None], 8)
    assert (blocks == blocks[:, :, :1, :1]).all()  # a noisy mean and no more
    shown.append(blocks)
  assert (shown[0] != shown[1]).any()
  assert "of one picture epsilon 1.5" in printed
  assert "of 2: epsilon 3; of 10: epsilon 15; of 100: epsilon 150" in printed
  code, printed, err = client("encrypt", "@in", "@out", *NOISE, "--crop")
  assert code == 0 and "1 done before" in printed  # no budget is spent again
  np.testing.assert_array_equal(
      split(pixels(only / "out" / "odd.png")[None], 8), shown[0]
  )


def test_no_file_passes_for_a_release_of_another_budget_or_of_none(
    client, only
):
  exact = ("--block=8", "--level=q1")
  save(only / "in" / "odd.png", photo(*SIZE))  # whole, so that levels take it
  others = [exact, NOISE, ("--block=8", "--rho=3/2", "--pixels=2"),
            ("--block=8", "--epsilon=3/2", "--pixels=1")]
  for first in others[:2]:
    assert client("encrypt", "@in", f"@{first[-1]}", *first)[0] == 0
    before = (only / first[-1] / "odd.png").read_bytes()
    for second in others:
      if second == first:
        continue
      code, printed, err = client("encrypt", "@in", f"@{first[-1]}", *second)
      assert code == 1 and "noise" in err and "done before" not in printed
      assert (only / first[-1] / "odd.png").read_bytes() == before


def test_a_noisy_histogram_has_values_of_few_bits_alone(client, only):
  code, printed, err = client(
      "encrypt", "@in", "@out", *NOISE, "--bits=2", "--crop"
  )
  assert code == 0, err
  path = only / "out" / "odd.png"
  assert pictures.read_header(path).scheme == "blockwise_b2"
  assert set(np.unique(pixels(path))) <= {32, 96, 160, 224}
  assert "noisy histogram of the upper 2 bits" in printed


def test_a_picture_is_not_padded_for_a_release(client, only):
  code, _, err = client("encrypt", "@in", "@out", *NOISE)
  assert code == 1 and "--crop cuts" in err and "padding would repeat" in err
  assert not list((only / "out").rglob("*.png"))


@pytest.mark.parametrize("words, said", [
    (("--epsilon=1",), "need --pixels"),
    (("--pixels=4",), "--pixels has no effect without"),
    (("--crop",), "--crop has no effect without"),
    (("--epsilon=1", "--rho=1", "--pixels=4"), "give one"),
    (("--epsilon=0", "--pixels=4"), "above 0"),
    (("--epsilon=x", "--pixels=4"), "--epsilon"),
    (("--epsilon=1", "--pixels=4", "--level=q4"), "--groups or --bits"),
    (("--epsilon=1", "--pixels=4", "--bits=9"), "bits=9"),
    (("--epsilon=1", "--pixels=4", "--bits=2", "--groups=4"), "one of the two"),
    (("--bits=2",), "--bits has no effect without"),
    (("--epsilon=1", "--pixels=4", "--labels=@in"), "no noise protects them"),
    (("--epsilon=1", "--pixels=4", "--scheme=blockwise_value"),
     "mixes channels"),
    (("--epsilon=1", "--pixels=4", "--scheme=independent"), "no levels"),
    (("--epsilon=1", "--pixels=4", "--keys=@keys"), "no key brings back"),
])
def test_noise_that_would_not_hold_what_it_says_is_refused(
    client, place, words, said
):
  code, _, err = client("encrypt", "@in", "@out", *words)
  assert code == 2 and said in err
  assert not (place / "out").exists()
