#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds for coverage in coverage-build/, runs the tests there and prints how much of each box they reached. A test that
# fails in that build (it counts instructions, or system calls) is named and does not stop the rest.
# shellcheck disable=SC2086
set -eu
src=$(cd "${HK_SRCDIR:-.}" && pwd)
# One instruction at a time, and other machines: they take hours here and reach nothing of their own.
tests=${COVERAGE_TESTS:-$(echo "$HK_ALL_TESTS" | sed 's:tests/integration/steps::; s:tests/portability/[a-z.]*::g')}
command -v gcovr >/dev/null || { echo "no gcovr" >&2; exit 1; }

mkdir -p coverage-build
if test ! -f coverage-build/Makefile; then
    # A branch is one of the source's. With -fexceptions (for a new_handler that throws through C) each call has a second
    # one, into the unwinder.
    (cd coverage-build && "$src/configure" --quiet CC="${COVERAGE_CC:-gcc}" CXX="${COVERAGE_CXX:-g++}" LDFLAGS=--coverage \
        CFLAGS="-O0 -g --coverage -fprofile-update=atomic -fno-exceptions -include $src/tests/coverage/dump.h") >coverage-build.log 2>&1
fi
# COVERAGE_KEEP: what earlier calls reached counts too.
test -n "${COVERAGE_KEEP-}" || rm -rf coverage-parts
mkdir -p coverage-parts
make -s -C coverage-build -j"$(nproc)" check TESTS= >>coverage-build.log 2>&1
export HK_MODEL_OPS="${HK_MODEL_OPS:-500K}" HK_STRESS_OPS="${HK_STRESS_OPS:-200K}" HK_STRESS_RUNS="${HK_STRESS_RUNS:-10}"

# Test by test: one that kills a process while it writes its counts spoils them, but only its own.
reached() { # reached OUTPUT ARGUMENTS...
    output=$1
    shift
    gcovr --root "$src" --filter "$src/lib/" --exclude-unreachable-branches --exclude-throw-branches --gcov-ignore-parse-errors \
        --json "$output" "$@" >>coverage-gcovr.log 2>&1
}
: >coverage-tests.log
for test in $tests; do
    find coverage-build -name '*.gcda' -delete
    make -C coverage-build check-TESTS TESTS="$test" >>coverage-tests.log 2>&1 || true
    reached "coverage-parts/$(echo "$test" | tr / -).json" --object-directory coverage-build coverage-build/lib ||
        echo "no counts of $test"
done
grep -E '^(FAIL|ERROR)' coverage-tests.log | sed 's/^/fails in this build: /' || true
set --
for part in coverage-parts/*.json; do set -- "$@" -a "$part"; done
reached coverage.json "$@" || { tail -n 20 coverage-gcovr.log >&2; exit 1; }
"$PYTHON" "$src/tests/coverage/table.py" coverage.json | tee coverage-results
