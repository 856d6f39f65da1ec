#!/bin/sh
# SPDX-License-Identifier: MIT
# The manual pages are clean for mandoc and groff, and the lint can fail.
set -u
srcdir=${HK_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
builddir=${HK_BUILDDIR:-$srcdir/build}
mandoc=${MANDOC:-mandoc}
if test "$mandoc" = : || ! command -v "$mandoc" >/dev/null; then
    echo "1..0 # SKIP no mandoc"
    exit 0
fi

number=0
failed=0
result() { # STATUS NAME [OUTPUT]
    number=$((number + 1))
    if test "$1" -eq 0; then
        echo "ok $number - $2"
    else
        failed=1
        echo "not ok $number - $2"
        test -z "${3:-}" || printf '%s\n' "$3" | sed 's/^/#   /'
    fi
}

# Everything counts but the search for other pages, which depends on what is installed here, and the
# convention of some systems that .Os stands alone.
lint() { # PAGE
    remarks=$("$mandoc" -T lint "$1" 2>&1 |
        grep -v -e 'referenced manual not found' -e 'outdated mandoc.db' \
            -e 'operating system explicitly specified')
    test -z "$remarks" || { printf '%s\n' "$remarks"; return 1; }
}

for page in "$srcdir"/man/*.[1-9] "$builddir"/man/*.[1-9]; do
    test -f "$page" || continue
    name=${page##*/}
    # A page that only names another one.
    if grep -q '^\.so ' "$page"; then continue; fi
    out=$(lint "$page")
    result $? "$name: mandoc" "$out"
    if command -v groff >/dev/null && groff -mdoc -ww -z /dev/null 2>/dev/null; then
        out=$(groff -mandoc -Tutf8 -ww -z "$page" 2>&1)
        test -z "$out"
        result $? "$name: groff" "$out"
    fi
done
test "$number" -gt 0
result $? "there are pages"

missing=
for function in $(sed 's/#.*//' "$srcdir/tests/lint/exports.txt" | tr ' ' '\n' | grep '^hak_'); do
    page=$(sed -n 's|^\.so man3/||p' "$builddir/man/$function.3" 2>/dev/null)
    test -n "$page" && grep -q -e "^\.F[no] $function" -e "^\.Vt .* $function " "$srcdir/man/$page" ||
        missing="$missing $function"
done
test -z "$missing"
result $? "every hak_ function has its page" "without page:$missing"

bad=$(mktemp) || exit 99
trap 'rm -f "$bad"' EXIT
printf '.Dd January 1, 2030\n.Dt X 3\n.Os\n.Sh NAME\n.Nm x\n.Nd y\n.Sh TEXT\n.Nosuch macro\n.Bl\n' >"$bad"
if lint "$bad" >/dev/null; then control=1; else control=0; fi
result $control "negative control: an unknown macro"
echo "1..$number"
exit $failed
