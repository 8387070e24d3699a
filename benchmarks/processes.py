"""What a second process costs, on one machine.

python -m benchmarks.processes

Trains SETR demo on drawn scenes in 1 and in 2 processes of one thread each
(launch/local.sh), 8 images a process, for a few and for more steps, and takes
the difference. Prints images/s, and the processor time of an image: two
processes do twice the work of one, and what an image costs beyond that is what
the collectives and the rest of working together cost. Neither says anything of
a cluster, nor images/s of anything on a machine that is busy.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_EACH = 8
_STEPS = 5, 35


def main() -> None:
  found = {count: per_image(count) for count in (1, 2)}
  for count, (wall, cpu) in found.items():
    print(f"{count} process(es): {1 / wall:.1f} images/s,"
          f" {1e3 * cpu:.0f} ms of processor time an image")
  (wall, cpu), (walls, cpus) = found[1], found[2]
  print(f"efficiency of 2 on {os.cpu_count()} cores: {wall / walls / 2:.2f} by"
        f" the clock, {cpu / cpus:.2f} by processor time")


def per_image(processes: int) -> tuple[float, float]:
  """Seconds and processor seconds of an image."""
  (few, cpu_few), (many, cpu_many) = (run(processes, n) for n in _STEPS)
  images = (_STEPS[1] - _STEPS[0]) * _EACH * processes
  return (many - few) / images, (cpu_many - cpu_few) / images


def run(processes: int, steps: int) -> tuple[float, float]:
  """Seconds and processor seconds of a training."""
  def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

  env = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="1",
             NPROC="1", XLA_FLAGS="--xla_cpu_multi_thread_eigen=false")
  start, before = time.perf_counter(), used()
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
        ["launch/local.sh", str(processes), "--",
         "--config=configs/setr_enc.py", f"--config.steps={steps}",
         f"--config.batch_size={_EACH * processes}", "--config.eval.images=16",
         "--config.panels=1", f"--workdir={folder}/run"],
        cwd=Path(__file__).parent.parent, env=env, text=True,
        capture_output=True,
    )
  if done.returncode:
    sys.exit(f"launch/local.sh {processes} failed:\n{done.stderr}")
  return time.perf_counter() - start, used() - before


if __name__ == "__main__":
  main()
