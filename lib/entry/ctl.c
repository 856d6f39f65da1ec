// SPDX-License-Identifier: MIT
/* ctl: options read and changed by the program. Contracts in <hakmem/hakmem.h>. */
#include "entry/entry_private.h"

#include "ace/ace.h"
#include "config/config.h"
#include "thread/thread.h"

#include <errno.h>
#include <hakmem/hakmem.h>

/* The options are read with the first heap. False in a signal handler that interrupted the allocator. */
static bool begin(void)
{
    if (!hk_thread_enter())
        return false;
    (void)hk_thread_heap();
    hk_lock(&hk_config_lock);
    return true;
}

static void end(int saved_errno)
{
    hk_unlock(&hk_config_lock);
    hk_thread_leave();
    errno = saved_errno;
}

typedef size_t (*display_fn)(unsigned i, char *text, size_t bytes);

static int show(const char *name, char *text, size_t *bytes, display_fn display)
{
    int i = hk_config_number(name), saved = errno;
    size_t room = *bytes;

    if (i < 0)
        return ENOENT;
    if (!begin())
        return EAGAIN;
    *bytes = display((unsigned)i, text, room) + 1;
    end(saved);
    return *bytes > room ? ERANGE : 0;
}

HK_EXPORT int hak_ctl_get(const char *name, char *value, size_t *bytes)
{
    return show(name, value, bytes, hk_config_format);
}

HK_EXPORT int hak_ctl_source(const char *name, char *source, size_t *bytes)
{
    return show(name, source, bytes, hk_config_origin);
}

HK_EXPORT const char *hak_ctl_name(unsigned index)
{
    return index < HK_NR_OPTIONS ? hk_config_name(index) : NULL;
}

/* error: of the proposal. */
static int carry_out(int error, const struct hk_config_change *change, const char *by)
{
    if (error)
        return error;
    error = hk_thread_change_option(change, by);
    if (error)
        return error;
    hk_ace_obey(hk_thread_heap());
    return 0;
}

HK_EXPORT int hak_ctl_set(const char *name, const char *value)
{
    struct hk_config_change change;
    int saved = errno, error;

    if (!begin())
        return EAGAIN;
    error = carry_out(hk_config_propose(name, value, &change), &change, "hak_ctl_set");
    end(saved);
    return error;
}

HK_EXPORT int hak_limit_set(size_t bytes)
{
    struct hk_config_change change;
    int saved = errno, error;

    if (bytes && (bytes < HK_MIB || bytes > SIZE_MAX / 4 + 1)) /* as options.def */
        return EINVAL;
    if (!begin())
        return EAGAIN;
    hk_config_propose_number(HK_OPTION_limit, bytes ? bytes : HK_LIMIT_NONE, &change);
    error = carry_out(0, &change, "hak_limit_set");
    end(saved);
    return error;
}
