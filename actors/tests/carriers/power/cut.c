/* Cuts the power of a program: loaded into it, counts what it does to the files under one folder, and kills it at one of
 * these operations.
 *
 *   CUT_FOLDER  the folder; anything else that the program writes is none of ours
 *   CUT_LOG     where each operation is written down, one a line: what, and the name of the file
 *   CUT_AT      the operation that is the last, from 1; without it, none is
 *   CUT_HOW     clean: it is not done
 *               torn:  it is a write, and the first half of its bytes is done
 *               lost:  it is not done, and neither is anything before it that was not synced
 *
 * `lost` takes back what a disk may forget: bytes and lengths until their file is synced, names (made or changed) until
 * their folder is. It is for a program in which one thread writes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Something that a disk may forget until `dev` and `ino` are synced. */
struct change {
    enum { BYTES, CREATED, RENAMED } kind;
    dev_t dev;
    ino_t ino;
    /* BYTES: as they were, and how long the file was. */
    int fd;
    off_t at, size;
    ssize_t len;
    char *bytes;
    /* CREATED, RENAMED: names; of the latter, `kept` is what bore the new name before. */
    char from[PATH_MAX], to[PATH_MAX], kept[PATH_MAX + 8];
    struct change *before;
};

static struct change *changes;
static unsigned long count;

static const char *set(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int how(const char *word) { return strcmp(set("CUT_HOW"), word) == 0; }

static int ours(const char *path) {
    const char *folder = set("CUT_FOLDER");
    size_t len = strlen(folder);
    return len > 0 && strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == 0);
}

/* The name of an open file, if it is one of ours. */
static int name_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    path[len < 0 ? 0 : len] = 0;
    return ours(path);
}

/* --- what may be forgotten */

static struct change *note(const struct stat *until) {
    struct change *change = calloc(1, sizeof *change);
    change->dev = until->st_dev;
    change->ino = until->st_ino;
    change->before = changes;
    changes = change;
    return change;
}

static void note_bytes(int fd, off_t at, size_t len) {
    struct stat file;
    if (!how("lost") || fstat(fd, &file) != 0) {
        return;
    }
    struct change *change = note(&file);
    change->kind = BYTES;
    change->fd = dup(fd);
    change->at = at;
    change->size = file.st_size;
    change->bytes = malloc(len + 1);
    change->len = pread(fd, change->bytes, len, at);
}

static void note_name(int kind, const char *from, const char *to) {
    char folder[PATH_MAX];
    struct stat file;
    snprintf(folder, sizeof folder, "%s", to);
    *strrchr(folder, '/') = 0;
    if (!how("lost") || stat(folder, &file) != 0) {
        return;
    }
    struct change *change = note(&file);
    change->kind = kind;
    snprintf(change->from, sizeof change->from, "%s", from);
    snprintf(change->to, sizeof change->to, "%s", to);
    snprintf(change->kept, sizeof change->kept, "%s.kept", to);
    if (kind == RENAMED) {
        (void)!link(to, change->kept);
    }
}

static void take_back(const struct change *change) {
    switch (change->kind) {
    case BYTES:
        if (change->len > 0) {
            (void)!syscall(SYS_pwrite64, change->fd, change->bytes, change->len, change->at);
        }
        (void)!syscall(SYS_ftruncate, change->fd, change->size);
        break;
    case CREATED:
        unlink(change->to);
        break;
    case RENAMED:
        syscall(SYS_renameat, AT_FDCWD, change->to, AT_FDCWD, change->from);
        syscall(SYS_renameat, AT_FDCWD, change->kept, AT_FDCWD, change->to);
        break;
    }
}

static void durable(int fd) {
    struct stat file;
    if (fstat(fd, &file) != 0) {
        return;
    }
    for (struct change **at = &changes; *at;) {
        struct change *change = *at;
        if (change->dev != file.st_dev || change->ino != file.st_ino) {
            at = &change->before;
            continue;
        }
        *at = change->before;
        if (change->kind == BYTES) {
            close(change->fd);
        } else if (change->kind == RENAMED) {
            unlink(change->kept);
        }
        free(change->bytes);
        free(change);
    }
}

/* --- the power */

static void cut(void) {
    for (; changes && how("lost"); changes = changes->before) {
        take_back(changes);
    }
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

/* An operation begins. Returns whether it is to be torn; not at all, if it is the last. */
static int begins(const char *what, const char *path) {
    char line[PATH_MAX + 16];
    int len = snprintf(line, sizeof line, "%s %s\n", what, strrchr(path, '/') + 1);
    int log = open(set("CUT_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    (void)!syscall(SYS_write, log, line, len);
    close(log);
    if (++count != strtoul(set("CUT_AT"), NULL, 10)) {
        return 0;
    }
    if (how("torn") && strcmp(what, "write") == 0) {
        return 1;
    }
    cut();
    return 0;
}

/* --- what the program calls */

static ssize_t write_at(int fd, const void *bytes, size_t len, off_t at) {
    char path[PATH_MAX];
    if (name_of(fd, path)) {
        if (begins("write", path)) {
            (void)!syscall(SYS_pwrite64, fd, bytes, len / 2, at);
            cut();
        }
        note_bytes(fd, at, len);
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return write_at(fd, bytes, len, at); }

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) { return write_at(fd, bytes, len, at); }

ssize_t write(int fd, const void *bytes, size_t len) {
    char path[PATH_MAX];
    if (name_of(fd, path)) {
        if (begins("write", path)) {
            (void)!syscall(SYS_write, fd, bytes, len / 2);
            cut();
        }
        note_bytes(fd, lseek(fd, 0, SEEK_CUR), len);
    }
    return syscall(SYS_write, fd, bytes, len);
}

static int truncate_to(int fd, off_t len) {
    char path[PATH_MAX];
    if (name_of(fd, path)) {
        struct stat file;
        begins("truncate", path);
        if (fstat(fd, &file) == 0 && file.st_size > len) {
            note_bytes(fd, len, file.st_size - len);
        } else {
            note_bytes(fd, len, 0);
        }
    }
    return syscall(SYS_ftruncate, fd, len);
}

int ftruncate(int fd, off_t len) { return truncate_to(fd, len); }

int ftruncate64(int fd, off64_t len) { return truncate_to(fd, len); }

static int sync_by(long call, int fd) {
    char path[PATH_MAX];
    int own = name_of(fd, path);
    if (own) {
        begins("sync", path);
    }
    int done = syscall(call, fd);
    if (own && done == 0) {
        durable(fd);
    }
    return done;
}

int fsync(int fd) { return sync_by(SYS_fsync, fd); }

int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }

int rename(const char *from, const char *to) {
    if (ours(to)) {
        begins("rename", to);
        note_name(RENAMED, from, to);
    }
    return syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

static int open_at(const char *path, int flags, mode_t mode) {
    int new = (flags & O_CREAT) && ours(path) && access(path, F_OK) != 0;
    if (new) {
        begins("create", path);
    }
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (new && fd >= 0) {
        note_name(CREATED, path, path);
    }
    return fd;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        return open_at(path, flags, mode);                                                                             \
    }

OPEN(open)
OPEN(open64)
