#!/bin/sh
# SPDX-License-Identifier: MIT
#
# packages.sh TARBALL: Debian packages from the release tarball and debian/ of the source tree. Prints TAP. Run by
# `make check-packages`, as root; not by `make check`: it takes ten minutes and more, and downloads a Debian system.
# Needs dpkg-dev, debhelper and the build dependencies, lintian, debootstrap. Works in ./packages.
#
#   builds       dpkg-buildpackage with its tests, and a symbols file that agrees to the letter
#   lintian      nothing but the initial upload's bug number and addresses that do not exist yet
#   reproducible a second build, elsewhere, in another time zone and locale, with another umask: the same packages
#   a tree       debootstrap; install, link shared and static by pkg-config, autopkgtest with the null runner,
#                upgrade, purge, and nothing is left
# HK_PACKAGES_NOCHECK=1 leaves the tests out of the first build too.
set -u
src=$(cd "${HK_SRCDIR:-$(dirname "$0")/../..}" && pwd)
. "$src/tests/integration/tap.sh"
tarball=$(readlink -f "$1")
top=${HK_PACKAGES_DIR:-$PWD/packages}
version=$(basename "$tarball" .tar.xz)
version=${version#libhakmem-}
export DPKG_GENSYMBOLS_CHECK_LEVEL=4
unset MAKEFLAGS MFLAGS MAKELEVEL HK_SRCDIR HK_LIB

for command in dpkg-buildpackage dh lintian debootstrap; do
    have $command || { skip "packages" "no $command"; finish; }
done
test "$(id -u)" -eq 0 || { skip "packages" "not root"; finish; }

build() { # build DIRECTORY
    rm -rf "$1"
    mkdir -p "$1"
    cp "$tarball" "$1/libhakmem_$version.orig.tar.xz"
    tar -C "$1" -xf "$tarball"
    cp -r "$src/debian" "$1/libhakmem-$version/"
    (cd "$1/libhakmem-$version" && dpkg-buildpackage -us -uc -j2) >"$1/build.log" 2>&1
}

hashes() {
    (cd "$1" && sha256sum ./*.deb)
}

if DEB_BUILD_OPTIONS="${HK_PACKAGES_NOCHECK:+nocheck}" build "$top/one"; then
    ok "dpkg-buildpackage, tests included (${HK_PACKAGES_NOCHECK:+not }run)"
else
    not_ok "dpkg-buildpackage" "$(grep -E '^(FAIL|ERROR)|dh_|error' "$top/one/build.log" | tail -10)"
    finish
fi
lintian -EvI --fail-on none --allow-root "$top/one"/*.changes 2>/dev/null | grep -E '^[EWI]: ' |
    grep -vE 'initial-upload-closes-no-bugs|upstream-metadata-missing|debian-watch-file-is-missing' >"$work/lintian"
if test -s "$work/lintian"; then
    not_ok "lintian -EvI" "$(cat "$work/lintian")"
else
    ok "lintian -EvI"
fi
if (umask 002 && TZ=Pacific/Auckland LC_ALL=C.UTF-8 DEB_BUILD_OPTIONS=nocheck build "$top/elsewhere/two") &&
    test "$(hashes "$top/one")" = "$(hashes "$top/elsewhere/two")"; then
    ok "a second build gives the same packages"
else
    not_ok "a second build gives the same packages" "$(hashes "$top/one")" "$(hashes "$top/elsewhere/two")"
fi

root=$top/root
test -e "$root/done" || {
    rm -rf "$root"
    debootstrap --variant=minbase --include=gcc,libc6-dev,pkgconf,python3,man-db,procps,autopkgtest bookworm "$root" \
        >"$top/debootstrap.log" 2>&1 && : >"$root/done"
}
test -e "$root/done" || { skip "install, test, upgrade, purge" "debootstrap failed"; finish; }
rm -rf "$root/packages"
mkdir "$root/packages"
cp "$top/one"/*.dsc "$top/one"/*.xz "$root/packages"
for package in libhakmem0 libhakmem-dev hakmem-tools; do
    cp "$top/one/${package}_$version"-*.deb "$root/packages/$package.deb"
    # The next revision, for the upgrade.
    rm -rf "$work/next"
    dpkg-deb -R "$root/packages/$package.deb" "$work/next"
    sed -i "s/^Version: .*/Version: $version-99/; s/(= $version-[0-9]*)/(= $version-99)/" "$work/next/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$work/next" "$root/packages/$package-next.deb" >/dev/null
done
cat >"$root/packages/steps.sh" <<'STEPS'
export DEBIAN_FRONTEND=noninteractive
cd /packages
say() { if test "$2" -eq 0; then echo "good $1"; else echo "bad $1"; fi; }
apt-get install -y --no-install-recommends ./libhakmem0.deb ./libhakmem-dev.deb ./hakmem-tools.deb >install.log 2>&1
say "apt installs them" $?
printf '#include <hakmem/hakmem.h>\nint main(void) { void *p = hak_malloc(9); hak_free(p); return !p; }\n' >a.c
cc -o a a.c $(pkg-config --cflags --libs hakmem) && ./a
say "a program by pkg-config" $?
cc -static -o as a.c $(pkg-config --static --cflags --libs hakmem) && ./as
say "a static one" $?
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
find /etc /usr /var/lib/dpkg /opt -iname '*hakmem*' >left
! test -s left
say "nothing is left" $?
STEPS
timeout 900 unshare -mpf --mount-proc="$root/proc" chroot "$root" sh /packages/steps.sh >"$work/steps" 2>&1
while read -r verdict name; do
    case $verdict in
    good) ok "$name" ;;
    bad) not_ok "$name" "$(tail -5 "$root"/packages/*.log)" ;;
    esac
done <"$work/steps"
test "$(grep -c '^good\|^bad' "$work/steps")" -eq 8 || not_ok "all steps" "$(tail -5 "$work/steps")"
finish
