/* The memset threads of the 2012 report: one process whose threads store to memory that starts on one node. The report
 * gives no constants; these are numabench's own. */
#include "layout.h"
#include "store.h"

static const struct workload memset_threads = {
    .name = "memset",
    .has_mapping_per_thread = true,
    .needs_start_node = true,
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
    return run_workload(&memset_threads, argc, argv);
}
