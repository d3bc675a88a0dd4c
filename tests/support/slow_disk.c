/* Makes writes below one folder slow, as a failing disk or a distant one does: for LD_PRELOAD.

   SLOW_FOLDER names the folder. While the file SLOW_SWITCH exists, every write below the folder first
   waits for as many milliseconds as that file says. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void wait_if_slow(int fd) {
    const char *folder = getenv("SLOW_FOLDER"), *name = getenv("SLOW_SWITCH");
    char link[64], path[4096];
    if (!folder || !name) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder))) return;
    FILE *file = fopen(name, "r");
    if (!file) return;
    int milliseconds = 0;
    if (fscanf(file, "%d", &milliseconds) != 1) milliseconds = 0;
    fclose(file);
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    nanosleep(&pause, NULL);
}

#define SLOW(name, arguments, ...)                                        \
    ssize_t name arguments {                                              \
        static ssize_t(*next) arguments;                                  \
        if (!next) next = (ssize_t(*) arguments)dlsym(RTLD_NEXT, #name);  \
        wait_if_slow(fd);                                                 \
        return next(__VA_ARGS__);                                         \
    }

SLOW(write, (int fd, const void *data, size_t size), fd, data, size)
SLOW(pwrite, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
SLOW(pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
