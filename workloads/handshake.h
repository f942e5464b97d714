/* READY and GO: docs/workload-protocol.md. Forked processes speak to their parent as it speaks to the harness. */
#ifndef NUMABENCH_HANDSHAKE_H
#define NUMABENCH_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAX_CHILDREN = 8 };

enum word { WORD_NONE, WORD_DONE, WORD_STOP, WORD_EXIT, WORD_CLOSED };

struct child {
    pid_t pid;
    int ready_fd; /* readable: it is ready; at its end: it has ended */
    int go_fd;
    bool is_ready;
};

struct handshake {
    int ready_fd; /* or ABSENT */
    int go_fd;    /* or ABSENT, also once it is closed */
    bool is_child;
    struct child children[MAX_CHILDREN];
    unsigned child_count;
};

/* Forks the other processes of a workload. The number of this one: 0 in the parent. A child may fork its own. */
unsigned handshake_fork(struct handshake *handshake, unsigned processes);
/* Waits until all children have said that they are ready; asked again, it returns at once. */
void handshake_await_children(struct handshake *handshake);
/* Waits until `fd` is readable. Ends the process where a child dies meanwhile. */
void handshake_await(struct handshake *handshake, int fd);
/* Says that this process is ready. */
void handshake_ready(struct handshake *handshake);
/* Waits for GO and hands it on; at the end of file instead ends the process. */
void handshake_await_go(struct handshake *handshake);
/* Waits for a word, for `done_fd` to be readable (WORD_DONE), or for the deadline (WORD_NONE; UINT64_MAX: none).
 * Words to stop are handed on to the children. Ends the process where a child has died. */
enum word handshake_await_word(struct handshake *handshake, int done_fd, uint64_t deadline_ns);
/* Asks the children to stop. */
void handshake_stop(struct handshake *handshake);
/* Lets the children check their data and end. */
void handshake_release(struct handshake *handshake);
/* Waits for the children to end, after which there are none: the first exit status that is not 0, or 0. */
int handshake_join(struct handshake *handshake);

#endif
