"""What the client leaves on a disk, in races, among links and when killed."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import PurePath

import pytest

from ppseg_jax.client import files
from ppseg_jax.errors import UserError

NAME = PurePath("a/one.png")


@pytest.fixture(params=["nameless", "hidden", "without hard links"])
def disk(request, monkeypatch):
  """The ways to write, from the best disk to the worst."""
  if request.param != "nameless":
    monkeypatch.setattr(files, "_NAMELESS", 0)
  if request.param == "without hard links":
    def link(*_, **__):
      raise OSError(errno.EPERM, "Operation not permitted")
    monkeypatch.setattr(os, "link", link)
  return request.param


def names(folder):
  return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")
                if not p.is_dir())


def test_a_new_file_is_written_and_a_taken_name_left_alone(disk, tmp_path):
  with files.Output(tmp_path / "out") as output:
    assert not output.has(NAME)
    assert output.write(NAME, b"first") and output.has(NAME)
    assert not output.write(NAME, b"second")
  assert (tmp_path / "out" / NAME).read_bytes() == b"first"
  assert names(tmp_path) == ["out/a/one.png"]


def test_of_many_writers_of_one_name_one_succeeds(disk, tmp_path):
  start, won = threading.Barrier(8), []

  def writer(number):
    content = bytes([number]) * 100_000
    with files.Output(tmp_path / "out") as output:
      start.wait()
      if output.write(NAME, content):
        won.append(content)

  threads = [threading.Thread(target=writer, args=(i,)) for i in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert [(tmp_path / "out" / NAME).read_bytes()] == won
  assert names(tmp_path) == ["out/a/one.png"]


def test_no_link_is_followed_wherever_it_lies(disk, tmp_path):
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  for planted, target in (
      ("a", elsewhere), ("a/one.png", elsewhere / "one.png"),
  ):
    out = tmp_path / f"out of {PurePath(planted).name}"
    (out / planted).parent.mkdir(parents=True)
    (out / planted).symlink_to(target)
    with files.Output(out) as output:
      with pytest.raises(UserError, match="is a link"):
        output.has(NAME)
      if planted == "a":
        with pytest.raises(UserError, match="a link or a file"):
          output.write(NAME, b"content")
      else:
        assert not output.write(NAME, b"content")
    assert not list(elsewhere.iterdir()) and (out / planted).is_symlink()


def test_an_output_folder_swapped_for_a_link_is_not_followed(disk, tmp_path):
  out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
  elsewhere.mkdir()
  with files.Output(out) as output:
    out.rename(tmp_path / "moved")
    out.symlink_to(elsewhere)
    assert output.write(NAME, b"content")
  assert names(elsewhere) == [] and names(tmp_path / "moved") == [str(NAME)]


def test_private_files_are_their_owners_alone_from_the_start(
    disk, tmp_path, monkeypatch
):
  modes = []
  fill = files._fill

  def seen(fd, content):
    modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
    fill(fd, content)

  monkeypatch.setattr(files, "_fill", seen)
  before = os.umask(0)
  try:
    with files.Output(tmp_path / "x" / "out", private=True) as output:
      output.write(NAME, b"content")
  finally:
    os.umask(before)
  out = tmp_path / "x" / "out"
  paths = {out.parent: 0o700, out: 0o700, out / "a": 0o700, out / NAME: 0o600}
  assert modes == [0o600]
  for path, mode in paths.items():
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_failed_write_leaves_nothing(disk, tmp_path, monkeypatch):
  def full(fd, content):
    os.write(fd, content[:3])
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(files, "_fill", full)
  with (
      files.Output(tmp_path / "out") as output,
      pytest.raises(files.WriteError, match="No space left"),
  ):
    output.write(NAME, b"content")
  assert names(tmp_path) == []


def test_a_name_that_cannot_be_is_no_reason_to_stop(disk, tmp_path):
  (tmp_path / "a").write_text("a file")
  with files.Output(tmp_path) as output:
    for name in (PurePath("x" * 300), NAME):
      with pytest.raises(UserError) as error:
        output.write(name, b"content")
      assert not isinstance(error.value, files.WriteError)


KILLED = """
import os, signal, sys
from pathlib import Path, PurePath
from ppseg_jax.client import files
if sys.argv[2] == "hidden":
  files._NAMELESS = 0
fill = files._fill
def killed(fd, content):
  fill(fd, content)
  os.kill(os.getpid(), signal.SIGKILL)
files._fill = killed
output = files.Output(Path(sys.argv[1]), private=True)
output.write(PurePath("a/one.png"), b"plain")
"""


@pytest.mark.parametrize("way", ["nameless", "hidden"])
def test_a_killed_command_leaves_no_whole_file_past_the_next_one(
    way, tmp_path
):
  if way == "nameless" and not files._NAMELESS:
    pytest.skip("this system has no nameless files")
  done = subprocess.run(
      [sys.executable, "-c", KILLED, str(tmp_path), way], timeout=300
  )
  assert done.returncode == -signal.SIGKILL
  assert len(names(tmp_path)) == (way == "hidden")
  with files.Output(tmp_path) as output:
    output.remove_leftovers()
  assert names(tmp_path) == []


def test_only_leftovers_of_a_dead_command_are_removed(tmp_path):
  dead, alive, link = (f".{digit * 16}{files._SUFFIX}" for digit in "abc")
  others = [f".notes{files._SUFFIX}", "notes.txt"]
  (tmp_path / "deep").mkdir()
  for name in (dead, alive, *others):
    (tmp_path / "deep" / name).write_text("something")
  (tmp_path / "deep" / link).symlink_to(tmp_path / "deep" / "notes.txt")
  with (
      (tmp_path / "deep" / alive).open("r+b") as held,
      files.Output(tmp_path) as output,
  ):
    fcntl.flock(held, fcntl.LOCK_EX)
    output.remove_leftovers()
  assert names(tmp_path / "deep") == sorted([alive, link, *others])


def test_a_temporary_file_is_locked_while_it_is_written(tmp_path, monkeypatch):
  monkeypatch.setattr(files, "_NAMELESS", 0)
  fill = files._fill

  def meanwhile(fd, content):
    with files.Output(tmp_path) as other:
      other.remove_leftovers()
    fill(fd, content)

  monkeypatch.setattr(files, "_fill", meanwhile)
  with files.Output(tmp_path) as output:
    assert output.write(NAME, b"content")
  assert (tmp_path / NAME).read_bytes() == b"content"
