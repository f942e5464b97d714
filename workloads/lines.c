#define _GNU_SOURCE
#include "lines.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monotonic.h"

/* Shared with forked processes: a pipe keeps only writes of up to PIPE_BUF bytes whole. */
static pthread_mutex_t *writing;

void lines_open(void)
{
    pthread_mutexattr_t attributes;

    writing = mmap(NULL, sizeof(*writing), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (writing == MAP_FAILED)
        abort();
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(writing, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static void write_whole(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, text, length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            _exit(EXIT_STATUS_FAILED);
        text += written;
        length -= (size_t)written;
    }
}

static void put_string(FILE *stream, const char *text)
{
    fputc('"', stream);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(stream, "\\%c", *at);
        else if (*at < ' ' || *at > '~')
            fprintf(stream, "\\u%04x", *at);
        else
            fputc(*at, stream);
    }
    fputc('"', stream);
}

void line_begin(struct line *line, const char *event)
{
    line->stream = open_memstream(&line->text, &line->length);
    if (!line->stream)
        abort();
    fputs("{\"event\":", line->stream);
    put_string(line->stream, event);
}

void line_number(struct line *line, const char *key, int64_t value)
{
    fprintf(line->stream, ",\"%s\":%lld", key, (long long)value);
}

void line_text(struct line *line, const char *key, const char *value)
{
    fprintf(line->stream, ",\"%s\":", key);
    put_string(line->stream, value);
}

void line_ids(struct line *line, const char *key, const struct bitmask *ids)
{
    char *text = ids_text(ids);

    line_text(line, key, text);
    free(text);
}

void line_end(struct line *line)
{
    fputs("}\n", line->stream);
    fclose(line->stream);
    if (pthread_mutex_lock(writing) == EOWNERDEAD)
        pthread_mutex_consistent(writing);
    write_whole(line->text, line->length);
    pthread_mutex_unlock(writing);
    free(line->text);
}

void line_stamp(const char *event)
{
    struct line line;

    line_begin(&line, event);
    line_number(&line, "pid", getpid());
    line_number(&line, "t_ns", (int64_t)monotonic_ns());
    line_end(&line);
}

static _Noreturn void end_with(enum exit_status status, const char *code, const char *format, va_list arguments)
{
    struct line line;
    char message[1024];

    vsnprintf(message, sizeof(message), format, arguments);
    line_begin(&line, "error");
    line_text(&line, "code", code);
    line_text(&line, "message", message);
    line_end(&line);
    _exit(status);
}

void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    end_with(EXIT_STATUS_FAILED, "failed", format, arguments);
}

void fail_usage(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    end_with(EXIT_STATUS_USAGE, "usage", format, arguments);
}

void fail_cannot_run(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    end_with(EXIT_STATUS_CANNOT_RUN, "cannot-run", format, arguments);
}

char *ids_text(const struct bitmask *ids)
{
    char *text;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    if (!stream)
        abort();
    for (unsigned id = 0; id < ids->size; id++) {
        unsigned last = id;

        if (!numa_bitmask_isbitset(ids, id))
            continue;
        while (numa_bitmask_isbitset(ids, last + 1))
            last++;
        fprintf(stream, ftell(stream) > 0 ? ",%u" : "%u", id);
        if (last > id)
            fprintf(stream, "-%u", last);
        id = last;
    }
    fclose(stream);
    return text;
}
