#!/usr/bin/env bash
# What is to be done on a machine with a CUDA device, in this order: are the results right there, how fast is it, the paper's
# CIFAR-10 ensembles of one seed. Each part is skipped once it is done, and the last one goes on where it stopped, so that the
# same command serves any number of time slots:
#
#     HARNESS_DATA=/data bash benchmarks/gpu.sh OUT 20m     # 20m: the slot's length, less what parts one and two take
#
# OUT/store holds what was trained; carry it along to go on elsewhere.
set -uo pipefail

out=${1:?usage: benchmarks/gpu.sh OUT [TIME-LIMIT]}
limit=${2:-20m}
cd "$(dirname "$0")/.."
mkdir -p "$out"

part() {  # name, command…: run it unless it has succeeded before; what it says goes to a file and to the screen
    local name=$1
    shift
    if [ -e "$out/$name.done" ]; then
        echo "$name: done before"
    elif "$@" 2>&1 | tee "$out/$name.txt"; then
        touch "$out/$name.done"
    else
        echo "$name: failed; see $out/$name.txt" >&2
    fi
}

harness doctor | tee "$out/doctor.txt"
part tests python -m pytest -m gpu tests
part ladder python -m pytest -m gpu benchmarks/perf --benchmark-json="$out/ladder.json"
harness run benchmarks/paper.yaml --set 'seeds=[0]' --set 'datasets=[cifar10]' --set 'architectures=[resnet20]' \
    --out "$out/paper" --store "$out/store" --time-limit "$limit" --profile
