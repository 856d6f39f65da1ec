# SPDX-License-Identifier: MIT
# The names of options.def on one line, in order, for the shells' completions.
/^X(SET)?\(/ {
    name = $0
    sub(/^X(SET)?\(/, "", name)
    sub(/,.*/, "", name)
    printf "%s%s", any ? " " : "", name
    any = 1
}
END { print "" }
