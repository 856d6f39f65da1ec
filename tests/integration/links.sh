#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Ways of getting the library into a program other than LD_PRELOAD: linked, static, by dlopen after
# many others. Builds small programs, so it needs a compiler.

src=${HK_SRCDIR:-.}/tests/integration
. "$src/tap.sh"
cc=${CC:-cc}
cxx=${CXX:-c++}
archive=$(dirname "${lib:-.}")/libhakmem.a

# Every point as a skip, when there is nothing to build with or on.
if test -z "$lib"; then
    skip "linking and loading" "HK_LIB is not set"
    finish
fi
if ! echo 'int main(void) { return 0; }' >"$work/t.c" || ! $cc -o "$work/t" "$work/t.c" 2>"$work/err"; then
    skip "linking and loading" "no compiler"
    finish
fi

build() { # build NAME COMMAND...: a failure to build is a failure of the point
    name=$1
    shift
    if ! "$@" >"$work/build.log" 2>&1; then
        not_ok "$name" "cannot build: $*" "$(cat "$work/build.log")"
        return 1
    fi
}

check() { # check NAME COMMAND...: exit 0, and nothing said about misuse
    name=$1
    shift
    timeout 30 "$@" >"$work/out" 2>&1
    status=$?
    if test $status -eq 0 && ! grep -q hakmem: "$work/out"; then
        ok "$name"
    elif test $status -eq 77; then
        skip "$name" "$(cat "$work/out")"
    else
        not_ok "$name" "exit status $status" "$(cat "$work/out")"
    fi
}

# --- dlopen of the library ---

build "dlopen" "$cc" -O1 -g -o "$work/dlopen_late" "$src/dlopen_late.c" -ldl -lpthread && {
    check "dlopen" "$work/dlopen_late" "$lib"
    mkdir "$work/tls"
    i=0
    if build "TLS libraries" "$cc" -shared -fPIC -O1 -DTLS_BYTES=256 -o "$work/tls/tls.so" "$src/tls_library.c"; then
        while test $i -lt 50; do
            cp "$work/tls/tls.so" "$work/tls/tls$i.so"
            i=$((i + 1))
        done
        rm "$work/tls/tls.so"
        check "dlopen after 50 libraries with thread-local storage" "$work/dlopen_late" "$lib" "$work"/tls/*.so
    fi
    if build "small TLS libraries" "$cc" -shared -fPIC -O1 -ftls-model=initial-exec -DTLS_BYTES=16 \
        -o "$work/ie.so" "$src/tls_library.c"; then
        for i in 1 2 3 4 5 6 7 8; do
            cp "$work/ie.so" "$work/ie$i.so"
        done
        rm "$work/ie.so"
        check "dlopen after 8 libraries with static thread-local storage" "$work/dlopen_late" "$lib" "$work"/ie?.so
    fi
}

# --- linked ---

build "linked" "$cc" -O1 -g -Wl,--no-as-needed -o "$work/linked" "$src/linked.c" "$lib" -ldl -lpthread &&
    check "linked" env LD_LIBRARY_PATH="$(dirname "$lib")" "$work/linked"

# --- static ---

if test ! -f "$archive"; then
    skip "static C program" "no static library"
    skip "static C++ program" "no static library"
elif ! $cc -static -o "$work/t" "$work/t.c" 2>/dev/null; then
    skip "static C program" "no static libc"
    skip "static C++ program" "no static libc"
else
    build "static C program" "$cc" -static -O1 -g -o "$work/static" "$src/linked.c" "$archive" -lpthread &&
        check "static C program" "$work/static"
    if have "$cxx"; then
        build "static C++ program" "$cxx" -static -O1 -g -o "$work/static_cxx" "$src/out_of_memory.cc" "$archive" &&
            check "static C++ program: bad_alloc and new_handler" "$work/static_cxx"
    else
        skip "static C++ program" "no C++ compiler"
    fi
fi

# --- plug-ins loaded with RTLD_DEEPBIND: such a flag is left out, or kept, and then they call libc's malloc ---

if ! echo '#include <dlfcn.h>
int x = RTLD_DEEPBIND;' >"$work/t.c" || ! $cc -D_GNU_SOURCE -c -o "$work/t.o" "$work/t.c" 2>"$work/err"; then
    skip "blocks cross to an RTLD_DEEPBIND plug-in, which loads by its RUNPATH" "no RTLD_DEEPBIND"
else
    mkdir "$work/inner"
    build "RTLD_DEEPBIND plug-in" "$cc" -D_GNU_SOURCE -shared -fPIC -O1 -g -DINNER -o "$work/inner/inner.so" "$src/deepbind.c" &&
        build "RTLD_DEEPBIND plug-in" "$cc" -D_GNU_SOURCE -shared -fPIC -O1 -g -DPLUGIN -Wl,--enable-new-dtags,-rpath,"$work/inner" \
            -o "$work/deepbind.so" "$src/deepbind.c" &&
        build "RTLD_DEEPBIND plug-in" "$cc" -D_GNU_SOURCE -O1 -g -o "$work/deepbind" "$src/deepbind.c" -ldl &&
        check "blocks cross to an RTLD_DEEPBIND plug-in, which loads by its RUNPATH" \
            env LD_PRELOAD="$lib" "$work/deepbind" "$work/deepbind.so"
fi

build "RTLD_DEEPBIND plug-in" "$cc" -shared -fPIC -O1 -g -DPLUGIN -o "$work/foreign.so" "$src/foreign.c" &&
    build "RTLD_DEEPBIND plug-in" "$cc" -O1 -g -o "$work/foreign" "$src/foreign.c" -ldl &&
    if HAKMEM_DEEPBIND=keep LD_PRELOAD="$lib" timeout 30 "$work/foreign" "$work/foreign.so" >"$work/out" 2>&1 &&
        [ "$(grep -c "hakmem: block of another allocator: handed on to it" "$work/out")" = 1 ]; then
        ok "free, realloc and malloc_usable_size of blocks of an RTLD_DEEPBIND plug-in, told once"
    else
        not_ok "free, realloc and malloc_usable_size of blocks of an RTLD_DEEPBIND plug-in, told once" \
            "$(cat "$work/out")"
    fi

# --- C++ inside a C program: libstdc++ comes late, and is loaded so that RTLD_NEXT and RTLD_DEFAULT
# cannot see it ---

if have "$cxx"; then
    build "C++ plug-in" "$cxx" -shared -fPIC -O1 -g -DPLUGIN -o "$work/plugin.so" "$src/out_of_memory.cc" &&
        build "C++ plug-in" "$cc" -O1 -g -o "$work/load_plugin" "$src/load_plugin.c" -ldl && {
        check "a C++ plug-in loaded with RTLD_LOCAL" env LD_PRELOAD="$lib" "$work/load_plugin" "$work/plugin.so"
        check "a C++ plug-in loaded with RTLD_LOCAL | RTLD_DEEPBIND, without delete across" \
            env HAKMEM_DEEPBIND=keep LD_PRELOAD="$lib" "$work/load_plugin" "$work/plugin.so" deepbind
        check "the same without the flag, which the library leaves out" \
            env LD_PRELOAD="$lib" "$work/load_plugin" "$work/plugin.so" deepbind
    }
    build "C++ program" "$cxx" -O1 -g -Wl,--no-as-needed -o "$work/cxx" "$src/out_of_memory.cc" "$lib" &&
        check "a C++ program linked with the library" env LD_LIBRARY_PATH="$(dirname "$lib")" "$work/cxx"
    build "C++ program with operators of its own" "$cxx" -std=c++17 -fsized-deallocation -O1 -g -o "$work/replaced" \
        "$src/replaced.cc" && {
        check "a C++ program that replaces new and delete, not the sized ones" env LD_PRELOAD="$lib" "$work/replaced"
        check "the same in secure mode" env HAKMEM_SECURE=1 LD_PRELOAD="$lib" "$work/replaced"
        check "the same in secure mode, with guarded blocks" env HAKMEM_SECURE=1 HAKMEM_GUARD_RATE=1 LD_PRELOAD="$lib" \
            "$work/replaced"
    }
else
    skip "a C++ plug-in" "no C++ compiler"
fi

finish
