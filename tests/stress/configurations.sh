#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The model test under every mode and under configurations drawn at random: whatever the options
# say, every answer is right. HK_STRESS_SEED is the first seed, HK_STRESS_RUNS the number of
# configurations, HK_STRESS_OPS the operations of each. A failure prints the configuration and the
# command that plays it again, shrunk to the few operations that fail when one thread played.
# HK_STRESS_LONG: operations of all runs together; what each did is appended to model-results.

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
model=${HK_BUILDDIR:-.}/tests/model/model
seed=${HK_STRESS_SEED:-1}
runs=${HK_STRESS_RUNS:-20}
ops=${HK_STRESS_OPS:-1M}
patience=120
if test -n "${HK_STRESS_LONG-}"; then
    ops=$((HK_STRESS_LONG / (15 + runs) + 1)) # 15 runs beside the configurations, see below
    patience=$((120 + ops / 100000))
fi

if test ! -x "$model"; then
    echo "Bail out! no program $model"
    exit 99
fi

# A configuration as `HAKMEM_OPTIONS` takes it, a function of the seed.
configuration() {
    awk -v seed="$1" 'BEGIN {
        srand(seed)
        split("minimal fast balanced learning research", modes, " ")
        text = "mode:" modes[1 + int(rand() * 5)]
        n = split("tiny_mag_cap 8 4096;tiny_refill_count 1 256;tiny_refill_count_hot 1 512;remote_batch_bytes 1024 1048576;" \
            "wmax_mid 1000 4000;wmax_large 1000 4000;cap_mid 0 500;cap_large 0 64;mmap_threshold 65536 16777216;" \
            "bigcache_bytes 0 268435456;bigcache_age_ms 0 2000;purge_delay_ms 0 1000;purge_cap_bytes 0 67108864;" \
            "thp 0 2;tiny_must_adopt 0 1;pool_tls_free 0 1;disable_bigcache 0 1;disable_batch 0 1;learn_window_ms 100 1000;canary_frac 0 1000;seed 1 1000000", range, ";")
        split("off auto on", words, " ")
        for (i = 1; i <= n; i++) {
            split(range[i], r, " ")
            if (rand() < 0.5)
                continue
            value = r[2] * exp(rand() * log((r[3] + 1) / (r[2] + 1))) + rand()
            value = int(value > r[3] ? r[3] : value)
            if (r[1] == "thp")
                value = words[value + 1]
            else if (r[1] ~ /^wmax|^canary_frac/)
                value = sprintf("%.2f", value / 1000)
            text = text "," r[1] ":" value
        }
        print text
    }'
}

# The stream is kept in memory until it fails: a part of a long one.
shrink() { # shrink OPTIONS ARGUMENTS...
    options=$1
    shift
    timeout 300 env ${lib:+LD_PRELOAD="$lib"} HAKMEM_OPTIONS="$options" "$model" "$@" --threads 1 --shrink 2>&1 |
        tail -n 60 | sed 's/^/# /'
}

play() { # play NAME OPTIONS ARGUMENTS...
    name=$1
    options=$2
    shift 2
    begun=$(date +%s)
    timeout "$patience" env ${lib:+LD_PRELOAD="$lib"} HAKMEM_OPTIONS="$options" "$model" --quiet "$@" >"$work/out" 2>&1
    status=$?
    # The model is quiet when all is well, and so must the library be: it took every option.
    if test $status -eq 0 && test ! -s "$work/out"; then
        ok "$name"
    else
        not_ok "$name" "exit status $status: HAKMEM_OPTIONS=$options model $*" "$(cat "$work/out")"
        case "$*" in *--threads\ [2-9]*) ;; *) shrink "$options" "$@" ;; esac
    fi
    test -z "${HK_STRESS_LONG-}" ||
        echo "$(date -u +%F) $name: exit status $status, $ops operations, $(($(date +%s) - begun)) s: HAKMEM_OPTIONS=$options model $*" \
            >>model-results
}

for mode in minimal fast balanced learning research; do
    play "mode $mode" "mode:$mode" --seed "$seed" --ops "$ops"
    play "mode $mode, three threads" "mode:$mode" --seed "$seed" --ops "$ops" --threads 3
done
for learner in ucb1 elo random; do
    play "learner $learner" "mode:learning,learner:$learner,learn_window_ms:100" --seed "$seed" --ops "$ops" --threads 2
done
play "realloc to zero gives a block" "realloc0:alloc" --seed "$seed" --ops "$ops" --realloc0-alloc
play "no caches at all" "disable_bigcache:on,disable_batch:on,pool_tls_free:off,cap_mid:0,cap_large:0,purge_delay_ms:0,tiny_mag_cap:8" \
    --seed "$seed" --ops "$ops" --threads 2

i=0
while test $i -lt "$runs"; do
    options=$(configuration $((seed + i)))
    play "configuration $((seed + i))" "$options" --seed $((seed + i)) --ops "$ops" --threads $((1 + i % 3))
    i=$((i + 1))
done

finish
