/* Preloaded into a sound server, it makes the server's clock run off by CLOCK_DRIFT_PPM: null sinks
   and their monitors take their time from it, so they become a sound card whose crystal is off,
   while everybody else's clock is right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    static long long begin;
    static double ppm;
    if (!real) {
        struct timespec first;
        const char *text = getenv("CLOCK_DRIFT_PPM");
        int (*found)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
        found(CLOCK_MONOTONIC, &first);
        ppm = text ? atof(text) : 0;
        begin = first.tv_sec * 1000000000LL + first.tv_nsec;
        real = found;
    }
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_MONOTONIC) {
        long long time = now->tv_sec * 1000000000LL + now->tv_nsec;
        time += (long long)((double)(time - begin) * ppm / 1e6);
        now->tv_sec = time / 1000000000LL;
        now->tv_nsec = time % 1000000000LL;
    }
    return result;
}
