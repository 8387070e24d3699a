#!/bin/bash
# One run on all hosts of a Cloud TPU VM, through the older Cloud TPU API, which
# gets no more than fixes; new projects use GKE and launch/jobset_tpu.yaml.
#
#   launch/tpu_vm.sh NAME ZONE -- --config=configs/setr_enc.py:cityscapes \
#       --config.data.dir=/shared/cityscapes --workdir=/shared/runs/cityscapes
#
# NAME is that of the TPU VM. This checkout, in its home on each host, is
# expected at ppseg_jax/, with an environment with `pip install -e ".[tpu]"` in
# ppseg_jax/.venv; /shared is a volume that all hosts have mounted, as Filestore.
# Ctrl-C leaves the run going; the same command again goes on where one that was
# stopped was.
set -euo pipefail

if (($# < 3)) || [[ "$3" != -- ]]; then
  echo "error: launch/tpu_vm.sh NAME ZONE -- --config=..." >&2
  exit 2
fi
name=$1 zone=$2
shift 3

exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
  --command="cd ppseg_jax && .venv/bin/python -m ppseg_jax.main --distributed \
$(printf '%q ' "$@")"
