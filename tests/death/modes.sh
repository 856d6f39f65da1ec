#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The cases of tests/death/death in the other modes and in secure mode: the promises are made in each, with the same words. A point
# is a mode. `make check` plays one in seven of the cases in each, beginning with another one; HK_DEATH_MODES=whole (`make check-death`)
# all of them: 50 s.

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
death=${HK_BUILDDIR:-.}/tests/death/death
unset HAKMEM_MODE HAKMEM_SECURE HAKMEM_CONF

if test ! -x "$death"; then
    echo "Bail out! no program $death"
    exit 99
fi

# What secure mode ends and others count or let pass: another size than was asked for, and, when the block was
# a guarded one, a look at it after its free. SECURITY.md says so.
is_no_misuse_elsewhere='not ok [0-9]* - harmless: \(free_sized \|sized delete \|looks dead, \)'

in_mode() { # in_mode NAME OPTIONS PATTERN
    share=$first/$every least=$((540 / every))
    first=$(((first + 1) % every))
    timeout 200 env HAKMEM_OPTIONS="$2" HK_DEATH_SHARE="$share" "$death" >"$work/out" 2>&1
    status=$?
    planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$work/out")
    played=$(grep -c '^\(not \)\{0,1\}ok [0-9]' "$work/out")
    failed=$(grep -c '^not ok ' "$work/out")
    excused=$(grep -c "^$3" "$work/out")
    if test "$status" -gt 1 || test "$played" -ne "${planned:-0}" || test "$planned" -lt "$least"; then
        not_ok "$1" "exit status $status after $played of ${planned:-no} cases" "$(tail -n 5 "$work/out")"
    elif test "$failed" -gt "$excused"; then
        not_ok "$1" "$((failed - excused)) of $planned cases:" "$(grep -v "^$3" "$work/out" | grep -A 3 '^not ok ')"
    else
        ok "$1"
    fi
}

first=0
every=7
test "${HK_DEATH_MODES:-}" = whole && every=1
for mode in minimal fast learning research; do
    in_mode "death, mode $mode" "mode:$mode" 'none'
done
in_mode "death, secure" "secure:1" "$is_no_misuse_elsewhere"
in_mode "death, secure, mode learning" "secure:1,mode:learning" "$is_no_misuse_elsewhere"
finish
