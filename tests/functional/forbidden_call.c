/* Asks for the driver home-node where set_mempolicy_home_node(2) answers with the error whose number is the word. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "drive.h"

enum { HOME_NODE_CALL = 450 };

static void forbid(unsigned error)
{
    struct sock_filter words[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HOME_NODE_CALL, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(words) / sizeof(*words), .filter = words};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        exit(1);
}

int main(int argc, char **argv)
{
    int id = 0;
    struct topology topology = {.ids = &id, .count = 1};
    struct drive drive = {.topology = &topology};

    if (argc != 2)
        return 1;
    lines_open();
    forbid((unsigned)strtoul(argv[1], NULL, 10));
    find_driver(DRIVER_HOME_NODE)->require(&drive);
    return 0;
}
