import pytest

from ppseg_jax.client.__main__ import main
from tests.client.helpers import SIZE, grey, save
from tests.helpers import photo


@pytest.fixture
def place(tmp_path):
  """A folder `in` with a colour, a grey and, in a subfolder, a JPEG picture."""
  save(tmp_path / "in" / "one.png", photo(*SIZE, 1))
  save(tmp_path / "in" / "grey.png", grey())
  save(tmp_path / "in" / "more" / "two.jpg", photo(*SIZE, 2))
  return tmp_path


@pytest.fixture
def client(place, capsys):
  """Calls the command line in `place`; (exit code, stdout, stderr)."""
  def call(*args):
    words = [
        word if word.startswith("--") and "keys" not in word
        else word.replace("@", f"{place}/") for word in args
    ]
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err

  return call
