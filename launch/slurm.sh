#!/bin/bash
# One run on several nodes of a SLURM cluster, a process for each GPU:
#
#   sbatch --nodes=4 launch/slurm.sh --config=configs/setr_enc.py:cityscapes \
#       --config.data.dir=/data/cityscapes --workdir=/scratch/me/cityscapes
#
# in the environment that the README makes. The workdir must be a folder that
# all nodes see. Two minutes before the time limit all processes save the same
# step and end, and the job goes back into the queue; it also does after a node
# failed or the job was preempted. Anything of what follows can be given to
# sbatch instead.
#
#SBATCH --job-name=ppseg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

code=0
srun --kill-on-bad-exit=1 python -m ppseg_jax.main --distributed "$@" ||
  code=$?

# 143 is what a run that was asked to stop ends with. That the limit is near
# tells it from scancel; SLURM before 22.05 does not say when the limit is.
limit=${SLURM_JOB_END_TIME:-9999999999}
if ((code == 143 && $(date +%s) + 180 >= limit)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
