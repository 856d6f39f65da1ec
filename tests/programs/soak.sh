#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The model test for SOAK_MINUTES under each of three configurations: every answer is right, memory stays flat, and at the
# end the counters add up to the byte and nothing is live. RSS is without the model's shadow, which grows with the addresses that
# blocks ever had. Samples (seconds, RSS, live, cached, mapped) go to soak-NAME.samples,
# a line a configuration to soak-results.

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
model=${HK_BUILDDIR:-.}/tests/model/model
stats=${HK_BUILDDIR:-.}/hakmem-stats
seconds=$((${SOAK_MINUTES:-5} * 60))

member() { # member NAME: the number of that name in JSON on stdin, the first
    sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" | head -n 1
}

sample() { # sample PID: a line; none when it is gone
    rss=$(awk '/^[0-9a-f]+-/ { shadow = $6 == "/dev/zero" } /^Rss:/ && !shadow { sum += $2 } END { if (NR) print sum * 1024 }' \
        "/proc/$1/smaps" 2>/dev/null)
    "$stats" show "$1" --json >"$work/json" 2>/dev/null || return 0
    test -z "$rss" || echo "$(($(date +%s) - begun)) $rss $(member live <"$work/json") $(member cached <"$work/json") $(member mapped <"$work/json")"
}

# The mean RSS of the last third may not exceed that of the middle third by more than a tenth: the stream's phases move it
# up and down, a leak moves it up alone. The first third fills the heap.
is_flat() { # is_flat SAMPLES: prints both
    awk '{ rss[NR] = $2 } END {
        for (i = int(NR / 3) + 1; i <= NR; i++)
            if (i <= 2 * NR / 3) { a += rss[i]; n++ } else { b += rss[i]; m++ }
        if (n && m) { a /= n; b /= m }
        printf "%.1f %.1f MiB", a / 1048576, b / 1048576
        exit !(NR >= 9 && a > 0 && b <= 1.1 * a)
    }' "$1"
}

soak() { # soak NAME OPTIONS MODEL-ARGUMENTS...
    name=$1
    options=$2
    shift 2
    samples=soak-$name.samples
    : >"$samples"
    begun=$(date +%s)
    env LD_PRELOAD="$lib" HAKMEM_OPTIONS="$options,stats_dump:on" "$model" --seconds "$seconds" --ops 1000G --seed "$begun" "$@" \
        >"$work/out" 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null && test $(($(date +%s) - begun)) -lt $((seconds + 120)); do
        sample $pid >>"$samples"
        sleep $((1 + seconds / 200))
    done
    kill -9 $pid 2>/dev/null
    wait $pid
    status=$?
    played=$(sed -n 's/^model: ok: .* \([0-9]*\) operations.*/\1/p' "$work/out")
    if test $status -eq 0 && test -n "$played"; then
        ok "$name: every answer is right"
    else
        not_ok "$name: every answer is right" "exit status $status" "$(cat "$work/out")"
    fi
    sums=$(sed -n 's/^hakmem: bytes: //p' "$work/out" | tr -d , | awk '{
        for (i = 3; i < NF; i += 2) sum += $(i + 1)
        if ($2 > 0 && $2 == sum) print "equal"; else print $2 " is not " sum }')
    test "$sums" = equal && ok "$name: the counters add up" || not_ok "$name: the counters add up" "$sums" "$(cat "$work/out")"
    flat=$(is_flat "$samples") && ok "$name: memory stays flat" || not_ok "$name: memory stays flat" "$flat"
    echo "$(date -u +%F) $name: $seconds s, ${played:-0} operations, exit status $status, mean RSS of the middle and last third $flat," \
        "counters $sums: HAKMEM_OPTIONS=$options model $*" | tee -a soak-results | sed 's/^/# /'
}

if test -z "$lib" || test ! -x "$model"; then
    echo "Bail out! no library or no program $model"
    exit 99
fi
soak balanced "mode:balanced" --threads 4 --max-size 1Mi --max-live 32Mi
soak learning "mode:learning,learn_window_ms:100" --threads 3 --max-size 8Mi --max-live 64Mi
soak tight "mode:minimal,limit:64M,purge_delay_ms:0,remote_batch_bytes:1K" --threads 4 --max-size 64Ki --max-live 16Mi
finish
