"""A folder in parts: who does what, several at once, and going on."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax import pictures
from ppseg_jax.client import files, folders, keyfile, walk
from ppseg_jax.client.parts import Part, tag
from ppseg_jax.encryption import SCHEMES
from tests.client.helpers import SIZE, decrypt_all, encrypt_all, pixels, save
from tests.helpers import ROOT, photo

NAMES = [f"{i}.png" for i in range(6)]
ENCRYPT = ("encrypt", "@in", "@out", "--block=8")
ENCRYPT_MANY = ("encrypt", "@many", "@out", "--block=8")
PATHS = st.sets(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=6)


@pytest.fixture
def many(tmp_path):
  """A folder of six pictures."""
  for i, name in enumerate(NAMES):
    save(tmp_path / "many" / name, photo(*SIZE, i))
  return tmp_path


@pytest.fixture
def decoded(monkeypatch):
  """The names of the plain pictures that are decoded."""
  names, read = [], pictures.read_picture

  def seen(path):
    names.append(path.name)
    return read(path)

  monkeypatch.setattr(pictures, "read_picture", seen)
  return names


def of_part(names, number, count):
  return [n for n in names if Part(number, count).holds(tag(PurePath(n)))]


@settings(max_examples=20)
@given(PATHS, PATHS, st.integers(1, 5))
def test_parts_cover_every_picture_once_and_later_ones_move_none(
    first, later, count
):
  with tempfile.TemporaryDirectory() as folder:
    def parts():
      found = [walk.find_part(Path(folder), Part(i + 1, count))
               for i in range(count)]
      return {path: i for i, (paths, _, _) in enumerate(found)
              for path in paths}, found

    for name in first:
      Path(folder, f"{name}.jpg").touch()
    before, found = parts()
    total = sum(len(paths) for paths, _, _ in found)
    assert total == len(before) == len(first)
    assert all(len(paths) + others == total for paths, _, others in found)
    for name in later - first:
      Path(folder, f"{name}.png").touch()
      Path(folder, f"{name}.txt").write_text("no picture")
    after, found = parts()
    assert after.items() >= before.items()
    assert len(after) == len(first | later)
    skipped = [name for _, names, _ in found for name in names]
    assert sorted(skipped) == sorted(f"{name}.txt" for name in later - first)


def test_the_part_of_a_path_is_for_ever_and_parts_are_of_about_one_size():
  assert tag(PurePath("more/two.jpg")) == tag(PurePath("more/two.png"))
  assert tag(PurePath("more/two.jpg")) == "960f767e"
  sizes = Counter(int(tag(PurePath(f"{i:06}.jpg")), 16) % 10
                  for i in range(1000))
  assert len(sizes) == 10 and min(sizes.values()) > 70


def test_two_parts_at_once_end_with_all_pictures_and_decrypt_by_both_key_files(
    many, client
):
  start, summaries = threading.Barrier(2), {}

  def encrypt(i):
    start.wait()
    summaries[i] = folders.encrypt_folder(
        many / "many", many / "out", SCHEMES["blockwise"], 8, many / f"keys{i}",
        part=Part(i, 2),
    )

  threads = [threading.Thread(target=encrypt, args=(i,)) for i in (1, 2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for i, summary in summaries.items():
    assert summary.done == of_part(NAMES, i, 2) and summary.done
    assert summary.others == len(NAMES) - len(summary.done)
  assert sorted(p.name for p in (many / "out").iterdir()) == NAMES
  code, out, err = client(
      "decrypt", "@out", "@back", "--keys=@keys1", "--keys=@keys2"
  )
  assert code == 0, err
  for i, summary in summaries.items():
    assert f"keys{i} opens {len(summary.done)} picture(s)" in out
  for i, name in enumerate(NAMES):
    np.testing.assert_array_equal(pixels(many / "back" / name),
                                  photo(*SIZE, i))


def test_a_run_says_how_many_pictures_belong_to_other_parts(many, client):
  done = len(of_part(NAMES, 2, 3))
  code, out, _ = client(*ENCRYPT_MANY, "--part=2/3")
  assert code == 0 and f"{6 - done} picture(s) belong to other parts" in out
  assert f"done: {done} picture(s) encrypted" in out
  assert "other parts" not in client(*ENCRYPT_MANY)[1]


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "1/2/3", "a/b", ""])
def test_a_part_that_is_none_is_refused(client, place, part):
  code, _, err = client(*ENCRYPT, f"--part={part}")
  assert code == 2 and f"--part={part} must be like 1/4" in err
  assert not (place / "out").exists()


def test_names_that_clash_are_refused_by_every_part(client, place):
  assert of_part(["one.png", "ONE.png"], 1, 2) == ["one.png"]
  save(place / "in" / "ONE.png", photo(*SIZE))
  for part in ("1/2", "2/2"):
    code, _, err = client(*ENCRYPT, f"--part={part}")
    assert code == 2 and "rename one" in err
  assert not (place / "out").exists()


def test_a_key_file_is_of_one_part_and_the_number_of_parts_stays(client, many):
  assert client(*ENCRYPT_MANY, "--part=1/2", "--keys=@keys")[0] == 0
  for part in ("2/2", "1/3", "1/1"):
    before = (many / "keys").read_bytes()
    code, _, err = client(*ENCRYPT_MANY, f"--part={part}", "--keys=@keys")
    assert code == 2 and f"is for part 1/2 of the pictures, not for {part}" in (
        err
    )
    assert (many / "keys").read_bytes() == before
  code, _, err = client(*ENCRYPT_MANY, "--part=1/1", "--keys=@new")
  assert code == 1 and err.count("does not hold the key") == (
      len(of_part(NAMES, 1, 2))
  )
  code, _, err = client(*ENCRYPT_MANY, "--part=1/3", "--keys=@third")
  assert "if the number of parts has changed" in err


def test_what_a_killed_run_of_another_part_left_is_not_removed(tmp_path):
  names = [PurePath("a/one.png"), PurePath("a/x.png"), PurePath("a/y.png")]
  assert len({int(tag(name), 16) % 2 for name in names}) == 2
  (tmp_path / "a").mkdir()
  left = {
      tmp_path / "a" / f".{'0' * 16}{tag(name)}{files._SUFFIX}": tag(name)
      for name in names
  }
  for path in left:
    path.touch()
  with files.Output(tmp_path) as output:
    for part in (Part(1, 2), Part(2, 2)):
      output.remove_leftovers(part)
      for path, mark in left.items():
        kept = part == Part(1, 2) and not part.holds(mark)
        assert path.exists() == kept


def test_a_temporary_file_has_the_tag_of_its_picture(tmp_path, monkeypatch):
  monkeypatch.setattr(files, "_NAMELESS", 0)
  fill, seen = files._fill, []

  def looked(fd, content):
    seen.extend(path.name for path in (tmp_path / "a").iterdir())
    fill(fd, content)

  monkeypatch.setattr(files, "_fill", looked)
  name = PurePath("a/one.png")
  with files.Output(tmp_path) as output:
    output.write(name, b"content")
  assert [files._TEMPORARY.fullmatch(found)[1] for found in seen] == [tag(name)]


@pytest.mark.parametrize("keys", [["--keys=@keys"], []])
def test_a_resumed_run_decodes_nothing_that_is_done(
    client, place, decoded, keys
):
  save(place / "in" / "odd.png", photo(19, 37, 3))
  assert client(*ENCRYPT, *keys)[0] == 0 and len(decoded) == 4
  decoded.clear()
  (place / "out" / "grey.png").unlink()
  code, out, err = client(*ENCRYPT, *keys)
  assert code == 0, err
  assert "1 picture(s) encrypted, 3 done before" in out
  assert "padded (1)" in out and decoded == ["grey.png"]
  code, _, err = client(*ENCRYPT, *keys, "--no-pad")
  assert code == 1 and "37x19" in err and decoded == ["grey.png"]


def test_a_changed_picture_is_noticed_though_size_and_mtime_are_as_before(
    client, place, decoded
):
  path = place / "in" / "one.bmp"
  (place / "in" / "one.png").unlink()
  save(path, photo(*SIZE, 1))
  encrypt_all(client)
  before = path.stat()
  save(path, photo(*SIZE, 2))
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  assert path.stat().st_size == before.st_size
  decoded.clear()
  code, _, err = client(*ENCRYPT, "--keys=@keys")
  assert code == 1 and err.count("\n") == 1 and "older picture" in err
  assert decoded == ["one.bmp"]


def test_where_only_the_time_of_a_picture_has_changed_its_values_tell(
    client, place, decoded
):
  encrypt_all(client)
  decoded.clear()
  os.utime(place / "in" / "one.png", ns=(0, 0))
  assert "3 done before" in encrypt_all(client) and decoded == ["one.png"]


def test_a_key_file_from_before_there_were_parts_goes_on(
    client, place, decoded
):
  encrypt_all(client)
  lines = [json.loads(line)
           for line in (place / "keys").read_text().splitlines()]
  del lines[0]["part"]
  for line in lines[1:]:
    del line["file"]
  (place / "keys").write_text("".join(json.dumps(x) + "\n" for x in lines))
  decoded.clear()
  assert "3 done before" in encrypt_all(client) and len(decoded) == 3
  assert decrypt_all(client)[0] == 0


def test_a_picture_put_in_anothers_place_is_noticed(client, place):
  """Of two files whose sizes and times are the same, the name tells."""
  save(place / "in" / "twin.png", photo(*SIZE, 4))
  encrypt_all(client)
  lines = (place / "keys").read_text().splitlines()
  entries = [json.loads(line) for line in lines[1:]]
  for entry in entries:
    entry["file"] = keyfile.file_state(place / "in" / "one.png")
  (place / "keys").write_text(
      "\n".join([lines[0], *map(json.dumps, entries)]) + "\n"
  )
  os.replace(place / "out" / "twin.png", place / "out" / "one.png")
  code, _, err = client(*ENCRYPT, "--keys=@keys")
  assert code == 1 and "one.png: its file in OUT_DIR is of another" in err


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_size_of_a_picture_is_told_without_decoding_it(
    tmp_path, monkeypatch, kind, orientation
):
  path = tmp_path / f"x.{kind}"
  image = pictures.Image.fromarray(photo(*SIZE))
  exif = image.getexif()
  exif[0x0112] = orientation
  image.save(path, exif=exif)
  expected = pictures.read_picture(path).shape[1::-1]
  monkeypatch.setattr(pictures.Image.Image, "load", None)
  monkeypatch.setattr(pictures.PngImagePlugin.PngImageFile, "load", None)
  assert pictures.read_size(path) == expected


def test_key_files_that_disagree_on_a_picture_are_named_and_it_is_refused(
    client, place
):
  encrypt_all(client)
  client("encrypt", "@in", "@other", "--block=8", "--keys=@keys2")
  both = ("decrypt", "@out", "@back", "--keys=@keys2", "--keys=@keys")
  # The bytes of a ciphertext say which key is its own ...
  code, out, err = client(*both)
  assert code == 0, err
  assert f"{place}/keys2 opens 0" in out and f"{place}/keys opens 3" in out
  # ... and those of one that was written anew do not.
  pictures.Image.fromarray(pixels(place / "out" / "one.png")).save(
      place / "out" / "one.png", compress_level=1
  )
  code, _, err = client(*both)
  assert code == 1 and err.count("\n") == 1 and "one.png" in err
  assert f"--keys={place}/keys2 and --keys={place}/keys have different" in err
  # An older copy of a key file disagrees with nothing.
  lines = (place / "keys").read_text().splitlines(keepends=True)
  (place / "copy").write_text("".join(lines[:-1]))
  code, _, err = client("decrypt", "@out", "@back", "--keys=@copy",
                        "--keys=@keys", "--keys=@keys")
  assert code == 0, err


def test_a_picture_that_no_key_file_opens_is_refused(client, many):
  for i in (1, 2, 3):
    client(*ENCRYPT_MANY, f"--part={i}/3", f"--keys=@keys{i}")
  left = of_part(NAMES, 3, 3)
  code, out, err = client(
      "decrypt", "@out", "@back", "--keys=@keys1", "--keys=@keys2"
  )
  assert code == 1 and err.count("the key files have no key of it") == len(left)
  assert f"{6 - len(left)} picture(s) decrypted" in out


def script(folder, environment, *args):
  """Runs the array job with what lies in `folder` in place of SLURM."""
  return subprocess.run(
      ["bash", ROOT / "launch" / "slurm_encrypt.sh", *args], cwd=ROOT,
      capture_output=True, text=True, timeout=300,
      env={"PATH": f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin"} | {
          f"SLURM_ARRAY_{name}": value for name, value in environment.items()
      },
  )


def program(path, text):
  path.write_text(f"#!/bin/bash\n{text}\n")
  path.chmod(0o755)


def array(number, count):
  return {"JOB_ID": "7", "TASK_ID": str(number), "TASK_MIN": "1",
          "TASK_MAX": str(count), "TASK_COUNT": str(count)}


def test_an_array_job_encrypts_its_part_end_to_end(many, client):
  (many / "bin").mkdir()
  program(many / "bin" / "srun",
          'while [[ "$1" == --* ]]; do shift; done; exec "$@"')
  folders_ = [str(many / name) for name in ("many", "out", "keys of mine")]
  for i in (1, 2):
    done = script(many / "bin", array(i, 2), *folders_, "--block=8")
    assert done.returncode == 0, done.stderr
    assert f"done: {len(of_part(NAMES, i, 2))} picture(s)" in done.stdout
  assert (many / "keys of mine").stat().st_mode & 0o777 == 0o700
  code, out, err = client(
      "decrypt", "@out", "@back", "--keys=@keys of mine/part-1.keys",
      "--keys=@keys of mine/part-2.keys",
  )
  assert code == 0 and "6 picture(s) decrypted" in out, err


@pytest.mark.parametrize("environment, args, said", [
    ({}, ["a", "b", "c"], "not an array job"),
    (array(0, 8) | {"TASK_MIN": "0"}, ["a", "b", "c"], "without gaps"),
    (array(1, 8) | {"TASK_COUNT": "4"}, ["a", "b", "c"], "without gaps"),
    (array(1, 8), ["a", "b", "--block=8"], "give IN_DIR OUT_DIR KEYS_DIR"),
    (array(1, 8), ["a", "b"], "give IN_DIR OUT_DIR KEYS_DIR"),
])
def test_an_array_job_that_would_miss_pictures_is_refused(
    tmp_path, environment, args, said
):
  done = script(tmp_path, environment, *args)
  assert done.returncode == 2 and said in done.stderr
  assert done.stderr.startswith("error: ") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("sent, code, queued", [
    ("USR1", 143, "requeue 7_2\n"),  # before the time limit
    ("USR1", 0, ""),  # which came just as it ended
    ("TERM", 143, ""),  # cancelled
])
def test_a_part_whose_time_is_up_is_stopped_and_queued_again(
    tmp_path, sent, code, queued
):
  program(tmp_path / "srun", f"trap 'echo got TERM; exit {code}' TERM\n"
          f"kill -{sent} $PPID\nfor i in {{1..500}}; do sleep 0.02; done")
  program(tmp_path / "scontrol", f'echo "$@" > {tmp_path}/queued')
  done = script(tmp_path, array(2, 8), "a", "b", f"{tmp_path}/keys")
  assert "got TERM" in done.stdout
  assert done.returncode == (0 if queued else code)
  found = tmp_path / "queued"
  assert (found.read_text() if found.exists() else "") == queued


def test_the_indexed_job_gives_each_pod_its_part_and_no_account(tmp_path):
  job = yaml.safe_load((ROOT / "launch" / "encrypt_job.yaml").read_text())
  assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
  spec, pod = job["spec"], job["spec"]["template"]["spec"]
  assert spec["completionMode"] == "Indexed"
  assert pod["restartPolicy"] == "Never"
  assert pod["automountServiceAccountToken"] is False
  [container] = pod["containers"]
  assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"][
      "containerName"
  ] == container["name"]
  environment = {item["name"]: item["value"] for item in container["env"]}
  assert environment["PARTS"] == str(spec["completions"])
  assert set(container["resources"]) == {"requests", "limits"}
  mounts = {m["name"]: m for m in container["volumeMounts"]}
  assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
  assert mounts["pictures"]["readOnly"]
  program(tmp_path / "python", 'printf "%s\\n" "$@"')
  done = subprocess.run(
      container["command"] + container["args"], capture_output=True, text=True,
      env=environment | {"JOB_COMPLETION_INDEX": "0",
                         "PATH": f"{tmp_path}:/usr/bin:/bin"},
  )
  words = done.stdout.splitlines()
  assert words[:3] == ["-m", "ppseg_jax.client", "encrypt"], done.stderr
  source, out = words[3:5]
  assert (source, out) == (mounts["pictures"]["mountPath"],
                           mounts["encrypted"]["mountPath"])
  assert words[5:] == [
      f"--part=1/{spec['completions']}",
      f"--keys={mounts['keys']['mountPath']}/part-1.keys", "--scheme=blockwise",
  ]
