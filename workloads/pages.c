#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buffer.h"
#include "drivers.h"
#include "pagemap.h"

enum { KIB = 1024, SMALLEST_FOLIO_BYTES = 16 * KIB };
enum { MAX_FOLIO_PAGES = 256 /* of 1 MiB */, ASKED_UNITS = 512 };

static const char *const thp_dir = "/sys/kernel/mm/transparent_hugepage";

/* The first number of a file, or 0. */
static unsigned long long read_number(const char *path)
{
    unsigned long long value = 0;
    FILE *file = fopen(path, "re");

    if (!file)
        return 0;
    if (fscanf(file, "%llu", &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

/* The bytes of a hugetlb page of the default size; 0 where the kernel has none. */
static size_t default_hugetlb_bytes(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    unsigned long long kib = 0;
    char line[256];

    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "Hugepagesize: %llu kB", &kib) == 1)
            break;
    fclose(file);
    return kib * KIB;
}

static void require_folio_knob(size_t bytes)
{
    char path[128], words[64] = "";
    FILE *file;

    snprintf(path, sizeof(path), "%s/hugepages-%zukB/enabled", thp_dir, bytes / KIB);
    file = fopen(path, "re");
    if (!file)
        fail_cannot_run("this kernel has no large folios of %zu KiB: there is no %s (since Linux 6.8)", bytes / KIB,
                        path);
    if (!fgets(words, sizeof(words), file))
        *words = '\0';
    fclose(file);
    if (!strstr(words, "[madvise]") && !strstr(words, "[always]") && !strstr(words, "[inherit]"))
        fail_cannot_run("large folios of %zu KiB are off (echo madvise > %s)", bytes / KIB, path);
}

size_t pages_unit_bytes(enum page_type type)
{
    char path[128];
    size_t bytes = (size_t)numa_pagesize();

    if (type == PAGES_BASE)
        return bytes;
    if (type == PAGES_THP) {
        snprintf(path, sizeof(path), "%s/hpage_pmd_size", thp_dir);
        bytes = read_number(path);
        if (!bytes)
            fail_cannot_run("--pages thp: this kernel has no transparent huge pages");
        return bytes;
    }
    if (type == PAGES_HUGETLB) {
        bytes = default_hugetlb_bytes();
        if (!bytes)
            fail_cannot_run("--pages hugetlb: this kernel has no hugetlb pages");
        return bytes;
    }
    bytes = (size_t)SMALLEST_FOLIO_BYTES << (type - PAGES_FOLIO);
    require_folio_knob(bytes);
    return bytes;
}

void pages_require_reserved(const struct locality *node, size_t bytes, size_t unit_bytes)
{
    char *id = ids_text(node->nodes);
    size_t units = bytes / unit_bytes;
    unsigned long long available;
    char path[160];

    snprintf(path, sizeof(path), "/sys/devices/system/node/node%s/hugepages/hugepages-%zukB/free_hugepages", id,
             unit_bytes / KIB);
    available = read_number(path);
    if (available < units)
        fail_cannot_run("--pages hugetlb needs %zu free pages of %zu KiB on node %s, which has %llu (echo %zu > "
                        "/sys/devices/system/node/node%s/hugepages/hugepages-%zukB/nr_hugepages)",
                        units, unit_bytes / KIB, id, available, units, id, unit_bytes / KIB);
    free(id);
}

static void advise(const struct driven_options *options, char *address, size_t bytes)
{
    if (options->pages == PAGES_HUGETLB)
        return;
    if (options->pages == PAGES_BASE) {
        /* EINVAL: a kernel without huge pages, which is what was asked for. */
        if (madvise(address, bytes, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
            fail("--pages 4k: madvise: %s", strerror(errno));
        return;
    }
    if (madvise(address, bytes, MADV_HUGEPAGE) < 0)
        fail_cannot_run("--pages %s: madvise: %s", page_type_name(options->pages), strerror(errno));
}

char *pages_map(const struct driven_options *options, size_t bytes, size_t unit_bytes)
{
    size_t alignment = unit_bytes > BUFFER_ALIGNMENT ? unit_bytes : BUFFER_ALIGNMENT;
    int flags = MAP_FIXED | MAP_ANONYMOUS | (options->sharing == SHARING_SHARED ? MAP_SHARED : MAP_PRIVATE);
    char *reserved = mmap(NULL, bytes + 2 * alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *address;

    if (reserved == MAP_FAILED)
        fail_cannot_run("%zu bytes cannot be mapped: %s", bytes, strerror(errno));
    address = reserved + numa_pagesize();
    address += -(uintptr_t)address % alignment;
    if (options->pages == PAGES_HUGETLB)
        flags |= MAP_HUGETLB;
    if (mmap(address, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
        fail_cannot_run("%zu bytes of pages of %s cannot be mapped: %s", bytes, page_type_name(options->pages),
                        strerror(errno));
    advise(options, address, bytes);
    return address;
}

void pages_unmap_gap(char *address, size_t bytes)
{
    if (munmap(address, bytes) < 0)
        fail("munmap: %s", strerror(errno));
}

/* Bytes of transparent huge pages in the mappings within a range, from /proc/self/smaps. */
static size_t huge_bytes(const char *begin, const char *end)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    unsigned long long from = 0, to = 0, kib;
    size_t bytes = 0;
    char line[512];

    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file)) {
        unsigned long long first, last;
        bool is_within;

        if (sscanf(line, "%llx-%llx ", &first, &last) == 2) {
            from = first;
            to = last;
            continue;
        }
        is_within = from >= (uintptr_t)begin && to <= (uintptr_t)end;
        if (is_within &&
            (sscanf(line, "AnonHugePages: %llu kB", &kib) == 1 || sscanf(line, "ShmemPmdMapped: %llu kB", &kib) == 1))
            bytes += kib * KIB;
    }
    fclose(file);
    return bytes;
}

/* The words of a file of /proc from an index on; those that cannot be read are 0. */
static void read_words(int fd, uint64_t index, uint64_t *words, size_t count)
{
    ssize_t length = pread(fd, words, count * sizeof(*words), (off_t)(index * sizeof(*words)));
    size_t known = length < 0 ? 0 : (size_t)length / sizeof(*words);

    memset(words + known, 0, (count - known) * sizeof(*words));
}

/* Whether the unit is one folio: a head and its tails, one frame after the other, and no tail behind. */
static bool is_one_folio(int pagemap, int flags, const char *unit, const struct memory *memory)
{
    size_t pages = memory->unit_bytes / memory->page_bytes;
    uint64_t entries[MAX_FOLIO_PAGES], bits[MAX_FOLIO_PAGES + 1];
    uint64_t first;

    read_words(pagemap, (uintptr_t)unit / memory->page_bytes, entries, pages);
    first = entries[0] & FRAME_MASK;
    read_words(flags, first, bits, pages + 1);
    for (size_t i = 0; i < pages; i++)
        if (!(entries[i] & IS_PRESENT) || (entries[i] & FRAME_MASK) != first + i ||
            !(bits[i] & (i ? COMPOUND_TAIL : COMPOUND_HEAD)))
            return false;
    return !(bits[pages] & COMPOUND_TAIL);
}

static size_t unit_count(const struct memory *memory)
{
    return memory->bytes / memory->unit_bytes;
}

static char *unit_address(const struct memory *memory, size_t unit)
{
    return memory_page(memory, unit * (memory->unit_bytes / memory->page_bytes));
}

static struct units_seen look_at_folios(const struct memory *memory)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
    struct units_seen seen = {0};
    uint64_t first = 0;

    if (pagemap >= 0 && flags >= 0)
        read_words(pagemap, (uintptr_t)memory->base / memory->page_bytes, &first, 1);
    seen.is_seen = (first & FRAME_MASK) != 0;
    for (size_t unit = 0; seen.is_seen && unit < unit_count(memory); unit++)
        seen.split += !is_one_folio(pagemap, flags, unit_address(memory, unit), memory);
    if (pagemap >= 0)
        close(pagemap);
    if (flags >= 0)
        close(flags);
    return seen;
}

/* Of all slices at once: they may be parts of one mapping. */
static struct units_seen look_at_huge_pages(const struct memory *memory)
{
    size_t bytes = huge_bytes(memory->base, memory_page(memory, memory->pages - 1) + memory->page_bytes);
    size_t missing = bytes < memory->bytes ? memory->bytes - bytes : 0;

    return (struct units_seen){.split = (missing + memory->unit_bytes - 1) / memory->unit_bytes, .is_seen = true};
}

/* Units whose first and last page are on two nodes, or not there. */
static size_t units_apart(const struct memory *memory)
{
    void *addresses[2 * ASKED_UNITS];
    int status[2 * ASKED_UNITS];
    size_t apart = 0;

    for (size_t unit = 0; unit < unit_count(memory); unit += ASKED_UNITS) {
        size_t left = unit_count(memory) - unit, count = left < ASKED_UNITS ? left : ASKED_UNITS;

        for (size_t i = 0; i < count; i++) {
            addresses[2 * i] = unit_address(memory, unit + i);
            addresses[2 * i + 1] = unit_address(memory, unit + i) + memory->unit_bytes - memory->page_bytes;
        }
        if (query_pages(0, addresses, 2 * count, status))
            return apart;
        for (size_t i = 0; i < count; i++)
            apart += status[2 * i] < 0 || status[2 * i] != status[2 * i + 1];
    }
    return apart;
}

struct units_seen pages_look(const struct driven_options *options, const struct memory *memory)
{
    struct units_seen seen;
    size_t apart;

    if (options->pages == PAGES_BASE || options->pages == PAGES_HUGETLB)
        return (struct units_seen){.is_seen = true};
    seen = options->pages == PAGES_THP ? look_at_huge_pages(memory) : look_at_folios(memory);
    apart = units_apart(memory);
    if (apart > seen.split)
        seen.split = apart;
    return seen;
}

struct units_seen pages_verify(const struct driven_options *options, const struct memory *memory)
{
    struct units_seen seen = pages_look(options, memory);

    if (seen.split && options->pages == PAGES_THP)
        fail_cannot_run("--pages thp: %zu of %zu units of %zu KiB are no huge pages: memory may be fragmented, or "
                        "%s/%s is never",
                        seen.split, unit_count(memory), memory->unit_bytes / KIB, thp_dir,
                        options->sharing == SHARING_SHARED ? "shmem_enabled" : "enabled");
    if (seen.split)
        fail_cannot_run("%zu of %zu units are no folios of %zu KiB: memory may be fragmented, or another size is on "
                        "as well (see %s/hugepages-*/enabled)",
                        seen.split, unit_count(memory), memory->unit_bytes / KIB, thp_dir);
    return seen;
}
