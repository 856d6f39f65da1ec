#!/bin/sh
# SPDX-License-Identifier: MIT
#
# packages.sh TARBALL: Debian packages from the release tarball and debian/ of the source tree. Prints TAP. Run by
# `make check-packages`, as root; not by `make check`: it took half an hour on two cores that ten other jobs shared (20
# minutes for the build with its tests), and downloads a Debian system. Needs debootstrap and lintian. Works in
# ./packages, where the trees stay for the next run.
#
#   builds       dpkg-buildpackage with its tests, in a tree that holds a build daemon's base and what debian/control
#                asks for, as an ordinary user: no network, no home, an empty environment, 256 descriptors; and a
#                symbols file that agrees to the letter
#   lintian      nothing but the initial upload's bug number and addresses that do not exist yet
#   reproducible a second build in a tree made for the profile nocheck (no libcheck, python3, valgrind), elsewhere, in
#                another time zone and locale, with another umask: the same packages
#   a user       a plain Debian: install, link shared and static by pkg-config, redis-server under hakmem-run under
#                load and who allocates in it, autopkgtest with the null runner, upgrade, purge, and nothing is left
# HK_PACKAGES_NOCHECK=1 leaves the tests out of the first build too.
set -u
src=$(cd "${HK_SRCDIR:-$(dirname "$0")/../..}" && pwd)
. "$src/tests/integration/tap.sh"
tarball=$(readlink -f "$1")
top=${HK_PACKAGES_DIR:-$PWD/packages}
version=$(basename "$tarball" .tar.xz)
version=${version#libhakmem-}
unset MAKEFLAGS MFLAGS MAKELEVEL HK_SRCDIR HK_LIB
export DEBIAN_FRONTEND=noninteractive

for command in debootstrap lintian unshare setpriv; do
    have $command || { skip "packages" "no $command"; finish; }
done
test "$(id -u)" -eq 0 || { skip "packages" "not root"; finish; }
mkdir -p "$top"

# A Debian, made once. No service starts in it.
tree() { # tree NAME DEBOOTSTRAP-OPTIONS...
    test -e "$top/$1/done" && return 0
    name=$1
    shift
    rm -rf "${top:?}/$name"
    debootstrap "$@" bookworm "$top/$name" >"$top/$name.log" 2>&1 || return 1
    printf '#!/bin/sh\nexit 101\n' >"$top/$name/usr/sbin/policy-rc.d"
    chmod +x "$top/$name/usr/sbin/policy-rc.d"
    : >"$top/$name/done"
}

inside() { # inside TREE UNSHARE-OPTIONS COMMAND...: with a /proc and a /dev/shm of its own, whatever it starts ends
    inside_tree=$1 options=$2
    shift 2
    timeout 1800 unshare "$options" --kill-child sh -c 'mount -t proc proc "$0/proc" &&
        mount -t tmpfs -o mode=1777 tmpfs "$0/dev/shm" && exec chroot "$0" "$@"' "$inside_tree" "$@"
}

# What debian/control asks for, under these profiles.
build_tree() { # build_tree NAME PROFILES
    test -e "$top/$1/done" || {
        tree build-base --variant=buildd && rm -rf "${top:?}/$1" && cp -a "$top/build-base" "$top/$1" &&
            chroot "$top/$1" useradd -u 2000 -M -d /nonexistent builder || return 1
    }
    rm -rf "$top/$1/packages"
    mkdir -p "$top/$1/packages"
    cp -r "$src/debian" "$top/$1/packages/"
    chroot "$top/$1" sh -c "cd /packages && apt-get build-dep -y --no-install-recommends -P '$2' ./" >"$top/$1.log" 2>&1
}

build() { # build TREE DIRECTORY UMASK ENVIRONMENT...: result in ./TREE/DIRECTORY
    place=$top/$1/$2
    directory=$2 mask=$3
    root=$top/$1
    shift 3
    rm -rf "$place"
    mkdir -p "$place"
    cp "$tarball" "$place/libhakmem_$version.orig.tar.xz"
    tar -C "$place" --no-same-owner -xf "$tarball"
    cp -r "$src/debian" "$place/libhakmem-$version/"
    chown -R 2000:2000 "$place"
    inside "$root" -mpfn setpriv --reuid=2000 --regid=2000 --clear-groups env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        DPKG_GENSYMBOLS_CHECK_LEVEL=4 "$@" sh -c "umask $mask && ulimit -n 256 && cd '/$directory/libhakmem-$version' &&
        exec dpkg-buildpackage -us -uc -j2" >"$place/build.log" 2>&1 </dev/null
}

hashes() {
    (cd "$1" && sha256sum ./*.deb)
}

build_tree build-one '' && build_tree build-two nocheck || {
    not_ok "trees to build in" "$(tail -3 "$top"/build-*.log)"
    finish
}
begun=$(date +%s)
if build build-one build 022 LC_ALL=C.UTF-8 ${HK_PACKAGES_NOCHECK:+DEB_BUILD_OPTIONS=nocheck}; then
    ok "dpkg-buildpackage, tests ${HK_PACKAGES_NOCHECK:+not }included"
    echo "# took $((($(date +%s) - begun + 30) / 60)) minutes; the package's own tests:"
    grep -E '^# (TOTAL|PASS|SKIP|XFAIL|FAIL|XPASS|ERROR): ' "$place/build.log" | tail -n 7
    grep '^SKIP: ' "$place/build.log" | sed 's/^/# /'
else
    not_ok "dpkg-buildpackage" "$(grep -E '^(FAIL|ERROR)|dh_|error' "$place/build.log" | tail -10)"
    finish
fi
one=$place
lintian -EvI --fail-on none --allow-root "$one"/*.changes 2>/dev/null | grep -E '^[EWI]: ' |
    grep -vE 'initial-upload-closes-no-bugs|upstream-metadata-missing|debian-watch-file-is-missing' >"$work/lintian"
if test -s "$work/lintian"; then
    not_ok "lintian -EvI" "$(cat "$work/lintian")"
else
    ok "lintian -EvI"
fi
if build build-two elsewhere 002 TZ=Pacific/Auckland LC_ALL=C DEB_BUILD_PROFILES=nocheck DEB_BUILD_OPTIONS=nocheck &&
    test "$(hashes "$one")" = "$(hashes "$place")"; then
    ok "a second build, with the profile nocheck, gives the same packages"
else
    not_ok "a second build, with the profile nocheck, gives the same packages" "$(hashes "$one")" "$(hashes "$place")" \
        "$(grep -E 'dh_|error' "$place/build.log" | tail -5)"
fi

tree root --variant=minbase --include=gcc,libc6-dev,pkgconf,python3,man-db,procps,autopkgtest ||
    { not_ok "a tree to install in" "$(tail -3 "$top/root.log")"; finish; }
root=$top/root
rm -rf "$root/packages"
mkdir "$root/packages"
cp "$one"/*.dsc "$one"/*.xz "$root/packages"
for package in libhakmem0 libhakmem-dev hakmem-tools; do
    cp "$one/${package}_$version"-*.deb "$root/packages/$package.deb"
    # The next revision, for the upgrade.
    rm -rf "$work/next"
    dpkg-deb -R "$root/packages/$package.deb" "$work/next"
    sed -i "s/^Version: .*/Version: $version-99/; s/(= $version-[0-9]*)/(= $version-99)/" "$work/next/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$work/next" "$root/packages/$package-next.deb" >/dev/null
done
cat >"$root/packages/adds_up.py" <<'PYTHON'
"""adds_up.py SHOW SITES USED: what hakmem-stats says of redis-server, and what redis-server says of itself."""
import json
import sys

stats = json.load(open(sys.argv[1], encoding="utf-8"))["stats"]
sites = json.load(open(sys.argv[2], encoding="utf-8"))["sites"]
used = int(sys.argv[3])
parts = [stats[n] for n in ("live", "cached", "slab_free", "dirty", "purged", "metadata")]
by_redis = [s for s in sites if s["module"].startswith("/usr/bin/redis") and s["function"]]
live = sum(s["live_bytes"] for s in by_redis)
print("mapped", stats["mapped"], "parts", parts, "used", used, "by name", live, [s["site"] for s in by_redis])
assert stats["mapped"] == sum(parts)
assert used <= stats["live"] <= used * 1.2 + (4 << 20)  # used: what redis counts of its own blocks
assert any(s["function"].startswith("zmalloc") for s in by_redis)
assert live > 0 and stats["live"] * 0.5 <= sum(s["live_bytes"] for s in sites) <= stats["live"] * 1.6  # from some 40 samples
PYTHON
cat >"$root/packages/steps.sh" <<'STEPS'
export DEBIAN_FRONTEND=noninteractive
cd /packages
say() { if test "$2" -eq 0; then echo "good $1"; else echo "bad $1"; fi; }
apt-get install -y ./libhakmem0.deb ./libhakmem-dev.deb ./hakmem-tools.deb >install.log 2>&1
say "apt installs them" $?
printf '#include <hakmem/hakmem.h>\nint main(void) { void *p = hak_malloc(9); hak_free(p); return !p; }\n' >a.c
cc -o a a.c $(pkg-config --cflags --libs hakmem) && ./a
say "a program by pkg-config" $?
cc -static -o as a.c $(pkg-config --static --cflags --libs hakmem) && ./as
say "a static one" $?
printf 'char *strdup(const char *);\nint main(void) { return !strdup("a"); }\n' >b.c
cc -o b b.c $(pkg-config --libs hakmem) && LD_DEBUG=bindings ./b 2>&1 | grep -q 'libc\.so\.6 .*libhakmem\.so\.0 .*malloc'
say "one that calls malloc through libc alone" $?

apt-get install -y --no-install-recommends redis-server >redis-install.log 2>&1
redis() { timeout 20 redis-cli -s /packages/redis.sock "$@"; }
hakmem-run redis-server --port 0 --unixsocket /packages/redis.sock --save '' >redis.log 2>&1 &
server=$!
tries=0
until redis ping 2>/dev/null | grep -q PONG || test $tries -ge 300; do
    sleep 0.1
    tries=$((tries + 1))
done
timeout 300 redis-benchmark -s /packages/redis.sock -q -n 20000 -r 20000 -d 300 -t set,lpush,hset >redis-load.log 2>&1 &&
    hakmem-stats list 2>&1 | tee list.log | grep -q 'redis-server' && hakmem-stats sites $server >sites.log 2>&1 &&
    hakmem-stats top --count 1 $server >top.log 2>&1 && grep -q "$server redis-server" top.log &&
    hakmem-stats show --json $server >show.json && hakmem-stats sites --json --limit 0 $server >sites.json &&
    used=$(redis info memory | sed -n 's/^used_memory:\([0-9]*\).*/\1/p') &&
    python3 adds_up.py show.json sites.json "$used" >redis-sums.log 2>&1 && ! grep -q hakmem: redis.log
say "redis-server under hakmem-run and load: who allocates, by name, and the sums" $?
redis shutdown nosave
wait $server
say "it ends well" $?
pages() {
    man hakmem 2>/dev/null | col -b >man.log
    grep -q 'hakmem(7)' man.log || return 1
    for page in "7 hakmem" hakmem-run hakmem-stats hakmem.conf hak_stats hak_ctl hak_site hak_policy hak_alloc_at hak_kpi_get; do
        man -w $page >>man.log 2>&1 || return 1
    done
}
pages
say "manual pages" $?

echo libhakmem.so.0 >/etc/ld.so.preload
grep -q libhakmem /proc/self/maps && ls / >/dev/null && python3 -c 'print(1)' >/dev/null
say "/etc/ld.so.preload with the bare soname" $?
rm /etc/ld.so.preload
autopkgtest -q --no-built-binaries ./*.dsc ./libhakmem0.deb ./libhakmem-dev.deb ./hakmem-tools.deb -o adt -- null >adt.log 2>&1
! grep -E 'FAIL|SKIP' adt/summary && test "$(grep -c PASS adt/summary)" -ge 4
say "autopkgtest, null runner" $?
echo '# a local change' >>/etc/apparmor.d/abstractions/hakmem
apt-get install -y ./libhakmem0-next.deb ./libhakmem-dev-next.deb ./hakmem-tools-next.deb >upgrade.log 2>&1 &&
    tail -1 /etc/apparmor.d/abstractions/hakmem | grep -q local && hakmem-run true
say "upgrade, local changes kept" $?
apt-get purge -y libhakmem0 libhakmem-dev hakmem-tools >purge.log 2>&1
say "purge" $?
# But what man-db keeps of pages that somebody read.
find / -xdev \( -path /packages -o -path /var/cache/man \) -prune -o -iname '*hakmem*' -print >left
! test -s left
say "nothing is left" $?
apt-get purge -y --autoremove redis-server >/dev/null 2>&1
STEPS
inside "$root" -mpf sh /packages/steps.sh >"$work/steps" 2>&1 </dev/null
while read -r verdict name; do
    case $verdict in
    good) ok "$name" ;;
    bad) not_ok "$name" "$(tail -n 5 "$root"/packages/*.log)" ;;
    esac
done <"$work/steps"
test "$(grep -c '^good\|^bad' "$work/steps")" -eq 12 || not_ok "all steps" "$(tail -n 5 "$work/steps")"
finish
