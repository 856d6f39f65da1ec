#!/bin/sh
# SPDX-License-Identifier: MIT
# Run by make itself: what it tells its children is not for ours.
unset MAKEFLAGS MFLAGS MAKELEVEL
#
# Real programs under the library: what they print, and their exit status, are the same as without
# it.

src=${HK_SRCDIR:-.}/tests/integration
. "$src/tap.sh"
LC_ALL=C.UTF-8
PYTHONHASHSEED=0
PYTHONMALLOC=malloc
PYTHONDONTWRITEBYTECODE=1
GIT_CONFIG_NOSYSTEM=1
GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE='2020-01-01T00:00:00Z'
GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
HOME=$work
export LC_ALL PYTHONHASHSEED PYTHONMALLOC PYTHONDONTWRITEBYTECODE HOME GIT_CONFIG_NOSYSTEM GIT_AUTHOR_NAME
export GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE

# compare NAME PROGRAM COMMAND...: runs the command with and without the library, each in an empty
# directory. Skipped when PROGRAM is not installed, or cannot run the command by itself.
compare() {
    name=$1
    program=$2
    shift 2
    if ! have "$program"; then
        skip "$name" "no $program"
        return
    fi
    rm -rf "$work/plain" "$work/ours"
    mkdir "$work/plain" "$work/ours"
    (cd "$work/plain" && timeout 60 "$@" >"$work/plain.out" 2>"$work/plain.err" </dev/null)
    plain=$?
    if test $plain -ne 0; then
        skip "$name" "fails without the library too: $(head -n 1 "$work/plain.err")"
        return
    fi
    (cd "$work/ours" && timeout 60 env ${lib:+LD_PRELOAD="$lib"} "$@" >"$work/ours.out" 2>"$work/ours.err" </dev/null)
    ours=$?
    if test $ours -ne $plain; then
        not_ok "$name" "expected exit status $plain, actual $ours" "$(cat "$work/ours.err")"
    elif ! cmp -s "$work/plain.out" "$work/ours.out"; then
        not_ok "$name" "other output" "$(diff "$work/plain.out" "$work/ours.out" | head -n 10)"
    elif grep -q 'hakmem:' "$work/ours.err"; then
        not_ok "$name" "the library complains" "$(cat "$work/ours.err")"
    else
        ok "$name"
    fi
}

# --- shells and text tools ---

cat >"$work/loop.sh" <<'END'
words=
i=0
while [ $i -lt 400 ]; do
    words="$words $(echo "word $i" | tr a-z A-Z)"
    i=$((i + 1))
done
echo "$words" | tr ' ' '\n' | sort | uniq -c | tail -n 5
case $words in *"WORD 399"*) echo found ;; esac
END
compare "sh with command substitutions" sh sh "$work/loop.sh"
compare "bash" bash bash -c '
declare -A count
for i in {1..20000}; do (( count[$((i % 977))] += i )); done
for k in 1 500 976; do echo "$k ${count[$k]}"; done
mapfile -t lines < <(seq 1 5000); echo "${#lines[@]} ${lines[4999]}"
x=$(printf "%s-" {1..3000}); echo ${#x}'
compare "gawk" gawk gawk 'BEGIN {
    for (i = 0; i < 200000; i++) count["key " (i * 7919 % 5003)] += i
    n = asorti(count, order); for (i = 1; i <= n; i += 500) print order[i], count[order[i]]
    s = ""; for (i = 0; i < 20000; i++) s = s i; print length(s)
}'
compare "mawk" mawk mawk 'BEGIN { for (i = 0; i < 100000; i++) a[i % 1000] = a[i % 1000] "x"; print length(a[7]) }'
compare "sort of a large input" sort sh -c 'seq 1 200000 | sort -r -S 4M --parallel=4 | md5sum'
compare "sed" sed sh -c 'seq 1 50000 | sed -e "s/\([0-9]\)\([0-9]\)/\2-\1/g" -e "/7/d" | md5sum'
compare "grep with a large pattern" grep sh -c 'seq 1 3 3000 >p; seq 1 20000 | grep -F -x -f p | md5sum'
compare "tar and gzip" tar sh -c 'mkdir d; for i in $(seq 1 100); do seq 1 $((i * 20)) >d/$i; done
    tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - d | gzip -n | gzip -d | tar -tf - | md5sum'
compare "xz with threads" xz sh -c 'seq 1 300000 | xz -T 2 --block-size=200KiB -1 | xz -d | md5sum'

# --- interpreters ---

cat >"$work/t.py" <<'END'
import collections, json, re, threading, zlib
words = ["w%d" % (i * 7919 % 10007) for i in range(60000)]
print(collections.Counter(words).most_common(3))
tree = {}
for w in words:
    tree.setdefault(w[:2], {}).setdefault(w[:3], []).append(w)
text = json.dumps(tree, sort_keys=True)
print(len(text), zlib.crc32(zlib.compress(text.encode(), 6)))
print(len(re.findall(r"w(\d)\d*\1", text)))
out = [None] * 8
def work(k):
    out[k] = sum(len(str(i) * (i % 50)) for i in range(20000))
threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(out)
import subprocess, multiprocessing
def square(x):
    return x * x
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(square, range(1000))))
    print(subprocess.run(["echo", "child"], capture_output=True).stdout)
    class Node:
        def __init__(self, n):
            self.me, self.rest = self, bytearray(n)
    print(sum(len(Node(i % 3000).rest) for i in range(20000)))
    try:
        bytearray(1 << 62)
    except MemoryError:
        print("MemoryError")
END
compare "python3" python3 python3 "$work/t.py"
compare "python3 with its own small-object allocator" python3 env PYTHONMALLOC=default python3 "$work/t.py"
compare "python3 self-tests" python3 python3 -c '
import io, sys, unittest
try:
    from test import test_list, test_dict, test_set, test_bytes
except ImportError as e:
    print("no tests"); sys.exit(1)
suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromModule(m) for m in (test_list, test_dict, test_set))
result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
print(result.testsRun, len(result.failures), len(result.errors))'
compare "perl" perl perl -e '
my %h; $h{"key " . ($_ * 7919 % 5003)} .= "x" x ($_ % 13) for 1 .. 100000;
print join(",", map { length $h{$_} } (sort keys %h)[0 .. 9]), "\n";
my $s = join "", map { chr(97 + $_ % 26) } 1 .. 100000; my $n = () = $s =~ /a.*?z/g; print "$n\n";
my @a = sort { $a <=> $b } map { $_ * 7919 % 100003 } 1 .. 50000; print "@a[0,100,49999]\n";
my $pid = fork; if (!$pid) { my @x = (1) x 100000; exit 7 } waitpid $pid, 0; print $? >> 8, "\n";'
cat >"$work/t.js" <<'END'
const m = new Map();
for (let i = 0; i < 200000; i++) m.set('k' + i * 7919 % 10007, { i, a: new Array(i % 17).fill(i) });
let s = 0; for (const v of m.values()) s += v.a.length + v.i; console.log(m.size, s);
const b = []; for (let i = 0; i < 2000; i++) b.push(Buffer.alloc(i * 13, i & 255));
console.log(b.reduce((n, x) => n + x.length, 0), b[1999][5]);
const z = require('zlib'); console.log(z.gunzipSync(z.gzipSync(Buffer.alloc(1e6, 'ab'))).length);
const { Worker, isMainThread } = require('worker_threads');
let left = 2; for (let i = 0; i < 2; i++) new Worker('const a=[];for(let i=0;i<1e5;i++)a.push({i});', { eval: true })
  .on('exit', c => { if (--left === 0) console.log('workers', c); });
END
compare "node" node node "$work/t.js"
cat >"$work/T.java" <<'END'
import java.util.*;
public class T {
    public static void main(String[] a) throws Exception {
        Map<String, List<Integer>> m = new TreeMap<>();
        for (int i = 0; i < 300000; i++) m.computeIfAbsent("k" + i * 7919L % 1009, k -> new ArrayList<>()).add(i);
        System.out.println(m.size() + " " + m.get("k7").size());
        Thread[] t = new Thread[8];
        for (int i = 0; i < 8; i++) { t[i] = new Thread(() -> { java.nio.ByteBuffer.allocateDirect(1 << 20).put(5, (byte) 1); }); t[i].start(); }
        for (Thread x : t) x.join();
        java.util.zip.Deflater d = new java.util.zip.Deflater(); d.setInput(new byte[1 << 20]); d.finish();
        System.out.println(d.deflate(new byte[1 << 20]) + " hello");
    }
}
END
if have java javac; then
    compare "javac" javac javac -J-XX:TieredStopAtLevel=1 -d . "$work/T.java"
    cp "$work"/plain/*.class "$work" 2>/dev/null
    compare "java" java java -cp "$work" T
else
    skip "javac" "no javac"
    skip "java" "no java"
fi

# --- compilers ---

cat >"$work/t.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct n { struct n *l, *r; int k; };
static struct n *put(struct n *t, int k)
{
    if (!t) { t = calloc(1, sizeof *t); t->k = k; }
    else if (k < t->k) t->l = put(t->l, k);
    else if (k > t->k) t->r = put(t->r, k);
    return t;
}
static int depth(struct n *t) { int a, b; if (!t) return 0; a = depth(t->l); b = depth(t->r); return 1 + (a > b ? a : b); }
static void drop(struct n *t) { if (t) { drop(t->l); drop(t->r); free(t); } }
int main(void)
{
    struct n *t = NULL;
    for (long i = 1; i < 50000; i++) t = put(t, (int)(i * 7919 % 100003));
    printf("%d\n", depth(t));
    drop(t);
    return 0;
}
END
cat >"$work/t.cc" <<'END'
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>
int main()
{
    std::map<std::string, std::vector<int>> m;
    for (int i = 0; i < 50000; i++) m["key " + std::to_string(i * 7919L % 1009)].push_back(i);
    std::ostringstream o;
    for (auto &e : m) o << e.first << e.second.size();
    std::regex r("key 1([0-9]+)");
    std::string s = o.str();
    std::cout << s.size() << ' ' << std::distance(std::sregex_iterator(s.begin(), s.end(), r), std::sregex_iterator()) << '\n';
}
END
compare "gcc: compile and run" gcc sh -c "gcc -O2 -g0 -o t '$work/t.c' && ./t && gcc -O2 -S -o - '$work/t.c' | md5sum"
compare "g++: compile and run" g++ sh -c "g++ -O1 -g0 -o t '$work/t.cc' && ./t"
compare "clang: compile and run" clang sh -c "clang -O2 -g0 -o t '$work/t.c' && ./t && clang -O2 -S -o - '$work/t.c' | md5sum"
compare "clang++: compile" clang++ sh -c "clang++ -O1 -S -o - '$work/t.cc' | md5sum"
compare "gcc with link-time optimisation" gcc sh -c "gcc -O2 -flto -o t '$work/t.c' && ./t"
compare "make -j" make sh -c 'for i in $(seq 1 200); do echo "t$i:; @echo $i >\$@"; done >Makefile
    { printf "all:"; for i in $(seq 1 200); do printf " t%s" $i; done; echo; } >>Makefile
    make -s -j4 all && cat t* | md5sum'

# --- data ---

compare "sqlite3" sqlite3 sqlite3 :memory: '
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into t select i, printf("text %d", i * 7919 % 10007), i * 0.5 from n;
create index ti on t(b); update t set b = b || b where a % 3 = 0; delete from t where a % 7 = 0;
select count(*), sum(length(b)), max(c) from t; select b, count(*) from t group by b order by 2 desc, 1 limit 3;
select group_concat(substr(b, 1, 7)) from (select b from t order by b limit 5); pragma integrity_check;'
compare "git" git sh -c 'git init -q -b main . && for i in $(seq 1 60); do seq $i $((i * 30)) >f$i; done &&
    git add . && git commit -q -m one && for i in $(seq 1 60); do echo $i >>f$i; done && git commit -q -a -m two &&
    git branch other HEAD~1 && git gc -q --aggressive && git fsck --full 2>&1 &&
    git log --stat --format=%H%s && git diff HEAD~1 | md5sum && git clone -q . copy && git -C copy log --format=%H'
compare "jq" jq jq -n '[range(20000) | {k: "key \(. % 100)", v: .}] | group_by(.k) | map({k: .[0].k, n: length}) | .[3:6]'
compare "openssl" openssl sh -c 'seq 1 200000 | openssl dgst -sha256; seq 1 99 | openssl enc -aes-256-cbc -K 00 -iv 00 2>/dev/null | md5sum'
compare "gdb" gdb gdb -q -nx -batch -ex 'p 6*7' -ex 'info functions main' /bin/true

finish
