#!/usr/bin/env bash
# Answers, on a machine with an NVIDIA GPU, what cannot be known without one, and writes one JSON file.
#
# On a machine with PyTorch, once:   tools/gpu_acceptance.sh prepare QUANTIZED.pt FLOAT.pt FOLDER
# Copy FOLDER to the GPU machine:    tools/gpu_acceptance.sh run FOLDER [--dry-run] [--no-dla]
# To train there, with PyTorch:      tools/gpu_acceptance.sh train CONFIG.toml DATA FOLDER [--epochs N] [--device NAME] [--dry-run]
#
# A step that fails is noted and the next one runs. The result is FOLDER/acceptance.json; the logs are in FOLDER/logs.
set -u -o pipefail

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
PATH="$PATH:/usr/src/tensorrt/bin" # where a Jetson has trtexec
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
dry=false
dla=true
steps=steps.tsv

# note NAME RC SECONDS: one line for the report
note() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$logs/$steps"; }

# step NAME COMMAND...: run it, keep its output and how it ended
step() {
    local name=$1 begun rc
    shift
    if $dry; then
        printf '%s:' "$name"
        printf ' %q' "$@"
        printf '\n'
        return 0
    fi
    printf '%s ... ' "$name" >&2
    begun=$(date +%s.%N)
    "$@" >"$logs/$name.out" 2>"$logs/$name.err"
    rc=$?
    note "$name" "$rc" "$("$python" -c "import sys, time; print(round(time.time() - float(sys.argv[1]), 2))" "$begun")"
    printf 'exit code %s\n' "$rc" >&2
    return "$rc"
}

cli=("$python" -m cunet_deploy -q)

prepare() {
    [ $# -eq 3 ] || usage
    local quantized=$1 float=$2 folder=$3
    set -e
    "$python" -m cunet_deploy export "$quantized" --target tensorrt -o "$folder/int8" --overwrite
    "$python" -m cunet_deploy export "$quantized" --target tensorrt --features int8 -o "$folder/int8-features" --overwrite
    "$python" -m cunet_deploy export "$quantized" --target tensorrt --carrier fp32 -o "$folder/int8-fp32" --overwrite
    "$python" -m cunet_deploy export "$quantized" --target tensorrt --batch 1 -o "$folder/int8-batch1" --overwrite
    "$python" -m cunet_deploy export "$float" --bits 32 --target tensorrt -o "$folder/fp16" --overwrite
    "$python" -m cunet_deploy export "$float" --bits 32 --target tensorrt --carrier fp32 -o "$folder/fp32" --overwrite
    "$python" -m cunet_deploy export "$float" --bits 32 --target tensorrt --batch 1 -o "$folder/fp16-batch1" --overwrite
    echo "Copy $folder to the GPU machine and run: tools/gpu_acceptance.sh run $folder"
}

# the only engine in a folder
engine_of() {
    if $dry; then
        echo "$1/ENGINE"
    else
        find "$1" -maxdepth 1 -name '*.engine' 2>/dev/null | head -n 1
    fi
}

# variant NAME: build it, compare it with ONNX Runtime, and time it
variant() {
    local name=$1 bundle="$folder/$1" built="$engines/$1" engine batch
    $dry || [ -f "$bundle/model.tensorrt.onnx" ] || { note "build-$name" missing 0; return 0; }
    step "build-$name" "${cli[@]}" build "$bundle" --flavour tensorrt --batch 1:1:8 --timing-cache "$logs/timing.cache" \
        --verbose -o "$built" --overwrite || return 0
    engine=$(engine_of "$built")
    step "parity-$name" "$python" -m tools.gpu_acceptance parity "$bundle" "$engine" "$logs/parity-$name.json"
    for batch in 1 4 8; do
        step "bench-$name-$batch" "${cli[@]}" bench "$engine" --batch "$batch" --json "$logs/bench-$name-$batch.json" --overwrite
        step "graph-$name-$batch" "${cli[@]}" bench "$engine" --batch "$batch" --backend tensorrt:graph \
            --json "$logs/graph-$name-$batch.json" --overwrite
    done
    # NVIDIA's own program measures without Python: it separates the engine's time from ours.
    if $dry || command -v trtexec >/dev/null; then
        step "trtexec-$name" trtexec --loadEngine="$engine" --shapes="image:1x${size}x${size}x3" --warmUp=500 --duration=5 \
            --useSpinWait --separateProfileRun --exportProfile="$logs/profile-$name.json" \
            --exportLayerInfo="$logs/layers-$name.json" --profilingVerbosity=detailed
    fi
}

# everything that is asked of one engine, and of the machine
run() {
    [ $# -ge 1 ] || usage
    folder=$1
    shift
    for option in "$@"; do
        case $option in
        --dry-run) dry=true ;;
        --no-dla) dla=false ;;
        *) usage ;;
        esac
    done
    $dry || [ -d "$folder" ] || { echo "$folder: is no folder; make it with: $0 prepare QUANTIZED.pt FLOAT.pt $folder" >&2; exit 2; }
    logs="$folder/logs" engines="$folder/engines" size=256
    if ! $dry; then
        size=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["crop"]["size"])' \
            "$folder/int8/manifest.json") || exit 2
        mkdir -p "$logs" "$engines" || exit 1
        : >"$logs/steps.tsv"
    fi

    step doctor "${cli[@]}" doctor --json "$logs/doctor.json" --overwrite
    step driver nvidia-smi -q
    step power nvpmodel -q # Jetson only; clocks decide every number below

    # Is INT8 faster than FP16? What does the error of TensorRT against ONNX Runtime come to? Do CUDA graphs help?
    for name in fp32 fp16 int8 int8-features int8-fp32; do
        variant "$name"
    done

    # Are two builds the same? (with the timing cache of the first)
    step rebuild-int8 "${cli[@]}" build "$folder/int8" --flavour tensorrt --batch 1:1:8 --timing-cache "$logs/timing.cache" \
        -o "$engines/int8-again" --overwrite

    # Does TensorRT take uint8 activations with zero point 0, which TensorRT for RTX reads as int8, or reject them?
    step uint8-model "$python" -m tools.gpu_acceptance uint8 "$folder/int8/model.tensorrt.onnx" "$logs/uint8.onnx"
    step uint8-build trtexec --onnx="$logs/uint8.onnx" --saveEngine="$engines/uint8.engine" \
        --shapes="image:1x${size}x${size}x3" --stronglyTyped ||
        step uint8-build-weak trtexec --onnx="$logs/uint8.onnx" --saveEngine="$engines/uint8.engine" \
            --shapes="image:1x${size}x${size}x3" --int8 --fp16

    # ONNX Runtime's own ways to the GPU
    for backend in ort:cpu ort:cuda ort:tensorrt; do
        step "bench-${backend/:/-}" "${cli[@]}" bench "$folder/int8" --backend "$backend" \
            --json "$logs/bench-${backend/:/-}.json" --overwrite
    done

    # Is what must be refused refused: a changed engine (6), with trust a broken one (3)
    local engine
    engine=$(engine_of "$engines/int8")
    step tamper "$python" -m tools.gpu_acceptance tamper "${engine:-none}" "$logs/tamper.json"

    # Does the DLA run symmetric Q/DQ as INT8, and what falls back to the GPU?
    if $dla; then
        for name in int8-batch1 fp16-batch1; do
            for core in 0 1; do
                step "dla$core-$name" "${cli[@]}" build "$folder/$name" --flavour tensorrt --dla "$core" --gpu-fallback --verbose \
                    -o "$engines/dla$core-$name" --overwrite || continue
                engine=$(engine_of "$engines/dla$core-$name")
                step "dla$core-parity-$name" "$python" -m tools.gpu_acceptance parity "$folder/$name" "$engine" \
                    "$logs/parity-dla$core-$name.json"
                step "dla$core-bench-$name" "${cli[@]}" bench "$engine" --json "$logs/bench-dla$core-$name.json" --overwrite
            done
        done
    fi

    # TensorRT for RTX: the same questions, where it is installed
    if $dry || "$python" -c 'import tensorrt_rtx' 2>/dev/null; then
        for name in fp16 int8; do
            step "rtx-build-$name" "${cli[@]}" build "$folder/$name" --flavour tensorrt_rtx --batch 1:1:8 -o "$engines/rtx-$name" \
                --overwrite || continue
            engine=$(engine_of "$engines/rtx-$name")
            step "rtx-parity-$name" "$python" -m tools.gpu_acceptance parity "$folder/$name" "$engine" \
                "$logs/parity-rtx-$name.json"
            step "rtx-bench-$name" "${cli[@]}" bench "$engine" --json "$logs/bench-rtx-$name.json" --overwrite
        done
    fi

    if $dry; then
        echo "report: $folder/acceptance.json"
    else
        "$python" -m tools.gpu_acceptance report "$folder"
    fi
}

# train in each precision and memory mode, alone and with torchrun, against the CPU; export each and check its parity
train() {
    [ $# -ge 3 ] || usage
    local config=$1 data=$2 epochs=3 device=cuda gpus name runs
    folder=$3
    shift 3
    while [ $# -gt 0 ]; do
        case $1 in
        --epochs) epochs=${2:?} && shift 2 ;;
        --device) device=${2:?} && shift 2 ;;
        --dry-run) dry=true && shift ;;
        *) usage ;;
        esac
    done
    logs="$folder/logs" steps=steps-training.tsv runs="$folder/training"
    if ! $dry; then
        mkdir -p "$logs" "$runs" || exit 1
        : >"$logs/$steps"
        "$python" -m tools.gpu_training configs "$config" "$epochs" "$runs" >/dev/null || exit 2
    fi
    gpus=$("$python" -c 'import torch; print(max(torch.cuda.device_count(), 1))' 2>/dev/null || echo 1)

    step train-doctor "${cli[@]}" doctor --json "$logs/train-doctor.json" --overwrite
    step train-cpu "${cli[@]}" train "$runs/cpu.toml" --data "$data" -o "$runs/cpu" --device cpu
    for name in float32 bfloat16 float16 efficient saved8 both compiled; do
        step "train-$name" "${cli[@]}" train "$runs/$name.toml" --data "$data" -o "$runs/$name" --device "$device"
    done
    step train-torchrun "$python" -m torch.distributed.run --standalone --nproc-per-node "$gpus" -m cunet_deploy train \
        "$runs/torchrun.toml" --data "$data" -o "$runs/torchrun" --device "$device"
    # a checkpoint that a GPU has trained exports like one of the CPU: exactly
    for name in cpu float32 bfloat16 float16 efficient saved8 both compiled torchrun; do
        $dry || [ -f "$runs/$name/quantized.pt" ] || continue
        step "train-export-$name" "${cli[@]}" export "$runs/$name/quantized.pt" -o "$runs/$name-bundle" --overwrite
    done
    # and what one has begun, the other ends
    step train-quantize-on-device "${cli[@]}" train "$runs/float32.toml" --data "$data" --from "$runs/cpu/float.pt" \
        -o "$runs/from-cpu" --device "$device"
    if $dry; then
        echo "report: $folder/acceptance.json"
    else
        "$python" -m tools.gpu_acceptance report "$folder"
    fi
}

[ $# -ge 1 ] || usage
command=$1
shift
case $command in
prepare) prepare "$@" ;;
run) run "$@" ;;
train) train "$@" ;;
*) usage ;;
esac
