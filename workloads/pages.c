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
#include "pagemap.h"

enum { KIB = 1024, SMALLEST_FOLIO_BYTES = 16 * KIB };

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

static uint64_t read_word(int fd, uint64_t index)
{
    uint64_t word = 0;

    return pread(fd, &word, sizeof(word), (off_t)(index * sizeof(word))) == sizeof(word) ? word : 0;
}

/* Whether the unit is one folio: a head and its tails, one frame after the other, and no tail behind. */
static bool is_one_folio(int pagemap, int flags, const char *unit, const struct memory *memory)
{
    size_t pages = memory->unit_bytes / memory->page_bytes;
    uint64_t first = read_word(pagemap, (uintptr_t)unit / memory->page_bytes) & FRAME_MASK;

    for (size_t i = 0; i < pages; i++) {
        uint64_t entry = read_word(pagemap, (uintptr_t)unit / memory->page_bytes + i);

        if (!(entry & IS_PRESENT) || (entry & FRAME_MASK) != first + i ||
            !(read_word(flags, first + i) & (i ? COMPOUND_TAIL : COMPOUND_HEAD)))
            return false;
    }
    return !(read_word(flags, first + pages) & COMPOUND_TAIL);
}

static size_t wrong_folios(int pagemap, int flags, const struct memory *memory)
{
    size_t wrong = 0;

    for (size_t page = 0; page < memory->pages; page += memory->unit_bytes / memory->page_bytes)
        wrong += !is_one_folio(pagemap, flags, memory_page(memory, page), memory);
    return wrong;
}

static bool verify_folios(const struct memory *memory)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
    uint64_t first = (uintptr_t)memory->base / memory->page_bytes;
    bool can_see = pagemap >= 0 && flags >= 0 && (read_word(pagemap, first) & FRAME_MASK) != 0;
    size_t wrong = can_see ? wrong_folios(pagemap, flags, memory) : 0;

    if (pagemap >= 0)
        close(pagemap);
    if (flags >= 0)
        close(flags);
    if (wrong)
        fail_cannot_run("%zu of %zu units are no folios of %zu KiB: memory may be fragmented, or another size is on "
                        "as well (see %s/hugepages-*/enabled)",
                        wrong, memory->bytes / memory->unit_bytes, memory->unit_bytes / KIB, thp_dir);
    return can_see;
}

int pages_verify(const struct driven_options *options, const struct memory *memory)
{
    size_t bytes;

    if (options->pages >= PAGES_FOLIO)
        return verify_folios(memory);
    if (options->pages != PAGES_THP)
        return true;
    /* Of all slices at once: they may be parts of one mapping. */
    bytes = huge_bytes(memory->base, memory_page(memory, memory->pages - 1) + memory->page_bytes);
    if (bytes != memory->bytes)
        fail_cannot_run("--pages thp: %zu of %zu bytes are huge: memory may be fragmented, or %s/%s is never", bytes,
                        memory->bytes, thp_dir, options->sharing == SHARING_SHARED ? "shmem_enabled" : "enabled");
    return true;
}
