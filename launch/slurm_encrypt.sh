#!/bin/bash
# Encrypts a folder of pictures as an array job on a SLURM cluster, a part each:
#
#   sbatch --array=1-100 launch/slurm_encrypt.sh \
#       /data/pictures /data/encrypted /home/me/keys --scheme=blockwise
#
# IN_DIR, OUT_DIR, a folder for the key files (part-1.keys and so on; readable by
# you alone) and flags of `python -m ppseg_jax.client encrypt`, in the
# environment that the README makes. All nodes must see the three folders. Run
# this where plain pictures may be, not in the cloud that gets the encrypted ones.
#
# Two minutes before its time is up a part is stopped and queued again; it goes on
# where it was. The same command again does what is left. The pictures again:
#
#   python -m ppseg_jax.client decrypt /data/encrypted /data/restored \
#       --keys=/home/me/keys/part-1.keys --keys=/home/me/keys/part-2.keys ...
#
#SBATCH --job-name=ppseg-encrypt
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

if [[ -z "${SLURM_ARRAY_TASK_ID:-}" ]]; then
  echo "error: not an array job; add --array=1-100 to sbatch, for example." >&2
  exit 2
fi
# shellcheck disable=SC2153 # SLURM sets SLURM_ARRAY_TASK_MIN, _MAX and _COUNT
if [[ "$SLURM_ARRAY_TASK_MIN" != 1 ||
  "$SLURM_ARRAY_TASK_COUNT" != "$SLURM_ARRAY_TASK_MAX" ]]; then
  echo "error: the array must be 1 to the number of parts, without gaps, as in" \
    "--array=1-100." >&2
  exit 2
fi
if (($# < 3)) || [[ "$1" == -* || "$2" == -* || "$3" == -* ]]; then
  echo "error: give IN_DIR OUT_DIR KEYS_DIR, and then flags." >&2
  exit 2
fi
in=$1 out=$2 keys=$3
shift 3
(umask 077 && mkdir -p "$keys")

# The signal before the time limit is one that scancel does not send, so that a
# cancelled job is not queued again. The client gets TERM either way.
stopped='' limit=''
trap 'stopped=1 limit=1; kill -TERM "$!" || true' USR1
trap 'stopped=1; kill -TERM "$!" || true' TERM
srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  python -m ppseg_jax.client encrypt "$in" "$out" \
  --part="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX" \
  --keys="$keys/part-$SLURM_ARRAY_TASK_ID.keys" "$@" &
step=$!
while true; do  # a trapped signal ends wait, not the step
  stopped='' code=0
  wait "$step" || code=$?
  [[ -n "$stopped" ]] || break
done
if [[ -n "$limit" && "$code" == 143 ]]; then
  echo "the time is up; the part is queued again and goes on from here."
  exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
