#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `make check-modes`: the programs about limits, forks, signals and threads in the modes that `make check` leaves out, and in secure mode.
# A point is a program in a mode. What may fail, and why, is in the table below: nothing else.

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
programs=${HK_BUILDDIR:-.}/tests/integration
unset HAKMEM_MODE HAKMEM_SECURE HAKMEM_CONF

# MODE/PROGRAM: the names of points that are about something the mode does not promise.
expected() {
    case $1 in
        # SIGUSR2 prints the ring of events there.
        research/signals) echo 'no handlers installed' ;;
        # A sized delete of another size ends the process.
        secure/operators) echo 'sized delete' ;;
        # realloc copies; what rests in the quarantine keeps its slabs.
        secure/limits) echo 'realloc with room for the difference alone' ;;
        secure/memory) echo '\(a burst \(of small blocks, freed at random\|of blocks of about a page\|of medium blocks\|with survivors\)\|threads that sleep\)' ;;
        secure/threads) echo '1000 threads at once' ;;
        *) echo 'none' ;;
    esac
}

in_mode() { # in_mode MODE OPTIONS PROGRAM
    timeout 300 env HAKMEM_OPTIONS="$2" "$programs/$3" >"$work/out" 2>&1
    status=$?
    planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$work/out")
    played=$(grep -c '^\(not \)\{0,1\}ok [0-9]' "$work/out")
    wrong=$(grep '^not ok ' "$work/out" | grep -v "^not ok [0-9]* - $(expected "$1/$3")")
    if test "$status" -gt 1 || test "$played" -ne "${planned:-0}" || test "${planned:-0}" -eq 0; then
        not_ok "$3, mode $1" "exit status $status after $played of ${planned:-no} points"
    elif test -n "$wrong"; then
        not_ok "$3, mode $1" "$wrong"
    else
        ok "$3, mode $1"
    fi
}

for program in ${HK_PROGRAMS:-early forks limits memory operators seccomp semantics signals stopped threads}; do
    for mode in ${HK_MODES:-minimal fast learning research}; do
        in_mode "$mode" "mode:$mode" "$program"
    done
    in_mode secure "secure:1" "$program"
done
finish
