#define _GNU_SOURCE
#include "mover.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "lines.h"
#include "monotonic.h"
#include "random.h"

enum { UNKNOWN = -1 };

/* Targets of one pass. */
struct pass {
    unsigned from; /* indices in the topology */
    unsigned to;
    bool is_retry;
};

/* The node that a unit is to be on after this pass. */
static int target_of(const struct mover *mover, size_t unit)
{
    return mover->targets[is_odd(mover, unit)];
}

/* A spreading driver asks for any node but the source, or for the source. */
static bool is_there(const struct mover *mover, const struct pass *pass, size_t unit, int node)
{
    if (mover->drive->driver->spreads && pass->to != mover->drive->source)
        return node >= 0 && node != node_id(mover, mover->drive->source);
    return node == target_of(mover, unit);
}

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count ? count : 1, bytes);

    if (!memory)
        fail_cannot_run("%zu bytes for a mover's lists cannot be had", count * bytes);
    return memory;
}

void mover_init(struct mover *mover, struct drive *drive, struct thread *thread)
{
    const struct workload *workload = thread->process->workload;
    size_t nodes = drive->topology->count;
    size_t units = drive->memory.slice_bytes / drive->memory.unit_bytes;
    size_t obstacles = thread->role_number ? 0 : drive->obstacle_pages;

    mover->drive = drive;
    mover->thread = thread;
    mover->unit_count = units + obstacles;
    mover->first_unit = thread->role_number * units + obstacles % 2;
    mover->batch = drive->driver->reach == REACH_PROCESS ? mover->unit_count : drive->options->batch;
    mover->directions = runner_memory(workload, (nodes * nodes + 1) * sizeof(*mover->directions));
    mover->mixed = &mover->directions[nodes * nodes];
    if (drive->victim_count || workload->has_family) {
        size_t calls = KEPT_PASSES * ((mover->unit_count + mover->batch - 1) / mover->batch);

        mover->kept_count = calls < LEAST_KEPT_CALLS ? LEAST_KEPT_CALLS
                            : calls < UINT32_MAX     ? (uint32_t)calls
                                                     : UINT32_MAX;
        mover->calls_kept = runner_memory(workload, mover->kept_count * sizeof(*mover->calls_kept));
        mover->last_call = runner_memory(workload, mover->unit_count * sizeof(*mover->last_call));
    }
    mover->random = thread->process->options.seed + thread->role_number * 0x9e3779b97f4a7c15 + 1;
}

/* Units of the memory are where the first touch has put them; where obstacles are the kernel says. */
static void find_units(struct mover *mover)
{
    size_t obstacles = mover->thread->role_number ? 0 : mover->drive->obstacle_pages;

    for (size_t unit = obstacles; unit < mover->unit_count; unit++)
        mover->known[unit] = (short)node_id(mover, drive_ring(mover->drive, is_odd(mover, unit)));
    if (!obstacles)
        return;
    mover->has_strays = true;
    if (mover_query(mover, mover->addresses, obstacles, mover->status))
        fail("move_pages cannot tell where obstacles are");
    for (size_t unit = 0; unit < obstacles; unit++)
        mover->known[unit] = (short)(mover->status[unit] >= 0 ? mover->status[unit] : UNKNOWN);
    mover->query_ns = mover->elapsed_ns = 0;
}

static void prepare_unanswered(struct unanswered *unanswered, size_t batch)
{
    unanswered->addresses = allocate(batch, sizeof(*unanswered->addresses));
    unanswered->places = allocate(batch, sizeof(*unanswered->places));
    unanswered->status = allocate(batch, sizeof(*unanswered->status));
    memset(unanswered->addresses, 0xff, batch * sizeof(*unanswered->addresses));
    memset(unanswered->places, 0xff, batch * sizeof(*unanswered->places));
    memset(unanswered->status, 0xff, batch * sizeof(*unanswered->status));
}

/* Whether a call names units and their targets one by one. */
static bool names_units(const struct mover *mover)
{
    enum reach reach = mover->drive->driver->reach;

    return reach == REACH_PAGES || reach == REACH_NOTHING;
}

/* What only calls need that name units: other drivers move these lists with the process, or have no use for them. */
static void prepare_requests(struct mover *mover)
{
    size_t count = mover->unit_count;

    mover->nodes = allocate(mover->batch + 1, sizeof(*mover->nodes));
    mover->again_nodes = allocate(count, sizeof(*mover->again_nodes));
    memset(mover->again_nodes, 0xff, count * sizeof(*mover->again_nodes));
    memset(mover->again, 0xff, count * sizeof(*mover->again));
    if (mover->drive->driver->reach == REACH_PAGES)
        prepare_unanswered(&mover->unanswered, mover->batch);
}

void mover_prepare(struct mover *mover)
{
    const struct thread *thread = mover->thread;
    const struct drive *drive = mover->drive;
    size_t count = mover->unit_count;

    mover->pid = thread->is_outside ? getppid() : 0;
    mover->base = thread->slice->address;
    if (thread->role_number == 0 && drive->obstacles)
        mover->base = drive->obstacles;
    mover->addresses = allocate(count, sizeof(*mover->addresses));
    mover->again = allocate(count, sizeof(*mover->again));
    mover->status = allocate(count, sizeof(*mover->status));
    mover->known = allocate(count, sizeof(*mover->known));
    for (size_t unit = 0; unit < count; unit++)
        mover->addresses[unit] = mover->base + unit * drive->memory.unit_bytes;
    for (size_t unit = 0; unit < count; unit++) /* the lists are resident before GO */
        mover->status[unit] = UNSET;
    if (mover->kept_count) {
        memset(mover->calls_kept, 0, mover->kept_count * sizeof(*mover->calls_kept));
        memset(mover->last_call, 0, count * sizeof(*mover->last_call));
    }
    if (names_units(mover))
        prepare_requests(mover);
    find_units(mover);
}

/* Most units of a call go the way of the one before. */
static struct direction *way_of(struct mover *mover, const struct pass *pass, int from, int to, struct direction *last)
{
    if (last && last->from == from && last->to == to)
        return last;
    if (from < 0 || topology_index(mover->drive->topology, from) < 0)
        from = node_id(mover, pass->from);
    return mover_direction(mover, from, to);
}

static void add_status(struct mover *mover, size_t unit, int status)
{
    if (status >= 0) {
        mover->elsewhere++;
        mover->known[unit] = (short)status;
    } else if (status == UNSET) {
        mover->unset++;
    } else {
        errors_add(&mover->status_errors, -status);
    }
}

static void tell_progress(struct mover *mover)
{
    atomic_store_explicit(&mover->thread->stored_bytes, mover->confirmed * mover->drive->memory.unit_bytes,
                          memory_order_relaxed);
}

/* Takes in where units are by `status`. Those that are not where they should be go to `again` from `kept` on, which
 * may be the list that they came from; the end of that list. */
static size_t account(struct mover *mover, const struct pass *pass, void **addresses, size_t count, size_t kept)
{
    struct direction *way = NULL;

    for (size_t i = 0; i < count; i++) {
        void *address = addresses[i];
        size_t unit = unit_of(mover, address);
        int status = mover->status[i];

        if (!is_there(mover, pass, unit, status)) {
            add_status(mover, unit, status);
            mover->again[kept++] = address;
        } else if (mover->known[unit] == status) {
            mover->already++;
        } else {
            way = way_of(mover, pass, mover->known[unit], status, way);
            way->pages++;
            mover->confirmed++;
            mover->known[unit] = (short)status;
        }
    }
    tell_progress(mover);
    return kept;
}

/* As `account`, where every unit of a request in sequence was on one node and is on its target now: nothing is left to
 * ask and nothing to sort, and a glance at each has to do, for it costs the driver time. */
static bool account_whole(struct mover *mover, const struct pass *pass, const struct request *request)
{
    size_t first = unit_of(mover, *request->addresses);
    short from = mover->known[first], to = (short)*request->nodes;
    int differs = from == to;

    if (pass->is_retry || mover->drive->options->order != ORDER_SEQUENTIAL)
        return false;
    for (size_t i = 0; i < request->count; i++)
        differs |= (mover->status[i] ^ to) | (mover->known[first + i] ^ from);
    if (differs)
        return false;
    for (size_t i = 0; i < request->count; i++)
        mover->known[first + i] = to;
    way_of(mover, pass, from, to, NULL)->pages += request->count;
    mover->confirmed += request->count;
    tell_progress(mover);
    return true;
}

/* Asks for the entries that the call left as they were, which it does after a positive return or an error though pages
 * moved. What it did say of others (EACCES, ENOENT) no query would. */
static void ask_for_unset(struct mover *mover, const struct request *request)
{
    struct unanswered *open = &mover->unanswered;
    size_t count = 0;

    for (size_t i = 0; i < request->count; i++) {
        if (mover->status[i] != UNSET)
            continue;
        open->addresses[count] = request->addresses[i];
        open->places[count++] = i;
    }
    if (!count)
        return;
    mover->asked_again++;
    mover_query(mover, open->addresses, count, open->status);
    for (size_t i = 0; i < count; i++)
        mover->status[open->places[i]] = open->status[i];
}

static size_t call_by_pages(struct mover *mover, const struct pass *pass, struct request *request, size_t kept)
{
    for (size_t i = 0; i < request->count; i++)
        mover->status[i] = UNSET;
    mover_call(mover, request);
    if (account_whole(mover, pass, request))
        return kept;
    ask_for_unset(mover, request);
    return account(mover, pass, request->addresses, request->count, kept);
}

/* How many of the addresses one call can take. */
static size_t reachable(const struct mover *mover, void **addresses, size_t count)
{
    size_t unit_bytes = mover->drive->memory.unit_bytes;
    size_t length = 1;

    if (count > mover->batch)
        count = mover->batch;
    if (mover->drive->driver->reach != REACH_RANGE)
        return count;
    while (length < count && (char *)addresses[length] == (char *)addresses[length - 1] + unit_bytes)
        length++;
    return length;
}

/* The targets of a request: those of the batch that are made once a pass, or of the units one by one. */
static const int *nodes_of(struct mover *mover, void **addresses, size_t count, bool is_retry)
{
    if (!is_retry)
        return mover->nodes + is_odd(mover, unit_of(mover, *addresses));
    for (size_t i = 0; i < count; i++)
        mover->again_nodes[i] = target_of(mover, unit_of(mover, addresses[i]));
    return mover->again_nodes;
}

/* Asks where units are that were moved by ranges or with their process, and takes that in: time which is not the
 * driver's. How many of them are now the first of `again`. */
static size_t look(struct mover *mover, const struct pass *pass, void **addresses, size_t count)
{
    size_t kept;
    uint64_t begin_ns, end_ns;

    if (mover_query(mover, addresses, count, mover->status))
        for (size_t i = 0; i < count; i++)
            mover->status[i] = UNSET;
    begin_ns = monotonic_ns();
    kept = account(mover, pass, addresses, count, 0);
    end_ns = monotonic_ns();
    mover->query_ns += end_ns - begin_ns;
    mover->elapsed_ns = end_ns - mover->thread->process->go_ns;
    return kept;
}

/* Asks for every address of the list. Those that did not move are then the first of `again`: their number. `done` is
 * how many were asked for, which is not all when the run is stopped. */
static size_t ask(struct mover *mover, const struct pass *pass, void **addresses, size_t count, size_t *done)
{
    enum reach reach = mover->drive->driver->reach;
    size_t kept = 0;

    for (*done = 0; *done < count && !is_stopping(mover->thread->process);) {
        struct request request = {.drive = mover->drive,
                                  .pid = mover->pid,
                                  .addresses = addresses + *done,
                                  .status = mover->status,
                                  .count = reachable(mover, addresses + *done, count - *done),
                                  .from = pass->from,
                                  .to = pass->to};

        if (names_units(mover))
            request.nodes = nodes_of(mover, request.addresses, request.count, pass->is_retry);
        if (reach == REACH_PAGES)
            kept = call_by_pages(mover, pass, &request, kept);
        else
            mover_call(mover, &request);
        *done += request.count;
    }
    if (names_units(mover) || !*done)
        return kept;
    return look(mover, pass, addresses, *done);
}

/* Calls that name ranges go to their ranges in another order; those that name pages to single pages. */
static void shuffle(struct mover *mover)
{
    size_t block = mover->drive->driver->reach == REACH_PAGES ? 1 : mover->batch;
    size_t unit_bytes = mover->drive->memory.unit_bytes;
    size_t blocks = mover->unit_count / block;

    for (size_t i = blocks; i > 1; i--) {
        size_t other = random_below(&mover->random, i) * block, this = (i - 1) * block;
        void *swapped = mover->addresses[this];

        mover->addresses[this] = mover->addresses[other];
        mover->addresses[other] = swapped;
    }
    for (size_t i = 0; block > 1 && i < blocks * block; i++)
        if (i % block)
            mover->addresses[i] = (char *)mover->addresses[i - 1] + unit_bytes;
}

/* move_pages(2) gives up behind the first page that stays: what was behind it comes before it now. */
static void reverse(void **addresses, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        void *swapped = addresses[i];

        addresses[i] = addresses[count - 1 - i];
        addresses[count - 1 - i] = swapped;
    }
}

static void run_pass(struct mover *mover)
{
    struct pass pass = {.from = drive_ring(mover->drive, mover->passes),
                        .to = drive_ring(mover->drive, mover->passes + 1)};
    size_t left, done, asked;

    mover->targets[0] = node_id(mover, pass.to);
    mover->targets[1] = node_id(mover, drive_ring(mover->drive, mover->passes + 2));
    for (size_t i = 0; mover->nodes && i <= mover->batch; i++)
        mover->nodes[i] = target_of(mover, i + mover->first_unit % 2);
    left = ask(mover, &pass, mover->addresses, mover->unit_count, &asked);
    mover->requested += asked;
    pass.is_retry = true;
    for (unsigned retry = 0; left && retry < mover->drive->options->retries; retry++) {
        size_t remains;

        if (mover->drive->driver->reach == REACH_PAGES)
            reverse(mover->again, left);
        remains = ask(mover, &pass, mover->again, left, &done);
        mover->retried += done;
        if (done < left) {
            left = remains + left - done;
            break;
        }
        left = remains;
    }
    mover->left += left;
    mover->has_strays = left || (mover->thread->role_number == 0 && mover->drive->obstacle_pages);
    mover->passes += asked == mover->unit_count;
}

static void free_lists(struct mover *mover)
{
    free(mover->addresses);
    free(mover->again);
    free(mover->again_nodes);
    free(mover->status);
    free(mover->known);
    free(mover->nodes);
    free(mover->unanswered.addresses);
    free(mover->unanswered.places);
    free(mover->unanswered.status);
}

void mover_run(struct mover *mover)
{
    struct process *process = mover->thread->process;
    uint64_t loops = process->options.loops;

    while (!is_stopping(process) && (!loops || mover->passes < loops)) {
        if (mover->drive->options->order == ORDER_RANDOM)
            shuffle(mover);
        run_pass(mover);
    }
    free_lists(mover);
    if (atomic_fetch_sub(&mover->drive->movers_running, 1) == 1)
        atomic_store(&process->is_stopping, true);
}
