#!/bin/bash
# A suite of experiments as an array job on a SLURM cluster, a part each:
#
#   sbatch --array=1-8 launch/slurm_suite.sh \
#       --suite=configs/suites/paper.py:cityscapes \
#       --data-dir=/data/cityscapes --workdir=/scratch/me/cityscapes
#
# in the environment that the README makes. The workdir must be a folder that
# all nodes see. A run uses all GPUs of its node; one that is stopped goes on
# when the same command is given again. The report, once all is done, or of what
# is there by then:
#
#   python -m ppseg_jax.experiments --suite=... --workdir=... --report-only
#
#SBATCH --job-name=ppseg
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

if [[ -z "${SLURM_ARRAY_TASK_ID:-}" ]]; then
  echo "error: not an array job; add --array=1-8 to sbatch, for example." >&2
  exit 2
fi
# shellcheck disable=SC2153 # SLURM sets SLURM_ARRAY_TASK_MIN, _MAX and _COUNT
# Parts are counted from 1; with --array=1-8%2 two of the eight run at a time.
if [[ "$SLURM_ARRAY_TASK_MIN" != 1 ]]; then
  echo "error: the array begins at $SLURM_ARRAY_TASK_MIN; it must begin at 1," \
    "as in --array=1-8." >&2
  exit 2
fi
if [[ "${SLURM_ARRAY_TASK_COUNT:-$SLURM_ARRAY_TASK_MAX}" != \
  "$SLURM_ARRAY_TASK_MAX" ]]; then
  echo "error: the array has gaps, and with them parts that nobody runs; give" \
    "it as in --array=1-8." >&2
  exit 2
fi
exec srun --ntasks=1 python -m ppseg_jax.experiments \
  --part="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX" "$@"
