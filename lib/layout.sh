#!/bin/sh
# SPDX-License-Identifier: MIT
# layout.sh LIST COMMAND...: prints the script that COMMAND, a link by GNU ld, uses, with the lines of LIST at the head
# of .text. (A script of its own with INSERT would make a second section of code: valgrind knows the functions of one.)
set -eu
list=$1
shift
"$@" -Wl,--verbose | sed -n -e '/^=====/,/^=====/{/^=====/d;p;}' |
    sed -e '/^  *\.text  *:/,/{/{' -e "/{/r $list" -e '}'
