#!/bin/bash
# Measures what this project says about a GPU:
#
#   benchmarks/gpu.sh OUT [PIECE...] [--small] [--camvid=DIR]
#
# Pieces, all of them if none is named: numerics encryption recipe setr_l pytorch
# memory camvid (`python -m benchmarks.gpu --help` says what each is). A piece has
# 8 minutes and leaves OUT/PIECE.json; one that is there is not run again, so
# that the same command goes on. --small tries all of it without a GPU.
#
# On a bare machine, with the wheels beside it (pip download, on a machine that is
# connected, of this package's requirements with jax[cuda13], and of torch and
# timm to be compared with):
#
#   WHEELS=DIR benchmarks/gpu.sh OUT
#
# installs all wheels of DIR first, without a network, into the Python that is
# there; with VENV=DIR into a virtual environment there.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
every=(numerics encryption recipe setr_l pytorch memory camvid)
limit=480 # seconds

usage() {
  echo "error: $1; benchmarks/gpu.sh OUT [${every[*]}] [--small]" \
    "[--camvid=DIR]." >&2
  exit 2
}

out='' pieces=() flags=()
for word in "$@"; do
  case "$word" in
    --small | --camvid=*) flags+=("$word") ;;
    -*) usage "'$word' is no flag" ;;
    *)
      if [[ -z "$out" ]]; then
        out=$word
      elif [[ " ${every[*]} " == *" $word "* ]]; then
        pieces+=("$word")
      else
        usage "'$word' is no piece"
      fi
      ;;
  esac
done
[[ -n "$out" ]] || usage "the folder to write to is missing"
if ((${#pieces[@]} == 0)); then
  pieces=("${every[@]}")
fi
mkdir -p "$out" || exit

if [[ -n "${VENV:-}" ]]; then
  [[ -d "$VENV" ]] || python3 -m venv "$VENV" || exit
  export PATH="$VENV/bin:$PATH"
fi
if [[ -n "${WHEELS:-}" ]]; then
  python3 -m pip install --quiet --no-index --find-links="$WHEELS" \
    "$WHEELS"/*.whl || exit
fi

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
code=0
for piece in "${pieces[@]}"; do
  if [[ -e "$out/$piece.json" ]]; then
    echo "$piece: is in $out/$piece.json"
    continue
  fi
  echo "$piece: $(date +%T)"
  status=0
  timeout "$limit" python3 -m benchmarks.gpu "$out" "$piece" \
    ${flags[@]+"${flags[@]}"} || status=$?
  if ((status)); then
    echo "$piece: failed (exit code $status; 124 is the time limit)" >&2
    code=1
  fi
done
exit "$code"
