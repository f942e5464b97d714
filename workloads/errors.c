#include "errors.h"

#include <errno.h>

/* What the system calls of the drivers can give (mm/migrate.c, mm/mempolicy.c, kernel/cgroup/cpuset.c); glibc's
 * strerrorname_np() is too new. */
static const char *const names[ERROR_NUMBERS] = {
    [EPERM] = "EPERM",   [ENOENT] = "ENOENT",         [ESRCH] = "ESRCH",   [EINTR] = "EINTR",
    [EIO] = "EIO",       [ENXIO] = "ENXIO",           [E2BIG] = "E2BIG",   [EBADF] = "EBADF",
    [EAGAIN] = "EAGAIN", [ENOMEM] = "ENOMEM",         [EACCES] = "EACCES", [EFAULT] = "EFAULT",
    [EBUSY] = "EBUSY",   [EEXIST] = "EEXIST",         [ENODEV] = "ENODEV", [EINVAL] = "EINVAL",
    [ENOSPC] = "ENOSPC", [ENOSYS] = "ENOSYS",         [ERANGE] = "ERANGE", [ETIMEDOUT] = "ETIMEDOUT",
    [EROFS] = "EROFS",   [EOPNOTSUPP] = "EOPNOTSUPP",
};

const char *line_errors(struct line *line, const char *key, const struct errors *errors)
{
    const char *comma = "";

    fprintf(line->stream, ",\"%s\":{", key);
    for (int number = 0; number < ERROR_NUMBERS; number++) {
        if (!errors->by_number[number])
            continue;
        if (names[number])
            fprintf(line->stream, "%s\"%s\":%llu", comma, names[number], (unsigned long long)errors->by_number[number]);
        else
            fprintf(line->stream, "%s\"errno %d\":%llu", comma, number, (unsigned long long)errors->by_number[number]);
        comma = ",";
    }
    return comma;
}
