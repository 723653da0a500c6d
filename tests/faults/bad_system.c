/* Preloaded into processes: a machine with another name, a file system without locks or with locks that exclude nobody, a full
 * disk. Environment variables say what is wrong:
 *
 *   BAD_HOST=NAME      gethostname returns NAME
 *   BAD_FLOCK=NUMBER   flock fails with this errno; 0: it succeeds, whoever holds the lock
 *   BAD_FULL=FOLDER    write fails with ENOSPC for files whose path contains FOLDER ...
 *   BAD_AFTER=BYTES    ... after so many bytes of this process
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int gethostname(char *name, size_t size) {
    const char *other = getenv("BAD_HOST");
    if (other != NULL) {
        snprintf(name, size, "%s", other);
        return 0;
    }
    int (*real)(char *, size_t) = dlsym(RTLD_NEXT, "gethostname");
    return real(name, size);
}

int flock(int descriptor, int operation) {
    const char *error = getenv("BAD_FLOCK");
    if (error != NULL) {
        errno = atoi(error);
        return errno == 0 ? 0 : -1;
    }
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    return real(descriptor, operation);
}

static int is_full(int descriptor, size_t size) {
    static size_t written = 0;
    const char *folder = getenv("BAD_FULL");
    const char *after = getenv("BAD_AFTER");
    char link[64], path[4096];
    if (folder == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strstr(path, folder) == NULL)
        return 0;
    written += size;
    return written > (after == NULL ? 0 : strtoull(after, NULL, 10));
}

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (is_full(descriptor, size)) {
        errno = ENOSPC;
        return -1;
    }
    return real(descriptor, data, size);
}
