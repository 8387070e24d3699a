#!/bin/bash
# N processes of one command on this machine:
#
#   launch/local.sh 2 -- --config=configs/setr_enc.py --workdir=runs/two
#
# They share the machine's GPUs out evenly. If one fails, the others end within
# seconds, and so does this, with its exit code. With --restarts=3 before N all
# are started again, up to three times, after one was killed or broke down; a
# training then goes on at its last checkpoint. Ctrl-C and SIGTERM are passed
# on: all save the same step. To try it without a GPU, with four simulated
# devices a process:
#
#   JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 launch/local.sh 2 -- ...
set -euo pipefail

grace=30 # seconds that a process may take to end after another has failed

restarts=0
if [[ "${1:-}" =~ ^--restarts=([0-9]+)$ ]]; then
  restarts=${BASH_REMATCH[1]}
  shift
fi
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ || "${2:-}" != -- ]]; then
  echo "error: launch/local.sh [--restarts=R] N -- --config=... with N the" \
    "number of processes." >&2
  exit 2
fi
count=$1
shift 2

gpus=0
if [[ "${JAX_PLATFORMS:-}" != cpu ]] && command -v nvidia-smi >/dev/null; then
  gpus=$(nvidia-smi --list-gpus | wc -l)
fi
if ((gpus % count)); then
  echo "error: $count processes cannot share $gpus GPUs evenly; start as many" \
    "as there are GPUs, or fewer." >&2
  exit 2
fi
# The compiled programs of CPU processes that work together are not kept.
if ((gpus == 0)); then
  unset JAX_COMPILATION_CACHE_DIR
fi

stopped=
declare -A running=()
trap 'stopped=1; kill -TERM "${!running[@]}" 2>/dev/null || true' TERM INT

start() {
  local port process share
  port=$(python -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
  for ((process = 0; process < count; process++)); do
    (
      if ((gpus)); then
        share=$((gpus / count))
        JAX_LOCAL_DEVICE_IDS=$(seq -s, $((process * share)) \
          $((process * share + share - 1)))
        export JAX_LOCAL_DEVICE_IDS
      fi
      exec python -m ppseg_jax.main "$@" --coordinator="127.0.0.1:$port" \
        --processes="$count" --process="$process"
    ) &
    running[$!]=$process
  done
}

# Sets `code` to that of the first process that failed, or 0.
wait_for_all() {
  local status ended reaper=
  code=0
  while ((${#running[@]})); do
    status=0
    ended=
    wait -n -p ended "${!running[@]}" || status=$?
    if [[ -z "${ended:-}" ]]; then
      continue # a signal came, and was passed on
    fi
    if ((status && !code)); then
      code=$status
      failed=${running[$ended]}
    fi
    unset "running[$ended]"
    if ((code && ${#running[@]})) && [[ -z "$reaper" ]]; then
      (sleep "$grace" && kill -KILL "${!running[@]}") >/dev/null 2>&1 &
      reaper=$!
    fi
  done
  if [[ -n "$reaper" ]]; then
    kill "$reaper" 2>/dev/null || true
  fi
}

start "$@"
wait_for_all
# Wrong input (2) stays wrong, and 130 and 143 were asked for.
while [[ -z "$stopped" && ! "$code" =~ ^(0|2|130|143)$ ]] &&
  ((restarts-- > 0)); do
  echo "process $failed ended with exit code $code; all are started again." >&2
  start "$@"
  wait_for_all
done
exit "$code"
