#define _GNU_SOURCE
#include "outside.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lines.h"

static pid_t outside_pid;
static int start_fd = -1;

/* The threads here wait at barriers for those there: where that process is gone they would wait for ever. It has said
 * why, unless it was killed. */
static void on_child(int number)
{
    static const char killed[] = "{\"event\":\"error\",\"code\":\"failed\",\"message\":\"the movers' process was "
                                 "killed\"}\n";
    siginfo_t info = {0};

    (void)number;
    if (waitid(P_PID, (id_t)outside_pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid)
        return;
    if (info.si_code == CLD_EXITED && info.si_status == 0)
        return;
    if (info.si_code != CLD_EXITED && write(STDOUT_FILENO, killed, sizeof(killed) - 1) < 0)
        _exit(EXIT_STATUS_FAILED);
    _exit(info.si_code == CLD_EXITED ? info.si_status : EXIT_STATUS_FAILED);
}

static _Noreturn void be_outside(struct process *process, pid_t parent, int fd)
{
    char word;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_STATUS_FAILED);
    if (process->options.ready_fd != ABSENT)
        close(process->options.ready_fd);
    if (process->options.go_fd != ABSENT)
        close(process->options.go_fd);
    if (read(fd, &word, 1) != 1)
        _exit(EXIT_STATUS_FAILED);
    runner_start_threads(process, true);
    runner_join_threads(process, true);
    _exit(0);
}

void outside_fork(struct process *process)
{
    struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
    pid_t parent = getpid();
    int start[2];

    if (pipe2(start, O_CLOEXEC) < 0)
        fail("no pipe to the movers' process: %s", strerror(errno));
    outside_pid = fork();
    if (outside_pid < 0)
        fail("no process can be forked: %s", strerror(errno));
    if (!outside_pid) {
        close(start[1]);
        be_outside(process, parent, start[0]);
    }
    close(start[0]);
    start_fd = start[1];
    sigaction(SIGCHLD, &action, NULL);
}

void outside_start(void)
{
    if (start_fd >= 0 && write(start_fd, "S", 1) != 1)
        fail("the movers' process is gone");
}

void outside_join(void)
{
    int status;

    while (outside_pid && waitpid(outside_pid, &status, 0) < 0 && errno == EINTR)
        ;
}
