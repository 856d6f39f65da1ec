#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Plays the corpora: every input that a campaign kept, and every one that once found a fault.

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
programs=${HK_BUILDDIR:-.}/tests/fuzz
corpora=${HK_SRCDIR:-.}/tests/fuzz/corpus

play() { # play HARNESS FILES...: all are played, in one process
    harness=$1
    shift
    timeout 120 "$programs/$harness" "$@" >"$work/out" 2>&1
}

for harness in files operations options policy stats; do
    nr=$(find "$corpora/$harness" -type f ! -name '.*' | wc -l)
    if test ! -x "$programs/$harness"; then
        not_ok "$harness: the corpus" "no program $programs/$harness"
    elif play "$harness" "$corpora/$harness" && grep -q "^played $nr inputs" "$work/out" && test "$nr" -gt 0; then
        ok "$harness: the corpus of $nr inputs"
    else
        # Which one? Alone, and with a new heap, it may not fail: then the whole is what there is to look at.
        for input in "$corpora/$harness"/*; do
            cp "$work/out" "$work/whole"
            play "$harness" "$input" || { echo "# $input"; break; }
            cp "$work/whole" "$work/out"
        done
        not_ok "$harness: the corpus of $nr inputs" "$(grep -v '^hakmem: ' "$work/out" | tail -n 15)"
    fi
done

finish
