/* numa02 of autonuma-benchmark: one process, a thread for each CPU, each with a share of one mapping. */
#include "layout.h"
#include "store.h"

static const struct workload numa02 = {
    .name = "numa02",
    .is_published = true,
    .processes = 1,
    .size_bytes = GIB,
    .loops = 800,
    .threads = every_cpu,
    .slices = SLICE_PER_THREAD,
    .toucher = TOUCHED_BY_MAIN,
    .lay_out = lay_out_by_thread,
    .work = &storing,
};

int main(int argc, char **argv)
{
    return run_workload(&numa02, argc, argv);
}
