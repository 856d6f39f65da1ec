#!/bin/sh
# SPDX-License-Identifier: MIT
#
# hakmem-stats: every command, on programs preloaded, linked, static, stripped, deleted and in another mount
# namespace; on snapshots and core dumps; and, built with sanitizers, on counters and files that lie.

src=${HK_SRCDIR:-.}/tests/integration
. "$src/tap.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL
cc=${CC:-cc}
builddir=${HK_BUILDDIR:-$(pwd)}
tool=$builddir/hakmem-stats
python=${PYTHON:-python3}
LC_ALL=C
ASAN_OPTIONS=exitcode=99:detect_leaks=0:abort_on_error=0
UBSAN_OPTIONS=halt_on_error=1:exitcode=99
export LC_ALL ASAN_OPTIONS UBSAN_OPTIONS
unset NO_COLOR

if test -z "$lib" || ! test -x "$tool"; then
    skip "hakmem-stats" "no library or no program"
    finish
fi
if ! $cc -g -O1 -o "$work/target" "$src/stats_target.c" 2>"$work/err"; then
    skip "hakmem-stats" "no compiler"
    finish
fi

pids=
# shellcheck disable=SC2086
trap 'kill -9 $pids 2>/dev/null; rm -rf "$work"' EXIT

# start COMMAND...: runs it until it says "ready"; its number is in $pid, what it says goes to $said.
start() {
    said=$work/said
    : >"$said"
    "$@" >"$said" 2>"$work/start.err" &
    pid=$!
    pids="$pids $pid"
    tries=0
    while ! grep -q ready "$said" && test $tries -lt 200; do
        kill -0 $pid 2>/dev/null || return 1
        sleep 0.05
        tries=$((tries + 1))
    done
}

# check NAME EXPECTED-STATUS PATTERN COMMAND...: the pattern (grep -E, '' for any) is in what it prints
check() {
    name=$1
    expected=$2
    pattern=$3
    shift 3
    case $1 in
    complete_bash) "$@" >"$work/out" 2>&1 </dev/null ;;
    *) timeout 60 "$@" >"$work/out" 2>&1 </dev/null ;;
    esac
    status=$?
    if test $status -eq "$expected" && { test -z "$pattern" || grep -Eq -e "$pattern" "$work/out"; }; then
        ok "$name"
    else
        not_ok "$name" "status $status, expected $expected; expected $pattern in:" "$(cat "$work/out")"
    fi
}

# --- usage ---

check "no command: usage, status 2" 2 "usage:" "$tool"
check "--help" 0 "usage:" "$tool" --help
check "--version" 0 "hakmem-stats [0-9]" "$tool" --version
check "an unknown command" 2 "no such command" "$tool" nonsense
check "an unknown option" 2 "unrecognized option" "$tool" show --nonsense 1
check "an operand is missing" 2 "expected one PID" "$tool" show
check "a bad order" 2 "no such order" "$tool" sites 1 --sort colour
check "a bad format" 2 "json, ndjson, csv" "$tool" export 1 --format xml
check "a bad threshold" 2 "expected METRIC OP NUMBER" "$tool" show 1 --fail-if 'lives>2G'
check "a bad number in a threshold" 2 "expected METRIC OP NUMBER" "$tool" show 1 --fail-if 'live>2X'
check "no such process" 3 "no such process" "$tool" show 999999999
check "a process without the library" 3 "does not use libhakmem" "$tool" show $$
cp "$0" "$work/words"
check "a file of another kind is named" 3 "words: no counters" "$tool" diff "$work/words" "$work/words"
check "no such file" 3 "No such file" "$tool" show "$work/nothing"
check "a directory" 3 "not a regular file" "$tool" show "$work"
mkfifo "$work/fifo" && check "a fifo does not hang" 3 "not a regular file" "$tool" show "$work/fifo"
check "run without a command" 2 "no command" "$tool" run
mkdir "$work/bin"
# shellcheck disable=SC2016
printf '#!/bin/sh\necho "run: $*"\nexit 42\n' >"$work/bin/hakmem-run"
chmod +x "$work/bin/hakmem-run"
check "run hands over to hakmem-run" 42 "^run: --report -- a b$" env PATH="$work/bin:$PATH" "$tool" run -- a b
check "run without hakmem-run: status 127" 127 "hakmem-run: No such file" env PATH=/nonexistent "$tool" run -- a

# Each option and command that --help or main.c knows is in the manual and in every completion.
root=${HK_SRCDIR:-.}
words=$(sed -n '/^static const struct option long_options/,/^};/s/.*{"\([a-z-]*\)".*/\1/p;
    /^static command_function \*find_command/,/^}/s/{"\([a-z]*\)", command_[a-z]*}/\n@\1\n/gp' \
    "$root/tools/hakmem-stats/main.c" | sed -n 's/^@*\([a-z-]*\)$/\1/p' | sort -u)
missing=
for word in $words run; do
    for file in man/hakmem-stats.1 tools/completions/hakmem-stats.bash tools/completions/_hakmem-stats \
        tools/completions/hakmem-stats.fish; do
        grep -q -e "[^a-z]$word\([^a-z]\|\$\)" "$root/$file" || missing="$missing $word:$file"
    done
done
if test -z "$missing" && test "$(echo "$words" | wc -w)" -ge 24; then
    ok "manual and completions know every option and command"
else
    not_ok "manual and completions know every option and command" "missing:$missing" "of: $(echo "$words" | tr '\n' ' ')"
fi
if have bash; then
    # shellcheck disable=SC2016
    complete_bash() {
        bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hakmem_stats; echo "${COMPREPLY[@]}"' - \
            "$root/tools/completions/hakmem-stats.bash" "$@"
    }
    check "bash completes a command" 0 "^sites$" complete_bash hakmem-stats si
    check "bash completes a format" 0 "^prometheus pprof$" complete_bash hakmem-stats export 1 --format p
    check "bash completes an option" 0 "^--fail-if --format$" complete_bash hakmem-stats show --f
fi

# --- a preloaded program ---

start env LD_PRELOAD="$lib" "$work/target"
target=$pid

# Some sandboxes, and Yama, forbid to read a process that is no child of one's own.
cat >"$work/look.c" <<'C'
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
int main(int argc, char **argv)
{
    char name[64], byte;
    void *start;
    FILE *maps = snprintf(name, sizeof name, "/proc/%s/maps", argv[argc - 1]) > 0 ? fopen(name, "r") : NULL;
    if (!maps || fscanf(maps, "%p", &start) != 1)
        return 2;
    struct iovec to = {&byte, 1}, from = {start, 1};
    return process_vm_readv(atoi(argv[1]), &to, 1, &from, 1, 0) != 1;
}
C
if $cc -o "$work/look" "$work/look.c" && ! "$work/look" "$target"; then
    check "show, where reading is forbidden: status 4" 4 "" "$tool" show "$target"
    start env HAKMEM_STATS=export LD_PRELOAD="$lib" "$work/target"
    check "show, where reading is forbidden: the exported file" 0 "^  mapped +[0-9.]+[KM] " "$tool" show "$pid"
    skip "hakmem-stats on processes" "process_vm_readv(2) is not permitted here"
    finish
fi

check "show" 0 "^  mapped +[0-9.]+[KM] " "$tool" show "$target"
check "show says what a row means" 0 "blocks the program holds" "$tool" show "$target"
check "show: what the kernel counts, beside" 0 "^  rss_anonymous +[1-9]" "$tool" show "$target"
check "show --bytes" 0 "^  live_runs +3[0-9]{6} " "$tool" show "$target" --bytes
check "plain text when not a terminal" 1 "0" grep -c "$(printf '\033')" "$work/out"
check "--color" 0 "$(printf '\033')\[1m" "$tool" show "$target" --color
check "list" 0 "^ *$target +target +balanced" "$tool" list
check "config" 0 "^  mode +balanced +default" "$tool" config "$target"
check "why: the policy" 0 "purge_delay_ns +300.0ms" "$tool" why "$target"
check "why: rows that say nothing are counted" 0 "^  [1-9][0-9]* rows are empty" "$tool" why "$target"
check "hist: a bar" 0 "####" "$tool" hist "$target"
check "top, twice" 0 "$target target" "$tool" top "$target" --count 2 -n 0.1
"$tool" top "$target" --count 2 -n 0.1 --json >"$work/top.json"
check "top --json: a line for each look, and no other" 0 "^2 2$" \
    sh -c "echo \$(grep -c . '$work/top.json') \$(wc -l <'$work/top.json')"
check "top of all" 0 "$target target" "$tool" top --count 1 --sort rss
if have script && ! script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    skip "top on a terminal" "no pseudo-terminals (/dev/pts is not mounted)"
elif have script && ldd "$tool" | grep -q ncurses; then
    (sleep 1; printf r; sleep 0.3; printf q) | TERM=xterm timeout 20 \
        script -qec "'$tool' top -n 0.2" "$work/typescript" >/dev/null 2>&1
    check "top on a terminal: q ends it" 0 "^0$" echo $?
    check "top on a terminal: keys and rows" 0 "q quit.*sort" cat "$work/typescript"
    TERM=dumb timeout 20 script -qec "'$tool' top -n 0.1 --count 2" "$work/typescript" >/dev/null 2>&1 </dev/null
    check "top on a dumb terminal: lines, no keys" 0 "^ +PID COMMAND" cat "$work/typescript"
    check "and no escapes" 1 "^0" grep -c "$(printf '\033')" "$work/typescript"
else
    skip "top on a terminal" "no script, or built without ncurses"
fi
check "a threshold that holds" 0 "mapped" "$tool" show "$target" --fail-if 'live>2G'
check "a threshold that is breached" 1 "breached: [0-9]+ > 1048576" "$tool" show "$target" --fail-if 'live>1M'
check "a threshold in percent" 1 "breached" "$tool" show "$target" --fail-if 'live>=10%'
check "a threshold that one of several processes breaches" 1 "process [0-9]+: threshold .* breached" "$tool" list --fail-if 'live>1M'
check "a threshold that none breaches" 0 "$target" "$tool" list --fail-if 'live>900G'
check "a threshold that nobody would look at" 2 "not for this command" "$tool" top --count 1 --fail-if 'live>2G'
check "doctor of no process" 3 "no such process" "$tool" doctor 4194304
check "doctor" 0 "huge pages" "$tool" doctor "$target"
check "doctor sees the library once" 0 "ok +libhakmem" "$tool" doctor "$target"
check "the program imports no ptrace" 1 "^0$" sh -c "nm -D '$tool' | grep -cw ptrace"

identity='
import json, sys
s = json.load(sys.stdin)["stats"]
parts = [s[n] for n in ("live", "cached", "slab_free", "dirty", "purged", "metadata")]
assert s["mapped"] == sum(parts) > 0, (s["mapped"], parts)
assert s["live_runs"] >= 10 * 300000 and s["live_blocks"] >= 11, s
'
if have "$python"; then
    check "the identity holds to the byte" 0 "" sh -c "'$tool' show $target --json | '$python' -c '$identity'"
    for view in show sites hist why config list doctor; do
        operand=$target
        test $view = list && operand=
        # shellcheck disable=SC2086
        check "$view --json is JSON" 0 "" sh -c "'$tool' $view $operand --json | '$python' -m json.tool"
    done
fi

# A look takes less than 50 ms: the best of five, as others use the machine too.
best=1000000000
for _ in 1 2 3 4 5; do
    before=$(date +%s%N)
    "$tool" show "$target" >/dev/null
    after=$(date +%s%N)
    test $((after - before)) -lt $best && best=$((after - before))
done
if test $best -lt 50000000; then
    ok "show takes $((best / 1000)) us, less than 50 ms"
else
    not_ok "show takes less than 50 ms" "$((best / 1000)) us"
fi

# --- call sites ---

if "$tool" sites "$target" --json | grep -q '"function":"[^"]'; then
    check "sites: function and line" 0 " 10 .*hold_runs \(stats_target.c:[0-9]+\)" "$tool" sites "$target"
else
    check "sites: module and offset" 0 " 10 .*target\+0x" "$tool" sites "$target"
fi
check "sites: bytes held" 0 "^ +3000000 +3000000 +10 " "$tool" sites "$target" --bytes
check "sites --limit" 0 "." "$tool" sites "$target" --limit 1
check "sites: their sum beside what is live" 0 "^  sum: [0-9.]+[KMG]? of [0-9.]+[KMG]? that are live, by [0-9]+ live samples$" \
    "$tool" sites "$target"

# Of 500 calls in a row the library tells its table in lots of some hundred, and of one call of another site later.
start env LD_PRELOAD="$lib" "$work/target" many
check "calls that the table was not told of" 0 " 50000000 +500 .*(hold_many|target\+0x)" "$tool" sites "$pid" --bytes
start env LD_PRELOAD="$lib" "$work/target" last
check "and those of a site that it knows nothing of" 0 " 111111 +1 .*(hold_last|target\+0x)" "$tool" sites "$pid" --bytes
start env LD_PRELOAD="$lib" HAKMEM_PROF=off "$work/target" many
check "without samples nobody knows what is live: no 0" 0 "^ +- +50000000 +500 " "$tool" sites "$pid" --bytes
check "nor in json" 0 '"live_known":false' "$tool" sites "$pid" --json
check "no site holds more than it took" 1 "" \
    sh -c "'$tool' sites $pid --bytes | awk '\$1 ~ /^[0-9]/ && \$1 > \$2' | grep ."

# --- snapshots ---

check "snapshot" 0 "" "$tool" snapshot "$target" -o "$work/a"
check "a snapshot is private" 0 "^-rw-------" ls -l "$work/a"
for view in show sites hist why config; do
    "$tool" $view "$target" --bytes | grep -v "rss" >"$work/live.txt"
    "$tool" $view "$work/a" --bytes | grep -v "rss" >"$work/snapshot.txt"
    if test -s "$work/live.txt" && cmp -s "$work/live.txt" "$work/snapshot.txt"; then
        ok "$view of a snapshot is that of the process"
    else
        not_ok "$view of a snapshot is that of the process" "$(diff "$work/live.txt" "$work/snapshot.txt")"
    fi
done
kill -USR1 "$target"
tries=0
while ! grep -q more "$said" && test $tries -lt 200; do
    sleep 0.05
    tries=$((tries + 1))
done
check "diff of a snapshot and a process: what leaks" 0 "^ +\+1\.4M +\+5 " "$tool" diff "$work/a" "$target"
check "diff of a snapshot and itself" 0 "no call site holds more" "$tool" diff "$work/a" "$work/a"
check "a snapshot of a snapshot" 0 "" "$tool" snapshot "$work/a" -o "$work/b"
check "and it is the same" 0 "no call site holds more" "$tool" diff "$work/a" "$work/b"

# --- export ---

check "export json" 0 '"mapped":[0-9]+' "$tool" export "$target" --format json
check "export ndjson" 0 '"kind":"metric","name":"live","value":[0-9]+' "$tool" export "$target" --format ndjson
check "export csv" 0 '^metric,"live",now,[0-9]+' "$tool" export "$target" --format csv
check "export prometheus" 0 "^hakmem_live_bytes\{pid=\"$target\",command=\"target\"\} [0-9]+$" \
    "$tool" export "$target" --format prometheus
mkfifo "$work/fifo"
check "export: what is no regular file is not replaced" 3 "not a regular file" "$tool" export "$target" --format csv -o "$work/fifo"
check "snapshot: nor by one" 3 "not a regular file" "$tool" snapshot "$target" -o "$work/fifo"
check "export -o" 0 "" "$tool" export "$target" --format prometheus -o "$work/hakmem.prom"
check "and the file is whole" 0 "^hakmem_size_mismatches_total" cat "$work/hakmem.prom"
if have "$python"; then
    check "every ndjson line is JSON" 0 "^ok$" sh -c "'$tool' export $target --format ndjson | '$python' -c '
import json, sys
for line in sys.stdin: json.loads(line)
print(\"ok\")'"
    "$tool" export "$target" --format pprof >"$work/pprof"
    if ldd "$tool" | grep -q libz; then gzip=--gzip; else gzip=; fi
    check "pprof: decoded, the site and its bytes" 0 "^alloc_objects=10 alloc_space=3000000 inuse_objects=10 inuse_space=3000000 " \
        "$python" "$src/pprof_decode.py" "$work/pprof" $gzip
fi
"$tool" export "$target" --format heap_v2 >"$work/heap"
for reader in jeprof google-pprof; do
    if have $reader; then
        check "heap_v2: $reader finds function and bytes" 0 "3000000 .*hold_runs" \
            $reader --text --show_bytes "$work/target" "$work/heap"
    else
        skip "heap_v2: $reader" "no $reader"
    fi
done

# --- core dumps ---

if have gcore && gcore -o "$work/core" "$target" >"$work/gcore" 2>&1; then
    core=$work/core.$target
    check "core" 0 "^  mapped +[0-9.]+M" "$tool" core "$core"
    check "core, a view" 0 "target\+0x|hold_runs" "$tool" core "$core" sites
    check "core config" 0 "^  mode +balanced +default" "$tool" core "$core" config
    "$tool" show "$target" --bytes | sed 1d | grep -v rss >"$work/live.txt"
    "$tool" core "$core" --bytes | sed 1d >"$work/core.txt"
    if cmp -s "$work/live.txt" "$work/core.txt"; then
        ok "a core dump shows what the process showed"
    else
        not_ok "a core dump shows what the process showed" "$(diff "$work/live.txt" "$work/core.txt")"
    fi
    cp "$work/target" "$work/moved"
    head -c 65536 "$core" >"$work/cut"
    check "a core dump whose end is missing" 3 "cut: .*the end is missing" "$tool" core "$work/cut"
    if "$tool" core "$core" sites | grep -q hold_runs && $cc -g -O2 -DNR_MANY=501 -o "$work/newer" "$src/stats_target.c"; then
        mv "$work/target" "$work/kept"
        mv "$work/newer" "$work/target"
        check "core: the program is not the one that dumped: no names of its" 1 "" \
            sh -c "'$tool' core '$core' sites | grep hold_runs"
        check "and that is said" 0 "^note: $work/target is not here, or not the one that the process had" \
            "$tool" core "$core" sites
        check "in json, too" 0 "\"missing_files\":\[\{\"path\":\"$work/target\"" "$tool" core "$core" sites --json
        mv "$work/kept" "$work/target"
    else
        skip "core: another program" "no names"
    fi
    check "core --exe" 0 "moved|target|hold_runs" "$tool" core "$core" --exe "$work/moved" sites
else
    core=
    skip "core dumps" "no gcore, or it may not attach"
fi
check "not a core dump" 3 "not a core dump" "$tool" core "$work/target"

# --- ways into a program ---

cp "$lib" "$work/libhakmem-gone.so"
start env LD_PRELOAD="$work/libhakmem-gone.so" "$work/target"
rm "$work/libhakmem-gone.so"
check "the library's file was deleted" 0 "^  mapped" "$tool" show "$pid"
check "doctor says so, and what it means" 0 "^note +library's file +$work/libhakmem-gone.so: deleted or replaced since$" \
    "$tool" doctor "$pid"
check "sites names functions all the same" 0 "hold_runs|target\+0x" "$tool" sites "$pid"
: >"$work/libhakmem-gone.so"
check "and another took its name" 0 "^  mapped" "$tool" show "$pid"

cp "$lib" "$work/libother.so"
start env LD_PRELOAD="$work/libother.so" "$work/target"
check "the library has another name" 0 "^  mapped" "$tool" show "$pid"

if $cc -g -O1 -Wl,--no-as-needed -o "$work/linked" "$src/stats_target.c" "$lib" 2>/dev/null; then
    start env LD_LIBRARY_PATH="$(dirname "$lib")" "$work/linked"
    check "linked" 0 "^  mapped" "$tool" show "$pid"
fi
archive=$(dirname "$lib")/libhakmem.a
if test -f "$archive" && $cc -static -g -O1 -o "$work/static" "$src/stats_target.c" "$archive" -lpthread 2>/dev/null; then
    start "$work/static"
    check "a static program" 0 "^  live_runs +3[0-9]{6} " "$tool" show "$pid" --bytes
    check "list has the static program" 0 "^ *$pid +static" "$tool" list
    strip -o "$work/stripped" "$work/static"
    start "$work/stripped"
    check "a stripped static program" 0 "^  live_runs +3[0-9]{6} " "$tool" show "$pid" --bytes
    rm "$work/stripped"
    check "whose file was deleted" 0 "^  live_runs +3[0-9]{6} " "$tool" show "$pid" --bytes
else
    skip "static programs" "no static library"
fi
mkdir "$work/inside"
# shellcheck disable=SC2016
if unshare -m true 2>/dev/null; then
    start unshare -m sh -c 'mount -t tmpfs none "$1" && cp "$2" "$3" "$1" && cd "$1" &&
        LD_PRELOAD="$1/libhakmem.so.0" exec "$1/target"' - "$work/inside" "$lib" "$work/target"
    check "in a mount namespace of its own" 0 "^  mapped" "$tool" show "$pid"
    check "with its symbols" 0 "hold_runs|target\+0x" "$tool" sites "$pid"
else
    skip "in a mount namespace of its own" "may not unshare"
fi
# shellcheck disable=SC2086
# In maps the kernel names files from the reader's root, here that of all.
chrooted=$work/chroot
nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
if test "$(id -u)" = 0 && have setpriv chroot ldd && mkdir "$chrooted" && cp "$lib" "$work/target" "$chrooted" &&
    for file in $(ldd "$work/target" "$lib" | grep -o '/[^ :]*\.so[^ :]*' | sort -u); do
        mkdir -p "$chrooted/$(dirname "$file")" && cp -L "$file" "$chrooted/$file" || break
    done && chmod -R a+rX "$work" && $nobody "$tool" --version >/dev/null 2>&1 &&
    start env LD_PRELOAD=/libhakmem.so.0 chroot --userspec=65534:65534 "$chrooted" /target 2>/dev/null; then
    named=$("$tool" sites "$target" | grep -o hold_runs || echo 'target\+0x')
    check "a user's process in a chroot, its files by the names that the kernel tells" 0 "$named" $nobody "$tool" sites "$pid"
else
    skip "a user's process in a chroot" "not root, or it does not start there"
fi
if test "$(id -u)" = 0 && have setpriv; then
    chmod 755 "$work"
    check "another user's process: status 4, and who may" 4 "may not be looked at.*root may" \
        setpriv --reuid=65534 --clear-groups "$tool" show "$target"
else
    skip "another user's process" "not root"
fi

# --- the copy in a file, for readers that may not read memory ---

cat >"$work/refuse.c" <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <sys/uio.h>
ssize_t process_vm_readv(pid_t p, const struct iovec *a, unsigned long n, const struct iovec *b, unsigned long m,
                         unsigned long f)
{
    (void)p, (void)a, (void)n, (void)b, (void)m, (void)f;
    errno = EPERM;
    return -1;
}
C
start env LD_PRELOAD="$lib" HAKMEM_STATS=export "$work/target"
if $cc -shared -fPIC -o "$work/refuse.so" "$work/refuse.c" 2>/dev/null; then
    check "memory may not be read: status 4" 4 "may not be read" env LD_PRELOAD="$work/refuse.so" "$tool" show "$target"
    check "but the exported copy" 0 "a copy that the process renews" \
        env LD_PRELOAD="$work/refuse.so" "$tool" show "$pid"
    check "has the numbers" 0 "^  mapped +[0-9]{6}" env LD_PRELOAD="$work/refuse.so" "$tool" show "$pid" --bytes
    check "and the options" 0 "^  stats +export +environment" env LD_PRELOAD="$work/refuse.so" "$tool" config "$pid"
fi
start env LD_PRELOAD="$lib" HAKMEM_STATS=off "$work/target"
check "counters that are off: status 3" 3 "counters off" "$tool" show "$pid"

# --- without the libraries it may use, under sanitizers: lies ---

sanitized=$work/sanitized
sources=
for file in "${HK_SRCDIR:-.}"/tools/hakmem-stats/*.c; do
    case $file in
    */symbols_dw.c | */screen_curses.c | */gzip_zlib.c) ;;
    *) sources="$sources $file" ;;
    esac
done
# shellcheck disable=SC2086
if $cc -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -D_GNU_SOURCE -I"$builddir" \
    -I"${HK_SRCDIR:-.}/include" -o "$sanitized" \
    $sources >"$work/log" 2>&1; then
    check "without libdw, ncurses and zlib: show" 0 "^  mapped" "$sanitized" show "$target"
    check "without libdw: module and offset" 0 "target\+0x" "$sanitized" sites "$target"
    if $cc -g -O1 -I"${HK_SRCDIR:-.}/include" -o "$work/hostile" "$src/stats_hostile.c" 2>"$work/log"; then
        timeout 300 "$work/hostile" "$sanitized" "${HK_SEED:-1}" "${HK_ROUNDS:-150}" >"$work/hostile.tap"
        check "all lies were told" 0 "^1\.\.[0-9]" cat "$work/hostile.tap"
        while IFS= read -r line; do
            case $line in
            "ok "*) ok "${line#ok * - }" ;;
            "not ok "*) not_ok "${line#not ok * - }" "$(grep '^#' "$work/hostile.tap")" ;;
            esac
        done <"$work/hostile.tap"
    fi
    if have "$python"; then
        check "snapshots cut and bent" 0 "" "$python" "$src/stats_files.py" "$sanitized" snapshot "$work/a" "$work/bent"
        test -z "$core" ||
            check "core dumps cut and bent" 0 "" "$python" "$src/stats_files.py" "$sanitized" core "$core" "$work/bent" 1 60
    fi
else
    skip "counters and files that lie" "no sanitizer: $(head -n 1 "$work/log")"
fi
finish
