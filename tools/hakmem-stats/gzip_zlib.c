// SPDX-License-Identifier: MIT
#include "export.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

bool gzip_write(const unsigned char *data, size_t bytes)
{
    z_stream z = {0};
    size_t room = 0;
    unsigned char *packed = NULL;
    bool done = false;

    if (bytes > UINT32_MAX / 2 ||
        deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false; /* 15 + 16: the largest window, with a gzip header */
    room = deflateBound(&z, bytes);
    packed = malloc(room);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)bytes;
    z.next_out = packed;
    z.avail_out = (uInt)room;
    if (packed && deflate(&z, Z_FINISH) == Z_STREAM_END)
        done = fwrite(packed, 1, z.total_out, stdout) == z.total_out;
    deflateEnd(&z);
    free(packed);
    return done;
}
