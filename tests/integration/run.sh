#!/bin/sh
# SPDX-License-Identifier: MIT
#
# hakmem-run: each promise of hakmem-run(1), each refusal, and files and names that are meant to confuse it.
# $ in single quotes belongs to an inner shell.
# shellcheck disable=SC2016

src=${HK_SRCDIR:-.}/tests/integration
. "$src/tap.sh"
cc=${CC:-cc}
run=${HK_BUILDDIR:-$(pwd)}/tools/hakmem-run
if test -z "$lib" || test ! -x "$run"; then
    skip "hakmem-run" "it is not built"
    finish
fi
unset LD_PRELOAD HAKMEM_RUN HAKMEM_OPTIONS HAKMEM_CONF
has_cc=no
echo 'int main(void) { return 0; }' >"$work/t.c"
if $cc -o "$work/dynamic" "$work/t.c" 2>/dev/null; then has_cc=yes; fi

# expect NAME STATUS STDOUT STDERR COMMAND...: the outputs are patterns of `case`, without last newlines.
# The pipe of stderr ends when whoever watches has gone, so nothing is missed.
expect() {
    name=$1 want_status=$2 want_out=$3 want_err=$4
    shift 4
    err=$({
        timeout 30 "$@" >"$work/out"
        echo $? >"$work/status"
    } 2>&1)
    status=$(cat "$work/status")
    out=$(cat "$work/out")
    good=yes
    test "$status" = "$want_status" || good=no
    # shellcheck disable=SC2254
    case $out in $want_out) ;; *) good=no ;; esac
    # shellcheck disable=SC2254
    case $err in $want_err) ;; *) good=no ;; esac
    if test $good = yes; then
        ok "$name"
    else
        not_ok "$name" "expected status $want_status, stdout '$want_out', stderr '$want_err'" \
            "actual status $status, stdout '$out', stderr '$err'"
    fi
}

script() { # script FILE: standard input, executable
    cat >"$1" && chmod 755 "$1"
}

true_path=/bin/true # the file; "true" is the shell's own
test -f $true_path || true_path=/usr/bin/true

loaded='grep -q libhakmem /proc/self/maps'
mine='grep -q libhakmem /proc/$$/maps && echo mine'
cd "$work" || exit 99

# --- the library arrives, and its children do without ---

# shellcheck disable=SC2086
expect "the library is loaded" 0 "" "" "$run" -- $loaded
expect "and said to be" 0 "" "*hakmem-run: *true (*): *libhakmem.so.0 is loaded" "$run" -v true
expect "the program's children do without it" 1 "mine" "" "$run" sh -c "$mine; $loaded"
expect "and see no trace of it" 0 "" "" "$run" sh -c 'env | grep -e LD_PRELOAD -e HAKMEM; exit 0'
expect "nor does the program" 0 "-" "" "$run" sh -c 'echo "${LD_PRELOAD-}-${HAKMEM_RUN-}"'
expect "--inherit: the children have it" 0 "mine" "" "$run" --inherit sh -c "$mine; $loaded"
expect "--inherit: and theirs" 0 "" "" "$run" -i sh -c "sh -c '$loaded'"
expect "exec in the program is as a child" 1 "" "" "$run" sh -c "exec $loaded"
expect "hakmem-run within hakmem-run" 0 "" "" "$run" "$run" sh -c "$mine >/dev/null"
expect "--inherit twice" 0 "" "" "$run" -i "$run" -i sh -c "$loaded"
expect "outer --inherit alone" 0 "" "" "$run" -i "$run" sh -c "$loaded"

# --- LD_PRELOAD is the user's ---

if test $has_cc = yes && $cc -shared -fPIC -o "$work/other.so" -x c /dev/null 2>/dev/null; then
    both='grep -q other.so /proc/$$/maps && grep -q libhakmem /proc/$$/maps && echo both'
    export LD_PRELOAD="$work/other.so"
    expect "what is preloaded already stays" 0 "both" "" "$run" sh -c "$both"
    expect "for the children as well" 0 "$work/other.so" "" "$run" sh -c 'echo "$LD_PRELOAD"'
    expect "--inherit: ours in front" 0 "$lib:$work/other.so" "" "$run" -i sh -c 'echo "$LD_PRELOAD"'
    export LD_PRELOAD="$work/other.so $lib"
    expect "the user's own entry of the same name stays" 0 "$work/other.so $lib" "" \
        "$run" sh -c 'echo "$LD_PRELOAD"'
    unset LD_PRELOAD
else
    skip "what is preloaded already stays" "no compiler"
fi
LD_PRELOAD='' expect "an empty LD_PRELOAD" 0 "mine" "" "$run" sh -c "$mine"

# --- by soname, where the loader finds it: a cache of our own ---

if have unshare && echo "$(dirname "$lib")" >ld.conf && ldconfig -X -C "$work/cache" -f "$work/ld.conf" 2>/dev/null &&
    unshare -m mount --bind "$work/cache" /etc/ld.so.cache 2>/dev/null; then
    expect "the soname, where ld.so knows it" 0 "libhakmem.so.0" "" \
        unshare -m sh -c 'mount --bind "$2/cache" /etc/ld.so.cache && exec "$1" -i sh -c "echo \$LD_PRELOAD; $3"' \
        - "$run" "$work" "$loaded"
else
    skip "the soname, where ld.so knows it" "no mount namespaces"
fi
expect "else the whole path" 0 "$(readlink -f "$(dirname "$lib")")/libhakmem.so.0" "" \
    "$run" -i sh -c 'echo "$LD_PRELOAD"'

# --- options ---

config='HAKMEM_STATS_DUMP=off'
expect "--report" 0 "" "*hakmem: bytes: mapped*" "$run" --report true
expect "--report beats the environment" 0 "" "*hakmem: bytes: mapped*" env $config "$run" -r true
expect "--report of a program that closes stderr at its end" 0 "/" "*hakmem: bytes: mapped*" "$run" -r ls -d /
if have bash; then # other shells end without exit handlers
    expect "--report and the exit status" 7 "a" "*hakmem: bytes: mapped*" "$run" -r bash -c '(echo a); exit 7'
    reports=$("$run" -r bash -c '(echo a; exit 3); (exit 4); exit 5' 2>&1 | grep -c 'hakmem: bytes: mapped')
    if test "$reports" = 1; then
        ok "--report is the program's alone"
    else
        not_ok "--report is the program's alone" "expected 1 report, actual $reports"
    fi
else
    skip "--report is the program's alone" "no bash"
fi
expect "--option: what is wrong is said by the library" 0 "" \
    'hakmem: hakmem-run: ignored "thp:maybe": accepted: off|auto|on' "$run" -o thp:maybe true
expect "--option: lists" 0 "" "" "$run" -o cap_mid:1,2,3 -o strict:1 true
expect "--mode: wrong, and strict" 134 "" '*ignored "mode:turbo": accepted: minimal*strict*' \
    sh -c '"$1" -o strict:1 --mode turbo true; exit $?' - "$run"
expect "--mode" 0 "" "" "$run" --mode minimal -o strict:on true
expect "--option without a colon" 125 "" "hakmem-run: --option thp: expected NAME:VALUE" "$run" -o thp true
expect "--option with a semicolon" 125 "" "*expected NAME:VALUE" "$run" -o 'a:b;c' true
expect "an unknown option" 125 "" "hakmem-run: --nonsense: no such option; see hakmem-run --help" "$run" --nonsense true
expect "an option without its argument" 125 "" "hakmem-run: -m: its argument is missing; *" "$run" -m
expect "--help that nobody can read" 125 "" "hakmem-run: standard output: No space*" sh -c '"$1" --help >/dev/full' - "$run"
expect "no command" 125 "" "*no command*" "$run" --
expect "--help" 0 "Usage: hakmem-run*" "" "$run" --help
expect "--version" 0 "hakmem-run (libhakmem) ${HK_VERSION:-*}" "" "$run" --version
expect "options end at the command" 0 "-r --mode" "" "$run" echo -r --mode

# limit:auto has read its files when the program installs a filter that would kill it for another.
seccomp=${HK_BUILDDIR:-$(pwd)}/tests/integration/seccomp
if test -x "$seccomp"; then
    expect "limit:auto opens no file after the start" 0 "*" "" \
        env -u HK_LIB "$run" -o limit:auto -o strict:1 "$seccomp" "only the documented calls"
fi

# --- status, signals, streams: the program's own ---

expect "exit status" 42 "" "" "$run" sh -c 'exit 42'
expect "killed by a signal" 143 "" "*" sh -c '"$1" sh -c "kill -TERM \$\$"; exit $?' - "$run"
expect "a signal sent to hakmem-run is the program's" 130 "got" "" sh -c '
    "$1" sh -c "trap \"echo got; exit 130\" INT TERM; echo >ready; while :; do sleep 0.02; done" &
    while test ! -f ready; do sleep 0.02; done
    kill -TERM $!; wait $!' - "$run"
expect "same process, same group" 0 "same" "" sh -c '
    a=$(exec "$1" sh -c "echo \$\$ \$(cut -d\" \" -f5 /proc/\$\$/stat)")
    sh -c "exec \"\$1\" sh -c \"test \\\$\\\$ = \$\$ && echo same\"" - "$1"; test -n "$a"' - "$run"
expect "no child that the program did not make" 0 "" "" "$run" sh -c '
    read -r children </proc/$$/task/$$/children || :; test -z "$children"'
expect "stdin and stdout" 0 "text" "" sh -c 'echo text | "$1" cat' - "$run"
for fd in 0 1 2; do
    expect "closed $fd stays closed" 0 "" "" sh -c '
        "$1" sh -c "test ! -e /proc/\$\$/fd/$2" '"$fd>&-" - "$run" $fd
done
expect "all three closed" 0 "" "" sh -c '"$1" sh -c "exit 0" <&- >&- 2>&-' - "$run"
ls -1 /proc/self/fd >plain
expect "no descriptor is left open" 0 "$(cat plain)" "" "$run" -o stats:off ls -1 /proc/self/fd
expect "it ends at once although a pipe is open" 0 "done" "" sh -c '
    start=$(date +%s); "$1" true | cat; test $(($(date +%s) - start)) -lt 5 && echo done' - "$run"

# --- finding the command ---

expect "not found" 127 "" "hakmem-run: no-such-command: command not found" "$run" no-such-command
expect "not found by path" 127 "" "hakmem-run: ./none: No such file*" "$run" ./none
expect "an empty name" 127 "" "hakmem-run: \"\": command not found" "$run" ""
echo text >plain.txt
expect "not executable" 126 "" "hakmem-run: ./plain.txt: Permission denied" "$run" ./plain.txt
expect "a path through a file, as env" 126 "" "hakmem-run: ./plain.txt/x: Not a directory" "$run" ./plain.txt/x
expect "a directory" 126 "" "hakmem-run: /tmp: Permission denied" "$run" /tmp
mkdir -p "bin one" bin2/tool
printf '#!/bin/sh\necho "found $0 $*"\n' | script "bin one/tool"
printf '#!/bin/sh\necho wrong\n' >bin2/tool2
printf '#!/bin/sh\necho right\n' | script "bin one/tool2"
expect "PATH" 0 "found bin one/tool a b" "" env PATH="bin2:bin one:$PATH" "$run" tool a b
expect "PATH: what is not executable is passed over" 0 "right" "" env PATH="bin2:bin one:$PATH" "$run" tool2
expect "PATH: nothing but what is not executable" 126 "" "*tool2: Permission denied" \
    env PATH="bin2" "$run" tool2
expect "PATH: an empty entry" 0 "found tool *" "" sh -c 'cd "bin one" && PATH=":/bin:/usr/bin" "$1" tool' - "$run"
odd="a b;c'd\"e\$f
g*"
printf '#!/bin/sh\necho "odd $1"\n' | script "$odd"
expect "an odd name" 0 "odd x;y" "" "$run" "./$odd" "x;y"
cp "$true_path" ./-true
expect "a name with a dash" 0 "" "" "$run" -- ./-true
long=$(printf '%05000d' 0)
expect "a name that is too long for any directory, as env" 126 "" "hakmem-run: 000*: File name too long" "$run" "$long"
expect "a name that is too long" 126 "" "hakmem-run: ./000*: File name too long" "$run" "./$long"

# --- scripts ---

printf '#!/bin/sh\n%s\n' "$mine" | script sh-script
expect "a script" 0 "mine" "" "$run" ./sh-script
printf '#! \t/usr/bin/env sh\n%s\n' "$mine" | script env-script
expect "a script of env" 0 "mine" "" "$run" ./env-script
printf '#!/usr/bin/env -S FOO=1 sh -e\n%s; echo $FOO\n%s\n' "$mine" "$loaded" | script env-s-script
expect "a script of env -S, whose children do without" 1 "mine
1" "" "$run" ./env-s-script
printf '#!%s/sh-script\n' "$work" | script nested
expect "an interpreter that is a script" 0 "mine" "" "$run" ./nested
printf '%s\n' "$mine" | script no-line
expect "a script without a #! line" 0 "mine" "" "$run" ./no-line
expect "its arguments" 0 "1 2" "" sh -c 'echo "echo \$*" >"$2/args"; chmod 755 "$2/args"; "$1" "$2/args" 1 2' \
    - "$run" "$work"
expect "env as the command" 0 "mine" "" "$run" env -u NOTHING A=1 sh -c "$mine"
expect "env in env" 0 "mine" "" "$run" env A=1 env -C / B=1 sh -c "$mine"
expect "env alone" 0 "*PATH=*" "" "$run" env
expect "env that finds nothing" 127 "" "*env*no-such*" "$run" env no-such-command
expect "env -i" 0 "" "*warning: env -i takes LD_PRELOAD away*" "$run" env -i /bin/true
printf '#!/nonexistent/sh\n' | script bad-interpreter
expect "an interpreter that is not there" 127 "" "*bad-interpreter: its interpreter /nonexistent/sh: No such file*" \
    "$run" ./bad-interpreter
printf '#!/tmp\n' | script dir-interpreter
expect "an interpreter that is a directory" 126 "" "*interpreter /tmp: Permission denied" "$run" ./dir-interpreter
printf '#!  \n' | script empty-line
expect "a #! line without an interpreter" 126 "" "*empty-line: its #! line names no interpreter" "$run" ./empty-line
printf '#!%s/loop\n' "$work" | script loop
expect "an interpreter that is itself" 126 "" "*Too many levels*" "$run" ./loop

# --- refusals ---

if test $has_cc = yes; then
    if $cc -static -o static "$work/t.c" 2>/dev/null; then
        expect "a static program" 125 "" "hakmem-run: ./static is statically linked: *" "$run" ./static
        printf '#!%s/static\n' "$work" | script static-script
        expect "a script of a static interpreter" 125 "" "*static is statically linked*" "$run" ./static-script
        expect "a static program behind env" 125 "" "*static is statically linked*" "$run" env A=1 ./static
    else
        skip "a static program" "no static libc"
    fi
    if $cc -static-pie -o static-pie "$work/t.c" 2>/dev/null; then
        expect "a static position-independent program" 125 "" "*static-pie is statically linked: *" "$run" ./static-pie
    else
        skip "a static position-independent program" "the compiler makes none"
    fi
    cat >own.c <<'C'
#include <stddef.h>
static char heap[1 << 20];
static size_t used;
void *malloc(size_t n) { n = (n + 15) / 16 * 16; used += n; return heap + used - n; }
void free(void *p) { (void)p; }
void *calloc(size_t a, size_t b) { return malloc(a * b); }
void *realloc(void *p, size_t n) { (void)p; return malloc(n); }
int main(void) { return malloc(10) == NULL; }
C
    for hash in gnu sysv both; do
        if $cc -fno-builtin -rdynamic -Wl,--hash-style=$hash -o own own.c 2>/dev/null; then
            expect "a program with a malloc of its own, hash $hash" 0 "" "*warning: ./own defines malloc itself*" "$run" ./own
        else
            skip "a program with a malloc of its own, hash $hash" "the linker makes no such hash"
        fi
    done
    expect "one without is not warned of" 0 "" "" "$run" ./dynamic
    # Two libraries that will not do, beside a copy of hakmem-run.
    mkdir -p stub/tools stub/.libs
    cp "$run" stub/tools/hakmem-run
    $cc -shared -fPIC -o stub/.libs/libhakmem.so.0 -x c /dev/null
    expect "a library that does not come up is noticed" 3 "" \
        "hakmem-run: */sh (*): *stub/.libs/libhakmem.so.0 was not loaded; *" stub/tools/hakmem-run sh -c 'exit 3'
    expect "but not when the command cannot run" 127 "" "hakmem-run: none: command not found" stub/tools/hakmem-run none
    printf 'text' >stub/.libs/libhakmem.so.0
    expect "a library that is none" 125 "" "*not a library: no ELF file" stub/tools/hakmem-run true
    head -c 100 "$lib" >stub/.libs/libhakmem.so.0
    expect "a library cut short" 125 "" "*not a library: *" stub/tools/hakmem-run true
    mkdir -p "with blank/tools" "with blank/.libs"
    cp "$run" "with blank/tools/hakmem-run"
    cp "$lib" "with blank/.libs/libhakmem.so.0"
    expect "a library whose path has a blank" 125 "" "*a path with a colon or a blank*" "with blank/tools/hakmem-run" true
    mkdir -p nothing/tools
    cp "$run" nothing/tools/hakmem-run
    expect "no library at all" 125 "" "*libhakmem.so.0: not found in*" nothing/tools/hakmem-run true
fi

if test "$(id -u)" = 0; then
    cp "$true_path" suid && chown 65534 suid && chmod 4755 suid
    expect "a set-user-ID program" 125 "" "*suid is a set-user-ID program: *" "$run" ./suid
    cp "$true_path" sgid && chown 0:65534 sgid && chmod 2755 sgid
    expect "a set-group-ID program" 125 "" "*sgid is a set-group-ID program: *" "$run" ./sgid
    chown 0 suid && chmod 4755 suid
    expect "set-user-ID to oneself is none" 0 "" "" "$run" ./suid
    if have setcap setpriv && cp "$true_path" capable && setcap cap_net_raw+ep capable 2>/dev/null; then
        chmod 755 "$work"
        expect "a program with file capabilities" 125 "" "*capable is a program with file capabilities: *" \
            setpriv --reuid 65534 --clear-groups "$run" ./capable
    else
        skip "a program with file capabilities" "no setcap or no file capabilities"
    fi
else
    skip "a set-user-ID program" "only root can make one of another user"
    skip "a program with file capabilities" "only root can make one"
fi

# --- ELF files that are none, or another machine's ---

patch_byte() { # patch_byte FILE OFFSET OCTAL
    printf "\\$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
cp "$true_path" thirty-two && patch_byte thirty-two 4 1
expect "a 32-bit program" 125 "" "*thirty-two is a 32-bit program*is for 64 bits*" "$run" ./thirty-two
cp "$true_path" other-machine && patch_byte other-machine 18 50
expect "another machine's program" 125 "" "*other-machine is a 64-bit program (ARM)*" "$run" ./other-machine
cp "$true_path" classless && patch_byte classless 4 7
expect "a program of no class" 126 "" "*classless: not a proper ELF file: *" "$run" ./classless
for n in 4 15 16 19 20 63; do
    head -c $n "$true_path" | script "cut$n"
    expect "the first $n bytes of a program" 126 "" "*cut$n: not a proper ELF file: it ends within its header" "$run" "./cut$n"
done
for n in 64 100 500; do
    head -c $n "$true_path" | script "cut$n"
    expect "the first $n bytes of a program" 126 "" "*cut$n: not a proper ELF file: *" "$run" "./cut$n"
done
: | script empty
expect "an empty program" 0 "" "" "$run" ./empty
head -c 300 /dev/urandom | tr -d '\n#' | script garbage
timeout 10 "$run" ./garbage </dev/null >/dev/null 2>&1
status=$?
case $status in
0 | 12[4567] | 2) ok "garbage" ;;
*) not_ok "garbage" "status $status" ;;
esac
mkfifo pipe && chmod 755 pipe
expect "a pipe" 126 "" "*pipe: Permission denied" "$run" ./pipe

finish
