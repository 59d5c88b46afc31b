#!/usr/bin/env bash
# Shows that every processor computes the same: runs the released models on emulated Arm and x86 processors and compares
# crops, heatmaps, landmarks and records with those of this machine, value by value.
#
#   tools/verify_arm.sh [--short] [FOLDER]
#
# FOLDER (default: build/processors) keeps an arm64 root of Debian 12, wheels, qemu and the results; about 900 MB, of which
# 160 MB are downloaded. --short: two models on two processors, an eighth of the inputs. Environment variables:
#   ARM     processors, qemu's names   [cortex-a57 (Jetson Nano: no dot product), cortex-a76 (Raspberry Pi 5, near
#           Orin: dot product), max (i8mm, SVE, SME; as Graviton 3 and later)]
#   X86     levels, qemu's names       [Nehalem (SSE4.2), IvyBridge (AVX), Haswell (AVX2 without VNNI)]
#   OLD     Arm processors on which the oldest versions run that are supported   [cortex-a76]
#   MODELS  names divided by commas    [all released ones]
#   PYTHON  the Python of this machine, with this package's dependencies   [.venv/bin/python]
# Exit codes: 4 a value differs (it is printed), 5 a program is missing or nothing can be downloaded, 1 anything else.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
short=()
folder=
for argument in "$@"; do
    case $argument in
    --short) short=(--short) ;;
    -*)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
    *) folder=$argument ;;
    esac
done
folder=${folder:-$root/build/processors}
if [ ${#short[@]} -gt 0 ]; then
    arm=${ARM-cortex-a57 max} x86=${X86-} old=${OLD-} models=${MODELS:-face68-xs,face68-s}
else
    arm=${ARM-cortex-a57 cortex-a76 max} x86=${X86-Nehalem IvyBridge Haswell} old=${OLD-cortex-a76} models=${MODELS:-}
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# what a program finds in the environment of this machine is not for the emulated one
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 CUNET_CACHE=off PYTHONDONTWRITEBYTECODE=1

missing() {
    echo "verify_arm: $1" >&2
    exit 5
}

# Programs of the emulator, unpacked without being installed.
get_qemu() {
    [ -x "$folder/usr/bin/qemu-aarch64-static" ] && return
    command -v apt-get dpkg-deb >/dev/null || missing "apt-get and dpkg-deb are needed to unpack qemu-user-static"
    (
        cd "$folder"
        apt-get -qq download qemu-user-static || exit 5
        dpkg-deb --fsys-tarfile qemu-user-static_*.deb |
            tar -x ./usr/bin/qemu-aarch64-static ./usr/bin/qemu-x86_64-static
        rm -f qemu-user-static_*.deb
    ) || missing "qemu-user-static cannot be downloaded; apt-get update, and look at the network"
}

get_arm_root() {
    [ -e "$folder/root/usr/bin/python3" ] && return
    command -v mmdebstrap >/dev/null || missing "mmdebstrap is missing; install it: apt-get install mmdebstrap"
    rm -rf "$folder/root"
    mmdebstrap --quiet --variant=extract --arch=arm64 --include=python3,libstdc++6 bookworm "$folder/root" >&2 ||
        missing "Debian's arm64 packages cannot be downloaded"
}

# get_wheels NAME REQUIREMENT...: the base install for arm64
get_wheels() {
    local target=$folder/$1 tag
    shift
    [ -e "$target.done" ] && return
    local platforms=()
    for tag in manylinux2014 manylinux_2_17 manylinux_2_26 manylinux_2_27 manylinux_2_28 manylinux_2_31 manylinux_2_34; do
        platforms+=(--platform "${tag}_aarch64")
    done
    rm -rf "$target"
    "$python" -m pip --disable-pip-version-check install -q --target "$target" --only-binary=:all: \
        --implementation cp --python-version 3.11 "${platforms[@]}" "$@" >&2 || missing "wheels for arm64 cannot be installed"
    touch "$target.done"
}

# dependencies new|old: what pyproject.toml asks for, or the oldest versions of it
dependencies() {
    "$python" - "$root/pyproject.toml" "$1" <<'P'
import re, sys
from pathlib import Path

text = Path(sys.argv[1]).read_text(encoding="utf-8")
listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
# the oldest versions with wheels for this Python, of what computes; the rest as the ranges say
oldest = {"numpy": "numpy==1.26.4", "onnxruntime": "onnxruntime==1.17.0", "opencv-python-headless": "opencv-python-headless==4.8.1.78"}
for line in re.findall(r'"([^"]+)"', listed):
    name = re.match(r"[A-Za-z0-9_.-]+", line).group()
    if "python_version < '3.11'" not in line:
        print(oldest.get(name, line) if sys.argv[2] == "old" else line)
P
}

# pinned NAME...: the versions that this machine has, so that processors differ and nothing else does
pinned() {
    "$python" -c '
import sys
from importlib import metadata
for name in sys.argv[1:]:
    print(f"{name}=={metadata.version(name)}")' "$@"
}

# write_cpuinfo FOLDER FEATURES FIELDS: qemu before 8.2 shows the /proc/cpuinfo of the host, unless its folder has one.
write_cpuinfo() {
    local file=$1/proc/cpuinfo i
    mkdir -p "$1/proc"
    : >"$file"
    for ((i = 0; i < $(getconf _NPROCESSORS_CONF); i++)); do
        printf 'processor\t: %d\n%s\n\n' "$i" "$(printf "$3" "$2")" >>"$file"
    done
}

arm_features() {
    case $1 in
    max | neoverse-v* | neoverse-n2) echo "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimddp sve sve2 i8mm bf16" ;;
    cortex-a5[37] | cortex-a72) echo "fp asimd aes pmull sha1 sha2 crc32" ;;
    *) echo "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimddp" ;;
    esac
}

x86_flags() {
    case $1 in
    Nehalem*) echo "fpu sse sse2 ssse3 sse4_1 sse4_2 popcnt" ;;
    SandyBridge* | IvyBridge*) echo "fpu sse sse2 ssse3 sse4_1 sse4_2 popcnt avx" ;;
    *) echo "fpu sse sse2 ssse3 sse4_1 sse4_2 popcnt avx f16c fma avx2 bmi1 bmi2" ;;
    esac
}

# check NAME PROGRAM...: run what follows PROGRAM (a Python) and note what differs
status=0
check() {
    local name=$1 rc=0
    shift
    "$@" -m tools.processors.check --reference "$folder/reference" --name "$name" \
        --json "$folder/results/${name// /-}.json" "${short[@]}" ${models:+--models "$models"} \
        2> >(grep -v -e "TCG doesn't support" -e cpuid_info -e MIDR_EL1 >&2) || rc=$?
    [ $rc = 0 ] || [ $status = 4 ] || status=$([ $rc = 4 ] && echo 4 || echo 1)
}

# arm NAME CPU SITE: on an emulated Arm processor, with the wheels of a folder
arm() {
    write_cpuinfo "$folder/root" "$(arm_features "$2")" \
        'Features\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd07\nCPU revision\t: 0'
    PYTHONHOME=$folder/root/usr PYTHONPATH=$folder/$3:$root check "$1" \
        "$folder/usr/bin/qemu-aarch64-static" -cpu "$2" -L "$folder/root" "$folder/root/usr/bin/python3"
}

x86() {
    write_cpuinfo "$folder/x86" "$(x86_flags "$1")" \
        'vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 60\nmodel name\t: emulated\nflags\t\t: %s'
    PYTHONPATH=$root check "$1" "$folder/usr/bin/qemu-x86_64-static" -cpu "$1" -L "$folder/x86" "$python"
}

[ -x "$python" ] || missing "$python is missing; run: make .venv/base.stamp, or set PYTHON"
get_qemu
[ -z "$arm$old" ] || get_arm_root
if [ -n "$arm" ]; then
    # the versions that this machine has, so that nothing but the processor differs
    same=$(pinned numpy onnxruntime opencv-python-headless) ranges=$(dependencies new)
    mapfile -t wheels <<<"$same"$'\n'"$ranges"
    get_wheels site "${wheels[@]}"
fi
if [ -n "$old" ]; then
    ranges=$(dependencies old)
    mapfile -t wheels <<<"$ranges"
    get_wheels site-old "${wheels[@]}"
fi
rm -rf "$folder/results" "$folder/reference"
mkdir -p "$folder/results" "$folder/reference"
"$folder/usr/bin/qemu-aarch64-static" --version | head -1 >"$folder/results/qemu.txt"
PYTHONPATH=$root "$python" -m tools.processors.check --write --reference "$folder/reference" --name "this machine" \
    --json "$folder/results/this-machine.json" "${short[@]}" ${models:+--models "$models"} >/dev/null || exit $?
for cpu in $arm; do arm "$cpu" "$cpu" site; done
for cpu in $old; do arm "$cpu, oldest versions" "$cpu" site-old; done
if [ "$(uname -m)" = x86_64 ]; then
    for level in $x86; do x86 "$level"; done
fi
PYTHONPATH=$root "$python" -m tools.processors.report "$folder/results" || [ $status != 0 ] || status=1
[ $status = 0 ] || echo "verify_arm: not everything is the same; see above" >&2
exit $status
