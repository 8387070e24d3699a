"""Which schemes a run can serve, and how hidden layouts are answered."""

import sys

import numpy as np
import pytest

from ppseg_jax.encryption import get_scheme, reference
from ppseg_jax.errors import UserError
from ppseg_jax.server import __main__ as command
from ppseg_jax.server import served
from ppseg_jax.server.programs import Programs
from ppseg_jax.server.refusal import Refused
from ppseg_jax.server.served import LABELS, LOGITS
from tests.helpers import photo, tiny_config
from tests.server.helpers import write_run

SIZE = (16, 24)


@pytest.fixture(scope="module")
def bag(small, tmp_path_factory):
  """The folder of a run whose model needs no places."""
  folder = tmp_path_factory.mktemp("bag") / "run"
  return write_run(folder, model__pos_embed="none")[0]


def test_a_hidden_layout_gets_logits_that_the_key_puts_in_order(bag):
  visible, hidden = (served.load(bag, name)
                     for name in ("blockwise", "blockwise_hidden"))
  assert hidden.described()["hidden"] == {"bands": 0}
  assert hidden.described()["answers"] == [LOGITS] and not hidden.forms
  assert visible.kinds() == (LABELS, LOGITS)

  programs = Programs(hidden, [], (1,), SIZE, 1)
  program = programs.compile(SIZE)
  numbers = np.kron(np.arange(6).reshape(2, 3), np.ones((8, 8)))
  numbers = np.repeat(numbers[..., None], 3, -1).astype(np.uint8)
  scheme, in_order = get_scheme("blockwise_hidden"), []
  for seed in range(2):
    key = np.array([seed, 0, 0, 0], np.uint32)
    cipher = reference.encrypt(scheme, key, photo(*SIZE), 8)
    (logits,) = programs.run(program, [cipher], {LOGITS})[LOGITS]  # [h, w, K]
    blocks = reference.encrypt(scheme, key, numbers, 8)[::8, ::8, 0]
    in_order.append(logits.reshape(6, -1)[np.argsort(blocks.ravel())])
  np.testing.assert_array_equal(*in_order)
  assert (np.diff(in_order[0], axis=0) != 0).any(1).all()


@pytest.mark.parametrize("scheme, said", [
    ("blockwise_hidden", "needs to know"),
    ("blockwise_bands2", "needs to know"),
    ("independent", "reads blockwise"),
    ("rot13", "none of"),
])
def test_a_scheme_that_the_model_does_not_read_is_refused(run, scheme, said):
  with pytest.raises(UserError, match=said):
    served.load(run[0], scheme)


def contributed(scheme, **fields):
  """The config of a run that was trained on what others encrypted."""
  config = tiny_config(model__stem=0, model__aux=False, **fields)
  config.scheme, config.data.name = scheme, "encrypted"
  return config


@pytest.mark.parametrize("scheme, form, found", [
    ("blockwise_scrambled", "blockwise", "blockwise"),
    ("aso2024", "blockwise_value", "blockwise_value"),
    ("blockwise_pixel", "blockwise_pixel", "blockwise_pixel"),
    ("blockwise_hidden", "blockwise", "blockwise_hidden"),
])
def test_nobody_is_by_default_served_labels_that_only_a_key_can_place(
    scheme, form, found
):
  config = contributed(scheme, model__form=form, model__pos_embed="none")
  assert served._scheme(config, "").name == found


@pytest.mark.parametrize("scheme, fields, said", [
    ("blockwise_scrambled", {"model__form": "blockwise_scrambled"},
     "--scheme=blockwise_scrambled: .* none that stays"),
    ("etc", {"model__form": "plain"}, "--scheme=etc: "),
    ("blockwise_hidden", {"model__form": "blockwise"}, "needs to know"),
])
def test_a_run_of_moved_blocks_that_reads_no_others_is_refused(
    scheme, fields, said
):
  for name in ("", scheme):
    with pytest.raises(UserError, match=said):
      served._scheme(contributed(scheme, **fields), name)


def test_what_is_no_run_is_refused(tmp_path):
  with pytest.raises(UserError, match="holds no trained model"):
    served.load(tmp_path)


def test_a_run_of_shared_keys_is_refused(small, tmp_path):
  folder, _ = write_run(
      tmp_path / "run", scheme="independent", key_plan="shared",
      model__form="plain", data__flip=False,
  )
  with pytest.raises(UserError, match="key_plan=shared"):
    served.load(folder)


def test_sizes_that_cannot_be_are_refused_at_the_start(run):
  model = served.load(run[0])
  with pytest.raises(UserError, match="--sizes=16x20: .* blocks of 8"):
    Programs(model, [(16, 20)], (1,), SIZE, 4)
  with pytest.raises(UserError, match="largest taken is 16x24"):
    Programs(model, [(24, 24)], (1,), SIZE, 4)
  with pytest.raises(UserError, match="--max-sizes=1"):
    Programs(model, [(8, 8), (16, 16)], (1,), SIZE, 1)


@pytest.mark.parametrize("error, said", [
    (UserError("not of this size."), "not of this size"),
    (RuntimeError("RESOURCE_EXHAUSTED: secret"), "image of 16x24"),
])
def test_a_size_that_cannot_be_compiled_is_refused_and_not_tried_again(
    run, monkeypatch, error, said
):
  programs, tried = Programs(served.load(run[0]), [], (1,), SIZE, 1), []

  def refuse(size, batch):
    tried.append(size)
    raise error

  monkeypatch.setattr(programs, "_compile", refuse)
  for _ in range(2):
    with pytest.raises(Refused, match=said) as refused:
      programs.compile(SIZE)
    assert refused.value.status == 422 and "secret" not in str(refused.value)
  assert tried == [SIZE]
  programs.check((8, 8))


def test_the_size_that_was_not_asked_for_the_longest_makes_room(
    run, monkeypatch
):
  model = served.load(run[0])
  programs = Programs(model, [SIZE], (1,), SIZE, 3)
  monkeypatch.setattr(programs, "_compile", lambda size, batch: size)
  programs.compile_ahead()
  for width in (8, 16):
    programs.compile((8, width))
  held = programs.find((8, 8))
  programs.compile((16, 16))
  assert held and programs.find((8, 8)) and programs.find((16, 16))
  assert programs.find(SIZE) and not programs.find((8, 16))
  assert len(programs) == 3

  full = Programs(model, [SIZE], (1,), SIZE, 1)
  with pytest.raises(Refused, match="no further size; send 16x24") as refused:
    full.check((8, 8))
  assert refused.value.status == 503 and not refused.value.retry_after


@pytest.mark.parametrize("args, said", [
    ((), "--workdir"),
    (("--workdir=x", "--port=99999"), "--port=99999"),
    (("--workdir=x", "--queue=0"), "--queue=0"),
    (("--workdir=x", "--sizes=12"), "height x width"),
    (("--workdir=x", "--batches=1,no"), "--batches=no"),
    (("--workdir=/nowhere",), "holds no trained model"),
    (("--workdir=x", "--key=1"), "--key"),
])
def test_a_wrong_command_line_gets_a_sentence(args, said, capsys):
  assert command.main(list(args)) == 2
  err = capsys.readouterr().err
  assert said in err and err.count("\n") == 1


def test_what_is_missing_is_named_with_the_command_that_brings_it(
    monkeypatch, capsys
):
  monkeypatch.setitem(sys.modules, "uvicorn", None)
  monkeypatch.delitem(sys.modules, "ppseg_jax.server.listen", raising=False)
  monkeypatch.delattr("ppseg_jax.server.listen", raising=False)
  assert command.main(["--workdir=x"]) == 2
  assert 'pip install "ppseg_jax[server]"' in capsys.readouterr().err
