"""Three clients contribute and a cloud trains; the same encrypted in training.

python -m benchmarks.contributed --workdir=runs/contributed
python -m benchmarks.contributed --workdir=runs/contributed_hidden \
    --scheme=blockwise_hidden

Each client draws street scenes of its own and encrypts them with their labels,
without a key file, as `python -m ppseg_jax.client encrypt --labels` does. The
cloud trains on the three folders. Beside it the same scenes, in the same order
and with the same seed, are encrypted in the training. Both are tested on what
the clients hold out. Where the scheme hides the layout, the second run trains
with blocks in place, and both are tested on the clients' plain pictures, hidden
then. Prints a table; two trainings, some minutes on 2 cores.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ppseg_jax import command
from ppseg_jax.client.__main__ import main as client
from ppseg_jax.data.encrypted import moves_blocks
from ppseg_jax.data.labels import CITYSCAPES, VOID
from ppseg_jax.data.streets import Streets
from ppseg_jax.encryption.schemes import shown

CLIENTS = ("a", "b", "c")
SPLITS = ("train", "val")


def draw(folder: Path, counts: dict[str, int], height: int, width: int) -> None:
  """Writes each client's scenes below `folder`, and lists of all of them.

  A client's folder is one of `data.name=folder`, and so is `folder/all`, whose
  files are those of the clients.
  """
  entries = [
      {"id": i, "name": name, "colour": list(colour)} for i, (name, colour)
      in enumerate(zip(CITYSCAPES.names, CITYSCAPES.colours, strict=True))
  ] + [{"id": VOID, "name": "void", "void": True}]
  for name in (*CLIENTS, "all"):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "classes.json").write_text(json.dumps(entries))
  for number, split in enumerate(SPLITS):
    (folder / "all" / split).mkdir(exist_ok=True)
    rows = [("image", "label")]
    for place, name in enumerate(CLIENTS):
      # Seeds 0 and 1 are those of the source `streets`.
      scenes = Streets(2 + 2 * place + number, counts[split], height, width)
      for i in range(counts[split]):
        row = []
        for kind, pixels in zip(("images", "labels"), scenes[i], strict=True):
          path = folder / name / split / kind / f"{i:05d}.png"
          path.parent.mkdir(parents=True, exist_ok=True)
          Image.fromarray(pixels).save(path)
          row.append(f"../../{path.relative_to(folder)}")
        rows.append(tuple(row))
    with (folder / "all" / split / "pairs.csv").open("w", newline="") as file:
      csv.writer(file).writerows(rows)


def contribute(plain: Path, out: Path, scheme: str, block: int) -> list[Path]:
  """Has each client encrypt its scenes; the folders that leave the clients."""
  for name in CLIENTS:
    for split in SPLITS:
      code = client([
          "encrypt", str(plain / name / split / "images"),
          str(out / name / split),
          f"--labels={plain / name / split / 'labels'}",
          f"--scheme={scheme}", f"--block={block}",
      ])
      if code:
        raise SystemExit(code)
  return [out / name for name in CLIENTS]


def run(*words: str) -> None:
  subprocess.run([sys.executable, "-m", "ppseg_jax.main", *words], check=True)


def losses(folder: Path) -> np.ndarray:
  lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
  return np.array([line["loss"] for line in lines if "loss" in line])


def main(words: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--workdir", type=command.path, required=True)
  parser.add_argument("--scheme", default="blockwise")
  parser.add_argument("--block", type=int, default=8)
  parser.add_argument("--scenes", type=int, default=100, help="of a client")
  parser.add_argument("--held_out", type=int, default=20, help="likewise")
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--batch_size", type=int, default=8)
  parser.add_argument("--height", type=int, default=64)
  parser.add_argument("--width", type=int, default=96)
  args = parser.parse_args(words)
  plain = args.workdir / "plain"
  counts = {"train": args.scenes, "val": args.held_out}
  draw(plain, counts, args.height, args.width)
  folders = contribute(
      plain, args.workdir / "encrypted", args.scheme, args.block
  )
  hidden = moves_blocks(args.scheme)
  common = [
      "--config=configs/setr_enc.py", f"--config.steps={args.steps}",
      f"--config.batch_size={args.batch_size}",
      f"--config.block={args.block}", f"--config.data.height={args.height}",
      f"--config.data.width={args.width}", "--config.log_every=1",
      f"--config.eval.every={args.steps}",
      *(["--config.model.pos_embed=none", "--config.model.stem=0"]
        if hidden else []),
  ]
  ways = {
      "contributed": (
          f"--config.scheme={args.scheme}", "--config.data.name=encrypted",
          f"--config.data.dir={','.join(map(str, folders))}",
      ),
      "in training": (
          f"--config.scheme={shown(args.scheme)}", "--config.data.name=folder",
          f"--config.data.dir={plain / 'all'}",
      ),
  }
  rows, curves = [], {}
  for name, fields in ways.items():
    folder = args.workdir / name.replace(" ", "_")
    run(*common, *fields, f"--workdir={folder}")
    record = folder / "result.json"
    if hidden:
      run(*common, *fields, f"--workdir={folder}", "--mode=eval",
          f"--config.eval.scheme={args.scheme}",
          "--config.eval.data_name=folder",
          f"--config.eval.data_dir={plain / 'all'}")
      (record,) = folder.glob("eval_*.json")
    found, curves[name] = json.loads(record.read_text()), losses(folder)
    rows.append((name, curves[name][-1], found["miou"],
                 found["pixel_accuracy"]))
  print("\n| encrypted | last loss | mIoU | pixel accuracy |")
  print("|---|---|---|---|")
  for name, loss, miou, accuracy in rows:
    print(f"| {name} | {loss:.6f} | {miou:.4f} | {accuracy:.4f} |")
  one, other = curves.values()
  print(f"largest difference of two losses of a step: {abs(one - other).max()}")


if __name__ == "__main__":
  main()
