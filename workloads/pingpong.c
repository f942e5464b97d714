/* Memory that a driver moves from node to node while victims touch it. It is numabench's own. */
#include "driven.h"
#include "layout.h"

static const struct workload pingpong = {
    .name = "pingpong",
    .has_mapping_per_thread = true,
    .is_driven = true,
    .processes = 1,
    .size_bytes = GIB / 4,
    .loops = 100,
    .threads = every_cpu,
    .slices = SLICE_PER_THREAD,
    .toucher = TOUCHED_BY_MAIN,
    .work = &driven,
};

int main(int argc, char **argv)
{
    return run_workload(&pingpong, argc, argv);
}
