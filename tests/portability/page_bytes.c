// SPDX-License-Identifier: MIT
//
// page_bytes N: are pages N bytes large here? Used by cross.sh.
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    return argc < 2 || sysconf(_SC_PAGESIZE) != atol(argv[1]);
}
