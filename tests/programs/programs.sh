#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Programs that others wrote, with tests that others wrote: once with glibc's malloc and once with the library preloaded.
# Status and output (without times, addresses and process numbers) must be equal, and so must be the files that come out.
# What is not installed is skipped. HK_PROGRAMS: which of them, by name. HK_PYTHON_TESTS: modules of Python's test suite
# (Debian: libpython3.11-testsuite). HK_PROGRAMS_KEEP: a directory for what they said.
# shellcheck disable=SC2086

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
wanted=${HK_PROGRAMS:-compiler python perl sqlite git redis nginx stress}
modules=${HK_PYTHON_TESTS:-test_threading test_thread test_subprocess test_ctypes test_gc test_weakref test_list test_dict test_set
    test_bytes test_unicode test_long test_json test_pickle test_re test_zlib test_bz2 test_lzma test_mmap test_io test_array test_struct
    test_memoryview test_buffer test_itertools test_collections test_sqlite3 test_queue test_fork1 test_sort test_heapq test_decimal
    test_fractions test_random test_hashlib test_xml_etree test_deque test_functools test_generators test_capi
    test_concurrent_futures test_asyncio test_multiprocessing_fork}
limit=${HK_PROGRAMS_TIMEOUT:-600}
results=${HK_PROGRAMS_RESULTS:-programs-results}

# Runs a function twice, the second time preloaded: `under` stands before every command that counts.
both() { # both NAME FUNCTION ARGUMENTS...
    name=$1
    shift
    for malloc in glibc hakmem; do
        mkdir -p "$work/$malloc"
        rm -rf "$work/run"
        mkdir "$work/run"
        preload=
        test $malloc = glibc || preload=$lib
        begun=$(date +%s)
        (cd "$work/run" && "$@") >"$work/$malloc/raw" 2>&1
        echo "status $?" >>"$work/$malloc/raw"
        eval "took_$malloc=$(($(date +%s) - begun))"
        plain <"$work/$malloc/raw" >"$work/$malloc/text"
    done
    test -z "${HK_PROGRAMS_KEEP-}" || cp "$work/hakmem/raw" "$HK_PROGRAMS_KEEP/$(echo "$name" | tr -c 'a-zA-Z0-9_\n' -)"
    if grep -q '^hakmem:' "$work/hakmem/raw"; then
        not_ok "$name" "the library complains" "$(grep -h '^hakmem:' "$work/hakmem/raw")"
    elif cmp -s "$work/glibc/text" "$work/hakmem/text"; then
        ok "$name ($(tail -n 1 "$work/glibc/text"), $(wc -l <"$work/glibc/text") lines)"
    else
        not_ok "$name" "$(diff "$work/glibc/text" "$work/hakmem/text")"
    fi
    echo "$(date -u +%F) $name: $(tail -n 1 "$work/glibc/text"), glibc $took_glibc s, hakmem $took_hakmem s," \
        "$(cmp -s "$work/glibc/text" "$work/hakmem/text" && echo equal || echo DIFFERENT)" >>"$results"
}

under() {
    timeout "$limit" env ${preload:+LD_PRELOAD="$preload"} "$@"
}

# Times, addresses, process numbers and this run's directory are no result.
plain() {
    sed -E -e "s|$work|WORK|g" -e 's/0x[0-9a-f]+/ADDRESS/g' -e 's/[0-9]+(\.[0-9]+)? ?(ms|seconds|sec|s|min)\b/TIME/g' \
        -e 's/pid[ =:]*[0-9]+/pid/g'
}

# ---- the programs ------------------------------------------------------------------------------

compiler_run() {
    for source in "$HK_SRCDIR"/lib/heap/*.c "$HK_SRCDIR"/lib/ace/*.c "$HK_SRCDIR"/lib/config/*.c; do
        under ${CC:-gcc} -O2 -g0 -w -I"$HK_SRCDIR/lib" -I"$HK_SRCDIR/include" -I"$HK_BUILDDIR" -DHAVE_CONFIG_H -D_GNU_SOURCE -DHK_DEBUG=0 -DHK_CHECKS=1 \
            -c "$source" -o "$(basename "$source").o" || return 1
    done
    sha256sum ./*.o
}

# The verdict and how many tests ran: the order of threads' words is nobody's promise.
python_run() {
    under python3 -m test --timeout 300 "$1" >out 2>&1
    status=$?
    grep -E '^(Result|== Tests result|Total tests|Tests result|[0-9]+ tests? (OK|failed|skipped))' out | sort -u
    return $status
}

perl_run() {
    under perl -e '
        my (%count, @list); srand 7;
        for my $i (1 .. 300000) { my $k = "key" . int(rand 40000); $count{$k} .= chr(97 + $i % 26); push @list, $k if $i % 7 == 0 }
        my $text = join "\n", map { "$_=$count{$_}" } sort keys %count;
        $text =~ s/(\w)\1/<$1>/g; my @parts = split /\n/, $text;
        for my $n (1 .. 20) { my $kid = fork; if (!$kid) { my @copy = map { $_ x 2 } @parts; exit(@copy == @parts ? 0 : 1) } waitpid $kid, 0; die if $? }
        print length($text), " ", scalar(@parts), " ", unpack("%32C*", $text), "\n"'
}

sqlite_run() {
    under sqlite3 base.db '
        create table t(id integer primary key, k text, v blob); create index i on t(k);
        with recursive n(x) as (select 1 union all select x + 1 from n where x < 60000)
            insert into t select x, printf("key%d", x * 7919 % 10007), zeroblob(x % 500) from n;
        update t set v = k || k where id % 3 = 0; delete from t where id % 5 = 0; vacuum;
        select count(*), sum(length(v)), sum(length(k)) from t;
        select k, count(*) from t group by k order by 2 desc, 1 limit 20; pragma integrity_check;' || return 1
    sha256sum base.db
}

git_run() {
    under git init -q -b main repo && cd repo || return 1
    for round in 1 2 3 4 5 6; do
        awk -v r=$round 'BEGIN { srand(r); for (f = 0; f < 150; f++) { name = "file" f % 90; for (l = 0; l < 60; l++) print r, f, int(rand() * 50) > name } }'
        under git add -A && GIT_AUTHOR_DATE="2020-01-0$round 00:00:00Z" GIT_COMMITTER_DATE="2020-01-0$round 00:00:00Z" \
            under git -c user.name=n -c user.email=e -c gc.auto=0 commit -q -m "round $round" || return 1
    done
    under git -c pack.threads=2 gc -q --aggressive --prune=now && under git fsck --full --strict 2>/dev/null || return 1
    under git clone -q --no-local . ../copy && cd ../copy && under git fsck --full 2>/dev/null && under git rev-list --objects --all | sha256sum
    under git log --stat | sha256sum
}

redis_run() {
    debug=
    case $(redis-server --version) in *v=[1-6].*) ;; *) debug="--enable-debug-command yes" ;; esac
    under redis-server --port 0 --unixsocket "$PWD/socket" --dir "$PWD" --save '' --appendonly no --daemonize no $debug >server.log 2>&1 &
    server=$!
    for try in $(seq 100); do redis-cli -s socket ping 2>/dev/null | grep -q PONG && break; sleep 0.1; done
    for round in 1 2 3 4 5; do
        awk -v r=$round 'BEGIN { srand(r); for (i = 0; i < 8000; i++) { k = int(rand() * 5000); print "SET key" k, i r; print "LPUSH list" k % 50, i; print "HSET hash" k % 70, "f" i % 90, i; if (i % 5 == 0) print "DEL key" int(rand() * 5000) } }' |
            redis-cli -s socket >/dev/null
        redis-cli -s socket BGSAVE >/dev/null
        for try in $(seq 200); do redis-cli -s socket INFO persistence | grep -q 'rdb_bgsave_in_progress:0' && break; sleep 0.1; done
        redis-cli -s socket INFO persistence | tr -d '\r' | grep rdb_last_bgsave_status
    done
    before=$(redis-cli -s socket DEBUG DIGEST)
    case $before in *[!0-9a-f]* | "") echo "no digest: $before"; return 1 ;; esac
    echo "$before $(redis-cli -s socket DBSIZE)"
    redis-cli -s socket DEBUG RELOAD
    test "$before" = "$(redis-cli -s socket DEBUG DIGEST)" && echo "the same after a reload"
    redis-cli -s socket SHUTDOWN NOSAVE 2>/dev/null
    wait $server
}

nginx_run() {
    mkdir logs html && echo hello >html/index.html
    printf 'worker_processes 2;\nerror_log logs/error.log;\npid logs/pid;\nevents {}\nhttp { access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\nserver { listen unix:%s/socket; root %s/html; gzip on; gzip_min_length 1; gzip_types *; } }\n' "$PWD" "$PWD" >conf
    under nginx -p "$PWD" -c "$PWD/conf" -g 'daemon off; user root;' 2>/dev/null &
    for try in $(seq 100); do test -S socket && test -s logs/pid && break; sleep 0.1; done
    for round in $(seq 20); do
        for request in 1 2 3 4 5 6 7 8 9 10; do curl -s --compressed --unix-socket socket http://x/; done | sort | uniq -c
        kill -HUP "$(cat logs/pid)"
    done
    kill -QUIT "$(cat logs/pid)"
    wait
    grep -c -E 'alert|emerg|crit|signal (6|11)' logs/error.log
    true
}

stress_run() {
    under stress-ng --quiet --no-rand-seed --verify --malloc 2 --malloc-ops 40000 --malloc-max 256K --fork 2 --fork-ops 300 \
        --bsearch 1 --bsearch-ops 20 --tree 1 --tree-ops 4 --hsearch 1 --hsearch-ops 20 --list 1 --list-ops 300
}

# ------------------------------------------------------------------------------------------------

for program in $wanted; do
    case $program in
        compiler) both "gcc: objects" compiler_run ;;
        python)
            for module in $modules; do
                if python3 -c "import test.$module" 2>/dev/null; then both "python: $module" python_run "$module"; else skip "python: $module" "not installed"; fi
            done
            ;;
        perl) if have perl; then both "perl: hashes, expressions, forks" perl_run; else skip perl "not installed"; fi ;;
        sqlite) if have sqlite3; then both "sqlite: integrity, file" sqlite_run; else skip sqlite "not installed"; fi ;;
        git) if have git; then both "git: gc, fsck, clone, hashes" git_run; else skip git "not installed"; fi ;;
        redis) if have redis-server redis-cli; then both "redis: BGSAVE while written to, digest" redis_run; else skip redis "not installed"; fi ;;
        nginx) if have nginx curl; then both "nginx: 20 reloads under requests" nginx_run; else skip nginx "not installed"; fi ;;
        stress) if have stress-ng; then both "stress-ng --verify" stress_run; else skip stress-ng "not installed"; fi ;;
        *) not_ok "$program" "no such program" ;;
    esac
done
finish
