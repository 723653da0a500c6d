#!/usr/bin/env bash
# Check and measure a CUDA device, in three parts: the tests that need a GPU, the speed of each rung of the optimization ladder, and
# the paper's CIFAR-10 ensembles of one seed. A part that has succeeded is skipped, and the last part continues where it stopped.
# Repeat the same command in every time slot:
#
#     HARNESS_DATA=/data bash benchmarks/gpu.sh OUT 20m     # 20m: the slot's length, minus the time of the first two parts
#
# OUT/store holds the trained weights; copy it to continue on another machine.
set -uo pipefail

out=${1:?usage: benchmarks/gpu.sh OUT [TIME-LIMIT]}
limit=${2:-20m}
cd "$(dirname "$0")/.."
mkdir -p "$out"

part() {  # name, command…: run the command unless it has succeeded before; write its output to a file and to the screen
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
