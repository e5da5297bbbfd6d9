// Time. A worker reads the clock once per turn of its loop and everything in that turn uses
// worker->now_ns; nothing on the data path calls these.
#pragma once
#include <stdint.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

uint64_t clock_monotonic_ns(void);
uint64_t clock_realtime_ns(void);
