// SPDX-License-Identifier: MIT
//
// Copied 50 times by links.sh: a library that takes some thread-local storage.
static __thread volatile char bytes[TLS_BYTES];

int touch(void);
int touch(void)
{
    bytes[0]++;
    return bytes[TLS_BYTES - 1];
}
