#include "tasks.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic error "-Wall"
#pragma GCC diagnostic error "-Wextra"
#pragma GCC diagnostic error "-Wshadow"

static struct task *task_at(const struct tasks *tasks, uint32_t number)
{
    return (struct task *)(void *)tasks->items.items + number;
}

static struct task_change *change_at(const struct tasks *tasks, uint32_t number)
{
    return (struct task_change *)(void *)tasks->changes.items + number;
}

static struct task_space *space_at(const struct tasks *tasks, uint32_t number)
{
    return (struct task_space *)(void *)tasks->spaces.items + number;
}

#ifndef TASKS_FIRST_PRUNE /* the fuzzer has it happen all the time */
#define TASKS_FIRST_PRUNE (1 << 15)
#endif

/* The number of the task of an id, made where there is none; -1 without memory. */
static int64_t task_of(struct tasks *tasks, uint32_t id)
{
    uint64_t hash = hash_mix(tasks->seed, id);
    struct task *room;

    if (tasks->recent < tasks->items.count && task_at(tasks, tasks->recent)->id == id)
        return tasks->recent;
    if (slots_reserve(&tasks->index) < 0)
        return -1;
    for (size_t at = (hash >> 32) & tasks->index.mask; tasks->index.slots[at]; at = (at + 1) & tasks->index.mask) {
        uint32_t number = (uint32_t)tasks->index.slots[at] - 1;

        if (task_at(tasks, number)->id == id) {
            tasks->recent = number;
            return number;
        }
    }
    room = growing_room(&tasks->items, 1, sizeof(*room));
    if (!room)
        return -1;
    *room = (struct task){.id = id};
    slots_put(&tasks->index, hash, (uint32_t)tasks->items.count);
    tasks->recent = (uint32_t)tasks->items.count++;
    return tasks->recent;
}

/* One more change on top of those of a thing, as its new last one; what changes nothing is left out. */
static int add_change(struct tasks *tasks, uint32_t *last, uint64_t time_ns, uint32_t value)
{
    struct task_change *room, *before;
    uint32_t jump;

    if (*last && change_at(tasks, *last)->value == value)
        return 0;
    if (tasks->changes.count >= UINT32_MAX)
        return -1;
    room = growing_room(&tasks->changes, 1, sizeof(*room));
    if (!room)
        return -1;
    before = change_at(tasks, *last);
    jump = before->jump;
    /* E. Myers, "An applicative random-access stack" (1983): jumps of skew-binary lengths. */
    if (before->depth - change_at(tasks, jump)->depth ==
        change_at(tasks, jump)->depth - change_at(tasks, change_at(tasks, jump)->jump)->depth)
        jump = change_at(tasks, jump)->jump;
    else
        jump = *last;
    *room = (struct task_change){time_ns, value, *last, jump, before->depth + 1};
    *last = (uint32_t)tasks->changes.count++;
    return 0;
}

static uint32_t last_value(const struct tasks *tasks, uint32_t last)
{
    return change_at(tasks, last)->value;
}

/* What a thing was at a time, and from when until when: the interval is narrowed, never widened. */
static uint32_t value_at(const struct tasks *tasks, uint32_t last, uint64_t time_ns, struct task *window)
{
    const struct task_change *change = change_at(tasks, last);
    uint32_t at = last, later = 0;

    if (!last)
        return 0;
    while (at && change->time_ns > time_ns) {
        if (change->jump && change_at(tasks, change->jump)->time_ns > time_ns)
            at = change->jump;
        else {
            later = at;
            at = change->before;
        }
        change = change_at(tasks, at);
    }
    if (!at) {
        if (change_at(tasks, later)->time_ns < window->until_ns)
            window->until_ns = change_at(tasks, later)->time_ns;
        return last_value(tasks, later);
    }
    if (later && change_at(tasks, later)->time_ns < window->until_ns)
        window->until_ns = change_at(tasks, later)->time_ns;
    if (change->time_ns > window->from_ns)
        window->from_ns = change->time_ns;
    return change->value;
}

int tasks_init(struct tasks *tasks, uint64_t seed, int by_thread, int by_space, uint32_t idle_name)
{
    struct task_change *change = growing_room(&tasks->changes, 1, sizeof(*change));
    struct task_space *space = growing_room(&tasks->spaces, 1, sizeof(*space));
    int64_t idle;

    tasks->seed = seed;
    tasks->by_thread = by_thread;
    tasks->by_space = by_space;
    tasks->generation = 1;
    tasks->prune_at = TASKS_FIRST_PRUNE;
    tasks->pages = calloc(TASKS_PAGES, sizeof(*tasks->pages));
    if (!change || !space || !tasks->pages)
        return -1;
    memset(change, 0, sizeof(*change));
    memset(space, 0, sizeof(*space));
    tasks->changes.count = tasks->spaces.count = 1;
    if (pairs_number(&tasks->files, seed, 0, 0) < 0)
        return -1;
    idle = task_of(tasks, 0);
    return idle < 0 ? -1 : add_change(tasks, &task_at(tasks, (uint32_t)idle)->comm, 0, idle_name);
}

void tasks_free(struct tasks *tasks)
{
    free(tasks->pending.items);
    free(tasks->items.items);
    free(tasks->index.slots);
    free(tasks->changes.items);
    free(tasks->spaces.items);
    free(tasks->pages);
    pairs_free(&tasks->files);
    pairs_free(&tasks->states);
    pairs_free(&tasks->places);
}

int tasks_note(struct tasks *tasks, const struct task_record *record)
{
    struct task_record *room = growing_room(&tasks->pending, 1, sizeof(*room));

    if (!room)
        return -1;
    *room = *record;
    room->arrival = tasks->arrivals++;
    tasks->pending.count++;
    return 0;
}

static int by_time(const void *a, const void *b)
{
    const struct task_record *left = a, *right = b;

    if (left->time_ns != right->time_ns)
        return left->time_ns < right->time_ns ? -1 : 1;
    return left->arrival < right->arrival ? -1 : left->arrival > right->arrival;
}

static int take_mapping(struct tasks *tasks, const struct task_record *record)
{
    int64_t file = pairs_number(&tasks->files, tasks->seed, record->name, record->build_id);
    int64_t process = task_of(tasks, record->pid);
    struct task_space *room = growing_room(&tasks->spaces, 1, sizeof(*room));
    uint64_t end = record->address + record->size_bytes;

    if (file < 0 || process < 0 || !room || tasks->spaces.count >= UINT32_MAX)
        return -1;
    if (end < record->address)
        end = UINT64_MAX;
    *room = (struct task_space){record->address, end, record->offset_bytes,
                                last_value(tasks, task_at(tasks, (uint32_t)process)->space), (uint32_t)file};
    return add_change(tasks, &task_at(tasks, (uint32_t)process)->space, record->time_ns,
                      (uint32_t)tasks->spaces.count++);
}

static int take_name(struct tasks *tasks, const struct task_record *record)
{
    int64_t thread = task_of(tasks, record->tid), process = task_of(tasks, record->pid);

    if (thread < 0 || process < 0 ||
        add_change(tasks, &task_at(tasks, (uint32_t)thread)->comm, record->time_ns, record->name) < 0)
        return -1;
    return record->is_exec ? add_change(tasks, &task_at(tasks, (uint32_t)process)->space, record->time_ns, 0) : 0;
}

static int take_fork(struct tasks *tasks, const struct task_record *record)
{
    uint32_t parent_pid = (uint32_t)record->address, parent_tid = (uint32_t)record->size_bytes;
    int64_t thread = task_of(tasks, record->tid), process = task_of(tasks, record->pid);
    int64_t parent = task_of(tasks, parent_pid), parent_thread = task_of(tasks, parent_tid);
    uint32_t comm, space;

    if (thread < 0 || process < 0 || parent < 0 || parent_thread < 0)
        return -1;
    task_at(tasks, (uint32_t)thread)->has_ended = 0;
    if (record->pid == parent_pid)
        task_at(tasks, (uint32_t)process)->threads++;
    else
        task_at(tasks, (uint32_t)process)->threads = 0;
    comm = last_value(tasks, task_at(tasks, (uint32_t)parent_thread)->comm);
    space = last_value(tasks, task_at(tasks, (uint32_t)parent)->space);
    if (add_change(tasks, &task_at(tasks, (uint32_t)thread)->comm, record->time_ns, comm) < 0)
        return -1;
    if (record->pid == parent_pid)
        return 0;
    return add_change(tasks, &task_at(tasks, (uint32_t)process)->space, record->time_ns, space);
}

static int take_exit(struct tasks *tasks, const struct task_record *record)
{
    int64_t thread = task_of(tasks, record->tid), process = task_of(tasks, record->pid);

    if (thread < 0 || process < 0)
        return -1;
    task_at(tasks, (uint32_t)thread)->has_ended = 1;
    task_at(tasks, (uint32_t)thread)->ended_ns = record->time_ns;
    if (record->pid != record->tid && task_at(tasks, (uint32_t)process)->threads)
        task_at(tasks, (uint32_t)process)->threads--;
    return 0;
}

static int take(struct tasks *tasks, const struct task_record *record)
{
    switch (record->type) {
    case TASK_EXIT:
        return take_exit(tasks, record);
    case TASK_COMM:
        return take_name(tasks, record);
    case TASK_FORK:
        return take_fork(tasks, record);
    default:
        return take_mapping(tasks, record);
    }
}

int tasks_settle(struct tasks *tasks, uint64_t until_ns)
{
    struct task_record *pending = (struct task_record *)(void *)tasks->pending.items;
    size_t taken = 0;

    if (!tasks->pending.count)
        return 0;
    qsort(pending, tasks->pending.count, sizeof(*pending), by_time);
    for (; taken < tasks->pending.count && pending[taken].time_ns <= until_ns; taken++) {
        if (take(tasks, &pending[taken]) < 0)
            return -1;
    }
    if (!taken)
        return 0;
    tasks->pending.count -= taken;
    memmove(pending, pending + taken, tasks->pending.count * sizeof(*pending));
    tasks->generation++;
    return 0;
}

static int64_t number_state(struct tasks *tasks, uint32_t pid, uint32_t tid, uint32_t comm, uint32_t space)
{
    uint64_t thread = tasks->by_thread ? (uint64_t)pid << 32 | tid : 0;

    return pairs_number(&tasks->states, tasks->seed, thread, (uint64_t)comm << 32 | space);
}

/* Find out what a task is at a time, and for how long. */
static int look_up(struct tasks *tasks, uint32_t number, uint32_t pid, uint64_t time_ns)
{
    struct task *task = task_at(tasks, number);
    uint32_t tid = task->id, comm, space = 0;
    int64_t process, state, bare;

    task->from_ns = 0;
    task->until_ns = UINT64_MAX;
    comm = value_at(tasks, task->comm, time_ns, task);
    if (tasks->by_space) {
        process = task_of(tasks, pid);
        if (process < 0)
            return -1;
        task = task_at(tasks, number);
        space = value_at(tasks, task_at(tasks, (uint32_t)process)->space, time_ns, task);
    }
    bare = number_state(tasks, pid, tid, comm, 0);
    state = number_state(tasks, pid, tid, comm, space);
    if (bare < 0 || state < 0)
        return -1;
    task->generation = tasks->generation;
    task->pid = pid;
    task->state = (uint32_t)state;
    task->bare_state = (uint32_t)bare;
    tasks->recent = number;
    return 0;
}

int64_t tasks_state(struct tasks *tasks, uint32_t pid, uint32_t tid, uint64_t time_ns, int with_space)
{
    int64_t number = task_of(tasks, tid);
    const struct task *task;

    if (number < 0)
        return -1;
    task = task_at(tasks, (uint32_t)number);
    if (task->generation != tasks->generation || task->pid != pid || time_ns < task->from_ns ||
        time_ns >= task->until_ns) {
        if (look_up(tasks, (uint32_t)number, pid, time_ns) < 0)
            return -1;
        task = task_at(tasks, (uint32_t)number);
    }
    return with_space ? task->state : task->bare_state;
}

/*
 * The mapping that holds an address. What lies deeper than any process has mappings is not looked at, and no more than
 * a little deep once all looking up together has taken as many steps as no honest recording needs: both are counted.
 */
static uint32_t mapping_of(struct tasks *tasks, uint32_t space, uint64_t address)
{
    int deepest = tasks->steps < TASKS_STEPS_MAX ? TASKS_MAPPINGS_MAX : TASKS_MAPPINGS_FEW;
    int depth = 0;

    for (; space && depth < deepest; depth++) {
        const struct task_space *mapping = space_at(tasks, space);

        if (address >= mapping->start && address < mapping->end)
            break;
        space = mapping->parent;
    }
    tasks->steps += (uint64_t)depth;
    if (space && depth == deepest) {
        tasks->cut_lookups++;
        return 0;
    }
    return space;
}

int64_t tasks_place(struct tasks *tasks, uint32_t space, uint64_t address)
{
    uint64_t page = address / 4096;
    struct task_page *slot = &tasks->pages[hash_mix(hash_mix(tasks->seed, page), space) % TASKS_PAGES];
    const struct task_space *mapping;

    /* A mapping may begin or end within a page only where no kernel wrote the record: what is found is checked. */
    if (slot->space != space || slot->page != page ||
        (slot->found &&
         (address < space_at(tasks, slot->found)->start || address >= space_at(tasks, slot->found)->end)))
        *slot = (struct task_page){page, space, mapping_of(tasks, space, address)};
    if (!slot->found)
        return pairs_number(&tasks->places, tasks->seed, 0, address);
    mapping = space_at(tasks, slot->found);
    return pairs_number(&tasks->places, tasks->seed, mapping->file, address - mapping->start + mapping->offset_bytes);
}

int tasks_are_many(const struct tasks *tasks)
{
    return tasks->items.count + tasks->changes.count + tasks->spaces.count + tasks->states.items.count >=
           tasks->prune_at;
}

/* Copy what a thing was from a time on into another table of changes, in order. Its new last change, or -1. */
static int64_t keep_changes(const struct tasks *tasks, struct tasks *kept, uint32_t last, uint64_t before_ns)
{
    struct growing numbers = {NULL, 0, 0};
    uint32_t copied = 0, *room;
    int failed = 0;

    for (uint32_t at = last; at && !failed; at = change_at(tasks, at)->before) {
        room = growing_room(&numbers, 1, sizeof(*room));
        failed = !room;
        if (room) {
            *room = at;
            numbers.count++;
        }
        if (change_at(tasks, at)->time_ns <= before_ns)
            break;
    }
    while (numbers.count && !failed) {
        const struct task_change *change =
            change_at(tasks, ((const uint32_t *)(const void *)numbers.items)[--numbers.count]);

        failed = add_change(kept, &copied, change->time_ns, change->value) < 0;
    }
    free(numbers.items);
    return failed ? -1 : (int64_t)copied;
}

/* Copy the spaces that kept changes say something was, and those that they grew out of; renumber the changes. */
static int keep_spaces(const struct tasks *tasks, struct tasks *kept)
{
    uint32_t *number = calloc(tasks->spaces.count, sizeof(*number));

    if (!number)
        return -1;
    for (uint32_t i = 1; i < kept->items.count; i++) {
        for (uint32_t at = task_at(kept, i)->space; at; at = change_at(kept, at)->before)
            number[change_at(kept, at)->value] = 1;
    }
    for (size_t i = tasks->spaces.count; i-- > 1;) {
        if (number[i])
            number[space_at(tasks, (uint32_t)i)->parent] = 1;
    }
    number[0] = 0;
    for (uint32_t i = 1; i < tasks->spaces.count; i++) {
        struct task_space *room;

        if (!number[i])
            continue;
        room = growing_room(&kept->spaces, 1, sizeof(*room));
        if (!room) {
            free(number);
            return -1;
        }
        *room = *space_at(tasks, i);
        room->parent = number[room->parent];
        number[i] = (uint32_t)kept->spaces.count++;
    }
    for (uint32_t i = 1; i < kept->items.count; i++) {
        for (uint32_t at = task_at(kept, i)->space; at; at = change_at(kept, at)->before)
            change_at(kept, at)->value = number[change_at(kept, at)->value];
    }
    free(number);
    return 0;
}

/* A task that has ended may still be sampled on its way out: it is forgotten the second time. */
static int keep_tasks(const struct tasks *tasks, struct tasks *kept, uint64_t before_ns)
{
    for (uint32_t i = 1; i < tasks->items.count; i++) { /* 0 is idle, and is there already */
        const struct task *task = task_at(tasks, i);
        int64_t number, comm, space;

        if (task->has_ended && task->ended_ns <= tasks->pruned_ns && !task->threads)
            continue;
        number = task_of(kept, task->id);
        comm = keep_changes(tasks, kept, task->comm, before_ns);
        space = keep_changes(tasks, kept, task->space, before_ns);
        if (number < 0 || comm < 0 || space < 0)
            return -1;
        *task_at(kept, (uint32_t)number) = *task;
        task_at(kept, (uint32_t)number)->comm = (uint32_t)comm;
        task_at(kept, (uint32_t)number)->space = (uint32_t)space;
        task_at(kept, (uint32_t)number)->generation = 0;
    }
    return keep_spaces(tasks, kept);
}

int tasks_prune(struct tasks *tasks, uint64_t before_ns)
{
    uint32_t idle_name = last_value(tasks, task_at(tasks, 0)->comm);
    struct tasks kept = {0}, old = *tasks;

    if (tasks_init(&kept, tasks->seed, tasks->by_thread, tasks->by_space, idle_name) < 0 ||
        keep_tasks(tasks, &kept, before_ns) < 0) {
        tasks_free(&kept);
        return -1;
    }
    kept.pruned_ns = before_ns;
    kept.pending = old.pending;
    kept.arrivals = old.arrivals;
    kept.steps = old.steps;
    kept.cut_lookups = old.cut_lookups;
    old.pending = (struct growing){NULL, 0, 0};
    /* Files and places are part of what was counted. */
    pairs_free(&kept.files);
    kept.files = old.files;
    kept.places = old.places;
    old.files = old.places = (struct pairs){{NULL, 0, 0}, {NULL, 0, 0}};
    tasks_free(&old);
    *tasks = kept;
    tasks->prune_at = 2 * (tasks->items.count + tasks->changes.count + tasks->spaces.count);
    if (tasks->prune_at < TASKS_FIRST_PRUNE)
        tasks->prune_at = TASKS_FIRST_PRUNE;
    return 0;
}
