// Loaded into a broker before all other libraries (LD_PRELOAD), so that its clock and its disk can be made to fail as
// real ones do, and the broker is the very program that is shipped.
//
// The wall clock is shifted wherever a process can read it or wait for it; the monotonic clock is left alone. Disks are
// slow, stall, return errors, or forget at a loss of power what was not synced. No function here allocates or calls
// another library: some are called before the broker's allocator is ready.
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/failover/preload/control.h"

namespace {

using trireme::failover::Control;
using trireme::failover::Remembered;

// This library's own syscall() is what the others see, so it cannot use glibc's.
long Kernel(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
#if defined(__x86_64__)
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
#error "the harness's preloaded library knows x86-64 and AArch64"
#endif
}

long Answer(long result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

template <class Pointer>
long Long(Pointer* pointer) {
  return reinterpret_cast<long>(pointer);
}

constexpr int64_t kMillion = 1'000'000, kBillion = 1'000'000'000;

// Null until the page is mapped, and in a process that is none of the harness's brokers.
const Control* control = nullptr;
char data_folder[1'024];
char memory_folder[1'024];

__attribute__((constructor)) void Map() {
  const char* path = getenv(trireme::failover::kControlVariable);
  const char* data = getenv(trireme::failover::kDataVariable);
  const char* memory = getenv(trireme::failover::kMemoryVariable);
  if (path == nullptr || data == nullptr || memory == nullptr) return;
  if (strlen(data) >= sizeof data_folder || strlen(memory) >= sizeof memory_folder) return;
  strcpy(data_folder, data);
  strcpy(memory_folder, memory);
  const long fd = Kernel(SYS_openat, AT_FDCWD, Long(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void* page = mmap(nullptr, sizeof(Control), PROT_READ, MAP_SHARED, static_cast<int>(fd), 0);
  Kernel(SYS_close, fd);
  if (page != MAP_FAILED) control = static_cast<const Control*>(page);
}

// ---------------------------------------------------------------- the clock

int64_t RealNs(const timespec& time) {
  return time.tv_sec * kBillion + time.tv_nsec;
}

timespec FromNs(int64_t ns) {
  return {ns / kBillion, ns % kBillion};
}

timespec Clock(clockid_t clock) {
  timespec now{};
  Kernel(SYS_clock_gettime, clock, Long(&now));
  return now;
}

int64_t ShiftNs() {
  if (control == nullptr) return 0;
  int64_t shift_us = control->clock_offset_us;
  if (const int64_t ppm = control->clock_drift_ppm; ppm != 0) {
    shift_us += (RealNs(Clock(CLOCK_MONOTONIC)) / 1'000 - control->drift_since_us) * ppm / kMillion;
  }
  return shift_us * 1'000;
}

bool IsWall(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

// ---------------------------------------------------------------- the disk

bool DiskConcerned() {
  return control != nullptr && (control->stalled != 0 || control->sync_delay_us != 0 || control->sync_error != 0 ||
                                control->write_error != 0 || control->remember != 0);
}

bool Ours(int fd) {
  char link[40], path[1'200];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const long size = Kernel(SYS_readlinkat, AT_FDCWD, Long(link), Long(path), sizeof path - 1);
  return size > 0 && strncmp(path, data_folder, strlen(data_folder)) == 0;
}

void SleepUs(uint32_t us) {
  timespec time = FromNs(int64_t{us} * 1'000);
  Kernel(SYS_nanosleep, Long(&time), 0);
}

void WaitWhileStalled() {
  while (control->stalled != 0) SleepUs(1'000);
}

void MemoryPath(const struct stat& about, char (&path)[1'100]) {
  snprintf(path, sizeof path, "%s/%llu", memory_folder, static_cast<unsigned long long>(about.st_ino));
}

void Write(long fd, const void* bytes, uint64_t size) {
  const char* at = static_cast<const char*>(bytes);
  while (size > 0) {
    const long written = Kernel(SYS_write, fd, Long(at), static_cast<long>(size));
    if (written <= 0) return;
    at += written;
    size -= static_cast<uint64_t>(written);
  }
}

// What the write is about to put over. A lock per process would order the records of one file's writers; the broker has
// one writer per file.
void Remember(int fd, uint64_t offset, uint64_t size) {
  struct stat about;
  if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) return;
  char path[1'100];
  MemoryPath(about, path);
  const long memory = Kernel(SYS_openat, AT_FDCWD, Long(path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (memory < 0) return;
  // The descriptor may be for writing only.
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const long reader = Kernel(SYS_openat, AT_FDCWD, Long(link), O_RDONLY | O_CLOEXEC);
  const auto old_size = static_cast<uint64_t>(about.st_size);
  const uint64_t there = reader < 0 || offset >= old_size ? 0 : (size < old_size - offset ? size : old_size - offset);
  const Remembered head{offset, size, old_size, there};
  Write(memory, &head, sizeof head);
  char piece[16 * 1'024];
  for (uint64_t done = 0; done < there;) {
    const uint64_t want = there - done < sizeof piece ? there - done : sizeof piece;
    const long got =
        Kernel(SYS_pread64, reader, Long(piece), static_cast<long>(want), static_cast<long>(offset + done));
    // Holes are as good as zeros.
    if (got <= 0) memset(piece, 0, want);
    Write(memory, piece, got <= 0 ? want : static_cast<uint64_t>(got));
    done += got <= 0 ? want : static_cast<uint64_t>(got);
  }
  if (reader >= 0) Kernel(SYS_close, reader);
  Kernel(SYS_close, memory);
}

void Forget(int fd) {
  struct stat about;
  if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) return;
  char path[1'100];
  MemoryPath(about, path);
  Kernel(SYS_unlinkat, AT_FDCWD, Long(path), 0);
}

// Before a write; the errno that it is to fail with, or 0.
int BeforeWrite(int fd, uint64_t offset, uint64_t size) {
  WaitWhileStalled();
  if (const uint32_t error = control->write_error; error != 0) return static_cast<int>(error);
  if (control->remember != 0) Remember(fd, offset, size);
  return 0;
}

int Sync(int fd, long call) {
  if (!DiskConcerned() || !Ours(fd)) return static_cast<int>(Answer(Kernel(call, fd)));
  WaitWhileStalled();
  if (const uint32_t error = control->sync_error; error != 0) {
    errno = static_cast<int>(error);
    return -1;
  }
  const long result = Kernel(call, fd);
  if (const uint32_t delay = control->sync_delay_us; delay != 0) SleepUs(delay);
  // Durable from here on, if the machine had really lost its power.
  if (result == 0 && control->remember != 0) Forget(fd);
  return static_cast<int>(Answer(result));
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const long result = Kernel(SYS_clock_gettime, clock, Long(now));
  if (result == 0 && IsWall(clock)) *now = FromNs(RealNs(*now) + ShiftNs());
  return static_cast<int>(Answer(result));
}

int gettimeofday(timeval* __restrict now, void* __restrict) noexcept {
  const timespec wall = FromNs(RealNs(Clock(CLOCK_REALTIME)) + ShiftNs());
  *now = {wall.tv_sec, wall.tv_nsec / 1'000};
  return 0;
}

time_t time(time_t* now) noexcept {
  const time_t seconds = (RealNs(Clock(CLOCK_REALTIME)) + ShiftNs()) / kBillion;
  if (now != nullptr) *now = seconds;
  return seconds;
}

// Deadlines by the shifted clock have to be told to the kernel by its own.
int pthread_cond_timedwait(pthread_cond_t* __restrict condition, pthread_mutex_t* __restrict mutex,
                           const timespec* __restrict until) {
  // A condition variable may have been made for the monotonic clock, which a process cannot be asked for; but that
  // clock counts from the machine's start, and the wall clock from 1970.
  if (until->tv_sec < kBillion) return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, until);
  const timespec real = FromNs(RealNs(*until) - ShiftNs());
  return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &real);
}

// Mutexes of some libraries wait by the kernel's futex, called by its number.
long syscall(long number, ...) noexcept {
  va_list arguments;
  va_start(arguments, number);
  long a[6];
  for (long& argument : a) argument = va_arg(arguments, long);
  va_end(arguments);
  const auto* until = reinterpret_cast<const timespec*>(a[3]);
  const bool by_wall_clock = number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) != 0 &&
                             (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && until != nullptr;
  if (!by_wall_clock) return Answer(Kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]));
  const timespec real = FromNs(RealNs(*until) - ShiftNs());
  return Answer(Kernel(number, a[0], a[1], a[2], Long(&real), a[4], a[5]));
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  if (DiskConcerned() && Ours(fd)) {
    if (const int error = BeforeWrite(fd, static_cast<uint64_t>(offset), size); error != 0) {
      errno = error;
      return -1;
    }
  }
  return Answer(Kernel(SYS_pwrite64, fd, Long(bytes), static_cast<long>(size), offset));
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  return pwrite(fd, bytes, size, offset);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  if (DiskConcerned() && Ours(fd)) {
    const bool appends = (Kernel(SYS_fcntl, fd, F_GETFL) & O_APPEND) != 0;
    struct stat about;
    const long at = appends && fstat(fd, &about) == 0 ? about.st_size : Kernel(SYS_lseek, fd, 0, SEEK_CUR);
    if (const int error = BeforeWrite(fd, at < 0 ? 0 : static_cast<uint64_t>(at), size); error != 0) {
      errno = error;
      return -1;
    }
  }
  return Answer(Kernel(SYS_write, fd, Long(bytes), static_cast<long>(size)));
}

int fdatasync(int fd) {
  return Sync(fd, SYS_fdatasync);
}

int fsync(int fd) {
  return Sync(fd, SYS_fsync);
}

}  // extern "C"
