/* Prints the flags of each driver that asks for none; with a word, without CAP_SYS_NICE. */
#include <linux/capability.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "drivers.h"

static void drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];

    if (syscall(SYS_capget, &header, sets) < 0)
        _exit(1);
    sets[0].effective &= ~(1U << CAP_SYS_NICE);
    if (syscall(SYS_capset, &header, sets) < 0)
        _exit(1);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        drop();
    for (enum driver_id id = DRIVER_AUTONUMA; id <= DRIVER_NULL; id++)
        printf("%s %s\n", driver_name(id), driver_flags(id) == FLAG_MOVE_ALL ? "move_all" : "move");
    return 0;
}
