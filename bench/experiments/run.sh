#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh [ROUNDS [REPEATS]] - the design experiments: builds every variant of proto.c,
# runs the workloads interleaved with glibc and Debian's libmimalloc2.0, writes
# results.csv and instructions.csv beside this file and prints the tables.
#
#   CC          compiler (gcc)
#   BUILD_DIR   where the variants go (a directory under TMPDIR)
# ROUNDS 0 prints the tables of the last run again.
#
#   ONLY        rows to measure again; the others keep their results
#   SKIP_COUNT  non-empty: reuse instructions.csv, do not run callgrind
set -eu

here=$(cd "$(dirname "$0")" && pwd)
rounds=${1:-3}
repeats=${2:-4}
cc=${CC:-gcc}
build=${BUILD_DIR:-${TMPDIR:-/tmp}/hakmem-experiments}
flags="-O2 -fPIC -shared -fvisibility=hidden -fno-builtin-malloc -ftls-model=initial-exec"

mkdir -p "$build"
$cc -O2 -fno-builtin-malloc -fno-plt -pthread "$here/workloads.c" -o "$build/workloads"

# Each line: name and the switches in which it differs from base.
# twin is base once more: what it shows is the noise.
cat >"$build/variants" <<'LIST'
base
twin
local           -DEXP_CACHE=1
flat            -DEXP_MAP=1
local-flat      -DEXP_CACHE=1 -DEXP_MAP=1
slab64          -DEXP_SLAB_SHIFT=16
local-slab64    -DEXP_CACHE=1 -DEXP_SLAB_SHIFT=16
colour1         -DEXP_COLOUR=1
colour2         -DEXP_COLOUR=2
slots256        -DEXP_MAG_MAX=256
slots512        -DEXP_MAG_MAX=512
slots2048       -DEXP_MAG_MAX=2048
remote1         -DEXP_REMOTE_BATCH=1
remote16        -DEXP_REMOTE_BATCH=16
remote254       -DEXP_REMOTE_BATCH=254
mark            -DEXP_CHECK=1
mark-only       -DEXP_CHECK=4
bitmap          -DEXP_CHECK=2
bytemap         -DEXP_CHECK=3
flat-mark       -DEXP_CHECK=1 -DEXP_MAP=1
flat-bitmap     -DEXP_CHECK=2 -DEXP_MAP=1
flat-bytemap    -DEXP_CHECK=3 -DEXP_MAP=1
local-mark      -DEXP_CACHE=1 -DEXP_CHECK=1
local-bitmap    -DEXP_CACHE=1 -DEXP_CHECK=2
LIST
while read -r name switches; do
    # shellcheck disable=SC2086
    $cc $flags $switches "$here/proto.c" -o "$build/$name.so"
    # Callgrind refuses reservations of this size: same code, smaller map.
    case $switches in
    *EXP_MAP=1*)
        # shellcheck disable=SC2086
        $cc $flags $switches -DEXP_ADDRESS_BITS=38 "$here/proto.c" -o "$build/$name.count.so" ;;
    esac
done <"$build/variants"

exec python3 "$here/measure.py" "$build" "$here" "$rounds" "$repeats"
