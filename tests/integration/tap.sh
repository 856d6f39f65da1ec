# SPDX-License-Identifier: MIT
#
# What the shell tests share; sourced. A test counts its points and prints the plan at the end.
#
#   ok NAME          the point passed
#   not_ok NAME WHY  it failed
#   skip NAME WHY    it cannot be had here
#   finish           prints the plan; exits 1 when a point failed
#   have CMD...      are all of these commands there?
#
# A command runs under the library with: env ${lib:+LD_PRELOAD="$lib"} COMMAND...
# Every command runs under `timeout`, so that a hang is a failure.

nr_points=0
nr_failed=0
lib=${HK_LIB:-}
work=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-test.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 99' HUP INT TERM

ok() {
    nr_points=$((nr_points + 1))
    echo "ok $nr_points - $1"
}

not_ok() {
    nr_points=$((nr_points + 1))
    nr_failed=$((nr_failed + 1))
    failed_name=$1
    shift
    printf '%s\n' "$@" | head -n 20 | sed 's/^/# /'
    echo "not ok $nr_points - $failed_name"
}

skip() {
    nr_points=$((nr_points + 1))
    echo "ok $nr_points - $1 # SKIP $2"
}

finish() {
    echo "1..$nr_points"
    test "$nr_failed" -eq 0
    exit
}

have() {
    for have_command in "$@"; do
        command -v "$have_command" >/dev/null 2>&1 || return 1
    done
}

if test -n "$lib" && test ! -f "$lib"; then
    echo "Bail out! no library at $lib"
    exit 99
fi
