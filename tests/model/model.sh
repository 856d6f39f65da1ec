#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs the model test: one thread, several, little memory, and then with faults injected, which it
# must find. HK_MODEL_OPS is the number of operations of each of the seven long runs (10M);
# HK_MODEL_SEED the first seed.

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
model=${HK_BUILDDIR:-.}/tests/model/model
CC=${CC:-cc}
ops=${HK_MODEL_OPS:-10M}
seed=${HK_MODEL_SEED:-1}

if test ! -x "$model"; then
    echo "Bail out! no program $model"
    exit 99
fi

play() { # play NAME ARGUMENTS...: no answer may be wrong
    name=$1
    shift
    if timeout "${HK_MODEL_TIMEOUT:-600}" env ${lib:+LD_PRELOAD="$lib" HAKMEM_STATS_DUMP=1} "$model" "$@" \
        >"$work/out" 2>&1; then
        ok "$name"
        grep -v '^hakmem:' "$work/out" | sed 's/^/# /'
        adds_up "$name"
    else
        not_ok "$name" "exit status $?: model $*" "$(cat "$work/out")"
    fi
}

adds_up() { # adds_up NAME: at exit the parts of what is mapped are all of it, to the byte
    test -n "$lib" || return 0
    sums=$(sed -n 's/^hakmem: bytes: //p' "$work/out" | tr -d , | awk '{
        for (i = 3; i < NF; i += 2) sum += $(i + 1)
        if ($2 > 0 && $2 == sum) print "equal"
        else print $2 " is not " sum
    }')
    if test "$sums" = equal; then
        ok "$1: the counters add up"
    else
        not_ok "$1: the counters add up" "$sums" "$(grep '^hakmem: bytes' "$work/out")"
    fi
}

broken() { # broken FAULT ARGUMENTS...: must be found: exit status 1, and a failure that says where
    fault=$1
    shift
    timeout 60 env ${lib:+LD_PRELOAD="$lib"} "$model" --break "$fault" --ops 500K --seed "$seed" "$@" >"$work/out" 2>&1
    status=$?
    if test $status -eq 1 && grep -q '^model: FAIL' "$work/out" && grep -q "seed $seed" "$work/out"; then
        ok "finds the fault: $fault $*"
    else
        not_ok "finds the fault: $fault $*" "exit status $status" "$(cat "$work/out")"
    fi
}

play "one thread" --seed "$seed" --ops "$ops"
play "one thread, small blocks" --seed $((seed + 1)) --ops "$ops" --max-size 2000
play "one thread, a large heap" --seed $((seed + 2)) --ops "$ops" --slots 65536 --max-live 1Gi
play "one thread, few blocks" --seed $((seed + 3)) --ops "$ops" --slots 8
play "two threads" --seed $((seed + 4)) --ops "$ops" --threads 2
play "eight threads, small blocks" --seed $((seed + 5)) --ops "$ops" --threads 8 --max-size 5000
play "four threads, a large heap" --seed $((seed + 6)) --ops "$ops" --threads 4 --slots 32768

# The model's own memory (shadow, stacks) counts too, hence not less.
(
    ulimit -v 262144 2>/dev/null
    timeout 60 env ${lib:+LD_PRELOAD="$lib"} "$model" --seed $((seed + 7)) --ops 1M --threads 2 --slots 16384 \
        --oom-ok >"$work/out" 2>&1
)
status=$?
if test $status -eq 0; then
    ok "out of memory now and then"
else
    not_ok "out of memory now and then" "exit status $status" "$(cat "$work/out")"
fi

for fault in overlap content zero align usable errno realloc; do
    broken $fault
    broken $fault --threads 2
done

timeout 120 env ${lib:+LD_PRELOAD="$lib"} "$model" --break content --ops 300K --seed "$seed" --shrink >"$work/out" 2>&1
left=$(sed -n 's/.* operations shrunk to \([0-9]*\) that still fail.*/\1/p' "$work/out")
if test -n "$left" && test "$left" -le 50; then
    ok "shrinks a failure to at most 50 operations"
else
    not_ok "shrinks a failure to at most 50 operations" "$(cat "$work/out")"
fi

# The same for a bug that is not the model's own, and takes several operations to show.
if $CC -shared -fPIC -O1 -o "$work/faulty.so" "${HK_SRCDIR:-.}/tests/model/faulty.c" -ldl 2>"$work/out"; then
    # Whether it shows again depends on which blocks come back, and so on where the heap lies: three tries.
    for try in 0 1 2; do
        timeout 100 env LD_PRELOAD="$work/faulty.so${lib:+:$lib}" "$model" --ops 100K --seed $((seed + try)) --shrink >"$work/out" 2>&1
        left=$(sed -n 's/.* operations shrunk to \([0-9]*\) that still fail.*/\1/p' "$work/out")
        if test -n "$left" && test "$left" -le 50 && grep -q 'op [0-9]*: slot [0-9]*, calloc' "$work/out" && grep -q ', free,' "$work/out"; then break; fi
        left=
    done
    if test -n "$left"; then
        ok "shrinks a seeded bug to at most 50 operations"
        grep 'shrunk to' "$work/out" | sed 's/^/# /'
    else
        not_ok "shrinks a seeded bug to at most 50 operations" "$(cat "$work/out")"
    fi
else
    not_ok "shrinks a seeded bug to at most 50 operations" "$(cat "$work/out")"
fi

# The same seed plays the same stream: it fails at the same operation.
first=$("$model" --break zero --ops 500K --seed 9 2>&1 | grep 'op [0-9]*:')
second=$(env ${lib:+LD_PRELOAD="$lib"} "$model" --break zero --ops 500K --seed 9 --lenient 2>&1 | grep 'op [0-9]*:')
if test -n "$first" && test "$first" = "$second"; then
    ok "one seed, one stream"
else
    not_ok "one seed, one stream" "expected $first" "actual $second"
fi

finish
