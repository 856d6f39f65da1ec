#!/bin/sh
# SPDX-License-Identifier: MIT
# The static probes otel_memory:alloc and otel_memory:free: what the file says of them, and what somebody who attaches
# sees, here gdb: each sample once, with weights that add up, and no free of what was never told.
# $_probe_arg0 is gdb's.
# shellcheck disable=SC2016
set -u
. "${HK_SRCDIR:-$(dirname "$0")/../..}/tests/integration/tap.sh"
readelf=${READELF:-readelf}
builddir=${HK_BUILDDIR:-$(pwd)}

if ! grep -q '^#define HK_USDT 1' "$builddir/config.h"; then
    if "$readelf" -n "$lib" | grep -q otel_memory; then
        not_ok "built without probes" "$("$readelf" -n "$lib")"
    else
        skip "probes" "built without <sys/sdt.h>, and so without probes"
    fi
    finish
fi

# "name arguments location semaphore", of one file.
notes_of() {
    "$readelf" -n "$1" | awk '
        /Provider:/ { provider = $2 }
        /Name:/ { name = $2 }
        /Location:/ { gsub(",", ""); location = $2; semaphore = $6 }
        /Arguments:/ && provider == "otel_memory" { print name, NF - 1, location, semaphore }'
}

# alloc has three arguments, free one; both have a semaphore, in memory that may be written.
are_right() {
    notes_of "$1" >"$work/notes"
    grep -q '^alloc 3 ' "$work/notes" && grep -q '^free 1 ' "$work/notes" || return 1
    ! grep -vE '^(alloc 3|free 1) 0x0*[1-9a-f][0-9a-f]* 0x0*[1-9a-f][0-9a-f]*$' "$work/notes" || return 1
    "$readelf" -SW "$1" | grep -E ' \.probes .* WA ' >/dev/null
}

if are_right "$lib"; then
    ok "readelf -n: alloc with three arguments and free with one, behind semaphores"
else
    not_ok "readelf -n" "$("$readelf" -n "$lib")"
fi
cp "$lib" "$work/without.so"
if have objcopy && objcopy --remove-section .note.stapsdt "$work/without.so"; then
    if are_right "$work/without.so"; then
        not_ok "negative control: a file without notes"
    else
        ok "negative control: a file without notes"
    fi
    printf '%s\n' "$("$readelf" -SW "$lib" | awk '/note.stapsdt/ { print $0 }')" >"$work/section"
    if grep -E 'NOTE +0+ ' "$work/section" >/dev/null; then
        ok "the notes are not loaded"
    else
        not_ok "the notes are not loaded" "$(cat "$work/section")"
    fi
else
    skip "negative control: a file without notes" "no objcopy"
    skip "the notes are not loaded" "no objcopy"
fi

cat >"$work/program.c" <<'C'
#include <hakmem/hakmem.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#define NR 2000
static void *blocks[NR];
static int add_samples(const hak_site_t *site, void *sum)
{
    *(uint64_t *)sum += site->samples;
    return 0;
}
int main(void)
{
    uint64_t samples = 0;
    for (int i = 0; i < NR; i++)
        blocks[i] = malloc(700);
    for (int i = 0; i < NR; i++)
        free(blocks[i]);
    hak_site_foreach(add_samples, &samples);
    printf("samples %" PRIu64 "\n", samples);
    return 0;
}
C
cat >"$work/commands" <<'GDB'
set pagination off
set breakpoint pending on
set width 0
break main
run
break -probe-stap otel_memory:alloc
commands
silent
printf "alloc %lu %lu %lu\n", $_probe_arg0, $_probe_arg1, $_probe_arg2
continue
end
break -probe-stap otel_memory:free
commands
silent
printf "free %lu\n", $_probe_arg0
continue
end
continue
GDB
if ! have gdb || ! timeout 60 gdb -q -nx -batch -ex run --args true 2>&1 | grep -q "exited normally"; then
    skip "gdb sees each sample" "no gdb, or it may not trace"
    finish
fi
# shellcheck disable=SC2086 # CC may be words
${CC:-cc} -O1 -fno-builtin -I"${HK_SRCDIR:-.}/include" -o "$work/program" "$work/program.c" "$lib" || exit 99
LD_LIBRARY_PATH=$(dirname "$lib") HAKMEM_SEED=7 HAKMEM_PROF_SAMPLE=16K DEBUGINFOD_URLS='' \
    timeout 120 gdb -q -nx -batch -x "$work/commands" "$work/program" >"$work/seen" 2>&1
awk '
    $1 == "alloc" { nr++; weight += $4; told[$2] = 1; if ($3 < 1 || $4 < 1) bad = "an empty sample" }
    $1 == "alloc" && $3 == 700 { nr_ours++ }
    $1 == "free" { nr_freed++; if (!told[$2]) bad = "a free of what was not told" }
    /^samples/ { samples = $2 }
    END {
        printf "%d told, %d of 700 bytes, %d freed, the program counts %d, weight %d%s\n",
            nr, nr_ours, nr_freed, samples, weight, bad ? ", " bad : ""
        exit bad != "" || nr != samples || nr_ours < 20 || nr_freed < nr_ours ||
            weight < 700000 || weight > 2800000
    }' "$work/seen" >"$work/sum"
if test $? -eq 0; then
    ok "gdb sees each sample, its end, and weights that add up ($(cat "$work/sum"))"
else
    not_ok "gdb sees each sample" "$(cat "$work/sum")" "$(tail -20 "$work/seen")"
fi
finish
