#define _GNU_SOURCE
#include "calls.h"

#include "monotonic.h"
#include "stale.h"

int mover_query(struct mover *mover, void **addresses, size_t count, int *status)
{
    uint64_t begin_ns = monotonic_ns(), end_ns;
    int error;

    for (size_t i = 0; i < count; i++)
        status[i] = UNSET;
    error = query_pages(mover->pid, addresses, count, status);
    end_ns = monotonic_ns();
    mover->query_ns += end_ns - begin_ns;
    mover->elapsed_ns = end_ns - mover->thread->process->go_ns;
    return error;
}

struct direction *mover_direction(struct mover *mover, int from, int to)
{
    struct direction *found = mover->directions;

    for (unsigned i = 0; i < mover->direction_count; i++, found++)
        if (found->from == from && found->to == to)
            return found;
    if (mover->direction_count == mover->drive->topology->count * mover->drive->topology->count)
        return mover->directions;
    mover->direction_count++;
    found->from = from;
    found->to = to;
    return found;
}

/* Ways of the even and of the odd units of a request; where all go one way both are that. */
struct ways {
    int from[2];
    int to[2];
    bool is_mixed;
};

static bool is_mixed(const struct mover *mover, const struct request *request)
{
    if (mover->drive->options->order != ORDER_INTERLEAVED || !request->nodes)
        return false;
    for (size_t i = 1; i < request->count; i++)
        if (request->nodes[i] != request->nodes[0])
            return true;
    return false;
}

/* The node that most units of a request are on, which all are on where none was left behind. */
static int usual_node(const struct mover *mover, const struct request *request)
{
    bool odd = is_odd(mover, unit_of(mover, *request->addresses));
    int usual = node_id(mover, odd ? request->to : request->from);
    size_t most = 0;

    if (!mover->has_strays)
        return usual;
    for (unsigned index = 0; index < mover->drive->topology->count; index++) {
        int node = node_id(mover, index);
        size_t units = 0;

        for (size_t i = 0; i < request->count; i++)
            units += mover->known[unit_of(mover, request->addresses[i])] == node;
        if (units > most) {
            most = units;
            usual = node;
        }
    }
    return usual;
}

static struct ways ways_of(const struct mover *mover, const struct request *request)
{
    int from = node_id(mover, request->from), to = node_id(mover, request->to);

    if (is_mixed(mover, request))
        return (struct ways){{from, to}, {to, mover->targets[1]}, true};
    from = usual_node(mover, request);
    if (request->nodes)
        to = *request->nodes;
    return (struct ways){{from, from}, {to, to}, false};
}

/* The writer's side of a sequence lock: who reads `number` twice and finds it the same has read what belongs to it, for
 * who sees one of the values also sees that the number was taken away before (no fences: gcc's thread sanitizer knows
 * none). */
static struct call *keep_call(struct mover *mover, const struct request *request, const struct ways *ways)
{
    uint64_t number = mover->calls + 1;
    struct call *call = &mover->calls_kept[(uint32_t)number % mover->kept_count];

    atomic_store_explicit(&call->number, 0, memory_order_relaxed);
    atomic_store_explicit(&call->end_ns, 0, memory_order_release);
    for (unsigned odd = 0; odd < 2; odd++) {
        atomic_store_explicit(&call->from[odd], (short)ways->from[odd], memory_order_release);
        atomic_store_explicit(&call->to[odd], (short)ways->to[odd], memory_order_release);
    }
    atomic_store_explicit(&call->begin_ns, monotonic_ns(), memory_order_release);
    atomic_store_explicit(&call->number, number, memory_order_release);
    for (size_t i = 0; i < request->count; i++)
        atomic_store_explicit(&mover->last_call[unit_of(mover, request->addresses[i])], (uint32_t)number,
                              memory_order_relaxed);
    return call;
}

static enum call_known copy_call(const struct mover *mover, uint32_t number, bool odd, struct call_copy *copy)
{
    const struct call *call = &mover->calls_kept[number % mover->kept_count];
    uint64_t begun = atomic_load_explicit(&call->number, memory_order_acquire);

    copy->begin_ns = atomic_load_explicit(&call->begin_ns, memory_order_acquire);
    copy->end_ns = atomic_load_explicit(&call->end_ns, memory_order_acquire);
    copy->from = atomic_load_explicit(&call->from[odd], memory_order_acquire);
    copy->to = atomic_load_explicit(&call->to[odd], memory_order_acquire);
    if ((uint32_t)begun != number || atomic_load_explicit(&call->number, memory_order_relaxed) != begun)
        return CALL_FORGOTTEN;
    return CALL_KEPT;
}

enum call_known mover_last_call(const struct mover *mover, const char *address, struct call_copy *copy)
{
    size_t unit;
    uint32_t number;

    if (!mover->kept_count || !mover->base || address < mover->base || unit_of(mover, address) >= mover->unit_count)
        return CALL_NONE;
    unit = unit_of(mover, address);
    number = atomic_load_explicit(&mover->last_call[unit], memory_order_relaxed);
    return number ? copy_call(mover, number, is_odd(mover, unit), copy) : CALL_NONE;
}

long mover_call(struct mover *mover, const struct request *request)
{
    struct ways ways = ways_of(mover, request);
    struct direction *counted = ways.is_mixed ? mover->mixed : mover_direction(mover, ways.from[0], ways.to[0]);
    struct call *call = NULL;
    struct stale stale;
    uint64_t begin_ns, end_ns;
    long result;

    if (mover->kept_count)
        call = keep_call(mover, request, &ways);
    stale_save(&stale, mover, *request->addresses);
    begin_ns = monotonic_ns();
    result = mover->drive->driver->move(request);
    end_ns = monotonic_ns();
    stale_restore(&stale);
    if (call)
        atomic_store_explicit(&call->end_ns, end_ns, memory_order_release);
    mover->calls++;
    mover->elapsed_ns = end_ns - mover->thread->process->go_ns;
    counted->calls++;
    counted->busy_ns += end_ns - begin_ns;
    histogram_add(&counted->latency, end_ns - begin_ns);
    if (result > 0)
        mover->positive++;
    if (result < 0)
        errors_add(&mover->call_errors, (int)-result);
    return result;
}
