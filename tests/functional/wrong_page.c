/* Damages a byte of a family's memory, on a machine of base pages of 64 KiB, and prints what is told of it. */
#include <stdlib.h>
#include <sys/mman.h>

#include "stamp.h"
#include "view.h"
#include "wrong.h"

enum { PAGE_BYTES = 64 << 10, PAGES = 4 };

int main(int argc, char **argv)
{
    size_t bytes = PAGES * PAGE_BYTES;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static struct member members[1];
    static struct drive drive;
    struct family family = {.drive = &drive, .memory = memory, .bytes = bytes, .unit_bytes = PAGE_BYTES};
    struct view view = {.family = &family};

    if (memory == MAP_FAILED || argc != 2)
        return 1;
    lines_open();
    family.members = members;
    drive.memory = (struct memory){
        .base = memory, .page_bytes = PAGE_BYTES, .unit_bytes = PAGE_BYTES, .bytes = bytes, .pages = PAGES};
    stamp_fill(memory, bytes, 0);
    memory[strtoul(argv[1], NULL, 10)] ^= 1;
    view_check(&view);
    printf("%zu %zu\n", drive.wrong[0].page, drive.wrong[0].offset);
    printf("%d\n", memory_page(&drive.memory, drive.wrong[0].page) + drive.wrong[0].offset - memory ==
                       (long)(strtoul(argv[1], NULL, 10) & ~7UL));
    return 0;
}
