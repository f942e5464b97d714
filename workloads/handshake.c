#define _GNU_SOURCE
#include "handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lines.h"
#include "monotonic.h"
#include "options.h"

static void tell(int fd, char word)
{
    /* A reader that is gone is found by whoever waits for it. */
    while (fd != ABSENT && write(fd, &word, 1) < 0 && errno == EINTR)
        ;
}

/* The next byte, or 0 at the end of file. */
static char hear(int fd)
{
    char word;
    ssize_t count;

    do
        count = read(fd, &word, 1);
    while (count < 0 && errno == EINTR);
    return count == 1 ? word : 0;
}

static void tell_children(const struct handshake *handshake, char word)
{
    for (unsigned i = 0; i < handshake->child_count; i++)
        tell(handshake->children[i].go_fd, word);
}

static int child_status(const struct child *child)
{
    int status;

    while (waitpid(child->pid, &status, 0) < 0)
        if (errno != EINTR)
            fail("process %d cannot be waited for: %s", (int)child->pid, strerror(errno));
    if (WIFSIGNALED(status))
        fail("process %d was killed by signal %d (%s)%s", (int)child->pid, WTERMSIG(status),
             strsignal(WTERMSIG(status)), WTERMSIG(status) == SIGKILL ? "; its nodes may have run out of memory" : "");
    return WEXITSTATUS(status);
}

/* A child that exited has said why. */
static _Noreturn void end_with_child(const struct child *child)
{
    int status = child_status(child);

    _exit(status ? status : EXIT_STATUS_FAILED);
}

static void close_inherited(struct handshake *handshake)
{
    if (handshake->ready_fd != ABSENT)
        close(handshake->ready_fd);
    if (handshake->go_fd != ABSENT)
        close(handshake->go_fd);
    for (unsigned i = 0; i < handshake->child_count; i++) {
        close(handshake->children[i].ready_fd);
        close(handshake->children[i].go_fd);
    }
}

static void become_child(struct handshake *handshake, pid_t parent, int ready_fd, int go_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_STATUS_FAILED);
    close_inherited(handshake);
    *handshake = (struct handshake){.ready_fd = ready_fd, .go_fd = go_fd, .is_child = true};
}

unsigned handshake_fork(struct handshake *handshake, unsigned processes)
{
    pid_t parent = getpid();

    for (unsigned number = 1; number < processes; number++) {
        struct child *child = &handshake->children[handshake->child_count];
        int ready[2], go[2];

        if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
            fail("no pipe to a process: %s", strerror(errno));
        child->pid = fork();
        if (child->pid < 0)
            fail("no process can be forked: %s", strerror(errno));
        if (child->pid == 0) {
            close(ready[0]);
            close(go[1]);
            become_child(handshake, parent, ready[1], go[0]);
            return number;
        }
        close(ready[1]);
        close(go[0]);
        child->ready_fd = ready[0];
        child->go_fd = go[1];
        handshake->child_count++;
    }
    return 0;
}

/* What a child says: once that it is ready, then only that it has ended. */
static void hear_child(struct child *child)
{
    if (child->is_ready || hear(child->ready_fd) != 'R')
        end_with_child(child);
    child->is_ready = true;
}

void handshake_await_children(struct handshake *handshake)
{
    for (unsigned i = 0; i < handshake->child_count; i++)
        if (!handshake->children[i].is_ready)
            hear_child(&handshake->children[i]);
}

void handshake_await(struct handshake *handshake, int fd)
{
    struct pollfd polled[1 + MAX_CHILDREN] = {{.fd = fd, .events = POLLIN}};

    while (!polled[0].revents) {
        for (unsigned i = 0; i < handshake->child_count; i++)
            polled[1 + i] = (struct pollfd){.fd = handshake->children[i].ready_fd, .events = POLLIN};
        if (poll(polled, 1 + handshake->child_count, -1) < 0) {
            if (errno != EINTR)
                fail("poll: %s", strerror(errno));
            continue;
        }
        for (unsigned i = 0; i < handshake->child_count; i++)
            if (polled[1 + i].revents)
                hear_child(&handshake->children[i]);
    }
}

void handshake_ready(struct handshake *handshake)
{
    if (!handshake->is_child)
        line_stamp("ready");
    tell(handshake->ready_fd, 'R');
}

static enum word heard(struct handshake *handshake)
{
    switch (hear(handshake->go_fd)) {
    case 'S':
        tell_children(handshake, 'S');
        return WORD_STOP;
    case 'X':
        return WORD_EXIT;
    case 0:
        handshake->go_fd = ABSENT;
        tell_children(handshake, 'S');
        return WORD_CLOSED;
    default:
        return WORD_NONE;
    }
}

/* The time until the deadline; NULL, which is no limit, for none. */
static struct timespec *time_left(uint64_t deadline_ns, struct timespec *left)
{
    uint64_t now_ns = monotonic_ns();
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

    *left = (struct timespec){.tv_sec = (time_t)(left_ns / NS_PER_S), .tv_nsec = (long)(left_ns % NS_PER_S)};
    return deadline_ns == UINT64_MAX ? NULL : left;
}

enum word handshake_await_word(struct handshake *handshake, int done_fd, uint64_t deadline_ns)
{
    /* poll(2) passes over negative descriptors. */
    struct pollfd polled[2 + MAX_CHILDREN] = {{.fd = done_fd, .events = POLLIN},
                                              {.fd = handshake->go_fd, .events = POLLIN}};
    struct timespec left;

    for (unsigned i = 0; i < handshake->child_count; i++)
        polled[2 + i].fd = handshake->children[i].ready_fd;
    if (ppoll(polled, 2 + handshake->child_count, time_left(deadline_ns, &left), NULL) < 0) {
        if (errno == EINTR)
            return WORD_NONE;
        fail("poll: %s", strerror(errno));
    }
    for (unsigned i = 0; i < handshake->child_count; i++)
        if (polled[2 + i].revents)
            end_with_child(&handshake->children[i]);
    if (polled[0].revents)
        return WORD_DONE;
    return polled[1].revents ? heard(handshake) : WORD_NONE;
}

void handshake_await_go(struct handshake *handshake)
{
    while (handshake->go_fd != ABSENT) {
        struct pollfd polled[1 + MAX_CHILDREN] = {{.fd = handshake->go_fd, .events = POLLIN}};

        for (unsigned i = 0; i < handshake->child_count; i++)
            polled[1 + i].fd = handshake->children[i].ready_fd;
        if (poll(polled, 1 + handshake->child_count, -1) < 0)
            continue;
        for (unsigned i = 0; i < handshake->child_count; i++)
            if (polled[1 + i].revents)
                end_with_child(&handshake->children[i]);
        if (hear(handshake->go_fd) != 'G')
            _exit(EXIT_STATUS_FAILED);
        break;
    }
    tell_children(handshake, 'G');
}

void handshake_stop(struct handshake *handshake)
{
    tell_children(handshake, 'S');
}

void handshake_release(struct handshake *handshake)
{
    tell_children(handshake, 'X');
}

int handshake_join(struct handshake *handshake)
{
    int first = 0;

    for (unsigned i = 0; i < handshake->child_count; i++) {
        int status = child_status(&handshake->children[i]);

        if (!first)
            first = status;
    }
    handshake->child_count = 0;
    return first;
}
