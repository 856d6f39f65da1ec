#!/bin/sh
# SPDX-License-Identifier: MIT
#
# cross.sh [ARCHITECTURE...]: builds the library for other machines with Debian's cross compilers and runs the model
# test, the C integration tests and the unit tests under qemu-user. Prints TAP. Run by `make check-cross`; not by
# `make check`: it takes minutes and the packages
#
#   gcc-i686-linux-gnu gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf gcc-riscv64-linux-gnu gcc-s390x-linux-gnu
#   gcc-powerpc64le-linux-gnu qemu-user-static binfmt-support
#
# and downloads libraries of those machines with apt-get into ./cross (the system's own lists stay as they are).
# Debian 12 has no riscv64: the C library comes with the cross compiler, libcheck is built from Debian's source.
# What qemu-user 7.2 cannot do, and what is therefore left out or not asked:
#   madvise other than MADV_DONTNEED   it answers 0 and does nothing: no MADV_WIPEONFORK, and what is given back by
#                                      MADV_FREE stays resident
#   limits of memory                   it answers 0 and sets none (qemu_limits.c shows it)
#   seccomp filters                    it refuses them
#   popen of the host's shell          the preloaded library is of another machine
#   abort                              it adds a line of its own on stderr
#   mremap on 32-bit machines          it destroys memory (qemu_mremap.c shows it): the library is built there as for
#                                      a kernel without that call
# i386 programs run without qemu, so for them all of it is tested.
set -u
src=$(cd "${HK_SRCDIR:-$(dirname "$0")/../..}" && pwd)
. "$src/tests/integration/tap.sh"
cross=${HK_CROSS_DIR:-$PWD/cross}

all="i386 arm64 armhf riscv64 s390x ppc64el"
tests="semantics early signals"
# The last two: MADV_WIPEONFORK, and what qemu adds to a text on stderr when a program aborts.
ignored="malloc_trim gives back|popen and getline|kernel:wipe_on_fork|test_panic.c:panic:"

# Where there is no mremap, or no limit: tests of that call itself.
no_mremap="resize_in_place|move_keeps_content"
no_limits="kernel:shared_file_fails_whole"

triplet_of() {
    case $1 in
    i386) echo i686-linux-gnu ;;
    arm64) echo aarch64-linux-gnu ;;
    armhf) echo arm-linux-gnueabihf ;;
    riscv64) echo riscv64-linux-gnu ;;
    s390x) echo s390x-linux-gnu ;;
    ppc64el) echo powerpc64le-linux-gnu ;;
    *) return 1 ;;
    esac
}

# The machine's C library, and libcheck, unpacked under $cross/ARCHITECTURE/root.
fetch_root() {
    arch=$1 root=$cross/$1/root
    test -e "$root/done" && return 0
    mkdir -p "$root" "$cross/$arch/debs" "$cross/$arch/lists/partial"
    options="-qq -o APT::Architecture=$arch -o APT::Architectures::=$arch -o Dir::State::lists=$cross/$arch/lists
        -o Dir::State::status=/dev/null -o APT::Sandbox::User=root -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
    # shellcheck disable=SC2086 # options are words
    # update: fails as a whole when one of several lists cannot be had; whether it matters, download tells.
    (cd "$cross/$arch/debs" && { apt-get $options update || true; } &&
        apt-get $options download libc6 libgcc-s1 check libsubunit0) >"$cross/$arch/apt.log" 2>&1 || return 1
    for package in "$cross/$arch/debs"/*.deb; do
        dpkg-deb -x "$package" "$root" || return 1
    done
    find "$root" -type l -lname '/*' | while read -r link; do # they would lead out of it
        ln -sfn "$root$(readlink "$link")" "$link"
    done
    test -e "$root/lib64" || ln -s "lib/$(ls "$root/lib" | grep linux | head -1)" "$root/lib64"
    : >"$root/done"
}

# Is there an mremap that leaves other memory alone (qemu_mremap)? Does a limit of memory hold (qemu_limits)?
holds() { # holds QUESTION ARCHITECTURE TRIPLET
    "$3-gcc" "$src/tests/portability/$1.c" -o "$cross/$2/programs/$1" &&
        (cd "$work" && "$cross/$2/programs/$1") 2>"$cross/$2/$1.log"
}

# Debian's source of libcheck, cross-compiled: $cross/ARCHITECTURE/check/libcheck.a and include.
build_libcheck() { # build_libcheck ARCHITECTURE TRIPLET
    own=$cross/$1/check
    test -e "$own/done" && return 0
    rm -rf "$own"
    mkdir -p "$own/lists/partial" "$own/build" "$own/include"
    echo "deb-src http://deb.debian.org/debian $(. /etc/os-release && echo "$VERSION_CODENAME") main" >"$own/sources.list"
    options="-qq -o Dir::Etc::sourcelist=$own/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$own/lists
        -o APT::Sandbox::User=root -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
    # shellcheck disable=SC2086 # options are words
    (cd "$own" && apt-get $options update && apt-get $options source --only-source check && cd build &&
        ../check-*/configure --host="$2" --disable-shared --disable-subunit --disable-build-docs &&
        make -C lib && make -C src libcheck.la && cp src/.libs/libcheck.a .. && cp src/check.h check_stdint.h ../include) \
        >"$cross/$1/check.log" 2>&1 && : >"$own/done"
}

# Sets check_cflags and check_libs, both empty when there is none.
find_libcheck() { # find_libcheck ARCHITECTURE TRIPLET ROOT
    libs=$3/usr/lib/$(ls "$3/usr/lib" 2>/dev/null | grep linux | head -1)
    check_cflags= check_libs="-lm -lrt -lpthread"
    if test -e "$libs/libcheck.a"; then # a linker script: libtool loses a library named like libsubunit.so.0
        echo "INPUT($libs/libcheck.a $libs/libsubunit.so.0)" >"$cross/$1/libcheck_all.a"
        check_cflags="-isystem $3/usr/include" check_libs="$cross/$1/libcheck_all.a $check_libs"
    elif build_libcheck "$1" "$2"; then
        check_cflags="-isystem $cross/$1/check/include" check_libs="$cross/$1/check/libcheck.a $check_libs"
    else
        check_libs=
    fi
}

configure_and_build() { # configure_and_build ARCHITECTURE TRIPLET CPPFLAGS
    (mkdir -p "$cross/$1/build" && cd "$cross/$1/build" && "$src/configure" --host="$2" --enable-werror CPPFLAGS="$3" \
        ${check_libs:+CHECK_CFLAGS="$check_cflags"} ${check_libs:+CHECK_LIBS="$check_libs"} &&
        make -j2 libhakmem.la) >"$cross/$1/build.log" 2>&1
}

model() { # model ARCHITECTURE TRIPLET ARGUMENTS...
    arch=$1 triplet=$2
    shift 2
    (cd "$cross/$arch" && LD_PRELOAD=$lib timeout 300 ./programs/model --max-live 100M --max-size 8M "$@") >"$cross/$arch/model.log" 2>&1
    if grep -q "^model: ok" "$cross/$arch/model.log"; then
        ok "$arch: model $*"
    else
        not_ok "$arch: model $*" "$(tail -3 "$cross/$arch/model.log")"
    fi
}

c_tests() { # c_tests ARCHITECTURE TRIPLET
    for t in $tests; do
        "$2-gcc" -O2 -D_GNU_SOURCE "$src/tests/integration/$t.c" "$src/tests/integration/harness.c" \
            -o "$cross/$1/programs/$t" -lpthread -ldl -lm >"$cross/$1/$t.log" 2>&1 || {
            not_ok "$1: $t" "$(cat "$cross/$1/$t.log")"
            continue
        }
        HK_LIB=$lib timeout 300 "$cross/$1/programs/$t" >"$cross/$1/$t.log" 2>&1
        if grep "^ok" "$cross/$1/$t.log" >/dev/null && ! grep "^not ok" "$cross/$1/$t.log" | grep -qvE "$ignored"; then
            ok "$1: $t ($(grep -c "^ok" "$cross/$1/$t.log") points)"
        else
            not_ok "$1: $t" "$(grep -B3 "^not ok" "$cross/$1/$t.log" | grep -vE "$ignored")"
        fi
    done
}

# Kernels of such machines may have larger pages; qemu-user pretends. The unit tests count pages of 4 KiB and are left out,
# and so is what asks for resident pages: mincore answers for the host's, sixteen bytes where one was expected.
page_sizes() { # page_sizes ARCHITECTURE TRIPLET
    for QEMU_PAGESIZE in 16384 65536; do
        export QEMU_PAGESIZE
        "$2-gcc" "$src/tests/portability/page_bytes.c" -o "$cross/$1/programs/page_bytes" &&
            "$cross/$1/programs/page_bytes" $QEMU_PAGESIZE ||
            { not_ok "$1: pages of $QEMU_PAGESIZE bytes" "qemu does not pretend"; continue; }
        echo "# pages of $QEMU_PAGESIZE bytes"
        model "$1" "$2" --ops 1M
        model "$1" "$2" --ops 1M --threads 4
        c_tests "$1" "$2"
    done
    unset QEMU_PAGESIZE
}

unit_tests() { # unit_tests ARCHITECTURE IGNORED
    test -n "$check_libs" || { skip "$1: unit tests" "no libcheck: $(tail -1 "$cross/$1/check.log")"; return; }
    names=$(cd "$src" && ls tests/unit/test_*.c | sed 's/\.c$//')
    # shellcheck disable=SC2086 # one target a word
    (cd "$cross/$1/build" && make -j2 $names) >"$cross/$1/units.log" 2>&1 || {
        not_ok "$1: unit tests build" "$(grep -m3 error: "$cross/$1/units.log")"
        return
    }
    i386_libs=
    test "$1" != i386 || i386_libs=$cross/$1/root/usr/lib/i386-linux-gnu
    for name in $names; do
        t=$(basename "$name")
        # i386 runs without qemu, and so without QEMU_LD_PREFIX: libsubunit by name of its directory
        (cd "$cross/$1/build" && CK_TAP_LOG_FILE_NAME=- CK_VERBOSITY=silent CK_TIMEOUT_MULTIPLIER=5 timeout 600 \
            env ${i386_libs:+LD_LIBRARY_PATH="$i386_libs"} "$name") >"$cross/$1/$t.log" 2>&1
        if grep -q "^ok" "$cross/$1/$t.log" && ! grep "^not ok" "$cross/$1/$t.log" | grep -qvE "$2"; then
            ok "$1: $t ($(grep -c "^ok" "$cross/$1/$t.log") points)"
        else
            not_ok "$1: $t" "$(grep "^not ok" "$cross/$1/$t.log" | grep -vE "$2")"
        fi
    done
}

for arch in ${*:-$all}; do
    triplet=$(triplet_of "$arch") || { not_ok "$arch: not an architecture known here"; continue; }
    command -v "$triplet-gcc" >/dev/null || { skip "$arch" "no $triplet-gcc"; continue; }
    root=$cross/$arch/root
    mkdir -p "$cross/$arch/programs"
    fetch_root "$arch" || root=/usr/$triplet # no such release architecture: what the cross compiler brings
    lib=$cross/$arch/build/.libs/libhakmem.so
    export QEMU_LD_PREFIX="$root"
    lacks=$ignored cppflags=
    if ! holds qemu_limits "$arch" "$triplet"; then
        lacks="$lacks|$no_limits"
        echo "# $arch: limits of memory do not hold here"
    fi
    if ! holds qemu_mremap "$arch" "$triplet"; then
        lacks="$lacks|$no_mremap" cppflags="-include $src/tests/portability/no_mremap.h"
        echo "# $arch: mremap destroys memory here; without it"
    fi
    find_libcheck "$arch" "$triplet" "$root"
    if configure_and_build "$arch" "$triplet" "$cppflags"; then
        ok "$arch: builds with warnings as errors"
    else
        not_ok "$arch: builds" "$(grep -m3 -E "error|undefined" "$cross/$arch/build.log")"
        continue
    fi
    "$triplet-gcc" -O2 -g -D_GNU_SOURCE $(ls "$src"/tests/model/*.c | grep -v '/faulty\.c$') -o "$cross/$arch/programs/model" -lpthread
    model "$arch" "$triplet" --ops 1M
    model "$arch" "$triplet" --ops 1M --threads 4
    c_tests "$arch" "$triplet"
    test "$arch" != arm64 || page_sizes "$arch" "$triplet"
    unit_tests "$arch" "$lacks"
done
finish
