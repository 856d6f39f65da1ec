#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Explores schedules of every model (tests/explore/engine.h), and of every model with each of its seeded bugs,
# which must be found and found again by replay. HK_EXPLORE=long: the campaign, with wider bounds, until every model
# has had HK_EXPLORE_EACH schedules (1M) beside the exhaustive ones, at most 10 times as many of those.
# HK_EXPLORE=orders: weakens each ordered operation that a model meets, and says which models notice.
# HK_EXPLORE_MODELS: only these.

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
explore=${HK_BUILDDIR:-.}/tests/explore/explore
each=${HK_EXPLORE_EACH:-1000000}
total=0

if test ! -x "$explore"; then
    echo "Bail out! no program $explore"
    exit 99
fi

holds() { # holds MODEL ARGUMENTS...
    if timeout "${HK_EXPLORE_TIMEOUT:-7200}" "$explore" "$@" >"$work/out" 2>&1; then
        ok "$(sed -n 1p "$work/out" | sed 's/, [0-9.]* s$//')"
        total=$((total + $(sed -n '1s/^[a-z-]*: \([0-9]*\) schedules.*/\1/p' "$work/out")))
        sed 's/^/# /' "$work/out"
    else
        not_ok "$1" "exit status $?: explore $*" "$(cat "$work/out")"
    fi
}

# finds MODEL SITE PREEMPTIONS OLD-READS: exit status 1 says that the violation was found and its replay ends alike
finds() {
    timeout 300 "$explore" "$1" --control "$2" --preemptions "$3" --old-reads "$4" --most 300000 >"$work/out" 2>&1
    status=$?
    if test $status -eq 1 && grep -q '  replay: ' "$work/out"; then
        ok "$1 finds $2"
        sed -n '1s/^/# /p' "$work/out"
    else
        not_ok "$1 finds $2" "exit status $status" "$(cat "$work/out")"
    fi
}

orders() { # orders MODEL PREEMPTIONS OLD-READS: no verdict, for RESULTS.md
    "$explore" "$1" --sites --most 3000 --random 500 | sed -n 's/^\([a-z_0-9]*:[a-z_]*\) .*/\1/p' | sort -u >"$work/sites"
    while read -r site; do
        timeout 300 "$explore" "$1" --control "$site" --preemptions "$2" --old-reads "$3" --most 20000 >/dev/null 2>&1
        case $? in
            1 | 3) echo "order $site noticed by $1" ;;
            *) echo "order $site not by $1" ;;
        esac
    done <"$work/sites"
}

"$explore" --list >"$work/list" || exit 99
while read -r kind model rest; do
    case " ${HK_EXPLORE_MODELS:-$model} " in
        *" $model "*) ;;
        *) continue ;;
    esac
    # Of a model: preemptions, old reads and random schedules here, then the bounds of the campaign.
    case $kind in
        model) bounds=${rest#* * * } ;;
    esac
    # shellcheck disable=SC2086
    case "$kind ${HK_EXPLORE:-short}" in
        "model short") holds "$model" ;;
        "model long")
            set -- $rest
            holds "$model" --preemptions "$4" --old-reads "$5" --random "$each" --most $((10 * each)) \
                --seed "${HK_EXPLORE_SEED:-1}"
            ;;
        "model orders") orders "$model" $bounds ;;
        *orders) ;;
        control*) finds "$model" "$rest" $bounds ;;
    esac
done <"$work/list"
echo "# $total schedules of the models as they are"
finish
