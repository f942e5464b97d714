/* numa01 of autonuma-benchmark, built with THREAD_ALLOC: each thread uses a share of its process's memory. */
#include "layout.h"
#include "store.h"

static const struct workload numa01_thread_alloc = {
    .name = "numa01-thread-alloc",
    .is_published = true,
    .needs_start_node = true,
    .processes = 2,
    .size_bytes = 3 * GIB,
    .loops = 1000,
    .threads = half_the_cpus,
    .slices = SLICE_PER_THREAD,
    .toucher = TOUCHED_BY_EACH_THREAD,
    .lay_out = lay_out_by_process,
    .work = &storing,
};

int main(int argc, char **argv)
{
    return run_workload(&numa01_thread_alloc, argc, argv);
}
