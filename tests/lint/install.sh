#!/bin/sh
# SPDX-License-Identifier: MIT
# What `make install` puts down is enough to compile, link and run: by pkg-config, shared and static, from C
# and C++, and a program that names no symbol of the library keeps it.
# $1 in single quotes belongs to an inner shell.
# shellcheck disable=SC2016
set -u
builddir=${HK_BUILDDIR:-$(pwd)}
cc=${CC:-cc}
cxx=${CXX:-c++}
pkg_config=$(command -v pkg-config || command -v pkgconf) || {
    echo "1..0 # SKIP no pkg-config"
    exit 0
}
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
number=0
failed=0

test_that() { # NAME COMMAND...
    name=$1
    shift
    number=$((number + 1))
    if "$@" >"$work/log" 2>&1; then
        echo "ok $number - $name"
    else
        failed=1
        echo "not ok $number - $name"
        sed 's/^/#   /' "$work/log"
    fi
}

skip() {
    number=$((number + 1))
    echo "ok $number - $1 # SKIP $2"
}

# The prefix that configure was given, below $work/root.
unset MAKEFLAGS MFLAGS MAKELEVEL
test_that "make install" make -C "$builddir" install DESTDIR="$work/root"
pc=$(find "$work/root" -name hakmem.pc)
test_that "hakmem.pc is installed" test -f "$pc"
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$work/root"
libdir=$work/root$(PKG_CONFIG_SYSROOT_DIR='' "$pkg_config" --variable=libdir hakmem)
flags=$("$pkg_config" --cflags --libs hakmem)
test_that "the library is one token that --as-needed cannot drop" \
    sh -c 'case $1 in *-Wl,--push-state,--no-as-needed,-lhakmem,--pop-state*) ;; *) exit 1 ;; esac' - "$flags"

# Each option of the sample, taken out of its comment, is one that the library knows.
sample=$(find "$work/root" -path '*examples/hakmem.conf')
sed -n 's/^#\([a-z_0-9]* = \)/\1/p' "$sample" >"$work/sample.conf"
test_that "the sample of hakmem.conf has every option, and values that are accepted" \
    sh -c 'test "$(grep -c . "$1")" -eq "$(grep -c "^X[SET]*(" "$2")" && grep -q "^thp = " "$1" &&
        HAKMEM_CONF=$1 HAKMEM_STRICT=1 LD_PRELOAD=$3 true' - \
    "$work/sample.conf" "${HK_SRCDIR:-.}/lib/config/options.def" "$libdir/libhakmem.so.0"

cat >"$work/uses.c" <<'C'
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    char *p = malloc(100);
    int fine = p && hak_usable_size(p) >= 100 && strcmp(hak_version(), VERSION) == 0;
    hak_free(p);
    return !fine;
}
C
echo 'int main(void) { return 0; }' >"$work/names_nothing.c"
cat >"$work/uses.cc" <<'C'
#include <hakmem/hakmem.h>
#include <memory>
#include <new>
int main()
{
    auto p = std::make_unique<char[]>(100);
    try {
        volatile std::size_t bytes = PTRDIFF_MAX - 64;
        char *volatile huge = new char[bytes];
        delete[] huge;
    } catch (const std::bad_alloc &) {
        return hak_usable_size(p.get()) < 100;
    }
    return 1;
}
C
version="-DVERSION=\"${HK_VERSION:-0.1.0}\""

# $flags and $cc are lists of words.
# shellcheck disable=SC2086
{
    test_that "a C program links" $cc "$version" -o "$work/uses" "$work/uses.c" $flags
    test_that "a C program runs" env LD_LIBRARY_PATH="$libdir" "$work/uses"
    test_that "a program that names nothing links" \
        $cc -o "$work/names_nothing" "$work/names_nothing.c" $flags
    test_that "and keeps the library" sh -c 'readelf -d "$1" | grep "NEEDED.*libhakmem\.so\.0"' - \
        "$work/names_nothing"
    test_that "negative control: plain -lhakmem links" \
        $cc -Wl,--as-needed -o "$work/dropped" "$work/names_nothing.c" -L"$libdir" -lhakmem
    test_that "negative control: and is dropped" sh -c '! readelf -d "$1" | grep libhakmem' - \
        "$work/dropped"
    if test -f "$libdir/libhakmem.a"; then
        static=$("$pkg_config" --static --cflags --libs hakmem)
        test_that "a static C program links" \
            $cc -static "$version" -o "$work/static" "$work/uses.c" $static
        test_that "a static C program runs" "$work/static"
    else
        skip "a static C program" "no static library was built"
    fi
    if $cxx -o "$work/works" -x c++ "$work/names_nothing.c" 2>/dev/null; then
        test_that "a C++ program links" $cxx -o "$work/usesxx" "$work/uses.cc" $flags
        test_that "a C++ program runs" env LD_LIBRARY_PATH="$libdir" "$work/usesxx"
        if test -f "$libdir/libhakmem.a"; then
            test_that "a static C++ program links" $cxx -static -o "$work/staticxx" "$work/uses.cc" $static
            test_that "a static C++ program runs" "$work/staticxx"
        fi
    else
        skip "a C++ program" "no C++ compiler"
    fi
}
tool=$(find "$work/root" -name hakmem-run -type f -perm -u+x)
test_that "hakmem-run finds the installed library" \
    "$tool" sh -c 'grep -q "$1/libhakmem.so.0" /proc/$$/maps' - "$(readlink -f "$libdir")"
test_that "and so from any directory, by a link" sh -c \
    'mkdir "$2/elsewhere" && ln -s "$1" "$2/elsewhere/run" && cd "$2/elsewhere" && ./run grep -q libhakmem /proc/self/maps' \
    - "$tool" "$work"
test_that "make uninstall leaves nothing" sh -c \
    'make -C "$1" uninstall DESTDIR="$2" && test -z "$(find "$2" ! -type d)"' - "$builddir" "$work/root"
echo "1..$number"
exit $failed
