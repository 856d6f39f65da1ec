#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Servers under load: Redis with background saves while it is written to, nginx with reloads,
# stress-ng with verification. They listen on sockets in a temporary directory, on no port.

src=${HK_SRCDIR:-.}/tests/integration
. "$src/tap.sh"

complains() { # did the library say anything?
    grep -q 'hakmem:' "$@" 2>/dev/null
}

# --- Redis ---

stop_redis() {
    redis shutdown nosave >/dev/null 2>&1
    kill "$redis_pid" 2>/dev/null
    wait "$redis_pid" 2>/dev/null
}

# A server that hangs is killed, and what waits for it fails.
guard() {
    { timeout 100 tail --pid="$1" -f /dev/null || kill -9 "$1"; } >/dev/null 2>&1 &
}

redis() {
    timeout 20 redis-cli -s "$work/redis.sock" "$@"
}

wait_for() { # wait_for COMMAND...: until it succeeds, ten seconds at most
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        test $tries -lt 200 || return 1
        sleep 0.05
    done
}

loaded() { # redis-cli exits with 0 whatever the answer is
    redis ping | grep -q PONG
}

saved() {
    redis info persistence | grep -q 'rdb_bgsave_in_progress:0'
}

test_redis() {
    mkdir "$work/redis"
    env ${lib:+LD_PRELOAD="$lib"} redis-server --port 0 --unixsocket "$work/redis.sock" --dir "$work/redis" --save '' \
        --daemonize no --io-threads 2 --activedefrag no >"$work/redis.log" 2>&1 &
    redis_pid=$!
    guard $redis_pid
    if ! wait_for loaded; then
        kill "$redis_pid" 2>/dev/null
        not_ok "redis starts" "$(cat "$work/redis.log")"
        return
    fi
    ok "redis starts"
    timeout 60 redis-benchmark -s "$work/redis.sock" -q -n 60000 -r 20000 -d 300 -P 8 \
        -t set,lpush,sadd,zadd,hset,mset >"$work/bench.out" 2>&1 &
    bench_pid=$!
    bad=
    for i in 1 2 3 4; do
        redis bgsave >/dev/null 2>&1
        wait_for saved || bad="save $i did not end"
    done
    wait "$bench_pid" || bad="redis-benchmark failed: $(tail -n 1 "$work/bench.out")"
    redis set fixed value >/dev/null
    redis bgsave >/dev/null
    wait_for saved || bad="the last save did not end"
    redis info persistence | grep -q 'rdb_last_bgsave_status:ok' || bad="a background save failed"
    if test -n "$bad" || complains "$work/redis.log"; then
        not_ok "redis saves in the background under load" "$bad" "$(tail "$work/redis.log")"
    else
        ok "redis saves in the background under load"
    fi
    before=$(redis dbsize)
    stop_redis
    env ${lib:+LD_PRELOAD="$lib"} redis-server --port 0 --unixsocket "$work/redis.sock" --dir "$work/redis" --save '' \
        --daemonize no >"$work/redis2.log" 2>&1 &
    redis_pid=$!
    guard $redis_pid
    wait_for loaded
    after=$(redis dbsize)
    value=$(redis get fixed)
    redis debug reload >/dev/null 2>&1
    redis flushall >/dev/null
    redis memory purge >/dev/null 2>&1
    stop_redis
    if test "$before" = "$after" && test "$value" = value && ! complains "$work/redis2.log"; then
        ok "redis reads back what it saved"
    else
        not_ok "redis reads back what it saved" "expected $before keys and value, actual $after and $value" \
            "$(tail "$work/redis2.log")"
    fi
}

if have redis-server redis-cli redis-benchmark; then
    test_redis
else
    skip "redis" "no redis-server"
fi

# --- nginx ---

# One request; prints the body's checksum.
get() {
    curl -s --max-time 5 --unix-socket "$work/nginx.sock" "http://localhost/$1" | md5sum
}

test_nginx() {
    mkdir "$work/www" "$work/nginx"
    seq 1 100000 >"$work/www/large.txt"
    seq 1 10 >"$work/www/small.txt"
    chmod -R a+rX "$work"
    cat >"$work/nginx.conf" <<END
daemon off;
worker_processes 2;
error_log $work/nginx/error.log;
pid $work/nginx/pid;
events { worker_connections 64; }
http {
    access_log $work/nginx/access.log;
    client_body_temp_path $work/nginx/b; proxy_temp_path $work/nginx/p; fastcgi_temp_path $work/nginx/f;
    uwsgi_temp_path $work/nginx/u; scgi_temp_path $work/nginx/s;
    gzip on; gzip_types text/plain; types { text/plain txt; }
    server { listen unix:$work/nginx.sock; root $work/www; autoindex on; }
}
END
    env ${lib:+LD_PRELOAD="$lib"} nginx -e "$work/nginx/error.log" -p "$work/nginx" -c "$work/nginx.conf" >"$work/nginx.out" 2>&1 &
    nginx_pid=$!
    guard $nginx_pid
    if ! wait_for test -S "$work/nginx.sock" || ! wait_for test -s "$work/nginx/pid"; then
        kill "$nginx_pid" 2>/dev/null
        skip "nginx with reloads" "does not start here: $(tail -n 1 "$work/nginx.out" "$work/nginx/error.log" 2>/dev/null | tail -n 1)"
        return
    fi
    large=$(md5sum <"$work/www/large.txt")
    small=$(md5sum <"$work/www/small.txt")
    bad=
    round=0
    while test $round -lt 12; do
        for i in 1 2 3 4; do
            test "$(get large.txt)" = "$large" || bad="round $round: large.txt differs"
            test "$(get small.txt)" = "$small" || bad="round $round: small.txt differs"
        done
        curl -s --max-time 5 --compressed --unix-socket "$work/nginx.sock" "http://localhost/large.txt" | cmp -s - "$work/www/large.txt" ||
            bad="round $round: compressed large.txt differs"
        kill -HUP "$nginx_pid"
        round=$((round + 1))
    done
    kill -QUIT "$nginx_pid"
    wait "$nginx_pid"
    status=$?
    test $status -eq 0 || bad="$bad; exit status $status"
    grep -q 'exited on signal' "$work/nginx/error.log" && bad="$bad; a worker died"
    if test -n "$bad" || complains "$work/nginx.out" "$work/nginx/error.log"; then
        not_ok "nginx with reloads" "$bad" "$(tail "$work/nginx/error.log")"
    else
        ok "nginx with reloads"
    fi
}

if have nginx curl; then
    test_nginx
else
    skip "nginx with reloads" "no nginx or curl"
fi

# --- stress-ng ---

stress() { # stress NAME ARGUMENTS...
    name=$1
    shift
    if timeout 60 env ${lib:+LD_PRELOAD="$lib"} stress-ng --temp-path "$work" --verify "$@" >"$work/stress.out" 2>&1 &&
        ! complains "$work/stress.out"; then
        ok "$name"
    else
        not_ok "$name" "$(tail -n 15 "$work/stress.out")"
    fi
}

if have stress-ng; then
    stress "stress-ng malloc" --malloc 2 --malloc-bytes 64M --timeout 3
    stress "stress-ng malloc with threads and touched pages" --malloc 1 --malloc-pthreads 3 --malloc-touch --malloc-bytes 32M --timeout 3
    stress "stress-ng qsort, tree, hsearch" --qsort 1 --tree 1 --hsearch 1 --timeout 2
else
    skip "stress-ng" "no stress-ng"
fi

finish
