/* What the binding needs of libnuma, and the calls that libnuma's releases in use do not have yet. */
#ifndef NUMABENCH_LIBNUMA_H
#define NUMABENCH_LIBNUMA_H

#if !__has_include(<numa.h>) || !__has_include(<numaif.h>)
#error "numa.h is missing: install libnuma-dev (Debian, Ubuntu) or numactl-devel (Fedora, RHEL), then build again"
#endif

#include <numa.h>
#include <numaif.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Since Linux kernel commit c6018b4b2549 ("mm/mempolicy: add set_mempolicy_home_node syscall") (in v5.17). */
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

static inline long numabench_home_node(unsigned long start, unsigned long size_bytes, unsigned long node,
                                       unsigned long flags)
{
    return syscall(SYS_set_mempolicy_home_node, start, size_bytes, node, flags);
}

#endif
