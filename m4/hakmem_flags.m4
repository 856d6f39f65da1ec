# SPDX-License-Identifier: MIT
# Probes of optional flags. Each flag is tried by itself, with -Werror, so that a compiler which
# merely warns about an unknown flag counts as not having it; only those that work are appended.

# HK_TRY_FLAGS_(VARIABLE, FLAGS, CFLAGS | LDFLAGS, COMPILE | LINK)
# A flag may hold $(make variables): they are replaced by /x for the probe.
AC_DEFUN([HK_TRY_FLAGS_], [
    for hk_flag in $2; do
        hk_probe=$(echo "$hk_flag" | sed 's,\$([[a-z_]]*),/x,g')
        AS_VAR_PUSHDEF([hk_cache], [hk_cv_flag_$3_$hk_probe])
        AC_CACHE_CHECK([whether $CC takes $hk_probe], [hk_cache], [
            hk_save=$$3
            hk_save_werror=$CFLAGS
            # clang reports an unknown -Wno-x only on request, gcc only beside another warning:
            # probe the positive form.
            hk_try=$(echo " $hk_probe" | sed 's/ -Wno-/ -W/')
            CFLAGS="$CFLAGS -Werror"
            $3="$$3 $hk_try"
            AC_$4_IFELSE([AC_LANG_PROGRAM([], [])],
                [AS_VAR_SET([hk_cache], [yes])], [AS_VAR_SET([hk_cache], [no])])
            $3=$hk_save
            CFLAGS=$hk_save_werror
        ])
        AS_VAR_IF([hk_cache], [yes], [$1="$$1 $hk_flag"])
        AS_VAR_POPDEF([hk_cache])
    done
])

# HK_CC_FLAGS(VARIABLE, FLAGS): append those that the compiler takes.
AC_DEFUN([HK_CC_FLAGS], [HK_TRY_FLAGS_([$1], [m4_normalize([$2])], [CFLAGS], [COMPILE])])

# HK_LD_FLAGS(VARIABLE, FLAGS): append those that a link takes.
AC_DEFUN([HK_LD_FLAGS], [HK_TRY_FLAGS_([$1], [m4_normalize([$2])], [LDFLAGS], [LINK])])

# HK_REQUIRE_LINK(FLAGS, MESSAGE): stop unless a program links with FLAGS.
AC_DEFUN([HK_REQUIRE_LINK], [
    AC_MSG_CHECKING([whether a program links with $1])
    hk_save=$CFLAGS
    CFLAGS="$CFLAGS $1"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
        [AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no]); AC_MSG_ERROR([$2])])
    CFLAGS=$hk_save
])
