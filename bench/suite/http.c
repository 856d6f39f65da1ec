// SPDX-License-Identifier: MIT
/*
 * http: asks a web server for one page again and again, 16 requests at a time on each of 8 connections.
 *
 *   suite http SOCKET PATH REQUESTS
 *
 * SOCKET is a Unix socket. The first answer says how long an answer is; all the others have to be as long.
 * Prints the number of bytes and a checksum of all bodies.
 */
#define _GNU_SOURCE
#include "suite.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NR_CONNECTIONS 8u
#define PIPELINE       16u
#define BUFFER         (8 * MIB)

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof address.sun_path)
        suite_fail("http: the socket's path is too long", 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        suite_fail("http: cannot connect", 1);
    return fd;
}

static void read_exactly(int fd, char *buffer, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = read(fd, buffer + got, n - got);
        if (k <= 0)
            suite_fail("http: the server hung up", 1);
        got += (size_t)k;
    }
}

static void ask(int fd, const char *request)
{
    if (write(fd, request, strlen(request)) != (ssize_t)strlen(request))
        suite_fail("http: cannot ask", 1);
}

/* Reads one answer; its length, and where its body begins. */
static size_t first_answer(int fd, char *buffer, size_t *body)
{
    size_t n = 0;
    const char *end, *length;

    do {
        read_exactly(fd, buffer + n++, 1);
        buffer[n] = '\0';
        end = n >= 4 && memcmp(buffer + n - 4, "\r\n\r\n", 4) == 0 ? buffer + n : NULL;
    } while (end == NULL && n < 4096);
    length = strcasestr(buffer, "content-length:");
    if (end == NULL || length == NULL || strncmp(buffer, "HTTP/1.1 200", 12) != 0)
        suite_fail("http: not the answer that was expected", 1);
    *body = n;
    size_t more = strtoull(length + strlen("content-length:"), NULL, 10);
    if ((n + more) * PIPELINE > BUFFER)
        suite_fail("http: the page is too big", 1);
    read_exactly(fd, buffer + n, more);
    return n + more;
}

static uint64_t checksum(uint64_t sum, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ (unsigned char)bytes[i]) * 0x100000001b3ull;
    return sum;
}

int suite_http(int argc, char **argv)
{
    char request[512], many[PIPELINE * sizeof request] = "";
    int fd[NR_CONNECTIONS];
    char *buffer = suite_area(BUFFER);
    size_t body = 0, length = 0;
    uint64_t sum = 0xcbf29ce484222325ull, total = 0;

    if (argc != 4)
        suite_fail("usage: suite http SOCKET PATH REQUESTS", 1);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", argv[2]);
    for (unsigned i = 0; i < PIPELINE; i++)
        strcat(many, request);
    for (unsigned i = 0; i < NR_CONNECTIONS; i++) {
        fd[i] = connect_to(argv[1]);
        ask(fd[i], request);
        length = first_answer(fd[i], buffer, &body);
    }
    for (uint64_t left = strtoull(argv[3], NULL, 10) / PIPELINE; left; left--) {
        int to = fd[left % NR_CONNECTIONS];
        ask(to, many);
        read_exactly(to, buffer, length * PIPELINE);
        for (unsigned i = 0; i < PIPELINE; i++)
            sum = checksum(sum, buffer + i * length + body, length - body);
        total += (length - body) * PIPELINE;
    }
    printf("bytes %" PRIu64 "\nchecksum %016" PRIx64 "\n", total, sum);
    return 0;
}
