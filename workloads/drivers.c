#define _GNU_SOURCE
#include "drivers.h"

#include <errno.h>
#include <fcntl.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "drive.h"
#include "stamp.h"

/* Since Linux 5.17 and 6.9: libnuma 2.0.16 and glibc's headers are older. */
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif
enum { WEIGHTED_INTERLEAVE = 6 };

/* The kernel reads one bit less than it is told. */
static unsigned long max_node(const struct bitmask *nodes)
{
    return nodes->size + 1;
}

static long or_errno(long result)
{
    return result < 0 ? -errno : result;
}

static int move_flags(const struct drive *drive)
{
    unsigned flags = drive->options->flags;

    return (flags & FLAG_MOVE ? MPOL_MF_MOVE : 0) | (flags & FLAG_MOVE_ALL ? MPOL_MF_MOVE_ALL : 0) |
           (flags & FLAG_STRICT ? MPOL_MF_STRICT : 0);
}

static const struct bitmask *mask_of(const struct request *request, unsigned index)
{
    return request->drive->topology->nodes[index].nodes;
}

static size_t bytes_of(const struct request *request)
{
    return request->count * request->drive->memory.unit_bytes;
}

int query_pages(pid_t pid, void **addresses, size_t count, int *status)
{
    return move_pages(pid, count, addresses, NULL, status, 0) < 0 ? -errno : 0;
}

static _Noreturn void fail_refused(const char *call, long error)
{
    if (error == -ENOSYS)
        fail_cannot_run("%s: this kernel has no such system call", call);
    if (error == -EPERM)
        fail_cannot_run("%s is not permitted (--flags move_all needs CAP_SYS_NICE; a container's seccomp profile can "
                        "forbid the call)",
                        call);
    fail_cannot_run("%s: %s", call, strerror((int)-error));
}

static long move_nothing(const struct request *request)
{
    (void)request;
    return 0;
}

static void require_nothing(const struct drive *drive)
{
    (void)drive;
}

static long move_by_pages(const struct request *request)
{
    return or_errno(move_pages(request->pid, request->count, request->addresses, request->nodes, request->status,
                               move_flags(request->drive)));
}

/* A call for no page at all is refused only by seccomp, or for its flags. */
static void require_move_pages(const struct drive *drive)
{
    long error = or_errno(move_pages(0, 0, NULL, NULL, NULL, move_flags(drive)));

    if (error)
        fail_refused("move_pages", error);
}

/* Of no page: what is looked at is CAP_SYS_NICE alone, as migrate_pages(2) does (mm/mempolicy.c). */
bool may_move_all(void)
{
    return move_pages(0, 0, NULL, NULL, NULL, MPOL_MF_MOVE_ALL) == 0;
}

static long move_by_mbind(const struct request *request)
{
    const struct bitmask *mask = mask_of(request, request->to);

    return or_errno(mbind(*request->addresses, bytes_of(request), MPOL_BIND, mask->maskp, max_node(mask),
                          (unsigned)move_flags(request->drive)));
}

/* Of one page that was never touched: the policy is set and nothing moves. */
static void probe_mbind(const struct drive *drive, int mode, const struct bitmask *mask, const char *call)
{
    size_t bytes = (size_t)numa_pagesize();
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long error;

    if (page == MAP_FAILED)
        fail_cannot_run("a page cannot be mapped: %s", strerror(errno));
    error = or_errno(mbind(page, bytes, mode, mask->maskp, max_node(mask), (unsigned)move_flags(drive)));
    munmap(page, bytes);
    if (error == -EINVAL && mode == WEIGHTED_INTERLEAVE)
        fail_cannot_run("this kernel has no weighted interleaving (since Linux 6.9)");
    if (error)
        fail_refused(call, error);
}

static void require_mbind(const struct drive *drive)
{
    probe_mbind(drive, MPOL_BIND, drive->topology->nodes[drive->source].nodes, "mbind");
}

static long move_by_migrate_pages(const struct request *request)
{
    const struct bitmask *from = mask_of(request, request->from), *to = mask_of(request, request->to);

    return or_errno(migrate_pages(request->pid, (int)max_node(from), from->maskp, to->maskp));
}

static void require_migrate_pages(const struct drive *drive)
{
    const struct bitmask *mask = drive->topology->nodes[drive->source].nodes;
    long error = or_errno(migrate_pages(0, (int)max_node(mask), mask->maskp, mask->maskp));

    if (error < 0)
        fail_refused("migrate_pages", error);
}

static long move_by_cpuset(const struct request *request)
{
    const char *path = request->drive->options->cpuset_mems;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    char text[16];
    int length = snprintf(text, sizeof(text), "%d\n", request->drive->topology->ids[request->to]);
    long result;

    if (fd < 0)
        return -errno;
    result = write(fd, text, (size_t)length) < 0 ? -errno : 0;
    close(fd);
    return result;
}

static void require_cpuset(const struct drive *drive)
{
    const char *path = drive->options->cpuset_mems;

    if (access(path, W_OK) < 0)
        fail_cannot_run("--cpuset-mems %s cannot be written: %s", path, strerror(errno));
}

static long move_by_weighted_interleave(const struct request *request)
{
    const struct bitmask *others = request->drive->others;
    int flags = move_flags(request->drive);

    if (request->to == request->drive->source)
        return move_by_mbind(request);
    return or_errno(mbind(*request->addresses, bytes_of(request), WEIGHTED_INTERLEAVE, others->maskp, max_node(others),
                          (unsigned)flags));
}

static void require_weighted_interleave(const struct drive *drive)
{
    probe_mbind(drive, WEIGHTED_INTERLEAVE, drive->others, "mbind");
}

/* Since there is no victim the memory holds the first touch, and is given it again. */
static long place_by_home_node(const struct request *request)
{
    const struct drive *drive = request->drive;
    const struct bitmask *all = drive->topology->all.memory;
    char *address = *request->addresses;
    unsigned long home = (unsigned long)drive->topology->ids[request->to];
    size_t slice = (size_t)(address - drive->memory.base) / (drive->memory.slice_bytes + drive->memory.gap_bytes);
    size_t offset = (size_t)(address - drive->memory.base) - slice * drive->memory.gap_bytes;

    if (mbind(address, bytes_of(request), MPOL_BIND, all->maskp, max_node(all), 0) < 0 ||
        syscall(SYS_set_mempolicy_home_node, address, bytes_of(request), home, 0) < 0 ||
        madvise(address, bytes_of(request), MADV_DONTNEED) < 0)
        return -errno;
    stamp_fill(address, bytes_of(request), offset / LINE_BYTES);
    return 0;
}

static void require_home_node(const struct drive *drive)
{
    (void)drive;
    /* A range of no bytes is a success where there is the call. */
    if (syscall(SYS_set_mempolicy_home_node, 0, 0, 0, 0) < 0 && errno == ENOSYS)
        fail_cannot_run("this kernel has no set_mempolicy_home_node (since Linux 5.17)");
}

static const struct driver drivers[] = {
    [DRIVER_AUTONUMA] = {REACH_NOTHING, false, require_nothing, move_nothing},
    [DRIVER_MOVE_PAGES] = {REACH_PAGES, false, require_move_pages, move_by_pages},
    [DRIVER_MBIND] = {REACH_RANGE, false, require_mbind, move_by_mbind},
    [DRIVER_MIGRATE_PAGES] = {REACH_PROCESS, false, require_migrate_pages, move_by_migrate_pages},
    [DRIVER_CPUSET] = {REACH_PROCESS, false, require_cpuset, move_by_cpuset},
    [DRIVER_WEIGHTED_INTERLEAVE] = {REACH_RANGE, true, require_weighted_interleave, move_by_weighted_interleave},
    [DRIVER_HOME_NODE] = {REACH_RANGE, false, require_home_node, place_by_home_node},
    [DRIVER_NULL] = {REACH_NOTHING, false, require_nothing, move_nothing},
};

const struct driver *find_driver(enum driver_id id)
{
    return &drivers[id];
}
