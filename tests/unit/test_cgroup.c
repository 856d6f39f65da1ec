// SPDX-License-Identifier: MIT
/* limit:auto: the control group's limit, from a /proc and a file system of our own. */
#include "config/config.h"

#include "child.h"

#include <check.h>
#include <stdio.h>
#include <sys/stat.h>

static char directory[64], cgroup_path[96], mounts_path[96];
static char tree[128]; /* the mount point */

static void write_file(const char *path, const char *text, size_t bytes)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, bytes, f), bytes);
    fclose(f);
}

static void put_limit(const char *group, const char *file, const char *text)
{
    char path[256], *slash;

    snprintf(path, sizeof path, "%s%s/%s", tree, group, file);
    for (slash = path + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = 0;
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    write_file(path, text, strlen(text));
}

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/hakmem-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(cgroup_path, sizeof cgroup_path, "%s/cgroup", directory);
    snprintf(mounts_path, sizeof mounts_path, "%s/mountinfo", directory);
    hk_config_cgroup_file = cgroup_path;
    hk_config_mounts_file = mounts_path;
    snprintf(tree, sizeof tree, "%s/my tree", directory);
}

static void teardown(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    ck_assert_int_eq(system(command), 0);
}

/* `mount`: a line of mountinfo; %s is the mount point, written as the kernel does. */
static void set_cgroup(const char *cgroup, const char *mount)
{
    char line[512], escaped[192];

    snprintf(escaped, sizeof escaped, "%s/my\\040tree", directory);
    snprintf(line, sizeof line, "21 1 8:1 / / rw - ext4 /dev/sda rw\n%.200s ROOT %s %.200s\n",
             "36 35 0:30", escaped, mount);
    char *root = strstr(line, "ROOT");
    const char *given = strchr(mount, '@'); /* "... @/root": what stands for ROOT */
    char whole[768];
    size_t length = given ? strlen(given + 1) : 1;
    snprintf(whole, sizeof whole, "%.*s%.*s%s", (int)(root - line), line, (int)length,
             given ? given + 1 : "/", root + 4);
    char *at = strchr(whole, '@');
    if (at)
        strcpy(at, "\n");
    write_file(mounts_path, whole, strlen(whole));
    write_file(cgroup_path, cgroup, strlen(cgroup));
}

static size_t auto_limit(void)
{
    struct hk_config config = hk_config;

    config.limit_bytes = HK_LIMIT_AUTO;
    return hk_config_limit(&config);
}

#define V1 "rw,nosuid shared:1 - cgroup cgroup rw,memory"
#define V2 "rw,nosuid shared:1 - cgroup2 cgroup2 rw"

START_TEST(limit_of_version_2)
{
    set_cgroup("0::/a/b\n", V2);
    ck_assert_uint_eq(auto_limit(), 0); /* no such group */
    put_limit("/a/b", "memory.max", "max\n");
    ck_assert_uint_eq(auto_limit(), 0);
    put_limit("/a/b", "memory.max", "134217728\n");
    ck_assert_uint_eq(auto_limit(), 112 * HK_MIB); /* 7/8 */
    put_limit("/a", "memory.max", "67108864\n"); /* the group above is tighter */
    ck_assert_uint_eq(auto_limit(), 56 * HK_MIB);
    put_limit("", "memory.max", "33554432\n"); /* and the root of a container */
    ck_assert_uint_eq(auto_limit(), 28 * HK_MIB);
    put_limit("", "memory.max", "4096\n");
    ck_assert_uint_eq(auto_limit(), HK_MIB);
}
END_TEST

START_TEST(limit_of_version_1)
{
    set_cgroup("9:name=systemd:/x\n5:cpu,memory:/a\n0::/z\n", V1);
    put_limit("/a", "memory.limit_in_bytes", "67108864\n");
    put_limit("/a", "memory.max", "1048576\n"); /* not version 1's file */
    put_limit("/z", "memory.max", "1048576\n");
    ck_assert_uint_eq(auto_limit(), 56 * HK_MIB);
    put_limit("/a", "memory.limit_in_bytes", "9223372036854771712\n");
    ck_assert_uint_eq(auto_limit(), 0);
    set_cgroup("5:memory:/a\n", "rw - cgroup cgroup rw,cpu"); /* another controller's mount */
    put_limit("/a", "memory.limit_in_bytes", "67108864\n");
    ck_assert_uint_eq(auto_limit(), 0);
}
END_TEST

START_TEST(limit_in_a_container)
{
    /* The host's path in /proc/self/cgroup, the container's own group mounted. */
    set_cgroup("5:memory:/docker/abc\n", V1 "@/docker/abc");
    put_limit("", "memory.limit_in_bytes", "67108864\n");
    ck_assert_uint_eq(auto_limit(), 56 * HK_MIB);
    /* A path that is not below the mounted root. */
    set_cgroup("0::/../other\n", V2);
    put_limit("", "memory.max", "33554432\n");
    ck_assert_uint_eq(auto_limit(), 28 * HK_MIB);
    set_cgroup("5:memory:/docker/abcdef\n", V1 "@/docker/abc");
    ck_assert_uint_eq(auto_limit(), 56 * HK_MIB);
}
END_TEST

START_TEST(limit_without_proc)
{
    hk_config_cgroup_file = "/nonexistent";
    ck_assert_uint_eq(auto_limit(), 0);
    hk_config_cgroup_file = cgroup_path;
    set_cgroup("0::/a\n", V2);
    put_limit("/a", "memory.max", "67108864\n");
    ck_assert_uint_eq(auto_limit(), 56 * HK_MIB);
    hk_config_mounts_file = "/dev/zero"; /* without end, without lines */
    ck_assert_uint_eq(auto_limit(), 0);
    hk_config_mounts_file = directory;
    ck_assert_uint_eq(auto_limit(), 0);
}
END_TEST

static uint64_t random_state;

static unsigned pick(unsigned n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(random_state >> 33) % n;
}

static void cgroup_garbage(void)
{
    static const char *const pieces[] = {"0::/", "memory", ":", "\n", " ", "- ", "cgroup2", "cgroup",
                                         "/a",   "/..",    "\\040", "\\", "36 35 0:30 / ", ","};
    char text[6000];

    for (int round = 0; round < 3000; round++) {
        for (int file = 0; file < 2; file++) {
            size_t used = 0, wanted = pick(4) ? pick(200) : pick(sizeof text - 32);
            while (used < wanted) {
                const char *piece = pieces[pick(sizeof pieces / sizeof *pieces)];
                used += (size_t)snprintf(text + used, sizeof text - used, "%s", piece);
            }
            write_file(file ? mounts_path : cgroup_path, text, used);
        }
        (void)auto_limit();
    }
}

START_TEST(limit_from_garbage)
{
    random_state = 7;
    struct child child = run_child(cgroup_garbage);
    ck_assert_msg(child_exited_0(&child), "status %#x", child.status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cgroup");
    TCase *tc = tcase_create("limit");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, limit_of_version_2);
    tcase_add_test(tc, limit_of_version_1);
    tcase_add_test(tc, limit_in_a_container);
    tcase_add_test(tc, limit_without_proc);
    tcase_add_test(tc, limit_from_garbage);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
