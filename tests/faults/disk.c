/* A disk that fails when it is told to, and that notes what is written to it.

   Preloaded, it stands between a process and the calls that change files. Of files below one folder
   every call is counted and noted; one of them, or all from one on, can be made to fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CREATE, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MARK };

static char folder[4096];
static long calls, fails_at;
static int error_number, for_good, notes = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* From now on: files below `under`; the call `at` fails (0: none) with `number`, and if `good`,
   of the calls that need room all later ones too; what is written is noted in `file` ("": not). */
void disk_begin(const char *under, long at, int number, int good, const char *file) {
    strncpy(folder, under, sizeof folder - 1);
    calls = 0, fails_at = at, error_number = number, for_good = good;
    notes = *file ? REAL(open)(file, O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
}

long disk_calls(void) { return calls; }

static void note(int kind, uint64_t inode, uint64_t at, const char *name, const void *data, size_t size) {
    if (notes < 0) return;
    uint64_t head[5] = {kind, inode, at, strlen(name), size};
    __typeof__(&write) put = REAL(write);
    if (put(notes, head, sizeof head) < 0 || put(notes, name, head[3]) < 0 || put(notes, data, size) < 0)
        _exit(99);
}

void disk_mark(uint64_t number) { note(MARK, 0, number, "", "", 0); }

static int below(const char *path) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length);
}

static int ours(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    path[length > 0 ? length : 0] = 0;
    return length > 0 && below(path);
}

/* Whether this call fails. */
static int refused(int needs_room) {
    calls++;
    int now = fails_at && (calls == fails_at || (for_good && needs_room && calls > fails_at));
    if (now) errno = error_number;
    return now;
}

static uint64_t inode(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

static ssize_t put(int fd, const void *data, size_t size, off_t at, int placed) {
    char path[4096];
    int mine = ours(fd, path);
    if (!placed) at = lseek(fd, 0, SEEK_CUR);
    struct stat found;
    int grows = mine && !fstat(fd, &found) && at + (off_t)size > found.st_size;
    if (mine && refused(grows)) {
        /* A disk that fills up takes the first half of what it has no room for. */
        if (for_good && grows && calls == fails_at && size > 1) size /= 2;
        else return -1;
    }
    ssize_t done = placed ? REAL(pwrite)(fd, data, size, at) : REAL(write)(fd, data, size);
    if (mine && done > 0) note(WRITE, inode(fd), at, path, data, done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return put(fd, data, size, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return put(fd, data, size, at, 1); }

static int cut(int fd, off_t size) {
    char path[4096];
    int mine = ours(fd, path);
    if (mine && refused(0)) return -1;
    int done = REAL(ftruncate)(fd, size);
    if (mine && !done) note(TRUNCATE, inode(fd), size, path, "", 0);
    return done;
}

int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut(fd, size); }

static int synced(int fd, int (*call)(int)) {
    char path[4096];
    int mine = ours(fd, path);
    if (mine && refused(0)) return -1;
    int done = call(fd);
    if (mine && !done) note(SYNC, inode(fd), 0, path, "", 0);
    return done;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

static int opened(const char *path, int flags, mode_t mode) {
    int changing = below(path) && (flags & (O_WRONLY | O_RDWR | O_CREAT));
    int there = access(path, F_OK) == 0;
    if (changing && refused(!there)) return -1;
    int fd = REAL(open)(path, flags, mode);
    if (changing && fd >= 0 && (!there || flags & O_TRUNC)) note(CREATE, inode(fd), there, path, "", 0);
    return fd;
}

#define MODE mode_t mode = 0; if (flags & O_CREAT) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE return opened(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(path, flags, mode); }

int rename(const char *from, const char *to) {
    int mine = below(to);
    if (mine && refused(0)) return -1;
    int done = REAL(rename)(from, to);
    if (mine && !done) note(RENAME, 0, 0, from, to, strlen(to));
    return done;
}

int unlink(const char *path) {
    int mine = below(path) && access(path, F_OK) == 0;
    if (mine && refused(0)) return -1;
    int done = REAL(unlink)(path);
    if (mine && !done) note(UNLINK, 0, 0, path, "", 0);
    return done;
}
