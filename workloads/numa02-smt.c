/* numa02 of autonuma-benchmark, built with SMT: a thread for every second CPU. */
#include "layout.h"
#include "store.h"

static const struct workload numa02_smt = {
    .name = "numa02-smt",
    .is_published = true,
    .processes = 1,
    .size_bytes = GIB,
    .loops = 800,
    .threads = half_the_cpus,
    .slices = SLICE_PER_THREAD,
    .toucher = TOUCHED_BY_MAIN,
    .lay_out = lay_out_by_thread,
    .work = &storing,
};

int main(int argc, char **argv)
{
    return run_workload(&numa02_smt, argc, argv);
}
