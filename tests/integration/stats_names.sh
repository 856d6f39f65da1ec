#!/bin/sh
# SPDX-License-Identifier: MIT
#
# hakmem-stats and the names of call sites in C++: as they were written, whole where programs read, shortened on a
# terminal, and hostile ones; inlined functions.

src=${HK_SRCDIR:-.}/tests/integration
. "$src/tap.sh"
cxx=${CXX:-c++}
builddir=${HK_BUILDDIR:-$(pwd)}
tool=$builddir/hakmem-stats
python=${PYTHON:-python3}
LC_ALL=C
export LC_ALL
unset NO_COLOR

if test -z "$lib" || ! test -x "$tool"; then
    skip "names" "no library or no program"
    finish
fi
if ! ldd "$tool" 2>/dev/null | grep -q libdw; then
    skip "names" "built without libdw"
    finish
fi

# A type with twice as many parts as the one before, sixty times: some 600 bytes, and 2^60 when written out.
# shellcheck disable=SC2016
hostile=$(awk 'function seq(n,  digits, text) {
        if (n == 0) return "S_"
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"; n--
        do { text = substr(digits, n % 36 + 1, 1) text; n = int(n / 36) } while (n)
        return "S" text "_"
    }
    BEGIN { name = "_Z1f1AIiE"; for (i = 1; i <= 60; i++) name = name "S_I" seq(i) seq(i) "E"; print name }')
if ! $cxx -g -O2 -DHOSTILE_NAME="\"$hostile\"" -o "$work/names" "$src/stats_names.cc" 2>"$work/err"; then
    skip "names" "no C++ compiler: $(head -n 1 "$work/err")"
    finish
fi

pids=
# shellcheck disable=SC2086
trap 'kill -9 $pids 2>/dev/null; rm -rf "$work"' EXIT

# start PROGRAM: runs it until it says "ready"; its number is in $pid
start() {
    : >"$work/said"
    LD_PRELOAD="$lib" "$1" >"$work/said" 2>&1 &
    pid=$!
    pids="$pids $pid"
    tries=0
    while ! grep -q ready "$work/said" && test $tries -lt 400 && kill -0 $pid; do
        sleep 0.05
        tries=$((tries + 1))
    done
}

start "$work/names"
names=$pid

# check NAME PATTERN COMMAND...: the pattern (grep -E) is in what the command prints, and it succeeds
check() {
    name=$1
    pattern=$2
    shift 2
    timeout 60 "$@" >"$work/out" 2>&1 </dev/null
    status=$?
    if test $status -eq 0 && grep -Eq -e "$pattern" "$work/out"; then
        ok "$name"
    else
        not_ok "$name" "status $status; expected $pattern in:" "$(cat "$work/out")"
    fi
}

line() { # MARK
    grep -n "// line: $1\$" "$src/stats_names.cc" | cut -d: -f1
}

check "a member function, without its parameters" \
    " 9 .* storage::Table::grow \(stats_names.cc:$(line grow)\)$" "$tool" sites "$pid"
check "json: with its parameters" '"function":"storage::Table::grow\(int\) const &"' "$tool" sites "$pid" --json
check "json: a name of 400 bytes is whole" '"function":"storage::Pool<.{300,}>::fill\(\)"' "$tool" sites "$pid" --json
check "csv: too" '"storage::Pool<.{300,}>::fill\(\) \(stats_names.cc:[0-9]+\)"' "$tool" export "$pid" --format csv
check "not on a terminal: too" ' storage::Pool<.{300,}>::fill \(stats_names.cc:[0-9]+\)$' "$tool" sites "$pid"
check "hostile: nothing but its bytes" " $hostile \(stats_names.cc:[0-9]+\)$" "$tool" sites "$pid"
if have "$python"; then
    "$tool" export "$pid" --format pprof >"$work/pprof"
    check "pprof: too" ' storage::Pool<.{300,}>::fill\(\) ' "$python" "$src/pprof_decode.py" "$work/pprof"
fi
"$tool" snapshot "$pid" -o "$work/snapshot"
check "a snapshot: too" '"function":"storage::Pool<.{300,}>::fill\(\)"' "$tool" sites "$work/snapshot" --json
# --- inlined functions ---

file=$src/stats_names.cc
inlined_check() { # TITLE
    check "$1: in headers of the library: the line of the caller" " load_table \(stats_names.cc:$(line load_table)\)$" \
        "$tool" sites "$target"
    check "$1: in the program's own: both" \
        " outermost \(stats_names.cc:$(line outermost)\) > make \(stats_names.cc:$(line innermost)\)$" "$tool" sites "$target"
    check "$1: not the same name twice" " twice \\(stats_names.cc:$(line twice)\\)$" "$tool" sites "$target"
    frame="\{\"function\":\"make[^}]*\",\"file\":\"[^\"]*stats_names.cc\",\"line\":"
    check "$1: json has all of them, innermost first" \
        "\"line\":$(line outermost),[^]]*\"inlined\":\[$frame$(line innermost)\},$frame$(line middle)\}\]" \
        "$tool" sites "$target" --json
}
target=$pid
inlined_check "a process"
target=$work/snapshot
inlined_check "a snapshot"
if have "$python"; then
    check "pprof has all of them, innermost first" \
        "make[^/]* $file:$(line innermost) make_two[^/]* $file:$(line middle) outermost\(\) $file:$(line outermost)$" \
        "$python" "$src/pprof_decode.py" "$work/pprof"
fi
# clang writes no index from addresses to units.
if have clang++ && clang++ -g -O2 -o "$work/clang" "$src/stats_names.cc" 2>/dev/null; then
    start "$work/clang"
    target=$pid
    inlined_check "clang"
else
    skip "clang" "no clang++"
fi

# --- a terminal ---

if have script stty; then
    check "a terminal: the name gives way, file and line do not" \
        "^.{81}storage::Pool<.{20,}\.\.\. \(stats_names.cc:[0-9]+\).?$" \
        script -qec "stty cols 160; '$tool' sites $names" /dev/null
    check "and no line is longer" "^0$" sh -c "tr -d '\r' <'$work/out' | sed 's/$(printf '\033')\[[0-9]*m//g' | awk 'length > 160 { n++ } END { print n + 0 }'"
else
    skip "a terminal" "no script or stty"
fi
finish
