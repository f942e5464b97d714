/* numa01 of autonuma-benchmark: two processes that start on one node, each with threads that all use all its memory. */
#include "layout.h"
#include "store.h"

static const struct workload numa01 = {
    .name = "numa01",
    .is_published = true,
    .needs_start_node = true,
    .processes = 2,
    .size_bytes = 3 * GIB,
    .loops = 50,
    .threads = half_the_cpus,
    .slices = SLICE_SHARED,
    .toucher = TOUCHED_BY_EACH_THREAD,
    .lay_out = lay_out_by_process,
    .work = &storing,
};

int main(int argc, char **argv)
{
    return run_workload(&numa01, argc, argv);
}
