#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Programs that others wrote, with tests that others wrote: once with glibc's malloc and once with the library preloaded.
# Status and output (without times, addresses and process numbers) must be equal, and so must be the files that come out.
# What is not installed is skipped. HK_PROGRAMS: which of them, by name. HK_PYTHON_TESTS: modules of Python's test suite
# (Debian: libpython3.11-testsuite). HK_PROGRAMS_KEEP: a directory for what they said.
# shellcheck disable=SC2086

. "${HK_SRCDIR:-.}/tests/integration/tap.sh"
wanted=${HK_PROGRAMS:-compiler python perl sqlite git redis nginx stress
    php ruby postgres mariadb apache memcached failover java node}
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

# php loads its modules with RTLD_DEEPBIND; then its own allocator is switched off, and small blocks are ours.
php_run() {
    cat >t.php <<'END'
<?php
$a = []; for ($i = 0; $i < 300000; $i++) $a["k" . ($i * 7919 % 10007)][] = str_repeat(chr(97 + $i % 26), $i % 40);
echo count($a), " ", md5(serialize($a)), " ", md5(json_encode($a)), "\n";
for ($i = 0; $i < 100000; $i++) { $n = new stdClass; $n->me = $n; $x[$i % 100] = $n; } echo gc_collect_cycles() > 0 ? "cycles" : "none", "\n";
$s = ""; for ($i = 0; $i < 200000; $i++) $s .= $i; echo md5($s), " ", preg_match_all('/(\d)\1/', $s), "\n";
END
    under php -d memory_limit=-1 t.php && under env USE_ZEND_ALLOC=0 php -d memory_limit=-1 t.php && under php -m
}

# Objects are moved, processes forked, threads and ractors run.
ruby_run() {
    under ruby -W0 -e '
        h = {}; 300000.times { |i| (h["k#{i * 7919 % 10007}"] ||= []) << i.to_s * 3 }; GC.compact; GC.auto_compact = true
        puts h.size, h.values.map(&:size).sum, h.keys.sort.join(",").gsub(/(\d)\1/) { "<#$1>" }.length
        p 8.times.map { Thread.new { (1..20000).map { |i| "x" * (i % 300) }.sum(&:size) } }.map(&:value)
        p 20.times.map { fork { y = (1..20000).map(&:to_s); GC.start; exit!(y.size == 20000 ? 3 : 4) } }.map { |q| Process.wait2(q)[1].exitstatus }.tally
        p 4.times.map { |i| Ractor.new(i) { |n| (1..30000).map { |z| z.to_s * 2 }.sum(&:size) + n } }.map(&:take)
        fs = 5000.times.map { |i| Fiber.new { Fiber.yield i; i * 2 } }; p fs.sum(&:resume), fs.sum(&:resume)
        def deeper(n) deeper(n + 1) end
        begin; deeper(0); rescue SystemStackError => e; p e.class; end
        begin; "x" * (1 << 62); rescue NoMemoryError, ArgumentError => e; p e.class; end'
}

# Databases do not run as root.
as() { # as USER COMMAND...
    user=$1
    shift
    if test "$(id -u)" -eq 0; then under setpriv --reuid "$user" --regid "$user" --clear-groups "$@"; else under "$@"; fi
}

# Twelve clients, a crash of one, then one of the whole server in the middle of writing.
postgres_run() {
    chmod 755 "$work" . && mkdir data socket && { test "$(id -u)" -ne 0 || chown postgres data socket; }
    pg="as postgres"
    $pg "$postgres/initdb" -D data -A trust -U postgres --no-sync >/dev/null || return 1
    printf "listen_addresses=''\nunix_socket_directories='%s'\nfsync=off\nshared_buffers=32MB\n" "$PWD/socket" >>data/postgresql.conf
    $pg "$postgres/pg_ctl" -D data -w -l data/log start >/dev/null || return 1
    ask="$pg psql -X -h $PWD/socket -U postgres -Atq"
    $pg "$postgres/pgbench" -h "$PWD/socket" -U postgres -i -q postgres 2>/dev/null
    $pg "$postgres/pgbench" -h "$PWD/socket" -U postgres -n -c 12 -j 2 -t 60 postgres 2>&1 | grep -E 'actually|failed'
    $ask <<'END'
create table t as select g id, md5(g::text) k, repeat(md5((g*7)::text), g%20) v, jsonb_build_object('a',g,'b',array[g,g+1]) j from generate_series(1,40000) g;
create index on t using gin(j); create index on t(k); analyze t;
set work_mem='64kB'; select count(*), sum(length(v)) from (select a.id, a.v from t a join t b on a.k=b.k order by b.k) x;
select md5(string_agg(k, '' order by k)) from t; select count(*) from t where j @> '{"a":777}';
set jit=on; set jit_above_cost=0; set jit_optimize_above_cost=0; select sum(id*2+length(k)), avg(id) from t where id%3=1 and k>'4';
set jit=off; set parallel_setup_cost=0; set parallel_tuple_cost=0; set min_parallel_table_scan_size=0; select count(*), max(k), sum(hashtext(v)) from t;
vacuum full t;
END
    $pg "$postgres/pg_dump" -h "$PWD/socket" -U postgres -Fc -t t postgres | $pg "$postgres/pg_restore" -f - | grep -v -E "^.(un)?restrict" | sha256sum
    $pg "$postgres/pgbench" -h "$PWD/socket" -U postgres -n -c 4 -T 3 postgres >/dev/null 2>&1 &
    sleep 1
    kill -9 "$($ask -c "select max(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")"
    wait $!
    for try in $(seq 100); do $ask -c "select 'recovered'" 2>/dev/null && break; sleep 0.2; done
    $pg "$postgres/pgbench" -h "$PWD/socket" -U postgres -n -c 4 -T 2 postgres >/dev/null 2>&1 &
    sleep 1
    kill -9 "$(head -n 1 data/postmaster.pid)"
    wait $!
    for try in $(seq 100); do $pg "$postgres/pg_ctl" -D data -w -l data/log start >/dev/null 2>&1 && break; sleep 0.3; done
    $ask -c "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"
    $pg "$postgres/pg_ctl" -D data -w stop -m fast >/dev/null
    echo "stop $?, crashes found: $(grep -c 'redo done' data/log)"
    grep -E '^hakmem:|PANIC|signal (6|11)' data/log
    true
}

mariadb_run() {
    chmod 755 "$work" . && mkdir data && { test "$(id -u)" -ne 0 || chown mysql data; }
    as mysql mariadb-install-db --no-defaults --datadir="$PWD/data" --auth-root-authentication-method=normal --skip-test-db >/dev/null 2>&1 || return 1
    as mysql mariadbd --no-defaults --datadir="$PWD/data" --socket="$PWD/data/s" --skip-networking --innodb-buffer-pool-size=32M >log 2>&1 &
    server=$!
    for try in $(seq 300); do mariadb-admin -u root -S "$PWD/data/s" ping >/dev/null 2>&1 && break; sleep 0.1; done
    under mariadb -u root -S "$PWD/data/s" -N <<'END'
create database b; use b;
create table t(id int primary key auto_increment, k varchar(80), v text, j json, key(k), fulltext(v)) engine=innodb;
insert into t(k,v,j) select md5(seq), repeat(concat(md5(seq*7),' '),seq%20), json_object('a',seq,'b',json_array(seq,md5(seq))) from seq_1_to_20000;
select count(*), sum(length(v)), sum(json_value(j,'$.a')), count(distinct substr(k,1,3)) from t;
alter table t add column z int default 7, algorithm=copy; update t set z=id%97; select z,count(*) from t group by z order by z limit 3;
create table a engine=aria as select id,k from t; create table y engine=myisam as select id,k from t; check table a,y;
with recursive r as (select 1 n union all select n+1 from r where n<900) select sum(n) from r;
END
    clients=
    for client in 1 2 3 4 5 6; do
        for query in 1 2 3 4 5 6; do under mariadb -u root -S "$PWD/data/s" -N b -e "select md5(group_concat(md5(seq))) from seq_1_to_3000"; done >client$client 2>&1 &
        clients="$clients $!"
    done
    wait $clients
    cat client? | sort | uniq -c
    under mariadb-dump -u root -S "$PWD/data/s" --skip-dump-date b t | sha256sum
    mariadb-admin -u root -S "$PWD/data/s" shutdown
    wait $server
    echo "stop $?"
    grep -E '^hakmem:|got signal' log
    true
}

# Threads and processes come and go under requests.
apache_run() {
    chmod 755 "$work" . && mkdir html && seq 1 50000 >html/l.txt && chmod -R a+rX .
    modules=/usr/lib/apache2/modules
    for module in mpm_event authz_core filter deflate; do echo "LoadModule ${module}_module $modules/mod_$module.so"; done >conf
    cat >>conf <<END
ServerRoot $PWD
ServerName x
PidFile $PWD/pid
Listen 127.0.0.1:${HK_PROGRAMS_PORT:-18080}
ErrorLog $PWD/log
DocumentRoot $PWD/html
SetOutputFilter DEFLATE
ThreadsPerChild 16
MaxRequestWorkers 64
MaxConnectionsPerChild 300
MinSpareThreads 8
MaxSpareThreads 24
END
    under apache2 -f "$PWD/conf" -DFOREGROUND &
    server=$!
    url=http://127.0.0.1:${HK_PROGRAMS_PORT:-18080}/l.txt
    for try in $(seq 100); do curl -s -o /dev/null $url && break; sleep 0.1; done
    for round in 1 2 3 4 5 6; do
        ab -q -n 400 -c 16 -k $url | grep -E 'Failed|Complete'
        curl -s --compressed $url | sha256sum
        kill -USR1 "$(cat pid)"
    done
    kill -WINCH "$(cat pid)"
    wait $server
    echo "stop $?"
    grep -E 'hakmem:|signal|Abort' log
    true
}

memcached_run() {
    chmod 755 "$work" && chmod 777 .
    under memcached -u nobody -s "$PWD/s" -P "$PWD/pid" -t 4 -m 64 -o modern &
    server=$!
    for try in $(seq 100); do test -S s && test -s pid && break; sleep 0.1; done
    python3 - <<'END'
import hashlib, socket, threading
def client(n):
    s = socket.socket(socket.AF_UNIX); s.connect("s"); f = s.makefile("rb"); h = hashlib.md5()
    for i in range(4000):
        k = b"k%d_%d" % (n, i % 700); v = (b"%d" % i) * (i % 900)
        s.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (k, len(v), v)); assert f.readline() == b"STORED\r\n"
        s.sendall(b"get %s\r\n" % k); f.readline(); b = f.read(len(v) + 2); f.readline(); assert b[:-2] == v; h.update(b)
        if i % 5 == 0: s.sendall(b"delete %s\r\n" % k); f.readline()
    out[n] = h.hexdigest()
out = {}
threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(out.items()))
END
    kill "$(cat pid)"
    wait $server
    echo "stop $?"
}

# A replica follows, is made the master, and the old master follows it.
failover_server() { # failover_server PORT
    case $(redis-server --version) in *v=[1-6].*) debug= ;; *) debug="--enable-debug-command yes" ;; esac
    mkdir "$1"
    under redis-server --port "$1" --bind 127.0.0.1 --dir "$PWD/$1" --save '' --appendonly no --daemonize no $debug >"$1/log" 2>&1 &
    for try in $(seq 100); do redis-cli -p "$1" ping 2>/dev/null | grep -q PONG && break; sleep 0.1; done
}

failover_follow() { # failover_follow PORT MASTER
    redis-cli -p "$1" REPLICAOF 127.0.0.1 "$2"
    for try in $(seq 300); do redis-cli -p "$1" INFO replication | grep -q master_link_status:up && break; sleep 0.1; done
}

failover_write() { # failover_write PORT SEED
    awk -v r="$2" 'BEGIN { srand(r); for (i = 0; i < 20000; i++) { k = int(rand() * 5000); print "SET key" k, i r; print "LPUSH list" k % 50, i; print "ZADD set" k % 70, i, "m" i % 90; if (i % 5 == 0) print "DEL key" int(rand() * 5000) } }' |
        redis-cli -p "$1" >/dev/null
}

failover_compare() { # failover_compare PORT PORT
    for try in $(seq 100); do
        digest=$(redis-cli -p "$1" DEBUG DIGEST)
        case $digest in *[!0-9a-f]* | "") echo "no digest: $digest"; return ;; esac
        test "$digest" = "$(redis-cli -p "$2" DEBUG DIGEST)" && break
        sleep 0.1
    done
    test "$digest" = "$(redis-cli -p "$2" DEBUG DIGEST)" && echo "the same on both: $digest"
}

failover_run() {
    one=$((20000 + $$ % 10000)) two=$((one + 10000))
    failover_server $one
    failover_server $two
    failover_write $one 1
    failover_follow $two $one
    failover_write $one 2
    failover_compare $one $two
    redis-cli -p $two REPLICAOF NO ONE
    failover_follow $one $two
    failover_write $two 3
    failover_compare $one $two
    redis-cli -p $one SHUTDOWN NOSAVE
    redis-cli -p $two SHUTDOWN NOSAVE
    wait
    cat $one/log $two/log | grep '^hakmem:'
    true
}

java_run() {
    cat >Blocks.java <<'END'
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
public class Blocks {
    static long work(int seed) {
        long sum = 0;
        for (int i = 0; i < 20000; i++)
            sum += new byte[(i * 37 + seed) % 5000].length + ByteBuffer.allocateDirect(100 + i % 300).capacity();
        return sum;
    }
    public static void main(String[] arguments) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(8);
        List<Future<Long>> results = new ArrayList<>();
        for (int i = 0; i < 32; i++) {
            final int seed = i;
            results.add(threads.submit(() -> work(seed)));
        }
        for (Future<Long> result : results)
            System.out.println(result.get());
        threads.shutdown();
    }
}
END
    under javac Blocks.java
    echo "javac $?"
    sha256sum Blocks*.class
    under java -Xmx300m Blocks
    echo "java $?"
}

node_run() {
    cat >workers.js <<'END'
const {Worker, isMainThread, workerData, parentPort} = require('worker_threads');
const zlib = require('zlib'), hash = require('crypto').createHash('sha256');
if (isMainThread) {
    const said = [];
    let ended = 0;
    for (let i = 0; i < 8; i++) {
        const worker = new Worker(__filename, {workerData: i});
        worker.on('message', text => said[i] = text);
        worker.on('exit', () => { if (++ended === 8) console.log(said.join('\n')); });
    }
} else {
    for (let i = 0; i < 60; i++) {
        hash.update(zlib.inflateSync(zlib.deflateSync(Buffer.alloc(20000 + i * 997, workerData + i))));
        hash.update(JSON.stringify(JSON.parse(JSON.stringify([...Array(500).keys()].map(n => 'k' + n * i)))));
    }
    parentPort.postMessage(hash.digest('hex'));
}
END
    under node workers.js
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
        php) if have php; then both "php: modules, with and without its own allocator" php_run; else skip php "not installed"; fi ;;
        ruby) if have ruby; then both "ruby: compaction, threads, ractors, forks" ruby_run; else skip ruby "not installed"; fi ;;
        postgres)
            postgres=$(for bin in /usr/lib/postgresql/*/bin; do echo "$bin"; done | tail -n 1)
            if have setpriv psql "$postgres/pgbench" "$postgres/initdb"; then both "postgresql: clients, crashes, recovery" postgres_run; else skip postgresql "not installed"; fi
            ;;
        mariadb) if have setpriv mariadbd mariadb-install-db; then both "mariadb: engines, clients, dump" mariadb_run; else skip mariadb "not installed"; fi ;;
        apache) if have apache2 ab curl; then both "apache: graceful restarts under requests" apache_run; else skip apache "not installed"; fi ;;
        memcached) if have memcached python3; then both "memcached: eight clients" memcached_run; else skip memcached "not installed"; fi ;;
        failover) if have redis-server redis-cli; then both "redis: a replica takes over and is followed" failover_run; else skip failover "not installed"; fi ;;
        java) if have javac java; then both "java: javac, threads, direct buffers" java_run; else skip java "not installed"; fi ;;
        node) if have node; then both "node: worker threads" node_run; else skip node "not installed"; fi ;;
        *) not_ok "$program" "no such program" ;;
    esac
done
finish
