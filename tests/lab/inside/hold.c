/*
 * Run a workload as the harness does, and look at its pages from outside before GO and while it waits after `stop`:
 *
 *     hold PROGRAM OPTION...
 *
 * Prints what the workload prints, and lines of its own: `seen`, where each 4 KiB page of its slices is, asked for by
 * move_pages(2) without a target, those with an even number and those with an odd one apart; and `vmstat`, the kernel's
 * counts. Ends as the workload ends, and ends it after two minutes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, NODES = 8, SLICES = 64, CHUNK = 4096, READY_FD = 10, GO_FD = 11, PATIENCE_S = 120, UNSET = -4095 };

struct slice {
    int pid;
    unsigned long address, bytes;
};

static struct slice slices[SLICES];
static size_t slice_count;
static pid_t workload;
static int go_fd;

static void give_up(int signal_number)
{
    (void)signal_number;
    kill(workload, SIGKILL);
    _exit(3);
}

static void count(const int *status, size_t first, size_t pages, size_t on[2][NODES], size_t *elsewhere)
{
    for (size_t i = 0; i < pages; i++)
        if (status[i] >= 0 && status[i] < NODES)
            on[(first + i) % 2][status[i]]++;
        else
            ++*elsewhere;
}

static void tell_nodes(const char *name, const size_t *on)
{
    const char *comma = "";

    printf("\"%s\":{", name);
    for (int node = 0; node < NODES; node++) {
        if (!on[node])
            continue;
        printf("%s\"%d\":%zu", comma, node, on[node]);
        comma = ",";
    }
    printf("},");
}

static void tell_pages(const char *when)
{
    size_t on[2][NODES] = {{0}}, elsewhere = 0;

    for (size_t s = 0; s < slice_count; s++) {
        size_t pages = slices[s].bytes / PAGE;

        for (size_t at = 0; at < pages; at += CHUNK) {
            size_t chunk = pages - at < CHUNK ? pages - at : CHUNK;
            void *addresses[CHUNK];
            int status[CHUNK];

            for (size_t i = 0; i < chunk; i++) {
                addresses[i] = (void *)(slices[s].address + (at + i) * PAGE);
                status[i] = UNSET;
            }
            if (syscall(SYS_move_pages, slices[s].pid, chunk, addresses, NULL, status, 0))
                perror("move_pages");
            count(status, at, chunk, on, &elsewhere);
        }
    }
    printf("{\"event\":\"seen\",\"when\":\"%s\",", when);
    tell_nodes("even", on[0]);
    tell_nodes("odd", on[1]);
    printf("\"elsewhere\":%zu}\n", elsewhere);
}

static void tell_vmstat(const char *when)
{
    FILE *file = fopen("/proc/vmstat", "r");
    char name[64];
    unsigned long value;

    printf("{\"event\":\"vmstat\",\"when\":\"%s\"", when);
    while (file && fscanf(file, "%63s %lu", name, &value) == 2)
        if (strstr(name, "migrate"))
            printf(",\"%s\":%lu", name, value);
    printf("}\n");
    if (file)
        fclose(file);
}

static void look(const char *when)
{
    tell_pages(when);
    tell_vmstat(when);
    fflush(stdout);
}

static void tell(char word)
{
    if (write(go_fd, &word, 1) != 1)
        perror("go");
}

/* Passes a line on, and acts on what it says. */
static void hear(const char *line)
{
    struct slice heard;
    const char *at = strstr(line, "\"event\":\"slice\"");
    const char *pid = strstr(line, "\"pid\":"), *address = strstr(line, "\"addr\":"),
               *bytes = strstr(line, "\"bytes\":");

    fputs(line, stdout);
    if (at && pid && address && bytes && slice_count < SLICES) {
        heard.pid = atoi(pid + strlen("\"pid\":"));
        heard.address = strtoul(address + strlen("\"addr\":"), NULL, 10);
        heard.bytes = strtoul(bytes + strlen("\"bytes\":"), NULL, 10);
        slices[slice_count++] = heard;
    }
    if (strstr(line, "\"event\":\"ready\"")) {
        look("before");
        tell('G');
    }
    if (strstr(line, "\"event\":\"stop\"")) {
        look("after");
        tell('X');
    }
}

int main(int argc, char **argv)
{
    int ready[2], go[2], out[2], status;
    char **words = calloc((size_t)argc + 4, sizeof(*words));
    static char line[1 << 20];

    if (argc < 2 || !words || pipe(ready) || pipe(go) || pipe(out))
        return 2;
    for (int i = 1; i < argc; i++)
        words[i - 1] = argv[i];
    words[argc - 1] = "--ready-fd=10";
    words[argc] = "--go-fd=11";
    workload = fork();
    if (workload == 0) {
        dup2(out[1], 1);
        dup2(ready[1], READY_FD);
        dup2(go[0], GO_FD);
        for (int fd = 3; fd < READY_FD; fd++)
            close(fd);
        execv(words[0], words);
        _exit(127);
    }
    close(out[1]);
    close(ready[1]);
    close(go[0]);
    go_fd = go[1];
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, give_up);
    alarm(PATIENCE_S);
    FILE *lines = fdopen(out[0], "r");
    while (lines && fgets(line, sizeof(line), lines))
        hear(line);
    waitpid(workload, &status, 0);
    free(words);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
