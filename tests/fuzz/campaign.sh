#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A fuzzing campaign: builds the harnesses with clang's fuzzer and the address sanitizer in fuzz-build/, and with AFL++
# in fuzz-build-afl/, lets every harness search for FUZZ_SECONDS, and appends what it did to fuzz-results. Inputs
# found lie in fuzz-found/HARNESS; one that fails is kept under fuzz-failures/ and ends the campaign with 1.
#
#   FUZZ_SECONDS=60  FUZZ_ONLY="operations stats"  FUZZ_ENGINES="libfuzzer afl"  FUZZ_JOBS=1
#   FUZZ_MERGE=1: afterwards the smallest set that covers as much replaces tests/fuzz/corpus
# shellcheck disable=SC2086
set -eu
src=$(cd "${HK_SRCDIR:-.}" && pwd)
seconds=${FUZZ_SECONDS:-60}
only=${FUZZ_ONLY:-files operations options policy stats}
engines=${FUZZ_ENGINES:-libfuzzer afl}
top=$(pwd)
failed=0

# The longest input, and what parsers look for.
max_length() {
    case $1 in
        stats) echo 16384 ;;
        operations) echo 1024 ;;
        *) echo 1024 ;;
    esac
}

dictionary() {
    case $1 in
        options | files)
            sed -n 's/^X[A-Z]*(\([a-z0-9_]*\), .*/"\1"/p' "$src/lib/config/options.def"
            printf '"%s"\n' auto none off on minimal learning cgroup2 memory "," ":" "=" "\\x00" "1K" "18446744073709551615"
            ;;
        policy) sed -n 's/^.*{"\([a-z_]*\)", {.*/"\1"/p' "$src/lib/acectl/acectl.c"; printf '"%s"\n' hakmem-policy build-id none checksum ;;
        stats) printf '"%s"\n' hakmem stats class site site.symbol process option.text heap policy knob latency command key ;;
        *) printf '"%s"\n' '\xf8' '\x40' ;;
    esac
}

configure_in() { # configure_in DIRECTORY OPTIONS...
    directory=$1
    shift
    test -f "$directory/Makefile" && return
    mkdir -p "$directory"
    (cd "$directory" && "$src/configure" --quiet --disable-shared "$@") >"$directory.log" 2>&1
}

build() { # build DIRECTORY ENGINE
    for harness in $only; do
        set -- "$1" "$2" "${3-} tests/fuzz/$harness"
    done
    make -s -C "$1" -j"$(nproc)" $3 ${2:+FUZZ_ENGINE="$2"} >>"$1.log" 2>&1 || { tail -n 40 "$1.log" >&2; exit 1; }
}

say() {
    echo "$*" | tee -a fuzz-results
}

with_libfuzzer() { # with_libfuzzer HARNESS
    found=fuzz-found/$1
    mkdir -p "$found" fuzz-failures
    dictionary "$1" >"fuzz-found/$1.dict"
    status=0
    # Twice the time: the fuzzer ends by itself. Its own leak check does not know our mappings.
    timeout $((seconds * 2 + 60)) fuzz-build/tests/fuzz/$1 -max_total_time="$seconds" -max_len="$(max_length "$1")" \
        -dict="fuzz-found/$1.dict" -len_control=0 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 -close_fd_mask=3 \
        -jobs="${FUZZ_JOBS:-0}" -artifact_prefix="fuzz-failures/$1-" \
        "$found" "$src/tests/fuzz/corpus/$1" >"fuzz-found/$1.log" 2>&1 || status=$?
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "fuzz-found/$1.log" | tail -n 1)
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "fuzz-found/$1.log" | tail -n 1)
    total=$(sed -n 's/.*Loaded 1 PC tables (\([0-9]*\) PCs).*/\1/p' "fuzz-found/$1.log" | tail -n 1)
    say "$(date -u +%F) libfuzzer $1: $seconds s, ${runs:-?} executions, ${edges:-?} of ${total:-?} edges, exit status $status"
    test "$status" -eq 0 || { failed=1; tail -n 40 "fuzz-found/$1.log"; }
}

with_afl() { # with_afl HARNESS
    out=fuzz-afl/$1
    rm -rf "$out"
    mkdir -p "$out"
    dictionary "$1" >"fuzz-afl/$1.dict"
    status=0
    # It does not touch the machine's settings, and so may not ask for them.
    timeout $((seconds * 2 + 60)) env AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_AFFINITY=1 AFL_NO_UI=1 \
        AFL_BENCH_UNTIL_CRASH=1 afl-fuzz -V "$seconds" -t 5000+ -m none -G "$(max_length "$1")" -x "fuzz-afl/$1.dict" \
        -i "$src/tests/fuzz/corpus/$1" -o "$out" -- fuzz-build-afl/tests/fuzz/$1 >"fuzz-afl/$1.log" 2>&1 || status=$?
    stats=$out/default/fuzzer_stats
    runs=$(sed -n 's/^execs_done *: *//p' "$stats" 2>/dev/null || true)
    edges=$(sed -n 's/^edges_found *: *//p' "$stats" 2>/dev/null || true)
    total=$(sed -n 's/^total_edges *: *//p' "$stats" 2>/dev/null || true)
    crashes=$(sed -n 's/^saved_crashes *: *//p' "$stats" 2>/dev/null || true)
    hangs=$(sed -n 's/^saved_hangs *: *//p' "$stats" 2>/dev/null || true)
    say "$(date -u +%F) afl++ $1: $seconds s, ${runs:-?} executions, ${edges:-?} of ${total:-?} edges," \
        "${crashes:-?} crashes, ${hangs:-?} hangs, exit status $status"
    test "${crashes:-1}" = 0 && test "${hangs:-1}" = 0 || { failed=1; tail -n 20 "fuzz-afl/$1.log"; }
}

merge() { # merge HARNESS: the smallest inputs that cover what all do
    fresh=fuzz-found/$1.merged
    rm -rf "$fresh"
    mkdir -p "$fresh"
    fuzz-build/tests/fuzz/$1 -merge=1 -close_fd_mask=3 -max_len="$(max_length "$1")" "$fresh" "$src/tests/fuzz/corpus/$1" \
        "fuzz-found/$1" >"fuzz-found/$1.merge.log" 2>&1
    # Those that once failed keep their names, whatever they cover.
    find "$src/tests/fuzz/corpus/$1" -type f ! -name 'fixed-*' -delete
    cp "$fresh"/* "$src/tests/fuzz/corpus/$1/"
}

for engine in $engines; do
    case $engine in
        libfuzzer)
            command -v clang >/dev/null || { echo "no clang: libFuzzer is left out"; continue; }
            # The fuzzer watches comparisons as well as branches.
            configure_in fuzz-build CC=clang CXX=clang++ --enable-sanitizer=address \
                CFLAGS='-O1 -g -fsanitize=fuzzer-no-link'
            build fuzz-build -fsanitize=fuzzer
            for harness in $only; do with_libfuzzer $harness; done
            ;;
        afl)
            command -v afl-clang-fast >/dev/null || { echo "no AFL++: left out"; continue; }
            configure_in fuzz-build-afl CC=afl-clang-fast CXX=afl-clang-fast++ CFLAGS='-O2 -g'
            AFL_QUIET=1 build fuzz-build-afl ""
            for harness in $only; do with_afl $harness; done
            ;;
        *) echo "no such engine: $engine" >&2; exit 2 ;;
    esac
done
if test -n "${FUZZ_MERGE-}"; then
    for harness in $only; do merge $harness; done
fi
echo "results in $top/fuzz-results"
exit $failed
