"""Batches: complete, repeatable, each image under its index."""

import itertools

import numpy as np
import pytest

from ppseg_jax.data.augment import make_augment
from ppseg_jax.data.labels import VOID
from ppseg_jax.data.pipeline import cached, eval_batches, order, train_batches
from ppseg_jax.errors import UserError
from tests.data.helpers import Numbers, augmentation


def keep(rng, image, labels):
  return {"image": image, "label": labels}


def read(source, first=0, last=6, augment=keep, batch_size=4, **rest):
  return list(train_batches(
      source, augment, batch_size=batch_size, seed=3, first_step=first,
      last_step=last, **rest,
  ))


def same(one, two):
  return all(
      np.array_equal(a[name], b[name])
      for a, b in zip(one, two, strict=True) for name in a
  )


def test_each_epoch_reads_every_image_once_in_an_order_of_its_own():
  batches = read(Numbers(7), last=7)
  pairs = [(int(e), int(i)) for b in batches
           for e, i in zip(b["epoch"], b["index"], strict=True)]
  assert pairs == sorted(pairs, key=lambda pair: pair[0])
  orders = [[i for e, i in pairs if e == epoch] for epoch in range(4)]
  assert all(sorted(o) == list(range(7)) for o in orders)
  assert len(set(map(tuple, orders))) > 1
  assert orders[1] == order(3, 1, 7).tolist()


def test_batches_hold_the_images_their_index_names():
  for batch in read(Numbers(7)):
    assert batch["image"].dtype == batch["label"].dtype == np.uint8
    assert batch["image"][:, 0, 0, 0].tolist() == batch["index"].tolist()


def test_starting_at_a_step_reads_what_an_unbroken_run_reads_there():
  augment = make_augment(augmentation())
  whole = read(Numbers(7), augment=augment)
  assert same(read(Numbers(7), first=4, augment=augment), whole[4:])
  assert not same(whole[:2], whole[2:4])


def test_processes_read_the_parts_of_one_batch():
  whole = read(Numbers(7))
  for rows in ([0, 1], [2, 3], [0, 2], [3]):
    part = read(Numbers(7), rows=np.array(rows))
    for batch, some in zip(whole, part, strict=True):
      for name, values in some.items():
        np.testing.assert_array_equal(values, batch[name][rows])


@pytest.mark.parametrize("count, parts", [
    (10, [[0, 1, 2, 3]]), (8, [[0, 1, 2, 3]]), (3, [[0, 1], [2, 3]]),
    (1, [[0, 2], [1, 3]]),
])
def test_evaluation_counts_every_image_once_and_void_for_the_rest(
    count, parts
):
  seen = []
  for rows in parts:
    batches = list(eval_batches(
        Numbers(12), count, batch_size=4, rows=np.array(rows)
    ))
    assert len(batches) == -(-count // 4)
    for batch, place in itertools.product(batches, range(len(rows))):
      index = batch["index"][place]
      if index < 0:
        assert (batch["label"][place] == VOID).all()
      else:
        assert (batch["label"][place] == index).all()
        seen.append(int(index))
  assert sorted(seen) == list(range(count))


def test_cached_source_reads_each_image_once():
  source = Numbers(5)
  kept = cached(source)
  for _ in range(3):
    assert (kept[2][0] == 2).all()
  assert source.reads == [2] and len(kept) == 5


def test_an_error_in_a_reading_thread_reaches_the_reader():
  class Broken(Numbers):
    def __getitem__(self, index):
      raise UserError("x.png: not a readable image")

  with pytest.raises(UserError, match="x.png"):
    read(Broken(7))
